"""One run of a study: trained, evaluated and kept, by the commands that a user would type, each in its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import yaml

from fullrank.config import TrainConfig, to_dict
from fullrank.errors import FullrankError
from fullrank.files import write_text
from fullrank.registry import SOURCES
from fullrank.studies.store import Planned, Store, check_same, inspections
from fullrank.studies.study import PROBES, Scale
from fullrank.text import expanded
from fullrank.training.checkpoint import checkpoint_path
from fullrank.training.runs import CONFIG, METRICS, SUMMARY, read_run
from fullrank.training.scores import evaluated

STOPPED = 128 + signal.SIGTERM
_IMAGES = ("images", "eval_images")


@dataclass(frozen=True)
class Place:
    """Where a study's images are and its runs go, on this machine."""

    images: str | None = None  # training images, where they are not found by the study's own name for them
    eval_images: str | None = None
    work: Path = Path("runs/studies")  # the folder of the runs, with their checkpoints
    results: Path = Path("results")
    threads: int | None = None  # CPU threads of a job
    processes: int = 1  # that train one run, by torchrun


@dataclass(frozen=True)
class Job:
    """A run to be made on this machine."""

    run: Planned
    scale: Scale
    place: Place
    weights: bool = False  # whether others wait for its weights

    @property
    def name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def work(self) -> Path:
        """The folder of the runs being made."""
        return self.place.work / self.scale

    @property
    def folder(self) -> Path:
        """The run's own folder, with its checkpoints."""
        return self.work / self.name

    @property
    def log(self) -> Path:
        """What its processes print."""
        return self.work / f"{self.name}.log"

    @cached_property
    def config(self) -> TrainConfig:
        """The run's configuration, with the images and the teacher's folder where they are on this machine."""
        config, target = self.run.config, self.run.config.target
        if self.run.cell.teacher is not None:
            target = replace(target, teacher=str(self.work / str(target.teacher)))
        machine = replace(config.machine, threads=self.place.threads or config.machine.threads)
        return replace(config, **self._given(), target=target, machine=machine)  # type: ignore[arg-type]

    def _given(self) -> dict[str, str]:
        """Return the images of this machine, as paths that are no bare words, which may mean something in records."""
        given = {field: value for field in _IMAGES if (value := getattr(self.place, field)) is not None}
        return {f: p if p in SOURCES else str(expanded(p).absolute()) for f, p in given.items()}

    def done_steps(self) -> int:
        """Return how many steps its records know of."""
        with suppress(OSError, IndexError, ValueError, KeyError):
            last = (self.folder / METRICS).read_text("utf-8").rstrip("\n").rsplit("\n", 1)[-1]
            return int(json.loads(last)["step"])
        return 0

    def training(self) -> list[str]:
        """Return the command that trains it, or goes on; a configuration file is written for a new run."""
        python = [sys.executable, "-m"]
        if self.place.processes > 1:
            python += ["torch.distributed.run", "--standalone", f"--nproc-per-node={self.place.processes}", "-m"]
        if (self.folder / CONFIG).is_file():
            (self.folder / SUMMARY).unlink(missing_ok=True)  # finished, it would not be trained for its weights
            moved = [word for f, path in self._given().items() for word in (f"--{f.replace('_', '-')}", path)]
            return [*python, "fullrank", "train", "--resume", str(self.folder), *moved]
        settings = self.work / f"{self.name}.yaml"
        write_text(settings, yaml.safe_dump(to_dict(self.config), sort_keys=False))
        return [*python, "fullrank", "train", "--config", str(settings), "--out", str(self.folder)]

    def measuring(self) -> list[list[str]]:
        """Return the commands that take the scores it still lacks, on the same images for all runs."""
        steps, images, found = self.config.steps, self.config.images, []
        made = {each.name for each in evaluated(self.folder, steps)}
        if probes := [f"--{probe}" for probe in PROBES[self.scale] if probe not in made]:
            found.append(["evaluate", str(self.folder), *probes])
        if self.run.cell.label_free and not inspections(self.folder, steps, images):
            found.append(["rank", str(self.folder), "--scores", "all", "--json", "--images", images])
        return [[sys.executable, "-m", "fullrank", *words] for words in found]

    def lacks_training(self) -> bool:
        """Whether it is to be trained, or gone on with; again where weights are needed that are gone."""
        if self.weights or self.measuring():
            return not is_trained(self.folder)
        return not (self.folder / SUMMARY).is_file()

    def names(self) -> dict[str, str]:
        """Return what to call this machine's paths in the results, those of an earlier call too."""
        config, has = self.run.config, read_run(self.folder).config
        found = {str(self.folder): self.name}
        for field, name in zip(_IMAGES, (config.images, config.eval_images or "held out"), strict=True):
            for path in (self._given().get(field), has.get(field)):
                if path is not None and os.sep in path:  # a path, and no word of the records
                    found.setdefault(path, name)
        if self.run.cell.teacher is not None:
            found[str(self.config.target.teacher)] = str(config.target.teacher)
        return found

    def check(self) -> None:
        """Raise `FullrankError` for a folder of other settings, or a teacher that is not trained."""
        teacher = self.config.target.teacher
        if self.run.cell.teacher is not None and not is_trained(Path(str(teacher))):
            raise FullrankError(f"not begun: its teacher {teacher} is not trained to its end, see {teacher}.log")
        if (self.folder / CONFIG).is_file():
            check_same(self.config, read_run(self.folder))


def is_trained(folder: Path) -> bool:
    """Whether a run has been trained to its end, and its last weights are in its folder."""
    if not (folder / SUMMARY).is_file():
        return False
    return checkpoint_path(folder / "checkpoints", read_run(folder).config["steps"]).is_file()


class Processes:
    """The processes that run at the moment: all are told to end together, and none begins afterwards."""

    def __init__(self) -> None:
        self._lock, self._stopped = threading.RLock(), False
        self._running: set[subprocess.Popen[bytes]] = set()

    def run(self, job: Job, command: Sequence[str]) -> int:
        """Run a command of a job to its end, and return its exit code, or `STOPPED`."""
        environment = dict(os.environ)
        if job.config.machine.threads is not None:  # else two jobs' threads would wait for each other while they import
            environment["OMP_NUM_THREADS"] = str(job.config.machine.threads)
        with open(job.log, "a", encoding="utf-8") as log:
            with self._lock:
                if self._stopped:
                    return STOPPED
                # a session of its own: Ctrl-C reaches the study alone, which tells its jobs
                process = subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
                )
                self._running.add(process)
            try:
                return process.wait()
            finally:
                self._running.discard(process)

    def stop(self) -> None:
        """Tell all of them to save themselves and end."""
        with self._lock:
            self._stopped = True
            for process in list(self._running):
                process.send_signal(signal.SIGTERM)


def perform(job: Job, processes: Processes) -> int:
    """Train or go on, evaluate, and keep the results.

    Returns:
        The exit code of what failed, `STOPPED` when it was stopped, or 0.
    """
    job.work.mkdir(parents=True, exist_ok=True)
    try:
        job.check()
        if job.lacks_training() and (code := processes.run(job, job.training())):
            return code
        for command in job.measuring():
            if code := processes.run(job, command):
                return code
        Store(job.place.results, job.scale).keep(job.folder, job.name, job.names())
        return 0
    except Exception as error:  # whatever it is, the other jobs go on
        with open(job.log, "a", encoding="utf-8") as log:
            text = f"fullrank: error: {error}\n" if isinstance(error, FullrankError) else traceback.format_exc()
            log.write(text)
        return 1
