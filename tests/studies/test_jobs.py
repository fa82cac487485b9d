"""What a run of a study needs before it may begin, go on, or count as finished."""

import json
import shutil
import signal
import threading
import time
from dataclasses import replace

import pytest
import yaml
from tests.data.test_images import write_parquet
from tests.studies.test_run import STEPS, cell, make, study

from fullrank.config import HeadsConfig
from fullrank.errors import FullrankError
from fullrank.studies import jobs
from fullrank.studies.run import ToMake
from fullrank.studies.store import Store, planned
from fullrank.training import scores

pytestmark = pytest.mark.usefixtures("unprobed")
TEACHER = cell("teacher", image_size=16)
STUDENT = cell("student", {"name": "teacher"}, method="distill", image_size=16, heads=HeadsConfig())


def images_of(path, count=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_parquet(path, range(count), labels=[n % 4 for n in range(count)])
    return str(path)


def on_cifar(**changes):
    return cell(images="cifar10", eval_images=None, subset=1.0, image_size=16, **changes)


def test_a_student_does_not_begin_before_its_teacher_is_trained_to_its_end(here, place):
    toy = study(STUDENT, replace(TEACHER, config=replace(TEACHER.config, images="nowhere/at/all")))
    teacher, student = planned(toy, "lab", [0])
    failed, text = make(toy, place)
    assert failed == 2
    assert f"{student.name}: failed (1)" in text
    log = (place.work / "lab" / f"{student.name}.log").read_text()
    assert f"not begun: its teacher {place.work / 'lab' / teacher.name} is not trained to its end, see" in log


def test_a_teacher_that_was_stopped_is_trained_to_its_end_first(here, place):
    """Its result may be there from another machine, and its own folder have an early checkpoint only."""
    make(study(TEACHER), place)
    toy = study(STUDENT, TEACHER)
    teacher = planned(toy, "lab", [0])[0].name
    folder = place.work / "lab" / teacher
    (folder / "summary.json").unlink()
    (folder / "checkpoints" / f"step_{STEPS:08d}.pt").unlink()
    failed, text = make(toy, place)
    assert (failed, text.count(": done")) == (0, 2)
    assert f"trained again, for weights that are not in {place.work}: {teacher}" in text
    assert (folder / "checkpoints" / f"step_{STEPS:08d}.pt").is_file()


def test_finished_runs_that_are_trained_again_for_their_weights_are_said_and_replaced(here, place):
    plain = cell(image_size=16)
    make(study(plain), place)
    (kept,) = (place.results / "lab").iterdir()
    before = (kept / "metrics.jsonl").read_bytes()
    asking = study(replace(plain, label_free=True))
    assert ToMake(asking, "lab", [0], place).again == []
    shutil.rmtree(place.work)
    found = ToMake(asking, "lab", [0], place)
    assert found.again == [job.name for job in found.jobs] == [kept.name]
    failed, text = make(asking, place)
    assert failed == 0
    assert f"trained again, for weights that are not in {place.work}: {kept.name}" in text
    assert (kept / "metrics.jsonl").read_bytes() == before
    assert any(each.by == "inspect" for each in scores.kept(kept))


def test_weights_that_were_deleted_are_not_made_again_where_none_are_needed(here, place, monkeypatch):
    toy = study(cell())
    make(toy, place)
    shutil.rmtree(place.results)
    (folder,) = (path for path in (place.work / "lab").iterdir() if path.is_dir())
    shutil.rmtree(folder / "checkpoints")
    monkeypatch.setattr(jobs.Job, "training", None)  # would raise
    assert make(toy, place)[0] == 0


def test_a_folder_called_like_a_word_of_the_records_leaves_them_alone(here, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images_of(tmp_path / "train" / "one.parquet")
    images_of(tmp_path / "eval" / "one.parquet")
    assert make(study(on_cifar()), replace(place, images="train", eval_images="eval"))[0] == 0
    (kept,) = (place.results / "lab").iterdir()
    protocols = [score["protocol"] for score in json.loads((kept / "summary.json").read_text())["scores"]]
    assert {protocol.get("mode") for protocol in protocols} <= {"train", "eval"}
    assert {protocol.get("split") for protocol in protocols} <= {"train", "held out", None}
    lines = (kept / "metrics.jsonl").read_text().splitlines()
    assert {"train", "measure"} <= {json.loads(line)["kind"] for line in lines}
    config = yaml.safe_load((kept / "config.yaml").read_text())
    assert (config["images"], config["eval_images"]) == ("cifar10", "held out")


def test_an_interrupted_run_goes_on_with_images_that_have_moved(here, place, tmp_path):
    old = images_of(tmp_path / "old" / "train.parquet")
    toy = study(on_cifar())
    (run,) = planned(toy, "lab", [0])
    folder = place.work / "lab" / run.name
    make(toy, replace(place, images=old, eval_images=old))
    shutil.rmtree(place.results)
    (folder / "summary.json").unlink()
    (folder / "checkpoints" / f"step_{STEPS:08d}.pt").unlink()
    shutil.move(tmp_path / "old", tmp_path / "new")
    new = str(tmp_path / "new" / "train.parquet")
    failed, _ = make(toy, replace(place, images=new, eval_images=new))
    assert failed == 0
    kept = place.results / "lab" / run.name
    assert all(str(tmp_path).encode() not in file.read_bytes() for file in kept.iterdir())


def test_an_interrupted_run_does_not_go_on_with_other_images(here, place, tmp_path):
    one, other = (images_of(tmp_path / name / "train.parquet", count) for name, count in (("one", 64), ("other", 65)))
    toy = study(on_cifar())
    (run,) = planned(toy, "lab", [0])
    folder = place.work / "lab" / run.name
    make(toy, replace(place, images=one, eval_images=one))
    shutil.rmtree(place.results)
    (folder / "summary.json").unlink()
    (folder / "checkpoints" / f"step_{STEPS:08d}.pt").unlink()
    failed, _ = make(toy, replace(place, images=other, eval_images=other))  # stopped on the way
    assert failed == 1
    assert "are not those that" in (place.work / "lab" / f"{run.name}.log").read_text()
    assert not list(place.results.glob("lab/*/summary.json"))


def test_held_out_images_that_come_with_a_set_are_asked_for(place, tmp_path):
    toy = study(on_cifar())
    path = images_of(tmp_path / "train.parquet")
    with pytest.raises(FullrankError, match="held-out images that come with cifar10: say .* with --eval-images"):
        ToMake(toy, "lab", [0], replace(place, images=path)).check_images()
    ToMake(toy, "lab", [0], replace(place, images=path, eval_images=path)).check_images()
    ToMake(toy, "lab", [0], replace(place, images="digits")).check_images()


def test_label_free_scores_that_were_taken_otherwise_do_not_count(here, place):
    asking = study(replace(cell(image_size=16), label_free=True))
    make(asking, place)
    (kept,) = (place.results / "lab").iterdir()
    (run,) = planned(asking, "lab", [0])
    store = Store(place.results, "lab")
    assert store.find(run) is not None
    before = (kept / "scores.json").read_text()
    scores = json.loads(before)["scores"]
    for changed in (
        [each for each in scores if each["name"] not in ("alignment", "lidar")],  # those of views
        [each | {"asked": each["asked"] | {"images": "others"}} for each in scores],
        [each | {"step": STEPS - 2} for each in scores],
    ):
        (kept / "scores.json").write_text(json.dumps({"scores": changed}))
        assert store.find(run) is None
    (kept / "scores.json").write_text(before)
    assert store.find(run) is not None


def test_a_failed_run_does_not_keep_the_page_of_the_others_back(here, place, monkeypatch, capsys):
    from fullrank.commands import RunStudy
    from fullrank.studies.registry import STUDIES

    toy = replace(study(cell("good"), cell("bad", images="nowhere/at/all")), name="toy")
    monkeypatch.setitem(STUDIES, "toy", toy)
    monkeypatch.setattr("fullrank.studies.run.ToMake.check_images", lambda _: None)
    assert RunStudy("toy", seeds=1, work=place.work, results=place.results, threads=1).run() == 1
    assert f"page: {place.results / 'toy-lab.html'}" in capsys.readouterr().out
    assert "**1 run missing**\n\n- bad (seed 0)" in (place.results / "toy-lab.md").read_text()


def test_processes_are_ended_together_and_none_begins_afterwards(place, monkeypatch):
    (run,) = planned(study(cell(steps=150)), "lab", [0])
    job, processes = jobs.Job(run, "lab", place), jobs.Processes()
    job.work.mkdir(parents=True)
    sleeping = threading.Thread(target=lambda: codes.append(processes.run(job, ["sleep", "60"])))
    codes = []
    sleeping.start()
    while not processes._running:
        time.sleep(0.01)
    processes.stop()
    sleeping.join(timeout=10)
    assert codes == [-signal.SIGTERM]
    assert processes.run(job, ["sleep", "60"]) == jobs.STOPPED
