"""`evaluate` in two processes: the features and the scores of one, one voice, and an error of one ends both."""

import io
import json
import os
import shutil
import signal
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from tests.processes import run_in_two
from tests.training.tiny import quiet, tiny

from fullrank import cli
from fullrank.encoders import open_checkpoint
from fullrank.errors import FullrankError, OtherProcessError
from fullrank.evaluation import linear as probing
from fullrank.evaluation import task as tasks
from fullrank.evaluation.evaluate import evaluate
from fullrank.evaluation.linear import StoppedError
from fullrank.evaluation.options import EvaluateOptions, KnnOptions, LinearOptions
from fullrank.evaluation.task import Session, open_task
from fullrank.training.distributed import ALONE, processes
from fullrank.training.loop import train

CPU = torch.device("cpu")
LINEAR = LinearOptions(epochs=3, batch_size=100, base_lr=30.0, precision="float32", workers=0)
ALL = EvaluateOptions(knn=True, logistic=True, linear=True, knn_options=KnnOptions(k=5), linear_options=LINEAR)


def represented(world, folder):
    """Features that both took a share of."""
    task = open_task(Session(EvaluateOptions(), CPU, world=world), "run", open_checkpoint(folder / "run"))
    return [*task.represented.bank, *task.represented.queries]


def scored(world, folder):
    found = evaluate([str(folder / "run")], ALL)[0]
    return {name: score.as_dict() for name, score in found.scores.items()}


def interrupted(world, folder):
    """A signal to one process while the linear probe is trained; then the same command again."""
    real = probing.learning_rate

    def signalled(step, *arguments):
        if step == 20 and world.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(step, *arguments)

    only = EvaluateOptions(linear=True, linear_options=LINEAR)
    if world.main:
        shutil.copytree(folder / "run", folder / "stopped", ignore=shutil.ignore_patterns("probe", "scores.json"))
    world.all_gather_object(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "learning_rate", signalled)
        with pytest.raises(StoppedError, match="stopped after step 21 of 42 .* the same command goes on") as caught:
            evaluate([str(folder / "stopped")], only)
    found = evaluate([str(folder / "stopped")], only)[0]
    return {"signal": caught.value.signal, "linear": found.scores["linear"].as_dict()}


def failed(world, folder):
    """Images that only the second process cannot open, or that are others there; a batch that cannot be shared."""
    texts = {}
    real = tasks.open_images

    def failing(*arguments, **keywords):
        if world.rank == 1:
            raise FullrankError("no such images here")
        return real(*arguments, **keywords)

    def other(*arguments, **keywords):
        images = real(*arguments, **keywords)
        return images.select(torch.arange(len(images) - world.rank))

    odd = EvaluateOptions(linear=True, linear_options=LinearOptions(batch_size=101))
    for name, opened, options in (("fails", failing, ALL), ("other", other, ALL), ("odd", real, odd)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tasks, "open_images", opened)
            with pytest.raises(FullrankError if world.main else OtherProcessError) as caught:
                evaluate([str(folder / "run")], options)
        texts[name] = str(caught.value)
    return texts


def command_line(world, folder):
    os.environ["WORLD_SIZE"] = "2"
    found = {}
    for name, run in (("good", "run"), ("missing", "nowhere")):
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as text:
            code = cli.main(["evaluate", str(folder / run), "--knn.k", "5", "--device", "cpu"])
        found[name] = {"code": code, "out": out.getvalue(), "text": text.getvalue()}
    del os.environ["WORLD_SIZE"]
    return found


SCENES = (represented, scored, interrupted, failed, command_line)


def _process(rank, folder):
    with processes() as world:
        for scene in SCENES:
            torch.save(scene(world, Path(folder)), f"{folder}/{scene.__name__}.{rank}.pt")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played")
    train(tiny(steps=4, out=folder / "run"), console=quiet())
    shutil.copytree(folder / "run", folder / "alone" / "run")
    run_in_two(_process, folder)
    return folder


@pytest.fixture(scope="module")
def results(played):
    return lambda scene: [torch.load(played / f"{scene.__name__}.{rank}.pt", weights_only=True) for rank in range(2)]


def test_features_are_those_of_one_process_to_the_last_bit(played, results):
    first, second = results(represented)
    for shared, own, alone in zip(first, second, represented(ALONE, played), strict=True):
        assert torch.equal(shared, alone)
        assert 0 < len(own) < len(alone)


def test_scores_are_those_of_one_process_and_kept_once(played, results):
    first, second = results(scored)
    assert first == second
    alone = scored(ALONE, played / "alone")
    for name in ("knn", "logistic"):
        assert first[name] == alone[name]
    ours, theirs = first["linear"], alone["linear"]
    assert ours["protocol"] == theirs["protocol"]
    assert ours["value"] == pytest.approx(theirs["value"], abs=0.01)  # 359 queries: rounding may turn a few
    kept = json.loads((played / "run" / "scores.json").read_text())["scores"]
    assert [each["name"] for each in kept] == ["knn", "logistic", "linear"]


def test_weights_of_the_linear_probe_are_those_of_one_process(played, results):
    results(scored)
    scored(ALONE, played / "alone")
    (ours,), (theirs,) = (list((run / "probe").iterdir()) for run in (played / "run", played / "alone" / "run"))
    one, two = (torch.load(path, weights_only=True)["classifier"]["layer"] for path in (ours, theirs))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-3, atol=1e-4)


def test_a_signal_to_one_stops_both_and_they_end_with_the_same_bits(played, results):
    for found in results(interrupted):
        assert found["signal"] == signal.SIGTERM
        assert found["linear"] == results(scored)[0]["linear"]
    (whole,), (stopped,) = (list((played / run / "probe").iterdir()) for run in ("run", "stopped"))
    one, two = (torch.load(path, weights_only=True)["classifier"]["layer"] for path in (whole, stopped))
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("fails", "process 1 of 2: no such images here"),
        ("other", "process 1 finds another checkpoint or other images than process 0: give all machines the same"),
        ("odd", "linear.batch_size=101 cannot be shared equally among 2 processes: take 100 or 102"),
    ],
)
def test_an_error_of_one_process_ends_both(results, name, text):
    assert text in results(failed)[0][name]


def test_the_command_line_speaks_once(results):
    first, second = results(command_line)
    assert (first["good"]["code"], second["good"]["code"]) == (0, 0)
    assert first["good"]["out"].count("k-NN accuracy: mode eval") == 1
    assert (first["missing"]["code"], second["missing"]["code"]) == (1, 1)
    assert first["missing"]["text"].count("error") == 1
    for each in second.values():
        assert (each["out"], each["text"]) == ("", "")
