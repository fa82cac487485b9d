"""Running a study's jobs in a test."""

from contextlib import redirect_stderr, redirect_stdout

import pytest
from tests.conftest import draw_nothing

from fullrank.cli import main
from fullrank.studies.jobs import Place, Processes
from fullrank.studies.study import PROBES


@pytest.fixture
def here(monkeypatch):
    """Run the jobs' commands in this process, which spares each the start of Python, and their pages' drawing."""

    def command_line(self, job, command):
        job.log.touch()
        with open(job.log, "a") as log, redirect_stdout(log), redirect_stderr(log), monkeypatch.context() as patch:
            draw_nothing(patch)
            return main(list(command[3:]))

    monkeypatch.setattr(Processes, "run", command_line)


@pytest.fixture
def unprobed(monkeypatch):
    """Evaluate no run, which spares each two probes."""
    monkeypatch.setitem(PROBES, "lab", ())


@pytest.fixture
def place(tmp_path):
    return Place(work=tmp_path / "work", results=tmp_path / "results", threads=1)
