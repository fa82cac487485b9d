"""One run of a study: trained, evaluated, and its small files kept."""

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
from typing import Any

import yaml

from fullrank.config import TrainConfig, to_dict
from fullrank.errors import FullrankError
from fullrank.files import write_text
from fullrank.registry import SOURCES
from fullrank.studies.identity import mismatch
from fullrank.studies.store import Planned, Store, inspections
from fullrank.studies.study import Scale
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
    """What one process does for a study on this machine."""

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
        given = {field: path for field in _IMAGES if (path := self._given(field)) is not None}
        threads = self.place.threads or config.machine.threads
        return replace(config, **given, target=target, machine=replace(config.machine, threads=threads))  # type: ignore[arg-type]

    @cached_property
    def names(self) -> dict[str, str]:
        """What to call this machine's paths in the results."""
        config = self.run.config
        found: dict[str, str] = {}
        for path, name in zip(
            map(self._given, _IMAGES), (config.images, config.eval_images or "held out"), strict=True
        ):
            if path is not None:
                found.setdefault(path, name)
        if self.run.cell.teacher is not None:
            found[str(self.config.target.teacher)] = str(config.target.teacher)
        return found

    def _given(self, field: str) -> str | None:
        """Return images as a path that is no bare word, which might mean something else in a run's records."""
        images = getattr(self.place, field)
        return images if images is None or images in SOURCES else str(Path(images).expanduser().absolute())

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
            given = [(f"--{field.replace('_', '-')}", self._given(field)) for field in _IMAGES]
            moved = [word for flag, path in given if path is not None for word in (flag, path)]
            return [*python, "fullrank", "train", "--resume", str(self.folder), *moved]
        settings = self.work / f"{self.name}.yaml"
        write_text(settings, yaml.safe_dump(to_dict(self.config), sort_keys=False))
        return [*python, "fullrank", "train", "--config", str(settings), "--out", str(self.folder)]

    def measuring(self) -> list[list[str]]:
        """Return the commands that take the scores it still lacks, on the same images for all runs."""
        steps, images, found = self.config.steps, self.config.images, []
        made = {each.name for each in evaluated(self.folder, steps)}
        if probes := [f"--{probe}" for probe in self.run.cell.probes or () if probe not in made]:
            found.append(["evaluate", str(self.folder), *probes])
        if self.run.cell.label_free and not inspections(self.folder, steps, images):
            found.append(["rank", str(self.folder), "--scores", "all", "--json", "--images", images])
        return [[sys.executable, "-m", "fullrank", *words] for words in found]

    def lacks_training(self) -> bool:
        """Whether it is to be trained, or gone on with; again where weights are needed that are gone."""
        if self.weights or self.measuring():
            return not is_trained(self.folder)
        return not (self.folder / SUMMARY).is_file()

    def names_of_paths(self) -> dict[str, str]:
        """Return what to call this machine's paths in the results, those of an earlier call too."""
        found = {str(self.folder): self.name, **self.names}
        has = read_run(self.folder).config
        for field in _IMAGES:
            asked = getattr(self.config, field)
            if asked is not None and os.sep in (has.get(field) or ""):  # a path, and no word of the records
                found.setdefault(has[field], self.names.get(asked, asked))
        return found

    def check(self) -> None:
        """Refuse to go on with a run of other settings or images, or from a teacher that is not trained.

        Raises:
            FullrankError: So it is.
        """
        teacher = self.config.target.teacher
        if teacher is not None and teacher in self.names and not is_trained(Path(teacher)):
            raise FullrankError(f"not begun: its teacher {teacher} is not trained to its end, see {teacher}.log")
        if not (self.folder / CONFIG).is_file():
            return
        has = read_run(self.folder).config
        other = mismatch(self.config, has)
        if other is not None:
            raise FullrankError(
                f"{self.folder} is a run with {other}: a default has changed since; move it away to train it again"
            )
        if not (self.folder / SUMMARY).is_file():
            return  # when it goes on, training compares the images
        for field in _IMAGES:
            asked = getattr(self.config, field)
            if asked in self.names and os.path.abspath(asked) != os.path.abspath(str(has.get(field))):
                raise FullrankError(
                    f"{self.folder} was trained with --{field.replace('_', '-')} {has.get(field)}, not {asked}: give "
                    "that, or move the folder away to train it again"
                )


def is_trained(folder: Path) -> bool:
    """Whether a run has been trained to its end, and its last weights are in its folder."""
    if not (folder / SUMMARY).is_file():
        return False
    return checkpoint_path(folder / "checkpoints", read_run(folder).config["steps"]).is_file()


class Stopper:
    """Ends the process that a job runs at the moment, and lets it start no other."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal's handler may stop what the same thread is starting
        self._stopped = False
        self._process: subprocess.Popen | None = None

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen | None:
        """Start a process, or none after `stop`."""
        with self._lock:
            if not self._stopped:
                self._process = subprocess.Popen(command, **options)
            return None if self._stopped else self._process

    def stop(self) -> None:
        """Tell the process to save itself and end."""
        with self._lock:
            self._stopped = True
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until the process has ended, and leave its exit code to who started it."""
        if self._process is not None:
            with suppress(ChildProcessError):  # it has been waited for already
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)


def perform(job: Job, stopper: Stopper | None = None) -> int:
    """Train or go on, evaluate, and keep the results; another thread can end it by `stopper`.

    Returns:
        The exit code of what failed, `STOPPED` when it was stopped, or 0.
    """
    stopper = stopper or Stopper()
    job.work.mkdir(parents=True, exist_ok=True)
    try:
        job.check()
        if job.lacks_training() and (code := _run(job, job.training(), stopper)):
            return code
        for command in job.measuring():
            if code := _run(job, command, stopper):
                return code
        Store(job.place.results, job.scale).keep(job.folder, job.name, job.names_of_paths())
        return 0
    except Exception as error:  # whatever it is, the other jobs go on
        with open(job.log, "a", encoding="utf-8") as log:
            text = f"fullrank: error: {error}\n" if isinstance(error, FullrankError) else traceback.format_exc()
            log.write(text)
        return 1


def _run(job: Job, command: Sequence[str], stopper: Stopper) -> int:
    environment = dict(os.environ)
    if job.config.machine.threads is not None:  # else two jobs' threads would wait for each other while they import
        environment["OMP_NUM_THREADS"] = str(job.config.machine.threads)
    with open(job.log, "a", encoding="utf-8") as log:
        # a session of its own: Ctrl-C reaches the study alone, which tells its jobs
        process = stopper.start(command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True)
        if process is None:
            return STOPPED
        try:
            return process.wait()
        except BaseException:  # whatever ends the waiting must not leave the process behind
            stopper.stop()
            raise
