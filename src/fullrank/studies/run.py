"""`fullrank study run`: make what is missing of a study, however often it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from fullrank.data.images import open_images
from fullrank.errors import FullrankError
from fullrank.studies.jobs import STOPPED, Job
from fullrank.studies.launchers import Launcher
from fullrank.studies.store import Planned, Store, planned
from fullrank.studies.study import Scale, Study
from fullrank.training.checkpoint import list_checkpoints
from fullrank.training.progress import clock


@dataclass(frozen=True)
class Place:
    """Where a study's images are and its runs go, on this machine.

    Attributes:
        images: Training images, where they are not found by the study's own name for them.
        eval_images: Held-out images.
        work: The folder of the runs, with their checkpoints.
        results: The folder of results.
        threads: CPU threads of a job.
        processes: Processes that train one run, by torchrun.
    """

    images: str | None = None
    eval_images: str | None = None
    work: Path = Path("runs/studies")
    results: Path = Path("results")
    threads: int | None = None
    processes: int = 1


def missing(study: Study, scale: Scale, seeds: Sequence[int], place: Place) -> tuple[list[Planned], list[Planned]]:
    """Return all runs of a study, and those that are not finished."""
    runs = planned(study, scale, seeds)
    store = Store(place.results, scale)
    return runs, [run for run in runs if store.find(run) is None]


def check_images(study: Study, scale: Scale, seeds: Sequence[int], place: Place) -> None:
    """Refuse images other than those that finished runs of the study were made on.

    Raises:
        FullrankError: They are, or there are none.
    """
    if place.images is None and place.eval_images is None:
        return
    given = {}
    for split, path in (("train", place.images), ("held_out", place.eval_images)):
        if path is not None:
            given[split] = open_images(path, split="train" if split == "train" else "eval").fingerprint()
    for result in Store(place.results, scale).results(planned(study, scale, seeds)):
        has = result.run.environment.get("data") or {}
        for split, own in given.items():
            theirs = (has.get(split) or {}).get("fingerprint", own)
            # a share of the images has a fingerprint of its own
            if theirs != own and (split == "held_out" or result.cell.config.subset == 1):
                path = place.images if split == "train" else place.eval_images
                raise FullrankError(
                    f"{result.run.path} was made on other {split.replace('_', '-')} images than {path} "
                    f"(fingerprint {theirs}, not {own}): give another --results folder"
                )


def job(run: Planned, scale: Scale, place: Place) -> Job:
    """Return the job of a run on this machine."""
    config = run.config
    names: dict[str, str] = {}
    for given, name in ((place.images, config.images), (place.eval_images, config.eval_images or "held out")):
        if given is not None:
            names.setdefault(given, name)
    config = replace(
        config,
        images=place.images or config.images,
        eval_images=place.eval_images or config.eval_images,
        machine=replace(config.machine, threads=place.threads or config.machine.threads),
    )
    if run.cell.teacher is not None:
        assert config.target.teacher is not None
        teacher = str(place.work / scale / config.target.teacher)
        names[teacher] = config.target.teacher
        config = replace(config, target=replace(config.target, teacher=teacher))
    return Job(
        run.name,
        config,
        run.cell.probes,
        place.work / scale,
        place.results,
        scale,
        names,
        processes=place.processes,
        label_free=run.cell.label_free,
    )


def run_study(
    study: Study, scale: Scale, seeds: Sequence[int], place: Place, launcher: Launcher, console: Console
) -> int:
    """Make the runs of a study that are not finished.

    Returns:
        How many failed. Their logs are named; what is finished stays, and the same call makes the rest.
    """
    runs, waiting = missing(study, scale, seeds, place)
    console.print(f"{study.name}: {len(runs)} runs, {len(runs) - len(waiting)} finished", highlight=False)
    teachers = {run.config.target.teacher for run in waiting if run.cell.teacher is not None}
    jobs = {run.name: job(run, scale, place) for run in waiting}
    for run in runs:  # results hold no weights: a finished teacher whose own folder is gone is trained again
        if run.name in teachers and not list_checkpoints(place.work / scale / run.name / "checkpoints"):
            jobs.setdefault(run.name, job(run, scale, place))
    first = [each for name, each in jobs.items() if name in teachers]
    rest = [each for name, each in jobs.items() if name not in teachers]
    failed: list[str] = []
    with _Progress(list(jobs.values()), console) as progress:

        def done(ended: Job, code: int) -> None:
            if code:
                failed.append(ended.name)
                what = "was stopped by a signal" if code == STOPPED else f"failed ({code})"
                progress.say(f"{ended.name}: {what}, see {ended.log}")
            elif not code:
                progress.say(f"{ended.name}: done")

        launcher.run([stage for stage in (first, rest) if stage], done, progress.tick)
    return len(failed)


class _Progress:
    """Steps of the whole study, and the time that is left at the pace so far."""

    def __init__(self, jobs: Sequence[Job], console: Console) -> None:
        self.jobs = jobs
        self.console = console
        self.total = sum(each.config.steps for each in jobs)
        self.before = self._done()
        self.began = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed:,}/{task.total:,} steps, {task.fields[left]} left"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("all runs", total=self.total, completed=self.before, left="?")

    def __enter__(self) -> _Progress:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def _done(self) -> int:
        return sum(min(each.done_steps(), each.config.steps) for each in self.jobs)

    def left(self) -> str:
        """Return the remaining time in words; what was done before this call says nothing about the pace."""
        done = self._done()
        pace = (done - self.before) / max(1e-9, time.monotonic() - self.began)
        return clock((self.total - done) / pace) if pace > 0 else "?"

    def tick(self) -> None:
        """Look at the runs' records."""
        self.bar.update(self.task, completed=self._done(), left=self.left())

    def say(self, text: str) -> None:
        """Write a line above the bar; where there is none, with the remaining time."""
        left = "" if self.console.is_terminal else f" ({self.left()} left)"
        self.bar.console.print(text + left, soft_wrap=True, highlight=False, markup=False)
