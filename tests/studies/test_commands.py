"""`fullrank study` as it is typed: what it prints, and what it asks of a cluster."""

import re
from dataclasses import replace

import pytest
from tests.studies.test_run import STEPS, cell, study

from fullrank.cli import main
from fullrank.commands.study import RunStudy, Slurm
from fullrank.studies import estimate
from fullrank.studies.launchers import Local, Submitit
from fullrank.studies.registry import STUDIES
from fullrank.studies.store import published


@pytest.fixture
def toy(monkeypatch):
    """A study of two settings in place of all others."""
    found = replace(study(cell("plain"), cell("longer", steps=10 * STEPS)), name="toy", question="Does it run?")
    for name in list(STUDIES):
        monkeypatch.delitem(STUDIES, name)
    monkeypatch.setitem(STUDIES, "toy", found)
    return found


def words(text):
    return re.sub(r"[│┃┏┓┗┛━─┳┻╇╈┡┩└┘┴┬\s]+", " ", text)


def test_list_counts_runs_and_the_finished_ones(toy, here, place, capsys, monkeypatch):
    assert main(["study", "list", "--results", str(place.results), "--seeds", "2"]) == 0
    assert "toy Toy 0 of 4 " in words(capsys.readouterr().out)
    monkeypatch.setattr("fullrank.commands.study.ShowStudy.run", lambda self: 0)
    flags = ["--seeds", "1", "--work", str(place.work), "--results", str(place.results), "--threads", "1"]
    assert main(["study", "run", "toy", *flags]) == 0
    capsys.readouterr()
    assert main(["study", "list", "--results", str(place.results), "--seeds", "2"]) == 0
    said = words(capsys.readouterr().out)
    assert "toy Toy 2 of 4 " in said
    assert f"Runs at lab scale, 2 seeds each, results of {place.results}." in said


def test_list_finds_the_results_that_came_with_the_package(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "list"]) == 0
    assert f"results of {published()}." in words(capsys.readouterr().out)
    (tmp_path / "file").touch()
    assert main(["study", "list", "--results", "file"]) == 1
    assert "--results file is a file" in capsys.readouterr().err


def test_a_dry_run_gives_runs_steps_and_hours_and_trains_nothing(toy, place, capsys, monkeypatch):
    monkeypatch.setattr(estimate, "seconds_per_step", lambda config: 360.0)
    flags = ["--work", str(place.work), "--results", str(place.results), "--seeds", "1", "--jobs", "2", "--dry-run"]
    assert main(["study", "run", "toy", *flags]) == 0
    said = words(capsys.readouterr().out)
    assert f"plain 0 {STEPS} 0.60" in said
    assert f"longer 0 {10 * STEPS} 6.00" in said
    assert "2 of 2 runs to make: about 6.6 hours of training, 3.3 with 2 at a time, from a few steps" in said
    assert not place.work.exists()
    assert not place.results.exists()


def test_a_dry_run_counts_the_steps_that_are_left(toy, place, capsys, monkeypatch):
    from fullrank.studies.store import planned

    monkeypatch.setattr(estimate, "seconds_per_step", lambda config: 360.0)
    (_, longer) = planned(toy, "lab", [0])
    folder = place.work / "lab" / longer.name
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(f'{{"kind": "train", "step": {8 * STEPS}}}\n')
    assert main(["study", "run", "toy", "--seeds", "1", "--work", str(place.work), "--dry-run"]) == 0
    said = words(capsys.readouterr().out)
    assert f"longer 0 {10 * STEPS} 1.20" in said
    assert "about 1.8 hours of training" in said


def test_nothing_to_show_says_what_makes_it(toy, place, capsys):
    assert main(["study", "show", "toy", "--results", str(place.results)]) == 1
    said = capsys.readouterr().err
    assert f"no run of toy at lab scale is finished in {place.results}: `fullrank study run toy --scale lab`" in said


@pytest.mark.parametrize("flags", [["--seeds", "0"], ["--jobs", "0"], ["--processes", "0"]])
def test_counts_below_one_are_refused(toy, flags, capsys):
    assert main(["study", "run", "toy", *flags]) == 1
    assert f"{flags[0]} must be at least 1, got 0" in capsys.readouterr().err


def test_what_a_job_asks_of_a_cluster():
    asked = Slurm(partition="gpu", gpus=8, cpus=6, hours=1.5, memory_gb=50)
    command = RunStudy("orders", launcher="slurm", jobs=12, slurm=asked)
    launcher = command._launcher()
    assert isinstance(launcher, Submitit)
    assert (launcher.cluster, launcher.jobs) == ("slurm", 12)
    assert launcher.parameters == {
        "name": "fullrank-orders",
        "timeout_min": 90,
        "gpus_per_node": 8,
        "cpus_per_task": 48,
        "mem_gb": 400,
        "slurm_partition": "gpu",
    }
    assert command._place().processes == 8
    assert command._place().threads is None


def test_runs_beside_each_other_have_one_thread_each():
    assert RunStudy("orders", jobs=2)._place().threads == 1
    assert RunStudy("orders", jobs=2, threads=3)._place().threads == 3
    assert RunStudy("orders")._place().threads is None
    assert RunStudy("orders", jobs=2)._launcher() == Local(2)


def test_published_results_are_found_away_from_a_checkout(tmp_path, monkeypatch):
    from fullrank.commands.study import ShowStudy

    monkeypatch.chdir(tmp_path)
    assert ShowStudy("orders").run() == 0
    assert "| hybrid | 39.6 ± 0.0 | 48.3 ± 0.7 |" in (tmp_path / "orders-lab.md").read_text("utf-8")
