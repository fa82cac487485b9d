"""`fullrank study` as it is typed: what it prints."""

import re
from dataclasses import replace

import pytest
from tests.studies.test_run import STEPS, cell, study

from fullrank.cli import main
from fullrank.commands import RunStudy
from fullrank.studies.registry import STUDIES, find
from fullrank.studies.store import planned, published


@pytest.fixture
def toy(monkeypatch):
    """A study of two settings in place of all others."""
    found = replace(study(cell("plain"), cell("longer", steps=2 * STEPS)), name="toy", question="Does it run?")
    for name in list(STUDIES):
        monkeypatch.delitem(STUDIES, name)
    monkeypatch.setitem(STUDIES, "toy", found)
    return found


def words(text):
    return re.sub(r"[│┃┏┓┗┛━─┳┻╇╈┡┩└┘┴┬\s]+", " ", text)


def test_list_counts_runs_and_the_finished_ones(toy, here, place, capsys, monkeypatch):
    assert main(["study", "list", "--results", str(place.results), "--seeds", "2"]) == 0
    assert "toy Toy 0 of 4 " in words(capsys.readouterr().out)
    monkeypatch.setattr("fullrank.commands.ShowStudy.run", lambda self: 0)
    flags = ["--seeds", "1", "--work", str(place.work), "--results", str(place.results), "--threads", "1"]
    assert main(["study", "run", "toy", *flags]) == 0
    capsys.readouterr()
    assert main(["study", "list", "--results", str(place.results), "--seeds", "2"]) == 0
    said = words(capsys.readouterr().out)
    assert "toy Toy 2 of 4 " in said
    assert "Runs at lab scale, 2 seeds each, results of " in said
    assert f"{place.results}." in said.replace(" ", "")  # which may be too long for one line


def test_list_finds_the_results_that_came_with_the_package(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "list"]) == 0
    assert f"results of {published()}." in words(capsys.readouterr().out)
    (tmp_path / "file").touch()
    assert main(["study", "list", "--results", "file"]) == 1
    assert "--results file is a file" in capsys.readouterr().err


def test_a_dry_run_numbers_the_runs_and_trains_nothing(toy, place, capsys):
    flags = ["--work", str(place.work), "--results", str(place.results), "--seeds", "1", "--dry-run"]
    assert main(["study", "run", "toy", *flags]) == 0
    said = words(capsys.readouterr().out)
    assert re.search(rf"0 simsiam-\S+ .*plain 0 {STEPS} to make", said)
    assert re.search(rf"1 simsiam-\S+ .*longer 0 {2 * STEPS} to make", said)
    assert "2 of 2 runs to make." in said
    assert not place.work.exists()
    assert not place.results.exists()


@pytest.mark.parametrize("width", [40, 80])
def test_a_narrow_terminal_breaks_no_name_of_a_run_and_cuts_no_column_off(toy, place, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["study", "run", "toy", "--work", str(place.work), "--results", str(place.results), "--dry-run"]) == 0
    said = capsys.readouterr().out
    names = [run.name for run in planned(find("toy"), "lab", range(3))]
    lines = [line for line in said.splitlines() if any(f" {name} " in line for name in names)]
    assert len(lines) == len(names)
    assert all(line.rstrip().endswith("to make") for line in lines)


def test_flags_of_before_say_what_is_there_instead(toy, capsys):
    assert main(["study", "run", "toy", "--launcher", "slurm", "--slurm.gpus", "8"]) == 2
    assert "--launcher is gone: `--only N` makes one run" in capsys.readouterr().err


def test_nothing_to_show_says_what_makes_it(toy, place, capsys):
    assert main(["study", "show", "toy", "--results", str(place.results)]) == 1
    said = capsys.readouterr().err
    assert f"no run of toy at lab scale is finished in {place.results}: `fullrank study run toy --scale lab`" in said


@pytest.mark.parametrize("flags", [["--seeds", "0"], ["--jobs", "0"], ["--processes", "0"]])
def test_counts_below_one_are_refused(toy, flags, capsys):
    assert main(["study", "run", "toy", *flags]) == 1
    assert f"{flags[0].removeprefix('--')} must be at least 1 and" in capsys.readouterr().err


def test_runs_beside_each_other_have_one_thread_each():
    assert RunStudy("orders", jobs=2).place().threads == 1
    assert RunStudy("orders", jobs=2, threads=3).place().threads == 3
    assert RunStudy("orders").place().threads is None


def test_published_results_are_found_away_from_a_checkout(tmp_path, monkeypatch, no_drawing):
    from fullrank.commands import ShowStudy

    monkeypatch.chdir(tmp_path)
    assert ShowStudy("decay").run() == 0
    assert "| 0.23 | 41.6 ± 0.2 | 43.3 ± 0.4 | 43.3 ± 0.8 |" in (tmp_path / "decay-lab.md").read_text("utf-8")
