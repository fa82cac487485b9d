"""`fullrank study list | run | show`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fullrank.errors import FullrankError
from fullrank.text import plain_console

if TYPE_CHECKING:
    from rich.console import Console

    from fullrank.studies.jobs import Place
    from fullrank.studies.launchers import Launcher

_RESULTS = Path("results")


@dataclass(frozen=True)
class ListStudies:
    """Name the studies, and how many of their runs are finished."""

    scale: Literal["lab", "paper"] = "lab"
    """Which runs to count."""
    seeds: int = 3
    """Seeds of each setting."""
    results: Path | None = None
    """Folder of the results; ./results where it is, else those that came with the package when left out."""

    def run(self) -> int:
        """Print a table."""
        _check_seeds(self.seeds)

        from fullrank.studies.jobs import Place
        from fullrank.studies.registry import STUDIES
        from fullrank.studies.run import missing

        folder, rows = _results_folder(self.results), []
        for study in STUDIES.values():
            runs, waiting = missing(study, self.scale, range(self.seeds), Place(results=folder))
            finished = f"{len(runs) - len(waiting)} of {len(runs)}" if runs else "–"
            rows.append((study.name, study.title, finished))
        _print_table(plain_console(), "studies", ("study", "about", "finished"), rows, text=(1,))
        print(f"\nRuns at {self.scale} scale, {self.seeds} seed{'s' * (self.seeds > 1)} each, results of {folder}.")
        return 0


@dataclass(frozen=True)
class Slurm:
    """What each job asks of a Slurm cluster."""

    partition: str | None = None
    """The partition."""
    gpus: int = 1
    """GPUs of a job; as many processes train its run."""
    cpus: int = 10
    """CPUs of a job, for each GPU."""
    hours: float = 48.0
    """Time limit. A job that meets it is made again by the same command, and goes on from its last checkpoint."""
    memory_gb: int = 60
    """Memory of a job, for each GPU."""


@dataclass(frozen=True)
class RunStudy:
    """Make the runs of a study that are not finished; give the same command again after an interruption."""

    name: tyro.conf.Positional[str]
    """A study; `fullrank study list` names them."""
    scale: Literal["lab", "paper"] = "lab"
    """Minutes a run on a CPU core, or the paper's own settings."""
    seeds: int = 3
    """Seeds of each setting, from 0."""
    jobs: int = 1
    """Runs at a time."""
    launcher: Literal["local", "slurm"] = "local"
    """On this machine, or through submitit on a Slurm cluster (needs the extra `slurm`)."""
    images: str | None = None
    """Where the study's training images are on this machine: a folder or .parquet, in place of the name it gives."""
    eval_images: str | None = None
    """Where its held-out images are."""
    threads: int | None = None
    """CPU threads of a run; 1 where several run at a time on this machine, when left out."""
    processes: int = 1
    """Processes that train one run on this machine, by torchrun: as many as it has GPUs."""
    work: Path = Path("runs/studies")
    """Folder of the runs, with their checkpoints."""
    results: Path = _RESULTS
    """Folder of the results: small files, that can be committed."""
    dry_run: bool = False
    """Print the runs, their steps, and an estimate of hours from a few timed steps; train nothing."""
    slurm: Slurm = field(default_factory=Slurm)

    def run(self) -> int:
        """Run the study, and write its page."""
        from fullrank.studies.registry import find
        from fullrank.studies.run import run_study
        from fullrank.studies.store import Store, planned
        from fullrank.training.signals import sigterm_interrupts

        self._check()
        study, console = find(self.name), plain_console()
        if self.dry_run:
            return self._plan(console)
        try:
            with sigterm_interrupts():
                failed = run_study(study, self.scale, range(self.seeds), self._place(), self._launcher(), console)
        except KeyboardInterrupt:
            what = "stopped; what had begun is saved: give the same command again to go on"
            if self.launcher == "slurm":
                what = "no longer waiting; what was submitted goes on: give the same command again when it has ended"
            console.print(what)
            return 130
        if failed and not Store(self.results, self.scale).results(planned(study, self.scale, range(self.seeds))):
            return 1
        ShowStudy(self.name, self.scale, self.seeds, self.results).run()
        return 1 if failed else 0

    def _check(self) -> None:
        _check_seeds(self.seeds)
        for flag, value in (("jobs", self.jobs), ("processes", self.processes)):
            if value < 1:
                raise FullrankError(f"--{flag} must be at least 1, got {value}")

    def _place(self) -> Place:
        from fullrank.studies.jobs import Place

        threads = self.threads or (1 if self.jobs > 1 and self.launcher == "local" else None)
        processes = self.slurm.gpus if self.launcher == "slurm" else self.processes
        return Place(self.images, self.eval_images, self.work, self.results, threads, processes)

    def _launcher(self) -> Launcher:
        from fullrank.studies.launchers import Local, Submitit

        if self.launcher == "local":
            return Local(self.jobs)
        asked = self.slurm
        parameters = {
            "name": f"fullrank-{self.name}",
            "timeout_min": int(60 * asked.hours),
            "gpus_per_node": asked.gpus,
            "cpus_per_task": asked.cpus * max(1, asked.gpus),
            "mem_gb": asked.memory_gb * max(1, asked.gpus),
            **({"slurm_partition": asked.partition} if asked.partition else {}),
        }
        return Submitit("slurm", self.work / "submitit", self.jobs, parameters)

    def _plan(self, console: Console) -> int:
        from fullrank.studies.estimate import hours
        from fullrank.studies.registry import find
        from fullrank.studies.run import to_make

        found = to_make(find(self.name), self.scale, range(self.seeds), self._place())
        expected = hours(found.jobs)
        rows = []
        for run in found.runs:
            left = f"{expected[run.name]:,.2f}" if run.name in expected else "finished"
            rows.append((run.name, run.cell.words, str(run.seed), f"{run.config.steps:,}", left))
        _print_table(console, "runs", ("run", "setting", "seed", "steps", "hours"), rows, text=(1,))
        if not found.jobs:
            console.print(f"all {len(found.runs)} runs are finished")
            return 0
        if found.again:
            console.print(found.warning())
        total, processes = sum(expected.values()), found.jobs[0].place.processes
        together = f" ({processes} processes a run, taken to be as many times as fast)" * (processes > 1)
        console.print(
            f"{len(found.jobs)} of {len(found.runs)} runs to make: about {total:,.1f} hours of training, "
            f"{total / self.jobs:,.1f} with {self.jobs} at a time{together}, from a few steps of each kind timed on "
            "this machine with random views. Decoding, measurements and evaluations come on top"
        )
        return 0


