"""`fullrank evaluate --logistic` and `--linear` on a run."""

import json
import signal

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from tests.training.tiny import quiet, tiny

import fullrank
from fullrank.cli import main
from fullrank.data import views
from fullrank.data.eval_images import load_for_eval
from fullrank.data.images import open_images
from fullrank.errors import FullrankError
from fullrank.evaluation import evaluate as evaluating
from fullrank.evaluation import linear as training
from fullrank.evaluation.evaluate import evaluate
from fullrank.evaluation.options import EvaluateOptions, LogisticOptions
from fullrank.evaluation.task import Task
from fullrank.training.loop import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    train(tiny(steps=4, out=path), console=quiet())
    return path


def by_hand(run, split):
    images = open_images("digits", split=split)
    pixels, _ = load_for_eval(images, torch.arange(len(images)), 16)
    with torch.no_grad():
        features = fullrank.load(run)(views.normalize(views.as_float(pixels)))
    return features.double().numpy(), images.labels.numpy()


def test_a_run_is_scored_as_scikit_learn_scores_it(run):
    (x, y), (queries, labels) = by_hand(run, "train"), by_hand(run, "eval")
    mean, std = x.mean(0), x.std(0)
    scale = np.divide(1, std, out=np.zeros_like(std), where=std > 0)
    model = LogisticRegression(C=1 / (1e-2 * len(x)), tol=1e-8, max_iter=10_000, solver="newton-cg")
    expected = model.fit((x - mean) * scale, y).score((queries - mean) * scale, labels)
    options = EvaluateOptions(logistic=True, logistic_options=LogisticOptions(l2=1e-2))
    (score,) = evaluate([str(run)], options)[0].scores.values()
    assert score.name == "logistic"
    assert score.value == pytest.approx(expected, abs=1.5 / len(labels))  # one image may lie on a border
    assert (score.protocol["l2"], score.protocol["bank"], score.protocol["queries"]) == (1e-2, 1438, 359)
    assert score.chosen.keys() == {"gradient_norm"}
    assert score.chosen["gradient_norm"] <= 1e-4


def test_the_regularisation_is_chosen_and_a_fit_that_is_given_up_says_so(run):
    (score,) = evaluate([str(run)], EvaluateOptions(logistic=True))[0].scores.values()
    assert score.protocol["chosen on"] == "a tenth of the training images (seed 0), by accuracy; refitted to all"
    assert score.chosen["l2"] in [10.0**-power for power in range(1, 8)]
    assert score.chosen["gradient_norm"] <= 1e-4
    hasty = EvaluateOptions(logistic=True, logistic_options=LogisticOptions(max_iterations=2))
    assert (
        evaluate([str(run)], hasty)[0].scores["logistic"].chosen["warning"]
        == "not the minimum, given up after 2 iterations"
    )


def test_the_command_keeps_both_probes(run, capsys):
    settings = ["--linear.epochs", "3", "--linear.batch-size", "128", "--linear.base-lr", "2"]
    command = ["evaluate", str(run), "--logistic", "--linear", *settings, "--limit", "300"]
    (run / "scores.json").unlink(missing_ok=True)
    assert main(command) == 0
    first = json.loads((run / "scores.json").read_text())["scores"]
    assert [score["name"] for score in first] == ["logistic", "linear"]
    out = " ".join(capsys.readouterr().out.split())
    assert "multinomial logistic regression" in out
    assert "LARS, trust 0.001 without clipping" in out
    assert "best_over_epochs" in out
    assert main(command) == 0
    assert json.loads((run / "scores.json").read_text())["scores"] == first
    assert len(list((run / "probe").iterdir())) == 1


def test_a_stopped_linear_probe_says_so_and_goes_on(run, capsys, monkeypatch):
    command = ["evaluate", str(run), "--linear", "--linear.epochs", "2", "--linear.batch-size", "100", "--limit", "200"]
    with monkeypatch.context() as patch:
        patch.setattr(training, "_accuracy", lambda *arguments: signal.raise_signal(15) or 0.5)
        assert main(command) == 128 + 15
    said = " ".join(capsys.readouterr().err.split())
    assert "run: stopped after step 2 of 4 of the linear probe, and saved; the same command goes on" in said
    assert main(command) == 0


def test_an_encoder_that_a_probe_changes_is_refused_and_no_score_is_kept(run, tmp_path, monkeypatch):
    def take(task, options):
        next(task.encoder.module.buffers()).add_(1)

    monkeypatch.setattr(evaluating, "linear", take)
    monkeypatch.setattr(evaluating, "check_linear", lambda count, options: None)
    (run / "scores.json").unlink(missing_ok=True)
    with pytest.raises(FullrankError, match="the encoder changed while it was probed, in 1 of"):
        evaluate([str(run)], EvaluateOptions(linear=True))
    assert not (run / "scores.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--linear", "--limit", "200"], "--linear.batch-size 1024 is more than the 200 training images: lower it"),
        (["--logistic", "--limit", "9"], "9 training images are too few to hold a tenth of them out"),
        (["--knn.k", "300", "--limit", "200"], "knn.k=300 neighbors are more than the 200 labeled training images"),
    ],
)
def test_what_one_probe_cannot_do_is_found_before_any_takes_features(run, arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(Task, "_represent", None)
    assert main(["evaluate", str(run), "--knn", *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--logistic", "--limit", "9"], "9 training images are too few to hold a tenth of them out: give 10 at least"),
        (
            ["--logistic", "--linear.epochs", "3"],
            "--linear.* are settings of a probe that is not asked for: add --linear",
        ),
        (["--linear", "--limit", "50"], "--linear.batch-size 1024 is more than the 50 training images: lower it"),
    ],
)
def test_what_is_wrong_is_one_line(run, arguments, message, capsys):
    assert main(["evaluate", str(run), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
