"""What a run does beside training: it logs, measures and saves, and says on the console how it goes."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.nn.functional import interpolate, normalize
from torch.optim import Optimizer
from torchvision.utils import save_image

from fullrank.config import to_dict
from fullrank.data.batches import ViewLoader
from fullrank.data.views import IMAGENET_MEAN, IMAGENET_STD, eval_view
from fullrank.errors import FullrankError
from fullrank.files import atomic_path, write_text
from fullrank.measure.scores import SCORES, Score
from fullrank.text import duration, few
from fullrank.training.checkpoint import save_checkpoint
from fullrank.training.distributed import World
from fullrank.training.loggers import open_loggers
from fullrank.training.measuring import Measurer, training_protocol
from fullrank.training.optim import learning_rate
from fullrank.training.progress import TrainingProgress
from fullrank.training.runs import METRICS, SUMMARY, TIMING, RunFolder, read_lines, values_of
from fullrank.training.setup import Resolved

_COLUMNS = 12
_CELL = 96  # pixels of a cell; smaller views are enlarged without smoothing, so that what the encoder sees is seen


class Recorder:
    """Writes a run's records and checkpoints, and keeps the sums of the record that is not finished.

    With many processes each has one, so that all add the same losses; `begin`, `log`, `measure`, `checkpoint` and
    `finish` are for the main process.
    """

    measurer: Measurer  # the main process's

    def __init__(
        self,
        run: Resolved,
        folder: RunFolder,
        optimizer: Optimizer,
        state: dict[str, Any] | None,
        console: Console,
        world: World,
    ) -> None:
        self.run, self.folder, self.optimizer, self.world = run, folder, optimizer, world
        self.skipped = run.loader.skipped
        self.skipped.update(run.data.skipped, state["skipped"] if state else ())
        if run.measurer is not None:
            self.measurer = run.measurer
            self.skipped.update(run.measurer.skipped)
        step = state["step"] if state else 0
        self.progress = TrainingProgress(run.config, folder.path.name, step, console)
        kept: dict[str, Any] = state["record"] if state else {}
        self.loss_sum: Tensor = kept.get("loss_sum", torch.zeros((), dtype=torch.float64))
        self.count: int = kept.get("count", 0)
        self._before: float = kept.get("seconds", 0.0)
        self._began = self._last_log = time.perf_counter()
        self._steps_since_log = 0
        self._latest: dict[str, float] = {}
        self._measured_at = 0
        settings = to_dict(run.config)
        self._loggers = open_loggers(run.config.monitor, folder.path, step, settings) if world.main else []

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken, interruptions left out."""
        return self._before + time.perf_counter() - self._began

    def announce(self, step: int, *, resumed: bool) -> None:
        """Say what is trained from which step on, and which images are left out."""
        run, config, processes = self.run, self.run.config, self.world.size
        images = f"{len(run.data.train):,} images of {config.images}"
        where = f"{run.device}, {processes} processes" if processes > 1 else f"{run.device}"
        what = f"{config.method} on {images}, {config.order}, {config.steps:,} steps, {where}"
        going_on = f"going on with {self.folder.path} from step {step}"
        self.progress.note(going_on if resumed else f"{self.folder.path}: {what}")
        for name in sorted(self.skipped):
            self.progress.note(f"skipped, cannot be decoded: {name}")

    def begin(self) -> None:
        """Write what a new run has before its first step: pictures of its views, and how it is measured."""
        _write_samples(self.folder.path / "samples.png", self.run.loader)
        self.folder.append(METRICS, {"kind": "protocols", "step": 0, **self.measurer.protocols})

    def add(self, step: int, loss: Tensor) -> None:
        """Add the loss of the step that was done, without waiting for the device; all processes do."""
        loss = self.world.mean(loss)
        self.loss_sum = self.loss_sum.to(loss.device) + loss.detach().double()
        self.count += 1
        self._steps_since_log += 1
        self.progress.step(step)

    def log(self, step: int, embedding: Tensor) -> None:
        """Write the record of the steps since the last one; `embedding` is the last global batch's, `(N, M)`."""
        self._check_finite(step)
        config = self.run.config
        loss = float(self.loss_sum) / self.count
        std = float(normalize(embedding.float(), dim=1).std(dim=0).mean())
        lr = learning_rate(step - 1, config.steps, config.optim, config.batch_size)
        now = time.perf_counter()
        speed = self._steps_since_log * config.batch_size / (now - self._last_log)
        record = {"kind": "train", "step": step, "loss": loss, "lr": lr, "std": std}
        if self.run.probe is not None and (accuracy := self.run.probe.taken()) is not None:
            record["online_probe_train"] = accuracy
        self._write(record)
        self.folder.append(TIMING, {"step": step, "seconds": self.seconds, "images_per_second": speed})
        self._tell(step, {"images_per_second": speed})
        self.loss_sum = torch.zeros_like(self.loss_sum)
        self.count = self._steps_since_log = 0
        self._last_log = now
        self.progress.log(step, loss, speed, self._latest_scores(step))

    def measure(self, step: int) -> dict[str, float]:
        """Measure the method as it is after a step, write that, and return the scores."""
        self._check_finite(step)
        known = set(self.measurer.failed)
        scores, measured = self.measurer.measure(self.run.method)
        for name in self.measurer.failed.keys() - known:
            self.progress.note(
                f"{SCORES[name].title} could not be taken at step {step}, and is left out wherever it cannot: "
                f"{' '.join(self.measurer.failed[name].split())}"
            )
        self._latest, self._measured_at = scores, step
        self._write({"kind": "measure", "step": step, **scores})
        self.folder.append_spectrum(step, measured.singular_values.numpy())
        self._last_log, self._steps_since_log = time.perf_counter(), 0  # images/s are of training alone
        return scores

    def checkpoint(self, step: int, skipped: list[set[str]]) -> None:
        """Save everything that going on after a step needs; `skipped` are the images that each process left out."""
        self._check_finite(step)
        self.skipped.update(*skipped)
        probe = self.run.probe
        contents = {
            "config": to_dict(self.run.config),
            "model": self.run.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "record": {"loss_sum": self.loss_sum.cpu(), "count": self.count, "seconds": self.seconds},
            **({} if probe is None else {"online_probe": probe.state_dict()}),
            **({"order": learned} if (learned := self.run.loader.order.learned) else {}),
            "skipped": sorted(self.skipped),
        }
        self.folder.sync()
        save_checkpoint(self.folder.checkpoints, step, contents, keep=self.run.config.keep_checkpoints)

    def finish(self) -> None:
        """Write the summary: the last records as scores, each with its protocol."""
        config, skipped = self.run.config, sorted(self.skipped)
        if skipped:
            self.progress.note(f"images that could not be decoded: {len(skipped)} ({few(skipped)})")
        last = {record["kind"]: record for record in read_lines(self.folder.path / METRICS)}
        for kind in ("train", "measure"):
            if kind not in last:
                raise FullrankError(
                    f"{self.folder.path / METRICS} has no record of the kind {kind!r}, and there are no final scores "
                    "without: put the file back as it was, or delete the last checkpoint to go on from the one before"
                )
        trained = {name: last["train"][name] for name in ("loss", "online_probe_train") if name in last["train"]}
        values: dict[str, float] = trained | values_of(last["measure"])
        protocols = {**self.measurer.protocols, "loss": training_protocol(config)}
        scores = [Score(name, value, protocols.get(name, protocols["spectrum"])) for name, value in values.items()]
        summary = {"steps": config.steps, "scores": [score.as_dict() for score in scores]}
        summary |= {"skipped": skipped, "seconds": self.seconds}
        write_text(self.folder.path / SUMMARY, json.dumps(summary, indent=2) + "\n")
        self.progress.note(
            f"{self.folder.path}: {config.steps} steps in {duration(self.seconds)}{self._latest_scores(config.steps)}"
        )

    def stopped(self, step: int) -> None:
        """Say how to go on."""
        where = f"after step {step} of {self.run.config.steps}, and saved" if step else "before its first step"
        self.progress.note(f"stopped {where}; go on with: fullrank train --resume {self.folder.path}")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for logger in self._loggers:
            logger.close(failed=kind is not None)

    def _check_finite(self, step: int) -> None:
        """Raise `FullrankError` when the loss of some step since the last record was NaN or infinite."""
        if not math.isfinite(float(self.loss_sum)):
            raise FullrankError(
                f"the loss became {float(self.loss_sum)} within the {self.count} steps up to {step}: start a new run "
                "with a lower --optim.base_lr, or with --machine.precision float32; the last good checkpoint is in "
                f"{self.folder.checkpoints}"
            )

    def _write(self, record: dict[str, Any]) -> None:
        self.folder.append(METRICS, record)
        self._tell(record["step"], {f"{record['kind']}/{name}": value for name, value in values_of(record).items()})

    def _tell(self, step: int, values: dict[str, float]) -> None:
        for logger in self._loggers:
            logger.log(step, values)

    def _latest_scores(self, step: int) -> str:
        """Return the last measured scores in words, for a log of a step, and at which other step they were."""
        words = "".join(
            f"  {SCORES[name].title.removesuffix(' accuracy')} {SCORES[name].write(self._latest[name])}"
            for name in ("auc", "knn")
            if name in self._latest
        )
        return words if not words or self._measured_at == step else f"{words} at {self._measured_at}"


def _write_samples(path: Path, loader: ViewLoader) -> None:
    """Draw the first step's images (top row) and their two views, as a PNG."""
    batch = next(iter(loader(0)))
    count = min(_COLUMNS, len(batch.images))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    cells = [eval_view(loader.images.read(index)[None], loader.size) for index in batch.images[:count].tolist()]
    cells += [view[:count].cpu() * std + mean for view in batch.views]
    enlarged = interpolate(torch.cat(cells), scale_factor=max(1, _CELL // loader.size))
    with atomic_path(path) as temporary:
        save_image(enlarged, temporary, format="PNG", nrow=count, padding=4, pad_value=1)
