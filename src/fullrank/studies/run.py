"""`fullrank study run`: make what is missing of a study, however often it is interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

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


@dataclass(frozen=True)
class ToMake:
    """What a study still needs on this machine.

    Results hold no weights: students need those of their finished teacher, and evaluations that another study asks for
    those of a finished run, which is then trained again.
    """

    study: Study
    scale: Scale
    seeds: Sequence[int]  # of each setting
    place: Place  # where images are and runs go

    @cached_property
    def runs(self) -> list[Planned]:
        """All runs of the study."""
        return planned(self.study, self.scale, self.seeds)

    @cached_property
    def jobs(self) -> list[Job]:
        """What makes the runs that are needed, or goes on with them."""
        store = Store(self.place.results, self.scale)
        missed = [run for run in self.runs if store.find(run) is None]
        teachers = {str(run.config.target.teacher) for run in missed if run.cell.teacher is not None}
        needed = {run.name for run in missed} | (teachers & self._untrained)
        return [Job(run, self.scale, self.place, run.name in teachers) for run in self.runs if run.name in needed]

    @cached_property
    def again(self) -> list[str]:
        """Names of finished runs that are trained again for their weights."""
        store = Store(self.place.results, self.scale)
        return [job.name for job in self.jobs if job.name in self._untrained and store.holds(job.run)]

    @cached_property
    def _untrained(self) -> set[str]:
        return {run.name for run in self.runs if not is_trained(self.place.work / self.scale / run.name)}

    def check_images(self) -> None:
        """Refuse images other than those that finished runs were made on, and held-out images left out.

        Raises:
            FullrankError: So it is, or there are no images where they should be.
        """
        place, configs = self.place, [run.config for run in self.runs]
        own = {config.images for config in configs if config.eval_images is None and config.images in SOURCES}
        if own and place.images not in (None, *SOURCES) and place.eval_images is None:
            raise FullrankError(
                f"{self.study.name} is evaluated on the held-out images that come with {', '.join(own)}: say where "
                f"they are beside {place.images} too, with --eval-images"
            )

        @cache
        def fingerprint(path: str, split: Split, root: str) -> str:
            return open_images(path, split=split, root=root).fingerprint()

        for result in Store(place.results, self.scale).results(self.runs):
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

    def make(self, console: Console, *, at_a_time: int = 1, only: int | None = None) -> int:
        """Make the runs that are not finished, teachers first; one that fails does not stop the others.

        On Ctrl-C those that run save themselves before the interrupt goes on.

        Args:
            console: What is told how far it is.
            at_a_time: How many runs at a time.
            only: The place of a single run among the study's, from 0; all of them when omitted.

        Returns:
            How many failed. Their logs are named; what is finished stays, and the same call makes the rest.
        """
        jobs = self.jobs
        if only is not None:
            if not 0 <= only < len(self.runs):
                raise FullrankError(f"--only must be a run's number, 0 to {len(self.runs) - 1}, got {only}")
            jobs = [job for job in jobs if job.run == self.runs[only]]
        console.print(f"{self.study.name}: {len(self.runs)} runs, {len(jobs)} to make", highlight=False)
        if jobs:
            self.check_images()
        if again := [name for name in self.again if name in {job.name for job in jobs}]:
            names = ", ".join(again)
            console.print(f"trained again, for weights that are not in {self.place.work}: {names}", highlight=False)
        return _perform(jobs, console, at_a_time)


def _perform(jobs: Sequence[Job], console: Console, at_a_time: int) -> int:
    """Perform jobs, those first whose weights others wait for; return how many failed."""
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
