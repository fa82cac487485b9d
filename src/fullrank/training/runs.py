"""The run folder: what a run leaves on disk, written so that a kill at any moment loses nothing that was finished.

    config.yaml           the resolved configuration, usable with `--config`; under `environment` versions, hardware
    metrics.jsonl         one record a line: a function of configuration and step, so a resumed run has the same bytes
    timing.jsonl          seconds and images/s, which are not
    spectra.safetensors   steps (K,) int64; singular_values (K, D) float64
    samples.png           some images and their views
    checkpoints/          step_00001000.pt, ...
    summary.json          final scores, each with its protocol
    report.html

Records of metrics.jsonl have `kind` and `step` (finished gradient steps): `protocols` (once, at step 0), `train`
(means over the steps since the last one) and `measure`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO, TypedDict

import numpy as np
import yaml

from fullrank.errors import FullrankError
from fullrank.files import (
    PICKLES,
    check_empty,
    numbered,
    read_arrays,
    read_json,
    read_json_lines,
    read_yaml,
    reading,
    write_bytes,
    write_text,
)
from fullrank.registry import METHODS
from fullrank.shapes import Number, Protocol, ShapeError, Step, fit
from fullrank.text import expanded

if TYPE_CHECKING:
    from fullrank.config import TrainConfig
    from fullrank.measure.spectrum import Spectrum
    from fullrank.measure.verdict import Verdict
    from fullrank.training.distributed import World

METRICS, TIMING, SPECTRA = "metrics.jsonl", "timing.jsonl", "spectra.safetensors"
SUMMARY, CONFIG = "summary.json", "config.yaml"


class _Images(TypedDict, total=False):
    count: Step
    fingerprint: str
    skipped: Step


class _Data(TypedDict, total=False):
    version: int
    train: _Images | None
    held_out: _Images | None
    measured: _Images | None


class _Environment(TypedDict, total=False):
    processes: Step
    data: _Data


class _Config(TypedDict, total=False):
    """What is read of config.yaml, of whatever version; to go on with a run it is read as `TrainConfig`."""

    method: str
    order: str
    images: str
    eval_images: str | None
    views: str
    subset: float
    switch: float
    backbone: dict[str, Any]
    heads: dict[str, Any]
    machine: dict[str, Any]
    steps: Step
    seed: int
    environment: _Environment | None


class _Value(TypedDict):
    name: str
    value: Number


class _Score(_Value, total=False):
    protocol: Protocol


class _Summary(TypedDict, total=False):
    steps: Step
    scores: list[_Score]
    skipped: list[str]
    seconds: float


@dataclass(frozen=True)
class RunRecord:
    """What a run folder holds, read for a report."""

    path: Path
    config: dict[str, Any]  # the resolved configuration, nested
    environment: dict[str, Any]  # versions and hardware
    records: list[dict[str, Any]]  # the lines of metrics.jsonl, in order
    timing: list[dict[str, Any]]  # the lines of timing.jsonl, in order
    spectrum_steps: np.ndarray  # `(K,)` int64
    singular_values: np.ndarray  # `(K, D)` float64, each row descending
    summary: dict[str, Any] | None  # final scores; None while the run is unfinished

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    def of_kind(self, kind: str) -> list[dict[str, Any]]:
        """Return the records of one kind."""
        return [record for record in self.records if record["kind"] == kind]

    @property
    def finished(self) -> bool:
        """Whether it has a summary."""
        return self.summary is not None

    @property
    def planned(self) -> int:
        """The steps of the configuration; those reached, where it names none."""
        return int(self.config.get("steps") or self.reached)

    @property
    def reached(self) -> int:
        """The last step that left a trace."""
        traces = (*self.records, *self.timing, {"step": (self.summary or {}).get("steps", 0)})
        return max(int(record.get("step", 0)) for record in traces)

    @property
    def measured(self) -> list[int]:
        """The steps of its measurements, in order."""
        return [int(record["step"]) for record in self.of_kind("measure")]

    @property
    def switch(self) -> int | None:
        """The step at which a hybrid order turns to multiple passes; None for other orders."""
        share = self.config.get("switch")
        if self.config.get("order") != "hybrid" or not isinstance(share, (int, float)):
            return None
        return round(share * self.planned)

    @property
    def width(self) -> int | None:
        """The representation's width D; None before the first spectrum."""
        return self.singular_values.shape[1] if len(self.singular_values) else None

    def spectrum(self, row: int = -1) -> Spectrum:
        """Return a measured spectrum with its protocol, the last where no row is named."""
        from fullrank.measure.spectrum import Spectrum

        return Spectrum(self.singular_values[row], self.protocols.get("spectrum") or {})

    def verdict(self, row: int = -1) -> Verdict:
        """Judge a measured spectrum, the last where no row is named, beside that of before training."""
        from fullrank.measure.verdict import judge

        before = self.spectrum(0) if self.spectrum_steps[0] == 0 else None
        return judge(self.spectrum(row), init=before, untrained=self.spectrum_steps[row] == 0)

    def images(self, split: Literal["train", "measured", "held_out"]) -> dict[str, Any]:
        """Return what it saw of some of its images, such as their fingerprint; nothing where it does not say."""
        return (self.environment.get("data") or {}).get(split) or {}

    @property
    def protocols(self) -> dict[str, Any]:
        """How each measure of this run is taken; empty before the first measurement."""
        found = self.of_kind("protocols")
        return values_of(found[0]) if found else {}


