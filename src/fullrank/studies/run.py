"""`fullrank study run`: make what is missing of a study, however often it is interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import cache
from typing import Literal, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fullrank.data.images import Split, open_images, same_images
from fullrank.errors import FullrankError
from fullrank.registry import SOURCES
from fullrank.studies.jobs import STOPPED, Job, Place, Processes, is_trained, perform
from fullrank.studies.store import Planned, Store, planned
from fullrank.studies.study import Scale, Study
from fullrank.text import watched
from fullrank.training.progress import drawn

TICK = 1.0  # seconds between looks at what the jobs have done
_PACE = 3600  # seconds whose steps tell how many are to come


class ToMake(NamedTuple):
    """What a study still needs on this machine.

    Results hold no weights: students need those of their finished teacher, and evaluations that another study asks for
    those of a finished run, which is then trained again.
    """

    runs: list[Planned]  # all of the study
    jobs: list[Job]  # that make what is needed, or go on with it
    again: list[str]  # names of finished runs that are trained again for their weights


def to_make(study: Study, scale: Scale, seeds: Sequence[int], place: Place) -> ToMake:
    """Return what a study still needs on this machine."""
    runs, store = planned(study, scale, seeds), Store(place.results, scale)
    missed = [run for run in runs if store.find(run) is None]
    teachers = {str(run.config.target.teacher) for run in missed if run.cell.teacher is not None}
    gone = {run.name for run in runs if not is_trained(place.work / scale / run.name)}
    needed = [run for run in runs if run.name in {each.name for each in missed} | (teachers & gone)]
    again = [run.name for run in needed if run.name in gone and store.holds(run)]
    return ToMake(runs, [Job(run, scale, place, run.name in teachers) for run in needed], again)


def check_images(study: Study, scale: Scale, seeds: Sequence[int], place: Place) -> None:
    """Refuse images other than those that finished runs of the study were made on, and held-out images left out.

    Raises:
        FullrankError: So it is, or there are no images where they should be.
    """
    runs = planned(study, scale, seeds)
    own = {run.config.images for run in runs if run.config.eval_images is None and run.config.images in SOURCES}
    if own and place.images not in (None, *SOURCES) and place.eval_images is None:
        raise FullrankError(
            f"{study.name} is evaluated on the held-out images that come with {', '.join(own)}: say where they are "
            f"beside {place.images} too, with --eval-images"
        )

    @cache
    def fingerprint(path: str, split: Split, root: str) -> str:
        return open_images(path, split=split, root=root).fingerprint()

    for result in Store(place.results, scale).results(runs):
        config = result.cell.config
        train, held_out = place.images or config.images, place.eval_images or config.eval_images
        compared: tuple[tuple[str | None, Split, Literal["train", "held_out"]], ...] = (
            (train if config.subset == 1 else None, "train", "train"),  # a share has a fingerprint of its own
            (held_out or (train if train in SOURCES else None), "eval", "held_out"),
        )
        for path, split, field in compared:
            theirs = result.run.images(field).get("fingerprint")
            if path and theirs and not same_images(theirs, now := fingerprint(path, split, config.data_dir)):
                raise FullrankError(
                    f"{result.run.path} was made on other {field.replace('_', '-')} images than {path} "
                    f"(fingerprint {theirs}, not {now}): give another --results folder"
                )


def run_study(
    study: Study,
    scale: Scale,
    seeds: Sequence[int],
    place: Place,
    console: Console,
    *,
    at_a_time: int = 1,
    only: int | None = None,
) -> int:
    """Make the runs of a study that are not finished, teachers first; one that fails does not stop the others.

    On Ctrl-C those that run save themselves before the interrupt goes on.

    Args:
        study: The study.
        scale: Its scale.
        seeds: Of each setting.
        place: Where images are and runs go.
        console: What is told how far it is.
        at_a_time: How many runs at a time.
        only: The place of a single run among the study's, from 0; all of them when omitted.

    Returns:
        How many failed. Their logs are named; what is finished stays, and the same call makes the rest.
    """
    found = to_make(study, scale, seeds, place)
    jobs = found.jobs
    if only is not None:
        if not 0 <= only < len(found.runs):
            raise FullrankError(f"--only must be a run's number, 0 to {len(found.runs) - 1}, got {only}")
        jobs = [job for job in jobs if job.run == found.runs[only]]
    console.print(f"{study.name}: {len(found.runs)} runs, {len(jobs)} to make", highlight=False)
    if jobs:
        check_images(study, scale, seeds, place)
    if again := [name for name in found.again if name in {job.name for job in jobs}]:
        console.print(f"trained again, for weights that are not in {place.work}: {', '.join(again)}", highlight=False)
    processes, failed = Processes(), 0
    columns = BarColumn(bar_width=None), TextColumn("{task.completed:,}/{task.total:,} steps"), TimeRemainingColumn()
    terminal = watched(console)
    with drawn(Progress(*columns, console=console, disable=not terminal, speed_estimate_period=_PACE)) as progress:

        def steps() -> int:
            return sum(min(each.done_steps(), each.config.steps) for each in jobs)

        task = progress.add_task("", total=sum(each.config.steps for each in jobs), completed=steps())
        for stage in ([job for job in jobs if job.weights], [job for job in jobs if not job.weights]):
            with ThreadPoolExecutor(max_workers=at_a_time) as pool:
                try:
                    waiting = {pool.submit(perform, job, processes): job for job in stage}
                    while waiting:
                        for future in wait(waiting, timeout=TICK, return_when=FIRST_COMPLETED).done:
                            job, code = waiting.pop(future), future.result()
                            failed += bool(code)
                            what = "was stopped by a signal" if code == STOPPED else f"failed ({code})"
                            said = f"{what}, see {job.log}" if code else "done"
                            progress.console.print(f"{job.name}: {said}", soft_wrap=True, highlight=False, markup=False)
                        progress.update(task, completed=steps())
                except BaseException:
                    processes.stop()
                    raise
    return failed
