"""Execution of a study: what is finished stays, what failed is named, what was interrupted goes on."""

import io
import json
import shutil
import signal
from dataclasses import replace

import pytest
import yaml
from rich.console import Console
from tests.processes import Command, wait_for
from tests.training.tiny import tiny

from fullrank.config import HeadsConfig, TargetConfig
from fullrank.data.images import open_images
from fullrank.errors import FullrankError
from fullrank.studies import run as studies_run
from fullrank.studies import store
from fullrank.studies.jobs import STOPPED, Job, Processes
from fullrank.studies.run import ToMake
from fullrank.studies.store import Store, planned, run_name, settings
from fullrank.studies.study import PROBES, Cell, Study
from fullrank.training.scores import series

pytestmark = pytest.mark.usefixtures("unprobed")
STEPS = 6


def study(*cells):
    return Study("toy", "Toy", "ours", "Does it run?", lambda scale: cells, lambda results, scale: [])


def cell(name="a", teacher=None, **changes):
    changes = {"steps": STEPS, "checkpoint_every": 2, **changes}
    return Cell({"name": name}, tiny(**changes), teacher=teacher)


def make(toy, place, seeds=(0,), **how):
    out = io.StringIO()
    failed = ToMake(toy, "lab", seeds, place).make(Console(file=out, width=200), **how)
    return failed, out.getvalue()


def missing(toy, place, seeds=(0,)):
    """Return the settings whose runs are not finished."""
    found = Store(place.results, "lab")
    return [run.cell.words for run in planned(toy, "lab", seeds) if found.find(run) is None]


def test_finished_runs_are_found_by_their_settings_and_not_repeated(here, place, monkeypatch):
    toy = study(cell("plain"), cell("hybrid", order="hybrid"))
    failed, text = make(toy, place)
    assert failed == 0
    assert text.startswith("toy: 2 runs, 2 to make")
    assert text.count(": done") == 2
    results = Store(place.results, "lab").results(planned(toy, "lab", [0]))
    assert [result.run.config["order"] for result in results] == ["multiple-pass", "hybrid"]
    assert results[0].score("auc") == results[0].run.of_kind("measure")[-1]["auc"]
    assert series(results[0].run, "auc")[0].tolist() == [0, 4, 6]

    monkeypatch.setattr(studies_run, "perform", None)  # would raise
    # another study, with the same settings under other names, and a difference that decides nothing
    other = study(cell("the same", checkpoint_every=3, keep_checkpoints=1))
    assert make(other, place) == (0, "toy: 1 runs, 0 to make\n")


def test_results_hold_small_files_and_no_path_of_the_machine(here, place, tmp_path):
    from tests.data.test_images import write_parquet

    images = str(tmp_path / "somewhere" / "train.parquet")
    (tmp_path / "somewhere").mkdir()
    write_parquet(tmp_path / "somewhere" / "train.parquet", range(64), labels=[n % 4 for n in range(64)])
    toy = study(cell(images="cifar10", eval_images=None, subset=1.0, image_size=16))
    assert make(toy, replace(place, images=images, eval_images=images))[0] == 0
    (kept,) = (place.results / "lab").iterdir()
    assert {file.name for file in kept.iterdir()} == {
        "config.yaml",
        "metrics.jsonl",
        "timing.jsonl",
        "summary.json",
        "spectra.safetensors",
    }
    for file in kept.iterdir():
        assert str(tmp_path).encode() not in file.read_bytes(), file.name
    assert yaml.safe_load((kept / "config.yaml").read_text())["images"] == "cifar10"


def test_a_failed_run_is_named_and_does_not_stop_the_others(here, place):
    toy = study(cell("good"), cell("bad", images="nowhere/at/all"))
    failed, text = make(toy, place)
    bad = planned(toy, "lab", [0])[1].name
    assert failed == 1
    assert f"{bad}: failed (1), see {place.work}/lab/{bad}.log" in text
    assert "no images at 'nowhere/at/all'" in (place.work / "lab" / f"{bad}.log").read_text()
    assert missing(toy, place) == ["bad"]


