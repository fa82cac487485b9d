"""Run folders: which of the given paths are runs, and records that go with them."""

import io
import json
import shutil

import pytest
import torch
from rich.console import Console

from fullrank.cli import main
from fullrank.errors import FullrankError
from fullrank.measure import scores
from fullrank.measure.scores import ScoreKind
from fullrank.training.checkpoint import read_checkpoint
from fullrank.training.loop import resume, train
from fullrank.training.runs import only_runs, read_run
from tests.report.run_folders import make_run
from tests.training.tiny import quiet, tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    train(tiny(out=run, steps=6), console=quiet())
    return run


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def said(run):
    console = Console(file=io.StringIO(), width=300)
    assert resume(run, console=console).complete
    return console.file.getvalue()


def test_what_lies_beside_runs_is_passed_over_and_named(tmp_path, monkeypatch, capsys, no_drawing):
    monkeypatch.chdir(tmp_path)
    runs = [make_run(tmp_path / name, steps=100) for name in ("a", "b")]
    (tmp_path / "report.html").touch()
    (tmp_path / "notes").mkdir()
    names = sorted(path.name for path in tmp_path.iterdir())
    for command in (["rank"], ["report", "--out", "page.html"]):
        assert main([command[0], *names, *command[1:]]) == 0
        error = capsys.readouterr().err.splitlines()
        assert error == [f"passed over, for it is not a run: {name}" for name in ("notes", "report.html")]
    assert main(["evaluate", *names]) == 1  # neither has a checkpoint
    assert "passed over, for it is not a run: notes" in capsys.readouterr().err
    assert only_runs([*runs, "none"]) == [*runs, tmp_path.__class__("none")]  # an error where it is opened
    with pytest.raises(FullrankError, match=r"notes is not a run, nor is any other: give folders made by"):
        only_runs(["notes", "report.html"])
    (tmp_path / "w.pth").touch()
    with pytest.raises(FullrankError, match=r"w.pth is not a run.*`fullrank inspect a.pth b.pth --backbone"):
        only_runs(["w.pth"])


@pytest.mark.parametrize("field", ["seed: 0", "batch_size: 16", "base_lr: 0.3", "log_every: 3"])
def test_an_edited_configuration_is_refused(field, run):
    text = (run / "config.yaml").read_text()
    name, old = field.split(": ")
    assert field in text
    (run / "config.yaml").write_text(text.replace(field, f"{name}: 8"))
    with pytest.raises(FullrankError, match=rf"trained with: [a-z.]*{name}: {old} -> 8(\.0)?\. Put it back"):
        resume(run, console=quiet())


def test_a_copied_or_renamed_checkpoint_is_refused(run):
    for name in ("step_00000004.pt", "step_00000007.pt"):
        shutil.copy(run / "checkpoints" / "step_00000005.pt", run / "checkpoints" / name)
    with pytest.raises(FullrankError, match=r"step_00000007\.pt is of step 5, not what its name says or within the"):
        resume(run, console=quiet())


def test_how_a_run_saw_its_images_cannot_be_edited(run):
    (run / "summary.json").unlink()
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("    version: 2\n", ""))
    assert (run / "config.yaml").read_text() != text
    with pytest.raises(FullrankError, match=r"environment\.data\.version None, .*: put the file back as it was"):
        resume(run, console=quiet())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[::-1], "the steps of its records of kind train do not rise"),
        (lambda lines: [*lines, lines[-1]], "do not rise"),
        (lambda lines: [*lines, lines[-1].replace('"step": 6', '"step": 60')], "of step 60, and the run has 6 steps"),
    ],
)
def test_records_whose_steps_do_not_rise_are_refused(change, message, run):
    path = run / "metrics.jsonl"
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    with pytest.raises(FullrankError, match=rf"metrics\.jsonl is damaged: .*{message}"):
        read_run(run)


def test_lost_records_are_said_of_a_finished_run_too_and_whole_ones_are_not(run):
    assert "lack" not in said(run)
    (run / "checkpoints" / "step_00000006.pt").unlink()
    assert "lack" not in said(run)  # goes on from step 5
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in lines if '"step": 3,' not in line))
    assert "metrics.jsonl lack 1 records up to step 6, the first of step 3: " in said(run)
    (run / "spectra.safetensors").unlink()
    assert "metrics.jsonl and spectra.safetensors lack 4 records up to step 6, the first of step 0" in said(run)


def test_without_any_record_there_are_no_final_scores(run):
    (run / "metrics.jsonl").unlink()
    (run / "summary.json").unlink()
    with pytest.raises(FullrankError, match=r"metrics\.jsonl has no record of the kind 'train', and there are no fin"):
        resume(run, console=quiet())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.update(step="5"), "step must be a whole number, got '5'"),
        (lambda state: state.pop("model"), "model is missing"),
        (lambda state: state.pop("optimizer"), "optimizer is missing"),
        (lambda state: state["model"].update(odd=3), "model.odd must be Tensor, got 3"),
        (lambda state: state["record"].update(count=-1), "record.count must be at least 0"),
        (lambda state: state["record"].update(loss_sum=torch.ones(2)), "record.loss_sum must be a finite tensor"),
        (lambda state: state["optimizer"].update(param_groups=3), "optimizer.param_groups must be a list"),
        (
            lambda state: state["optimizer"]["state"][0].update(momentum_buffer=torch.ones(2)),
            "does not fit the run's configuration: the optimizer's momentum_buffer is not of its parameter's shape",
        ),
    ],
)
def test_a_checkpoint_that_is_well_formed_and_wrong(change, message, run):
    (run / "summary.json").unlink()
    file = run / "checkpoints" / "step_00000006.pt"
    state = read_checkpoint(file)
    change(state)
    torch.save(state, file)
    with pytest.raises(FullrankError, match=f"{message}.*; delete it to go on from the checkpoint before") as error:
        resume(run, console=quiet())
    assert "\n" not in str(error.value)


def test_a_monitored_score_that_fails_is_said_once_and_costs_nothing_else(tmp_path, monkeypatch, trained, no_drawing):
    calls = []

    def toy(spectrum):
        calls.append(spectrum)
        if len(calls) > 1:
            raise IndexError("list index\nout of range")
        return 2.0

    monkeypatch.setitem(
        scores.SCORES, "toy", ScoreKind("toy", "toy score", "higher", toy, "features", "centered", True)
    )
    console = Console(file=io.StringIO(), width=300)
    run = tmp_path / "run"
    assert train(tiny(out=run, steps=6), console=console).complete
    told = [line for line in console.file.getvalue().splitlines() if "toy score" in line]
    assert told == [
        "toy score could not be taken at step 4, and is left out wherever it cannot: it failed: IndexError: list index "
        "out of range"
    ]
    found = read_run(run)
    assert [record.get("toy") for record in found.of_kind("measure")] == [2.0, None, None]
    without = read_run(trained)
    assert [score["name"] for score in found.summary["scores"]] == [s["name"] for s in without.summary["scores"]]
    assert len(calls) == 3
    assert main(["report", str(run)]) == 0
    assert main(["rank", str(run), "--json"]) == 0
    assert json.loads((run / "summary.json").read_text())["steps"] == 6


def test_a_folder_of_runs_is_told_from_a_folder_of_something_else(tmp_path):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "a" / "config.yaml").touch()
    with pytest.raises(FullrankError, match=r"runs is not a run: expected .*; .*runs/[\w-]+ is one$"):
        read_run(tmp_path / "runs")
    with pytest.raises(FullrankError, match=r"runs is not a run, .*: give the runs in it, .*runs/\*"):
        only_runs([tmp_path / "runs"])
