"""`fullrank study run`: make what is missing of a study, however often it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from fullrank.data.images import NAMES, Split, open_images, same_images
from fullrank.errors import FullrankError
from fullrank.studies.jobs import STOPPED, Job, is_trained
from fullrank.studies.launchers import Launcher
from fullrank.studies.store import Planned, Store, planned
from fullrank.studies.study import Scale, Study
from fullrank.text import listing
from fullrank.training.progress import clock

NAMED = 3  # finished runs to be trained again, that are named


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
    """Refuse images other than those that finished runs of the study were made on, and held-out images left out.

    Raises:
        FullrankError: So it is, or there are no images where they should be.
    """
    runs = planned(study, scale, seeds)
    for config in (run.config for run in runs):
        comes_with_its_own = config.eval_images is None and config.images in NAMES
        if comes_with_its_own and place.images not in (None, *NAMES) and place.eval_images is None:
            raise FullrankError(
                f"{study.name} is evaluated on the held-out images that come with {config.images}: say where they are "
                f"beside {place.images} too, with --eval-images"
            )
    fingerprints: dict[tuple[str, Split], str] = {}
    for result in Store(place.results, scale).results(runs):
        config, has = result.cell.config, result.run.environment.get("data") or {}
        train, held_out = place.images or config.images, place.eval_images or config.eval_images
        compared: tuple[tuple[str | None, Split, str], ...] = (
            (train if config.subset == 1 else None, "train", "train"),  # a share has a fingerprint of its own
            (held_out or (train if train in NAMES else None), "eval", "held_out"),
        )
        for path, split, field in compared:
            theirs = (has.get(field) or {}).get("fingerprint")
            if path is None or theirs is None:
                continue
            if (path, split) not in fingerprints:
                fingerprints[path, split] = open_images(path, split=split, root=config.data_dir).fingerprint()
            own = fingerprints[path, split]
            if not same_images(theirs, own):
                raise FullrankError(
                    f"{result.run.path} was made on other {field.replace('_', '-')} images than {path} "
                    f"(fingerprint {theirs}, not {own}): give another --results folder"
                )


def job(run: Planned, scale: Scale, place: Place, *, weights: bool = False) -> Job:
    """Return the job of a run on this machine, trained again if need be where its weights are asked for."""
    config = run.config
    images, eval_images = _absolute(place.images), _absolute(place.eval_images)
    names: dict[str, str] = {}
    for given, name in ((images, config.images), (eval_images, config.eval_images or "held out")):
        if given is not None:
            names.setdefault(given, name)
    config = replace(
        config,
        images=images or config.images,
        eval_images=eval_images or config.eval_images,
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
        weights=weights,
    )


def _absolute(images: str | None) -> str | None:
    """Return images as a path that is no bare word, which might mean something else in a run's records."""
    return images if images is None or images in NAMES else str(Path(images).expanduser().absolute())


@dataclass(frozen=True)
class ToMake:
    """What a study still needs on this machine.

    Results hold no weights: students need those of their finished teacher, and evaluations that another study asks for
    those of a finished run.

    Attributes:
        runs: All runs of the study.
        finished: How many of them are.
        needed: Those that are to be made, or gone on with.
        again: Those of `needed` whose training is among the results, and that are trained again for their weights.
        teachers: The names of those of `needed` that others wait for.
    """

    runs: list[Planned]
    finished: int
    needed: list[Planned]
    again: list[Planned]
    teachers: set[str]


def to_make(study: Study, scale: Scale, seeds: Sequence[int], place: Place) -> ToMake:
    """Return what a study still needs on this machine."""
    runs, missed = missing(study, scale, seeds, place)
    names = {run.name for run in missed}
    asked = {str(run.config.target.teacher) for run in missed if run.cell.teacher is not None}
    gone = {run.name for run in runs if not is_trained(place.work / scale / run.name)}
    needed = [run for run in runs if run.name in names | (asked & gone)]
    store = Store(place.results, scale)
    again = [run for run in needed if run.name in gone and store.holds(run)]
    return ToMake(runs, len(runs) - len(missed), needed, again, asked & {run.name for run in needed})


def run_study(
    study: Study, scale: Scale, seeds: Sequence[int], place: Place, launcher: Launcher, console: Console
) -> int:
    """Make the runs of a study that are not finished.

    Returns:
        How many failed. Their logs are named; what is finished stays, and the same call makes the rest.
    """
    found = to_make(study, scale, seeds, place)
    console.print(f"{study.name}: {len(found.runs)} runs, {found.finished} finished", highlight=False)
    if found.needed:
        check_images(study, scale, seeds, place)
    if found.again:
        console.print(trained_again(found.again, place.work / scale), highlight=False)
    jobs = {run.name: job(run, scale, place, weights=run.name in found.teachers) for run in found.needed}
    first = [each for name, each in jobs.items() if name in found.teachers]
    rest = [each for name, each in jobs.items() if name not in found.teachers]
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


def trained_again(runs: Sequence[Planned], work: Path) -> str:
    """Say which finished runs are trained again, and why."""
    named = listing([run.name for run in runs[:NAMED]]) if len(runs) <= NAMED else f"{runs[0].name} and others"
    return (
        f"{len(runs)} finished run{'s' * (len(runs) > 1)} must be trained again, and replaced in the results, for "
        f"weights that are not in {work}: {named}"
    )


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