@dataclass(frozen=True)
class ShowStudy:
    """Write a study's page and tables from its results: ours beside the published."""

    name: tyro.conf.Positional[str]
    """A study; `fullrank study list` names them."""
    scale: Literal["lab", "paper"] = "lab"
    """Which of its runs."""
    seeds: int | None = None
    """Seeds of each setting, from 0; as many as most settings have results of when left out."""
    results: Path | None = None
    """Folder of the results; ./results where it is, else those that came with the package when left out."""
    out: Path | None = None
    """Folder to write NAME-SCALE.html and .md to; the results' own when left out, or here for the package's."""
    figures: Path | None = None
    """Folder to write each figure to as well, as NAME-SCALE-FIGURE.svg, which the .md then shows."""

    def run(self) -> int:
        """Print the tables and write the page."""
        from fullrank.studies.registry import find
        from fullrank.studies.show import write
        from fullrank.studies.store import Store, planned, published, seeds_with_results

        if self.seeds is not None:
            _check_seeds(self.seeds)
        folder = _results_folder(self.results)
        study, store = find(self.name), Store(folder, self.scale)
        seeds = self.seeds or seeds_with_results(study, store)
        runs = planned(study, self.scale, range(seeds))
        results = store.results(runs)
        if not results:
            raise FullrankError(
                f"no run of {self.name} at {self.scale} scale is finished in {folder}: `fullrank study run "
                f"{self.name} --scale {self.scale}` makes them, --results names another folder"
            )
        out = self.out or (Path() if folder == published() else folder)
        page = write(study, self.scale, results, runs, out, figures=self.figures)
        print(page.with_suffix(".md").read_text("utf-8"))
        print(f"page: {page}")
        return 0


def _print_table(
    console: Console, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], **how: Any
) -> None:
    from fullrank.documents import Table
    from fullrank.documents.terminal import grid

    console.print(grid(Table(title, header, rows, **how)))


def _results_folder(asked: Path | None) -> Path:
    """Return where results are read: what was asked for, `./results`, or what came with the package."""
    from fullrank.studies.store import published

    if asked is not None and asked.exists() and not asked.is_dir():
        raise FullrankError(f"--results {asked} is a file: name the folder of the results")
    return asked or (_RESULTS if _RESULTS.is_dir() else published())


def _check_seeds(seeds: int) -> None:
    if seeds < 1:
        raise FullrankError(f"--seeds must be at least 1, got {seeds}")


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