def values_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without its kind and step."""
    return {name: value for name, value in record.items() if name not in ("kind", "step")}


def check_run(path: Path) -> None:
    """Raise `FullrankError` unless there is a run at `path`."""
    if not (path / CONFIG).is_file():
        what = "is not a run" if path.exists() else "does not exist"
        inside = [each.parent.name for each in path.glob(f"*/{CONFIG}")]
        runs = f"; {path / min(inside)} is one" if inside else ""
        raise FullrankError(f"{path} {what}: expected a folder made by `fullrank train`, with a {CONFIG} in it{runs}")


def read_run(path: Path | str) -> RunRecord:
    """Read a run folder, or raise `FullrankError` where there is none or a file in it is damaged."""
    path = Path(path)
    check_run(path)
    config: dict[str, Any] = read_yaml(path / CONFIG, _Config, "put it back as it was")
    if "method" in config:  # in runs of before by another name
        config["method"] = METHODS.canonical(str(config["method"]))
    environment: Any = config.pop("environment", None) or {}
    steps, values = read_spectra(path / SPECTRA)
    records = read_lines(path / METRICS)
    summary: Any = None
    if (path / SUMMARY).exists():
        remedy = f"delete it, and `fullrank train --resume {path}` writes it again"
        summary = read_json(path / SUMMARY, _Summary, remedy)
    with reading(path / METRICS, "put it back as it was"):
        for kind in ("train", "measure"):
            own = [record["step"] for record in records if record.get("kind") == kind]
            if own != sorted(set(own)):
                raise ShapeError(f"the steps of its records of kind {kind} do not rise")
            if own and own[-1] > config.get("steps", own[-1]):
                raise ShapeError(f"it has a record of step {own[-1]:,}, and the run has {config['steps']:,} steps")
    return RunRecord(path, config, environment, records, read_lines(path / TIMING), steps, values, summary)


def _check_line(record: Any) -> None:
    """Check a line of metrics.jsonl or timing.jsonl: it has a step, and the rest are numbers, text or protocols."""
    fit(record, dict[str, object])
    kind = record.get("kind", "timing")
    fit({"kind": kind}, dict[str, str])
    # a diverged run has a loss that is no number, which is shown
    shapes: dict[str, Any] = {"protocols": Protocol, "timing": float, "train": Number, "measure": Number}
    for name, value in values_of(record).items():
        fit(value, shapes.get(kind, Any), name)
    fit({"step": record.get("step")}, dict[str, Step])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of one JSON record a line; a last line that a kill cut short is left out."""
    return read_json_lines(path, _check_line, "put it back as it was, or delete that line")