def test_an_interrupted_study_saves_its_runs_and_goes_on(place, request):
    monitor = replace(tiny().monitor, log_every=3, measure_every=50)
    toy = study(cell(steps=100, checkpoint_every=100, monitor=monitor))
    first = planned(toy, "lab", [0])[0]
    folder = place.work / "lab" / first.name

    done_steps = Job.done_steps

    def interrupt_when_it_trains(job):
        if done_steps(job) >= 9:
            raise KeyboardInterrupt
        return done_steps(job)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Job, "done_steps", interrupt_when_it_trains)
        patched.setattr(studies_run, "TICK", 0.05)
        with pytest.raises(KeyboardInterrupt):
            make(toy, place)
    saved = sorted(folder.glob("checkpoints/step_*.pt"))[-1]
    assert 0 < int(saved.stem.split("_")[1]) < 100
    assert missing(toy, place)
    request.getfixturevalue("here")
    failed, _ = make(toy, place)
    assert failed == 0
    assert "going on with" in (place.work / "lab" / f"{first.name}.log").read_text()

    whole = replace(place, work=place.work / "again", results=place.results / "again")
    make(toy, whole)
    metrics = [(each.results / "lab" / first.name / "metrics.jsonl").read_bytes() for each in (place, whole)]
    assert metrics[0] == metrics[1]


def test_a_teacher_is_trained_before_its_student_and_called_by_its_name(here, place):
    teacher = cell("teacher", image_size=16)
    student = cell("student", {"name": "teacher"}, method="distill", image_size=16, heads=HeadsConfig())
    toy = study(student, teacher)
    runs = planned(toy, "lab", [0, 1])
    assert [each.cell.factors["name"] for each in runs] == ["teacher", "student"] * 2
    assert runs[1].config.target.teacher == runs[0].name
    assert runs[3].config.target.teacher == runs[2].name
    assert make(toy, place)[0] == 0
    kept = yaml.safe_load((place.results / "lab" / runs[1].name / "config.yaml").read_text())
    assert kept["target"]["teacher"] == runs[0].name


def test_names_follow_from_what_decides_the_result():
    config = tiny()
    same = replace(config, out="elsewhere", machine=replace(config.machine, threads=7), keep_checkpoints=9)
    assert run_name(same) == run_name(config)
    others = [
        replace(config, seed=1),
        replace(config, subset=0.2),
        replace(config, target=TargetConfig(momentum=0.5)),
        replace(config, monitor=replace(config.monitor, num_images=90)),
    ]
    names = {run_name(each) for each in (config, *others)}
    assert len(names) == 5
    assert "steps" in settings(config)
    assert "seed" not in settings(config)


def test_a_result_of_other_settings_under_its_name_is_refused(here, place):
    toy = study(cell())
    make(toy, place)
    (kept,) = (place.results / "lab").iterdir()
    config = yaml.safe_load((kept / "config.yaml").read_text())
    as_before = {**config["monitor"], "images": 79}  # the field's first name
    del as_before["num_images"]
    for changed, said in (
        ({"optim": {**config["optim"], "base_lr": 0.123}}, "optim.base_lr=0.123, not 0.3"),
        ({"monitor": as_before}, "monitor.num_images=79, not 80"),
    ):
        (kept / "config.yaml").write_text(yaml.safe_dump({**config, **changed}))
        with pytest.raises(FullrankError, match=f"is of a run with {said}: a default has changed"):
            missing(toy, place)


