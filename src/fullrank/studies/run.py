"""`fullrank study run`: make what is missing of a study, however often it is interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fullrank.data.images import Split, open_images, same_images
from fullrank.errors import FullrankError
from fullrank.registry import SOURCES
from fullrank.studies.jobs import STOPPED, Job, Place, is_trained
from fullrank.studies.launchers import Launcher
from fullrank.studies.store import Planned, Store, planned
from fullrank.studies.study import Scale, Study
from fullrank.text import listing
from fullrank.training.progress import clock

NAMED = 3  # finished runs to be trained again, that are named
_PACE = 3600  # seconds whose steps tell how many are to come


def missing(study: Study, scale: Scale, seeds: Sequence[int], place: Place) -> tuple[list[Planned], list[Planned]]:
    """Return all runs of a study, and those that are not finished."""
    runs, store = planned(study, scale, seeds), Store(place.results, scale)
    return runs, [run for run in runs if store.find(run) is None]


def check_images(study: Study, scale: Scale, seeds: Sequence[int], place: Place) -> None:
    """Refuse images other than those that finished runs of the study were made on, and held-out images left out.

    Raises:
        FullrankError: So it is, or there are no images where they should be.
    """
    runs = planned(study, scale, seeds)
    for config in (run.config for run in runs):
        comes_with_its_own = config.eval_images is None and config.images in SOURCES
        if comes_with_its_own and place.images not in (None, *SOURCES) and place.eval_images is None:
            raise FullrankError(
                f"{study.name} is evaluated on the held-out images that come with {config.images}: say where they are "
                f"beside {place.images} too, with --eval-images"
            )

    @cache
    def fingerprint(path: str, split: Split, root: str) -> str:
        return open_images(path, split=split, root=root).fingerprint()

    for result in Store(place.results, scale).results(runs):
        config, has = result.cell.config, result.run.environment.get("data") or {}
        train, held_out = place.images or config.images, place.eval_images or config.eval_images
        compared: tuple[tuple[str | None, Split, str], ...] = (
            (train if config.subset == 1 else None, "train", "train"),  # a share has a fingerprint of its own
            (held_out or (train if train in SOURCES else None), "eval", "held_out"),
        )
        for path, split, field in compared:
            theirs = (has.get(field) or {}).get("fingerprint")
            if path is None or theirs is None:
                continue
            own = fingerprint(path, split, config.data_dir)
            if not same_images(theirs, own):
                raise FullrankError(
                    f"{result.run.path} was made on other {field.replace('_', '-')} images than {path} "
                    f"(fingerprint {theirs}, not {own}): give another --results folder"
                )


@dataclass(frozen=True)
class ToMake:
    """What a study still needs on this machine.

    Results hold no weights: students need those of their finished teacher, and evaluations that another study asks for
    those of a finished run.
    """

    runs: list[Planned]  # all of the study
    finished: int  # how many of them are
    jobs: list[Job]  # that make what is needed, or go on with it
    again: list[str]  # names of finished runs among them, that are trained again for their weights

    def warning(self) -> str:
        """Say which finished runs are trained again, and why; empty where none is."""
        if not self.again:
            return ""
        named = listing(self.again) if len(self.again) <= NAMED else f"{self.again[0]} and others"
        what = f"{len(self.again)} finished run{'s' * (len(self.again) > 1)} must be trained again"
        return f"{what}, and replaced in the results, for weights that are not in {self.jobs[0].work}: {named}"


def to_make(study: Study, scale: Scale, seeds: Sequence[int], place: Place) -> ToMake:
    """Return what a study still needs on this machine."""
    runs, missed = missing(study, scale, seeds, place)
    teachers = {str(run.config.target.teacher) for run in missed if run.cell.teacher is not None}
    gone = {run.name for run in runs if not is_trained(place.work / scale / run.name)}
    needed = [run for run in runs if run.name in {each.name for each in missed} | (teachers & gone)]
    store = Store(place.results, scale)
    again = [run.name for run in needed if run.name in gone and store.holds(run)]
    return ToMake(
        runs, len(runs) - len(missed), [Job(run, scale, place, run.name in teachers) for run in needed], again
    )


def run_study(
    study: Study, scale: Scale, seeds: Sequence[int], place: Place, launcher: Launcher, console: Console
) -> int:
    """Make the runs of a study that are not finished.

    Returns:
        How many failed. Their logs are named; what is finished stays, and the same call makes the rest.
    """
    found = to_make(study, scale, seeds, place)
    console.print(f"{study.name}: {len(found.runs)} runs, {found.finished} finished", highlight=False)
    if found.jobs:
        check_images(study, scale, seeds, place)
    if found.again:
        console.print(found.warning(), highlight=False)
    failed: list[str] = []
    columns = BarColumn(bar_width=None), TextColumn("{task.completed:,}/{task.total:,} steps"), TimeRemainingColumn()
    terminal = console.is_terminal
    with Progress(*columns, console=console, disable=not terminal, speed_estimate_period=_PACE) as progress:

        def steps() -> int:
            return sum(min(each.done_steps(), each.config.steps) for each in found.jobs)

        def done(ended: Job, code: int) -> None:
            what = "done" if not code else "was stopped by a signal" if code == STOPPED else f"failed ({code})"
            failed.extend([ended.name] * bool(code))
            seconds = progress.tasks[0].time_remaining
            left = f" ({clock(seconds)} left)" if seconds and not terminal else ""
            text = f"{ended.name}: {what}{f', see {ended.log}' if code else ''}{left}"
            progress.console.print(text, soft_wrap=True, highlight=False, markup=False)

        task = progress.add_task("", total=sum(each.config.steps for each in found.jobs), completed=steps())
        stages = [[job for job in found.jobs if job.weights], [job for job in found.jobs if not job.weights]]
        launcher.run([stage for stage in stages if stage], done, lambda: progress.update(task, completed=steps()))
    return len(failed)
