"""The promise of the loop: a run that was stopped, anywhere and however, ends with the bits of one that was not."""

import dataclasses
import io
import itertools
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from fullrank.config import MachineConfig, MonitorConfig, OptimConfig, TrainConfig, read_config, to_dict
from fullrank.data.batches import STOPPING
from fullrank.errors import FullrankError
from fullrank.training import loop, runs, setup
from fullrank.training.checkpoint import find_checkpoint, read_checkpoint
from fullrank.training.loop import resume, train
from fullrank.training.measuring import Measurer
from fullrank.training.runs import METRICS, SPECTRA, RunFolder, read_run
from tests.processes import Command, wait_for
from tests.training.tiny import quiet, tiny

ORDERS = ("multiple-pass", "single-pass", "cumulative", "hybrid", "adaptive")


def weights(path):
    state = read_checkpoint(find_checkpoint(path))
    flat = {f"model.{k}": v for k, v in state["model"].items()}
    for index, values in state["optimizer"]["state"].items():
        flat |= {f"optimizer.{index}.{k}": v for k, v in values.items()}
    return flat


def assert_same_run(a: Path, b: Path):
    assert (a / METRICS).read_bytes() == (b / METRICS).read_bytes()
    assert (a / SPECTRA).read_bytes() == (b / SPECTRA).read_bytes()
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def stop_after(step, monkeypatch):
    """Make the run die, as from a kill, right after a step: nothing is saved on the way out."""
    real = loop.set_learning_rate

    def dying(optimizer, current, *arguments):
        if current == step:
            raise KeyboardInterrupt
        return real(optimizer, current, *arguments)

    monkeypatch.setattr(loop, "set_learning_rate", dying)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted runs, one an order."""
    root = tmp_path_factory.mktemp("whole")
    for order in ORDERS:
        assert train(tiny(order=order, out=root / order), console=quiet()).complete
    return root


@pytest.mark.parametrize("order", ORDERS)
def test_a_run_interrupted_again_and_again_ends_with_the_same_bits(whole, tmp_path, monkeypatch, order):
    run = tmp_path / "run"
    for number, stop in enumerate((2, 5, 7, 10, 16, 19)):  # chunk boundaries at 5, 10, 15; hybrid's switch at 8
        with monkeypatch.context() as patch:
            stop_after(stop, patch)
            with pytest.raises(KeyboardInterrupt):
                train(tiny(order=order, out=run), console=quiet()) if number == 0 else resume(run, console=quiet())
    assert resume(run, console=quiet()).complete
    assert_same_run(whole / order, run)


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_other_optimisers_resume_exactly(tmp_path, monkeypatch, optimizer):
    config = tiny(steps=10, optim=OptimConfig(optimizer=optimizer, base_lr=0.05, warmup_steps=3))
    train(replace(config, out=str(tmp_path / "whole")), console=quiet())
    with monkeypatch.context() as patch:
        stop_after(8, patch)
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, out=str(tmp_path / "run")), console=quiet())
    resume(tmp_path / "run", console=quiet())
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_streamed_images_and_dropout_resume_exactly(tmp_path, monkeypatch):
    backbone = dataclasses.replace(tiny().backbone, name="mobilenetv3_small_050", width=1.0, depths=None, stem="auto")
    machine = MachineConfig(threads=1, workers=2)
    config = tiny(cache="stream", backbone=backbone, image_size=32, machine=machine, steps=8)
    train(replace(config, out=str(tmp_path / "whole")), console=quiet())
    with monkeypatch.context() as patch:
        stop_after(6, patch)
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, out=str(tmp_path / "run")), console=quiet())
    resume(tmp_path / "run", console=quiet())
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def start(run, **changes):
    """Train in a process of its own."""
    config = run.parent / f"{run.name}.yaml"
    config.write_text(yaml.safe_dump(to_dict(tiny(**changes))))
    return Command(["train", "--config", config, "--out", run], run.parent / "output")


def wait_for_lines(run, count):
    path = run / METRICS
    wait_for(lambda: path.is_file() and len(path.read_text().splitlines()) >= count)


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(tmp_path):
    steps = {"steps": 20, "order": "hybrid", "checkpoint_every": 3}
    train(tiny(out=tmp_path / "whole", **steps), console=quiet())
    run = tmp_path / "run"
    for lines in (3, 7):
        with start(run, **steps) if lines == 3 else Command(["train", "--resume", run], tmp_path / "output") as command:
            wait_for_lines(run, lines)
            command.send_signal(signal.SIGKILL)
            command.wait()
    resume(run, console=quiet())
    assert_same_run(tmp_path / "whole", run)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_leaves_a_checkpoint_and_says_how_to_go_on(tmp_path, number):
    run = tmp_path / "run"
    with start(run, steps=5000, checkpoint_every=5000) as command:
        wait_for_lines(run, 4)
        command.send_signal(number)
        assert command.wait() == 128 + number
    output = command.output.read_text()
    assert f"go on with: fullrank train --resume {run}" in output
    assert "Traceback" not in output
    (saved,) = (path for path in (run / "checkpoints").iterdir() if path.name != "step_00000000.pt")
    assert 0 < read_checkpoint(saved)["step"] < 5000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_first_measurement_stops_the_run_at_once(whole, tmp_path, monkeypatch, number):
    """It ended after the measurement and a step, which take minutes on large images."""

    def features(*_):
        signal.raise_signal(number)
        pytest.fail("the measurement went on")

    console = quiet()
    with monkeypatch.context() as patch:
        patch.setattr(Measurer, "features", features)
        finished = train(tiny(order="hybrid", out=tmp_path / "run"), console=console)
    assert (finished.complete, finished.step, finished.signal) == (False, 0, number)
    assert not (tmp_path / "run" / "checkpoints").exists()
    said = console.file.getvalue()
    assert f"stopped before its first step; go on with: fullrank train --resume {tmp_path / 'run'}" in said
    assert resume(tmp_path / "run", console=quiet()).complete
    assert_same_run(whole / "hybrid", tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_whole_group_saves_though_workers_get_it_too(tmp_path, number):
    run = tmp_path / "run"
    machine = MachineConfig(threads=1, workers=2)
    with start(run, steps=5000, checkpoint_every=5000, cache="stream", machine=machine) as command:
        wait_for_lines(run, 4)
        os.killpg(command.process.pid, number)
        assert command.wait() == 128 + number
    output = command.output.read_text()
    assert "go on with: fullrank train --resume" in output
    assert "Traceback" not in output


def test_a_terminal_that_closes_ends_nothing_below_nohup(tmp_path, monkeypatch):
    real = loop.train_step

    def hung_up(step, *arguments):
        signal.raise_signal(signal.SIGHUP)
        return real(step, *arguments)

    monkeypatch.setattr(loop, "train_step", hung_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert train(tiny(steps=2, out=tmp_path / "run"), console=quiet()).complete
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_killed_run_can_be_resumed_at_once_though_its_workers_live_on(tmp_path):
    run = tmp_path / "run"
    machine = MachineConfig(threads=1, workers=2)
    with start(run, steps=5000, checkpoint_every=5000, cache="stream", machine=machine) as command:
        wait_for_lines(run, 4)
        command.send_signal(signal.SIGKILL)
        command.wait()
    RunFolder.reopen(run).close()


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_over(whole, tmp_path):
    run = tmp_path / "run"
    train(tiny(order="hybrid", out=run, steps=20), console=quiet())
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    (run / "summary.json").unlink()
    (run / ".metrics.jsonl.1.tmp").write_text("of a process that was killed while it wrote")
    assert resume(run, console=quiet()).complete
    assert_same_run(whole / "hybrid", run)
    assert not list(run.rglob(".*.tmp"))


def test_an_adaptive_run_goes_by_the_auc_it_measures(whole):
    """Its batches are those that its own records ask for, prefetched ones of the order before left out."""
    run = read_run(whole / "adaptive")
    aucs = {record["step"]: record["auc"] for record in run.of_kind("measure")}
    turns, before = [], None
    for step, auc in sorted(aucs.items()):
        if before is not None and auc != before and (auc < before) != (len(turns) % 2 == 1) and step < 20:
            turns.append(step)
        before = auc
    assert turns  # else this says nothing
    state = read_checkpoint(find_checkpoint(whole / "adaptive"))
    assert list(state["order"]["turns"]) == turns
    single = read_run(whole / "single-pass")
    losses = [[record["loss"] for record in each.of_kind("train")] for each in (run, single)]
    same = sum(step <= turns[0] for step in range(3, 21, 3))
    assert losses[0][:same] == losses[1][:same]
    assert losses[0][same:] != losses[1][same:]


def test_resuming_a_finished_run_changes_nothing(whole):
    before = {path: path.stat().st_mtime_ns for path in (whole / "hybrid").rglob("*") if path.is_file()}
    assert resume(whole / "hybrid", console=quiet()).complete
    after = {path: path.stat().st_mtime_ns for path in (whole / "hybrid").rglob("*") if path.is_file()}
    assert {k: v for k, v in before.items() if k.name != ".lock"} == {
        k: v for k, v in after.items() if k.name != ".lock"
    }


def test_resuming_with_another_configuration_names_the_fields(whole):
    run = whole / "hybrid"
    config = read_config(run / "config.yaml")
    asked = replace(config, steps=40, optim=replace(config.optim, base_lr=1.0))
    with pytest.raises(
        FullrankError, match=r"another configuration: steps: 20 -> 40; optim.base_lr: 0.3 -> 1.0. Resume it"
    ):
        resume(run, asked, console=quiet())
    machine = replace(config, machine=replace(config.machine, workers=1))
    assert resume(run, machine, console=quiet()).complete


def test_resuming_with_other_images_is_refused(tmp_path, monkeypatch):
    stop_after(6, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(out=tmp_path / "run"), console=quiet())
    config = read_config(tmp_path / "run" / "config.yaml")
    other = tmp_path / "images"
    other.mkdir()
    from PIL import Image

    for number in range(220):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(other / f"{number:03d}.png")
    for change, part in (({"images": str(other)}, "train"), ({"eval_images": str(other)}, "held-out")):
        with pytest.raises(FullrankError, match=f"the {part} images at .* are not those that .* was started with"):
            resume(tmp_path / "run", replace(config, **change), console=quiet())


def classes_folder(path, counts):
    from PIL import Image

    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (path / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (18, 18, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{number:02d}.png")
    return str(path)


def test_measured_images_are_drawn_at_random_from_what_is_not_hidden(tmp_path):
    images = classes_folder(tmp_path / "images", {"a": 30, "b": 30, "b/.hidden": 4})
    held_out = classes_folder(tmp_path / "held_out", {"b": 12, "c": 12})
    config = tiny(images=images, eval_images=held_out, subset=1.0, image_size=16, steps=1, order="multiple-pass")
    monitor = replace(config.monitor, num_images=20)
    run = read_run(train(replace(config, out=str(tmp_path / "run"), monitor=monitor), console=quiet()).path)
    assert run.protocols["spectrum"]["sample"] == run.protocols["knn"]["sample"] == "at random, seed 0"
    assert run.environment["data"]["version"] == 2
    assert run.environment["data"]["train"]["count"] == 60


def test_held_out_images_of_one_class_are_scored_and_strangers_are_never_right(tmp_path):
    images = classes_folder(tmp_path / "images", {"a": 30, "b": 30})
    for counts, says in (
        ({"b": 8}, None),
        ({"b": 6, "c": 2}, "2 of 8 held-out images, of classes without training images"),
    ):
        run = tmp_path / f"run{len(counts)}"
        held_out = classes_folder(tmp_path / f"held_out{len(counts)}", counts)
        train(
            tiny(
                images=images, eval_images=held_out, subset=1.0, image_size=16, steps=2, order="multiple-pass", out=run
            ),
            console=quiet(),
        )
        protocol = read_run(run).protocols["knn"]
        assert (protocol["queries"], protocol.get("never right")) == (8, says)
        assert "knn" in read_run(run).of_kind("measure")[-1]


def test_no_accuracy_is_measured_on_the_training_images_themselves(tmp_path, capsys):
    images = classes_folder(tmp_path / "images", {"a": 30, "b": 30})
    monitor = replace(tiny().monitor, online_probe=True)
    config = tiny(images=images, eval_images=f"{images}/.", subset=0.5, image_size=16, steps=2, order="multiple-pass")
    run = read_run(train(replace(config, out=str(tmp_path / "run"), monitor=monitor), console=quiet()).path)
    assert "heldout_loss" in run.protocols
    assert not {"knn", "online_probe"} & {*run.protocols, *run.of_kind("measure")[-1]}
    assert "the held-out images are the training images, of which each is its own nearest" in capsys.readouterr().err


def test_held_out_images_without_a_class_of_the_training_images_are_said(tmp_path, capsys):
    images, held_out = (classes_folder(tmp_path / n, dict.fromkeys(n, 30)) for n in ("ab", "cd"))
    config = tiny(images=images, eval_images=held_out, image_size=16, order="multiple-pass", subset=1.0)
    data = setup.open_data(config)[1]
    assert "knn" not in Measurer(config, data, torch.device("cpu")).protocols
    said = "the held-out images share no class with the training images: no accuracy is measured"
    assert said in capsys.readouterr().err


def test_other_pictures_of_the_same_names_are_refused(tmp_path, monkeypatch):
    images = classes_folder(tmp_path / "images", {"a": 30, "b": 30})
    stop_after(6, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(images=images, subset=1.0, image_size=16, out=tmp_path / "run"), console=quiet())
    (tmp_path / "images" / "a" / "00.png").write_bytes((tmp_path / "images" / "b" / "00.png").read_bytes())
    with pytest.raises(FullrankError, match="60 readable and 0 not now, or other names, sizes or contents; put them"):
        resume(tmp_path / "run", console=quiet())


def test_an_icon_does_not_decide_the_size_of_views(tmp_path):
    from PIL import Image

    for number in range(30):
        size = (16, 16) if number == 0 else (300, 200)
        Image.new("RGB", size, (number, 0, 0)).save(tmp_path / f"{number:02d}.png")
    config, _ = setup.open_data(tiny(images=str(tmp_path), subset=1.0))
    assert config.image_size == 224


def damaged_folder(path, damaged=(3, 17, 30)):
    from PIL import Image

    generator = np.random.default_rng(0)
    path.mkdir()
    for number in range(60):
        pixels = generator.integers(0, 256, (18, 18, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{number:02d}.png")
    for number in damaged:
        (path / f"{number:02d}.png").write_bytes(b"damaged")
    return str(path)


@pytest.mark.parametrize("cache", ["memory", "chunks", "stream"])
def test_runs_over_damaged_images_resume_exactly_and_name_them_all(tmp_path, monkeypatch, cache):
    images = damaged_folder(tmp_path / "images")
    config = tiny(
        images=images, eval_images=images, subset=1.0, batch_size=8, image_size=16, order="single-pass", cache=cache
    )
    train(replace(config, out=str(tmp_path / "whole")), console=quiet())
    with monkeypatch.context() as patch:
        stop_after(12, patch)
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, out=str(tmp_path / "run")), console=quiet())
    resume(tmp_path / "run", console=quiet())
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    names = [read_run(tmp_path / name).summary["skipped"] for name in ("whole", "run")]
    assert [Path(name).name for name in names[0]] == ["03.png", "17.png", "30.png"]
    assert names[0] == names[1]


def test_an_image_that_became_unreadable_is_noticed_on_resume(tmp_path, monkeypatch):
    images = damaged_folder(tmp_path / "images")
    config = tiny(images=images, subset=1.0, batch_size=8, image_size=16, out=tmp_path / "run")
    with monkeypatch.context() as patch:
        stop_after(12, patch)
        with pytest.raises(KeyboardInterrupt):
            train(config, console=quiet())
    (tmp_path / "images" / "40.png").write_bytes(b"damaged")
    with pytest.raises(FullrankError, match="57 readable and 3 not then, 56 readable and 4 not now"):
        resume(tmp_path / "run", console=quiet())


def test_a_folder_of_nearly_one_size_is_kept_too(tmp_path):
    from PIL import Image

    images = damaged_folder(tmp_path / "images", damaged=())
    for number in range(60, 400):
        Image.new("RGB", (18, 18)).save(tmp_path / "images" / f"{number}.png")
    Image.new("RGB", (20, 18)).save(tmp_path / "images" / "odd.png")
    for cache in ("auto", "stream"):
        train(
            tiny(images=images, subset=1.0, steps=4, image_size=16, out=tmp_path / cache, cache=cache), console=quiet()
        )
    assert read_run(tmp_path / "auto").config["cache"] == "memory"
    assert_same_run(tmp_path / "auto", tmp_path / "stream")


def test_two_processes_cannot_train_one_run(whole):
    folder = RunFolder.reopen(whole / "hybrid")
    try:
        with pytest.raises(FullrankError, match="another process is training"):
            resume(whole / "hybrid", console=quiet())
    finally:
        folder.close()


def test_a_disk_without_locks_is_not_another_process(whole, monkeypatch, capsys):
    def unknown(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(runs.fcntl, "flock", unknown)
    RunFolder.reopen(whole / "hybrid").close()
    assert "cannot be locked (Function not implemented)" in capsys.readouterr().err


def test_what_cannot_be_resumed_says_why(tmp_path):
    (tmp_path / "folder").mkdir()
    for path, message in ((tmp_path / "folder", "is not a run"), (tmp_path / "none", "does not exist")):
        with pytest.raises(FullrankError, match=f"{path} {message}: expected a folder made by"):
            resume(path, console=quiet())


def test_a_taken_folder_is_refused_and_left_as_it_is(whole, tmp_path):
    before = (whole / "hybrid" / "config.yaml").read_bytes()
    with pytest.raises(
        FullrankError, match=r"already holds a run: go on with it by --resume .*hybrid, or choose another"
    ):
        train(tiny(out=whole / "hybrid"), console=quiet())
    assert (whole / "hybrid" / "config.yaml").read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FullrankError, match="exists and is not an empty folder"):
        train(tiny(out=tmp_path), console=quiet())


def test_a_run_without_a_name_gets_a_free_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [train(tiny(steps=4), console=quiet()).path for _ in range(2)]
    assert [str(path) for path in paths] == [
        "runs/digits-simsiam-multiple-pass-s0",
        "runs/digits-simsiam-multiple-pass-s0-2",
    ]


def test_a_failed_start_leaves_no_folder(tmp_path):
    with pytest.raises(FullrankError, match="no images at"):
        train(tiny(images="nowhere", out=tmp_path / "run"), console=quiet())
    with pytest.raises(FullrankError, match="chunks=40 cuts"):
        train(tiny(order="hybrid", chunks=40, out=tmp_path / "run"), console=quiet())
    assert not (tmp_path / "run").exists()


def test_a_diverged_loss_stops_the_run_before_it_is_saved(tmp_path):
    config = tiny(out=tmp_path / "run", optim=OptimConfig(base_lr=1e9))
    with pytest.raises(
        FullrankError, match=r"the loss became nan within .*: start a new run with a lower --optim.base_lr"
    ):
        train(config, console=quiet())
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        for value in read_checkpoint(path)["model"].values():
            assert torch.isfinite(value.float()).all()


def test_a_full_disk_stops_the_run_and_it_goes_on_later(whole, tmp_path, monkeypatch):
    run = tmp_path / "run"
    real = os.fsync

    def full(descriptor):
        if len(list((run / "checkpoints").glob("*.pt"))) >= 2:
            raise OSError(28, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            train(tiny(order="hybrid", out=run), console=quiet())
    assert resume(run, console=quiet()).complete
    assert_same_run(whole / "hybrid", run)


def test_a_run_folder_holds_what_it_should(whole):
    run = read_run(whole / "hybrid")
    assert run.config["order"] == "hybrid"
    assert run.config["cache"] == "memory"
    assert run.config["image_size"] == 16
    assert run.environment["torch"] == torch.__version__
    assert run.environment["data"]["train"]["count"] == 216
    assert (run.config["machine"]["threads"], run.config["machine"]["device"]) == (1, "cpu")
    assert [r["step"] for r in run.of_kind("train")] == [3, 6, 9, 12, 15, 18, 20]
    assert [r["step"] for r in run.of_kind("measure")] == [0, 4, 8, 12, 16, 20] == run.spectrum_steps.tolist()
    assert run.singular_values.shape == (6, 32)
    for record in run.of_kind("measure"):
        assert set(record) >= {"auc", "rankme_centered", "heldout_loss", "knn", "participation_ratio", "dead"}
    names = {score["name"] for score in run.summary["scores"]}
    assert names >= {"loss", "auc", "rankme_centered", "knn", "heldout_loss"}
    for score in run.summary["scores"]:
        assert score["protocol"]
        assert score["direction"]
    knn = next(score for score in run.summary["scores"] if score["name"] == "knn")
    assert knn["protocol"]["k"] == 5
    assert (whole / "hybrid" / "samples.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("steps", "given", "every"),
    [(7, None, 1), (40, None, 4), (499, None, 49), (500, None, 50), (10**6, None, 50), (40, 7, 7)],
)
def test_a_short_run_has_a_curve_where_it_is_left_open(steps, given, every):
    assert TrainConfig(steps=steps, monitor=MonitorConfig(log_every=given)).log_every == every


def test_how_often_a_run_records_is_decided_once(tmp_path):
    monitor = replace(tiny().monitor, log_every=None)
    train(tiny(out=tmp_path / "run", steps=20, monitor=monitor), console=quiet())
    run = read_run(tmp_path / "run")
    assert run.config["monitor"]["log_every"] == 2
    assert [record["step"] for record in run.of_kind("train")] == list(range(2, 21, 2))
    assert "of 2 steps at most" in str(run.summary["scores"])


def test_logged_losses_are_means_over_the_steps_since_the_last_record(tmp_path, monkeypatch):
    losses = []
    real = loop.Recorder.add

    def add(self, step, loss):
        losses.append(float(loss.detach().double()))
        real(self, step, loss)

    monkeypatch.setattr(loop.Recorder, "add", add)
    train(tiny(out=tmp_path / "run"), console=quiet())
    found = [r["loss"] for r in read_run(tmp_path / "run").of_kind("train")]
    edges = [0, 3, 6, 9, 12, 15, 18, 20]
    assert found == pytest.approx([np.mean(losses[a:b]) for a, b in itertools.pairwise(edges)], rel=1e-12)


def test_training_leaves_the_callers_random_state_alone(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    train(tiny(out=tmp_path / "run", steps=3), console=quiet())
    assert torch.equal(torch.rand(2), expected)


def test_measuring_changes_nothing_in_training(whole, tmp_path):
    seldom = dataclasses.replace(tiny().monitor, measure_every=20)
    train(tiny(order="hybrid", out=tmp_path / "run", monitor=seldom), console=quiet())
    found = weights(whole / "hybrid")
    for name, value in weights(tmp_path / "run").items():
        assert torch.equal(value, found[name])


def test_images_without_labels_train_and_have_no_knn(tmp_path):
    from PIL import Image

    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(40):
        Image.fromarray(generator.integers(0, 256, (18, 18, 3), dtype=np.uint8)).save(
            tmp_path / "images" / f"{number}.png"
        )
    (tmp_path / "images" / "7.png").write_bytes(b"damaged")
    console = Console(file=io.StringIO(), width=200)
    config = tiny(images=str(tmp_path / "images"), subset=1.0, out=tmp_path / "run", image_size=16)
    train(config, console=console)
    run = read_run(tmp_path / "run")
    assert "knn" not in run.of_kind("measure")[-1]
    assert "heldout_loss" not in run.of_kind("measure")[-1]
    assert run.environment["data"]["train"] | {"fingerprint": ""} == {"count": 39, "fingerprint": "", "skipped": 1}
    assert [Path(name).name for name in run.summary["skipped"]] == ["7.png"]
    assert "skipped, cannot be decoded" in console.file.getvalue()
    with pytest.raises(FullrankError, match=r"7.png cannot be decoded"):
        train(replace(config, strict=True, out=str(tmp_path / "strict")), console=quiet())


def test_bf16_is_a_setting(tmp_path):
    machine = MachineConfig(threads=1, precision="bf16")
    train(tiny(out=tmp_path / "bf16", machine=machine), console=quiet())
    a, b = (json.loads((tmp_path / "bf16" / METRICS).read_text().splitlines()[i])["loss"] for i in (2, 4))
    assert -1 <= a <= 1
    assert a != b