def test_one_run_of_a_study_is_made_alone(here, place):
    toy = study(cell("one"), cell("two", order="hybrid"))
    assert make(toy, place, only=1) == (0, f"toy: 2 runs, 1 to make\n{planned(toy, 'lab', [0])[1].name}: done\n")
    assert missing(toy, place) == ["one"]
    assert make(toy, place, only=1) == (0, "toy: 2 runs, 0 to make\n")
    with pytest.raises(FullrankError, match="--only must be a run's number, 0 to 1, got 2"):
        make(toy, place, only=2)


def test_sigterm_stops_a_study_as_ctrl_c_does(tmp_path):
    """A scheduler's signal reaches the study alone: its runs, in sessions of their own, would train on."""
    work, arguments = tmp_path / "work", ["study", "run", "regime", "--seeds", "1", "--work", tmp_path / "work"]
    arguments += ["--results", tmp_path / "results", "--images", "digits", "--eval-images", "digits", "--threads", "1"]
    with Command(arguments, tmp_path / "output") as command:
        wait_for(lambda: any('"kind": "train"' in path.read_text() for path in work.glob("lab/*/metrics.jsonl")))
        command.send_signal(signal.SIGTERM)
        assert command.wait() == 130, command.output.read_text()
    assert "stopped; what had begun is saved: give the same command again" in command.output.read_text()
    assert list((tmp_path / "work").glob("lab/*/checkpoints/step_*.pt"))


def test_a_folder_of_other_settings_is_not_gone_on_with(here, place):
    toy = study(cell())
    first = planned(toy, "lab", [0])[0]
    folder = place.work / "lab" / first.name
    make(toy, place)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["optim"]["momentum"] = 0.5
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.rmtree(place.results)
    failed, text = make(toy, place)
    assert failed == 1
    assert f"{first.name}: failed (1)" in text
    log = (place.work / "lab" / f"{first.name}.log").read_text()
    assert f"{folder} is of a run with optim.momentum=0.5, not 0.9: a default has changed since; move it away" in log
    assert not list(place.results.glob("lab/*/summary.json"))


def test_scores_of_an_earlier_step_are_not_the_final_ones(here, place, monkeypatch):
    monkeypatch.setitem(PROBES, "lab", ("knn",))
    toy = study(cell(image_size=16))
    run = planned(toy, "lab", [0])[0]
    assert make(toy, place)[0] == 0
    for folder in (place.work / "lab" / run.name, place.results / "lab" / run.name):
        (score,) = json.loads((folder / "scores.json").read_text())["scores"]
        (folder / "scores.json").write_text(json.dumps({"scores": [{**score, "step": STEPS - 2}]}))
    assert missing(toy, place)
    assert make(toy, place)[0] == 0
    kept = json.loads((place.results / "lab" / run.name / "scores.json").read_text())["scores"]
    assert [score["step"] for score in kept] == [STEPS - 2, STEPS]


@pytest.mark.parametrize("file", ["spectra.safetensors", "metrics.jsonl", "summary.json"])
def test_a_result_that_is_not_whole_is_made_again(here, place, file):
    toy = study(cell())
    make(toy, place)
    (kept,) = (place.results / "lab").iterdir()
    before = (kept / file).read_bytes()
    (kept / file).unlink()
    assert missing(toy, place)
    assert make(toy, place)[0] == 0
    assert (kept / file).read_bytes() == before


def test_an_interrupted_copy_does_not_count_as_finished(here, place, monkeypatch):
    toy = study(cell())

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(store.shutil, "copyfile", full)
        failed, _ = make(toy, place)  # and is a failed job, not the end of the study
    assert failed == 1
    assert missing(toy, place)
    assert make(toy, place)[0] == 0


@pytest.mark.parametrize(("file", "text"), [("summary.json", "{}"), ("scores.json", "[]"), ("summary.json", "{")])
def test_a_damaged_result_is_named(here, place, monkeypatch, file, text):
    monkeypatch.setitem(PROBES, "lab", ("knn",))
    toy = study(cell(image_size=16))
    make(toy, place)
    (kept,) = (place.results / "lab").iterdir()
    (kept / file).write_text(text)
    with pytest.raises(FullrankError, match=f"{kept}.* is damaged"):
        missing(toy, place)