def read_spectra(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read spectra.safetensors: steps `(K,)` and singular values `(K, D)`; no rows when there is no file yet."""
    if not path.exists():
        return np.zeros(0, dtype=np.int64), np.zeros((0, 0))
    remedy = "put it back as it was"
    steps, values = read_arrays(path, remedy, steps=(np.integer, 1), singular_values=(np.floating, 2))
    with reading(path, remedy):
        if len(steps) != len(values) or (np.diff(steps) <= 0).any() or (steps < 0).any():
            raise ShapeError("its steps do not rise from 0 or later, one for each row")
        if not values.shape[1] or (values < 0).any() or (np.diff(values, axis=1) > 0).any():
            raise ShapeError("its singular values do not fall, or are negative")
    return steps, values


def only_runs(paths: Sequence[Path | str]) -> list[Path]:
    """Return the runs and checkpoints among paths, as a shell pattern gives them, and name the others on stderr.

    What is not there, and what has a checkpoint's name, stays and is an error where it is opened.
    """

    def stays(path: Path) -> bool:
        parts = (CONFIG, METRICS, SUMMARY, "checkpoints")
        return not path.exists() or path.suffix == ".pt" or any((path / name).exists() for name in parts)

    given = [Path(path) for path in paths]
    own = [path for path in given if stays(expanded(path))]
    if given and not own:
        inside = any(given[0].glob(f"*/{CONFIG}"))
        hint = f"the runs in it, {given[0]}/*" if inside else "folders made by `fullrank train`"
        if given[0].suffix.lower() in PICKLES or given[0].suffix == ".safetensors":
            hint += "; other weights are compared by `fullrank inspect a.pth b.pth --backbone NAME --images FOLDER`"
        raise FullrankError(f"{given[0]} is not a run, nor is any other: give {hint}")
    if not any(expanded(path).exists() for path in own):
        return given
    for path in given:
        if path not in own:
            print(f"passed over, for it is not a run: {path}", file=sys.stderr)
    return own


class RunFolder:
    """A run being written: exclusive, and never ahead of what a reader may trust.

    `create` makes a new one and `reopen` goes on with one; both hold a lock until `close`, which a killed process
    loses by itself. The run's other processes write nothing, and may not even see the folder: theirs has no lock.
    """

    def __init__(self, path: Path, lock: TextIO | None = None) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._lock = lock

    @classmethod
    def create(cls, config: TrainConfig) -> RunFolder:
        """Make a new folder: `config.out`, or one below `runs`, numbered from 2 where its name is taken."""
        if config.out is not None:
            path = expanded(config.out)
            try:
                path.mkdir(parents=True, exist_ok=True)
                folder = cls(path, _locked(path))
            except OSError as error:
                why = f"cannot make the run's folder {path} ({error.strerror})"
                raise FullrankError(f"{why}: choose another --out") from None
            cls.check_free(config.out)  # again, now that nobody else can be making it
            return folder
        source = Path(config.images).stem.replace("*", "") or "images"
        for path in numbered(Path("runs") / f"{source}-{config.method}-{config.order}-s{config.seed}"):
            with contextlib.suppress(FileExistsError):
                path.mkdir(parents=True)
                break
        return cls(path, _locked(path))

    @classmethod
    def reopen(cls, path: Path) -> RunFolder:
        """Open an existing run to go on with it."""
        check_run(path)
        return cls(path, _locked(path))

    @staticmethod
    def check_free(out: str | None) -> None:
        """Raise `FullrankError` where a new run cannot be written to `out`: before any long work begins."""
        if out is None:
            return
        path = expanded(out)
        if (path / CONFIG).exists():
            raise FullrankError(
                f"{path} already holds a run: go on with it by --resume {path}, or choose another --out"
            )
        check_empty(path, hidden=True)

    def close(self) -> None:
        """Release the lock. Its file stays: removing it would let two processes lock two files of one name."""
        if self._lock is not None:
            self._lock.close()

    def sync(self) -> None:
        """Force the records to disk, so that no checkpoint outlives the records before it."""
        for name in (METRICS, TIMING):
            if (self.path / name).exists():
                with open(self.path / name, "rb+") as file:
                    os.fsync(file.fileno())

    def write_config(self, config: dict[str, Any], environment: dict[str, Any]) -> None:
        """Write config.yaml."""
        write_text(self.path / CONFIG, yaml.safe_dump({**config, "environment": environment}, sort_keys=False))

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl or timing.jsonl."""
        with open(self.path / name, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def append_spectrum(self, step: int, singular_values: np.ndarray) -> None:
        """Add a row to spectra.safetensors."""
        steps, values = read_spectra(self.path / SPECTRA)
        row = singular_values[None]
        self._write_spectra(np.append(steps, step), np.concatenate([values, row]) if len(values) else row)

    def _write_spectra(self, steps: np.ndarray, values: np.ndarray) -> None:
        from safetensors.numpy import save

        write_bytes(self.path / SPECTRA, save({"steps": steps.astype(np.int64), "singular_values": values}))

    def forget_after(self, step: int | None) -> None:
        """Drop the summary, and records and spectra of later steps than `step`: the run writes them again.

        None drops everything, for a run that was stopped before its first checkpoint.
        """
        last = -1 if step is None else step
        (self.path / SUMMARY).unlink(missing_ok=True)
        for name in (METRICS, TIMING):
            kept = [record for record in read_lines(self.path / name) if record["step"] <= last]
            write_text(self.path / name, "".join(json.dumps(record) + "\n" for record in kept))
        steps, values = read_spectra(self.path / SPECTRA)
        if len(steps):
            self._write_spectra(steps[steps <= last], values[steps <= last])


@contextmanager
def opened(open_folder: Callable[[], RunFolder], world: World) -> Iterator[RunFolder]:
    """Open a run's folder on the main process, which alone reads and writes it; the others know its path."""
    with world.raise_together():
        folder = open_folder() if world.main else RunFolder(Path())
    path = world.on_main(lambda: folder.path)
    if not world.main:
        folder = RunFolder(path)
    try:
        yield folder
    finally:
        folder.close()


def _locked(path: Path) -> TextIO:
    """Lock a run's folder, and clear what a process left there that was killed while it wrote."""
    lock = open(path / ".lock", "w")  # noqa: SIM115 - held for the run's whole life
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise FullrankError(f"another process is training {path}: wait for it, or choose another --out") from None
    except OSError as error:  # a disk that knows no locks, as Lustre is often mounted
        why = f"{path} cannot be locked ({error.strerror})"
        print(f"{why}: let no other process go on with this run meanwhile", file=sys.stderr)
    # A forked worker holds the lock too, and may outlive a killed parent by seconds: it lets go at once.
    os.register_at_fork(after_in_child=lock.close)
    for stale in path.rglob(".*.tmp"):
        stale.unlink(missing_ok=True)
    return lock
