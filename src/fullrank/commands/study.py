"""`fullrank study list | run | show`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fullrank.config import Count
from fullrank.errors import FullrankError
from fullrank.shapes import Checked
from fullrank.text import plain_console

if TYPE_CHECKING:
    from fullrank.documents import Table
    from fullrank.studies.jobs import Place

_RESULTS = Path("results")


@dataclass(frozen=True)
class ListStudies(Checked):
    """Name the studies, and how many of their runs are finished."""

    scale: Literal["lab", "paper"] = "lab"
    """Which runs to count."""
    seeds: Count = 3
    """Seeds of each setting."""
    results: Path | None = None
    """Folder of the results; ./results where it is, else those that came with the package when left out."""

    def run(self) -> int:
        """Print a table."""
        from fullrank.documents import Table
        from fullrank.studies.registry import STUDIES
        from fullrank.studies.store import Store, planned

        folder, rows = _results_folder(self.results), []
        for study in STUDIES.values():
            runs = planned(study, self.scale, range(self.seeds))
            finished = f"{len(Store(folder, self.scale).results(runs))} of {len(runs)}" if runs else "–"
            rows.append((study.name, study.title, finished))
        said = f"Runs at {self.scale} scale, {self.seeds} seed{'s' * (self.seeds > 1)} each, results of {folder}."
        _print(Table("studies", ("study", "about", "finished"), rows, text=(1,)), said)
        return 0


@dataclass(frozen=True)
class RunStudy(Checked):
    """Make the runs of a study that are not finished; give the same command again after an interruption."""

    name: tyro.conf.Positional[str]
    """A study; `fullrank study list` names them."""
    scale: Literal["lab", "paper"] = "lab"
    """Minutes a run on a CPU core, or the paper's own settings."""
    seeds: Count = 3
    """Seeds of each setting, from 0."""
    jobs: Count = 1
    """Runs at a time."""
    only: int | None = None
    """Make this run alone, by its number in --dry-run: one task of a scheduler's array, such as Slurm's."""
    images: str | None = None
    """Where the study's training images are on this machine: a folder or .parquet, in place of the name it gives."""
    eval_images: str | None = None
    """Where its held-out images are."""
    threads: int | None = None
    """CPU threads of a run; 1 where several run at a time, when left out."""
    processes: Count = 1
    """Processes that train one run on this machine, by torchrun: as many as it has GPUs."""
    work: Path = Path("runs/studies")
    """Folder of the runs, with their checkpoints."""
    results: Path = _RESULTS
    """Folder of the results: small files, that can be committed."""
    dry_run: bool = False
    """Print the runs, by number, their steps and which are finished; train nothing."""

    def run(self) -> int:
        """Run the study, and write its page."""
        from fullrank.studies.registry import find
        from fullrank.studies.run import run_study
        from fullrank.studies.store import Store, planned
        from fullrank.training.signals import sigterm_interrupts

        study, console, seeds = find(self.name), plain_console(), range(self.seeds)
        if self.dry_run:
            return self._plan()
        try:
            with sigterm_interrupts():
                where = self.place()
                failed = run_study(study, self.scale, seeds, where, console, at_a_time=self.jobs, only=self.only)
        except KeyboardInterrupt:
            console.print("stopped; what had begun is saved: give the same command again to go on")
            return 130
        if self.only is None and Store(self.results, self.scale).results(planned(study, self.scale, seeds)):
            ShowStudy(self.name, self.scale, self.seeds, self.results).run()
        return 1 if failed else 0

    def place(self) -> Place:
        """Return where images are and runs go."""
        from fullrank.studies.jobs import Place

        threads = self.threads or (1 if self.jobs > 1 else None)
        return Place(self.images, self.eval_images, self.work, self.results, threads, self.processes)

    def _plan(self) -> int:
        from fullrank.documents import Table
        from fullrank.studies.registry import find
        from fullrank.studies.run import to_make

        found = to_make(find(self.name), self.scale, range(self.seeds), self.place())
        needed = {job.name: "again, for its weights" if job.name in found.again else "to make" for job in found.jobs}
        rows = []
        for number, run in enumerate(found.runs):
            state = needed.get(run.name, "done")
            rows.append((str(number), run.name, run.cell.words, str(run.seed), f"{run.config.steps:,}", state))
        table = Table("runs", ("no.", "run", "setting", "seed", "steps", ""), rows, text=(1, 2, 5))
        _print(table, f"{len(found.jobs)} of {len(found.runs)} runs to make.")
        return 0


@dataclass(frozen=True)
class ShowStudy(Checked):
    """Write a study's page and tables from its results: ours beside the published."""

    name: tyro.conf.Positional[str]
    """A study; `fullrank study list` names them."""
    scale: Literal["lab", "paper"] = "lab"
    """Which of its runs."""
    seeds: Count | None = None
    """Seeds of each setting, from 0; as many as most settings have results of when left out."""
    results: Path | None = None
    """Folder of the results; ./results where it is, else those that came with the package when left out."""
    out: Path | None = None
    """Folder to write NAME-SCALE.html and .md to; the results' own when left out, or here for the package's."""
    figures: Path | None = None
    """Folder to write each figure to as well, as NAME-SCALE-FIGURE.svg, which the .md then shows."""

    def run(self) -> int:
        """Print the tables and write the page."""
        from fullrank.studies.show import finished, write
        from fullrank.studies.store import published

        folder = _results_folder(self.results)
        found = finished(self.name, self.scale, folder, self.seeds)
        page = write(*found, self.out or (Path() if folder == published() else folder), figures=self.figures)
        print(page.with_suffix(".md").read_text("utf-8"))
        print(f"page: {page}")
        return 0


def _results_folder(asked: Path | None) -> Path:
    """Return where results are read: what was asked for, `./results`, or what came with the package."""
    from fullrank.studies.store import published

    if asked is not None and asked.exists() and not asked.is_dir():
        raise FullrankError(f"--results {asked} is a file: name the folder of the results")
    return asked or (_RESULTS if _RESULTS.is_dir() else published())


def _print(table: Table, said: str) -> None:
    from fullrank.documents import Document, Words

    Document(table.title, table.title, [table, Words(said)]).print(plain_console())


@dataclass(frozen=True)
class StudyCommand:
    """Run the papers' tables and figures, and questions of ours, at laptop scale or at the papers'."""

    action: Annotated[
        Annotated[ListStudies, tyro.conf.subcommand("list")]
        | Annotated[RunStudy, tyro.conf.subcommand("run")]
        | Annotated[ShowStudy, tyro.conf.subcommand("show")],
        tyro.conf.arg(name=""),
    ]

    def run(self) -> int:
        """Do what was asked."""
        return self.action.run()