@pytest.mark.parametrize("gone", ["lab", "lab/*/checkpoints"])
def test_a_finished_teacher_whose_weights_are_gone_is_trained_again(here, place, gone):
    teacher = cell("teacher", image_size=16)
    student = cell("student", {"name": "teacher"}, method="distill", image_size=16, heads=HeadsConfig())
    make(study(teacher), place)
    for folder in place.work.glob(gone):
        shutil.rmtree(folder)
    failed, text = make(study(student, teacher), place)
    assert failed == 0
    assert text.count(": done") == 2


def test_label_free_scores_are_taken_where_a_setting_asks_for_them(here, place):
    plain = cell(image_size=16)
    assert make(study(plain), place)[0] == 0
    asking = study(replace(plain, label_free=True))
    runs = planned(asking, "lab", [0])
    assert len(missing(asking, place)) == len(runs)
    assert make(asking, place)[0] == 0
    (result,) = Store(place.results, "lab").results(runs)
    scores = {score.name: score.value for score in result.label_free}
    assert {"auc", "lidar", "rankme"} <= set(scores)
    assert not missing(study(plain), place)


def test_paths_within_a_folder_of_this_machine_are_renamed_too():
    names = {"/data/train": "imagenet/train", "/data/train.parquet": "cifar10"}
    text = json.dumps(
        {"skipped": ["/data/train/n01/x.JPEG"], "said": "none at /data/train.", "other": "/data/trains/x"}
    )
    assert json.loads(store._renamed(text, "summary.json", names)) == {
        "skipped": ["imagenet/train/n01/x.JPEG"],
        "said": "none at imagenet/train.",
        "other": "/data/trains/x",
    }
    assert json.loads(store._renamed('["/data/train.parquet"]', "summary.json", names)) == ["cifar10"]


def test_a_job_that_a_signal_stopped_is_not_done(place, monkeypatch):
    monkeypatch.setattr(Processes, "run", lambda *_: STOPPED)
    failed, text = make(study(cell()), place)
    assert failed == 1
    assert "was stopped by a signal, see" in text


def test_other_images_than_those_of_finished_runs_are_refused(here, place, tmp_path, monkeypatch):
    from tests.data.test_images import write_parquet

    for name, numbers in (("one", range(64)), ("other", range(65))):
        write_parquet(tmp_path / f"{name}.parquet", numbers, labels=[n % 4 for n in numbers])
    one, other = (replace(place, images=str(tmp_path / f"{name}.parquet")) for name in ("one", "other"))
    toy = study(cell(images="cifar10", eval_images=None, subset=1.0, image_size=16))
    one = replace(one, eval_images=one.images)
    make(toy, one)
    ToMake(toy, "lab", [0], one).check_images()
    with monkeypatch.context() as machine:  # none given: those that the study's name stands for here
        machine.setattr(studies_run, "open_images", lambda path, **how: open_images(other.images, **how))
        with pytest.raises(FullrankError, match="made on other train images than cifar10"):
            ToMake(toy, "lab", [0], place).check_images()
        with pytest.raises(FullrankError, match="made on other train images than cifar10"):
            make(study(*toy.cells("lab"), cell(image_size=16)), place)
    with pytest.raises(FullrankError, match="made on other train images than .*other.parquet .*another --results"):
        ToMake(toy, "lab", [0], replace(other, eval_images=one.images)).check_images()
    with pytest.raises(FullrankError, match="made on other held-out images than .*other.parquet"):
        ToMake(toy, "lab", [0], replace(one, eval_images=other.images)).check_images()
    with pytest.raises(FullrankError, match="nowhere"):
        ToMake(toy, "lab", [0], replace(place, images="nowhere/at/all", eval_images=one.images)).check_images()
