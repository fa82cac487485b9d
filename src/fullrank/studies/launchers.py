"""Where the jobs of a study run: on this machine, some at a time, or on a Slurm cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fullrank.errors import FullrankError
from fullrank.studies.jobs import Job, Stopper, perform

Tick = Callable[[], None]  # called now and then
Done = Callable[[Job, int], None]  # called with each job that ended, and its exit code


@dataclass(frozen=True)
class Local:
    """Jobs on this machine."""

    jobs: int = 1  # how many at a time
    tick_seconds: float = 2.0

    def run(self, stages: Sequence[Sequence[Job]], done: Done, tick: Tick) -> None:
        """Perform jobs, each stage after the one before; one that fails does not stop the others.

        On Ctrl-C those that run save themselves before the interrupt goes on.
        """
        for stage in stages:
            with ThreadPoolExecutor(max_workers=self.jobs) as pool:
                stoppers = [Stopper() for _ in stage]
                waiting: dict[Future[int], Job] = {
                    pool.submit(perform, job, stopper): job for job, stopper in zip(stage, stoppers, strict=True)
                }
                try:
                    while waiting:
                        ended, _ = wait(waiting, timeout=self.tick_seconds, return_when=FIRST_COMPLETED)
                        for future in ended:
                            done(waiting.pop(future), future.result())
                        tick()
                except BaseException:
                    for stopper in stoppers:  # what has not begun ends at once, what runs when it is saved
                        stopper.stop()
                    raise


class Requeued:
    """A job as submitit performs it: where its time is up or its place is taken, it is saved and queued again."""

    def __init__(self) -> None:
        self._stopper: Stopper | None = None

    def __call__(self, job: Job) -> int:
        """Perform the job."""
        self._stopper = Stopper()
        return perform(job, self._stopper)

    def checkpoint(self, job: Job) -> Any:
        """Let what runs save itself; submitit calls this on Slurm's signal, and queues what it returns."""
        from submitit.helpers import DelayedSubmission

        if self._stopper is not None:
            self._stopper.stop()
            self._stopper.wait()
        return DelayedSubmission(Requeued(), job)


@dataclass(frozen=True)
class Submitit:
    """Jobs through submitit: Slurm, or its local executor, which takes the same way."""

    cluster: str  # "slurm", or "local" for submitit's own processes on this machine
    folder: Path  # where submitit keeps its files; all nodes see it
    jobs: int  # how many at a time
    parameters: dict[str, Any]  # more of submitit's, such as `slurm_partition`
    tick_seconds: float = 10.0

    def run(self, stages: Sequence[Sequence[Job]], done: Done, tick: Tick) -> None:
        """Submit each stage as one array, and wait for it; on Ctrl-C what was submitted goes on by itself."""
        try:
            import submitit
        except ImportError:
            raise FullrankError("--launcher slurm needs the extra: pip install 'fullrank[slurm]'") from None
        executor = submitit.AutoExecutor(folder=self.folder, cluster=self.cluster)
        at_a_time = {"slurm_array_parallelism": self.jobs} if self.cluster == "slurm" else {}
        executor.update_parameters(**self.parameters, **at_a_time)
        for stage in stages:
            waiting = dict(zip(executor.map_array(Requeued(), list(stage)), stage, strict=True))
            while waiting:
                for submitted in [each for each in waiting if each.done()]:
                    job, code = waiting.pop(submitted), 1
                    with suppress(Exception):  # whatever ended the job: it is reported by its code and its log
                        code = submitted.result()
                    done(job, code)
                tick()
                if waiting:
                    time.sleep(self.tick_seconds)


Launcher = Local | Submitit
