"""The records of a run: what metrics.jsonl, timing.jsonl and spectra.safetensors are filled from."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fullrank.errors import FullrankError
from fullrank.measure.scores import SCORES, Score
from fullrank.measure.spectrum import Spectrum
from fullrank.training.runs import METRICS, TIMING, RunFolder, read_lines


class Record:
    """Writes a run's records, and keeps the sums of the one that is not finished.

    With many processes each has one, so that all add the same losses; the main process's writes.
    """

    def __init__(self, folder: RunFolder, state: dict[str, Any] | None, *, tensorboard: bool) -> None:
        self.folder = folder
        kept: dict[str, Any] = state["record"] if state else {}
        self.loss_sum: Tensor = kept.get("loss_sum", torch.zeros((), dtype=torch.float64))
        self.count: int = kept.get("count", 0)
        self._before: float = kept.get("seconds", 0.0)
        self._began = self._last_log = time.perf_counter()
        self._steps_since_log = 0
        self._latest: dict[str, float] = {}
        self._measured_at = 0
        self._tensorboard = _tensorboard(folder.path, state["step"] + 1 if state else 0) if tensorboard else None

    @property
    def seconds(self) -> float:
        """Seconds that the run has taken, interruptions left out."""
        return self._before + time.perf_counter() - self._began

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"loss_sum": self.loss_sum.cpu(), "count": self.count, "seconds": self.seconds}

    def add(self, loss: Tensor) -> None:
        """Add a step's loss, without waiting for the device."""
        self.loss_sum = self.loss_sum.to(loss.device) + loss.detach().double()
        self.count += 1
        self._steps_since_log += 1

    def check_finite(self, step: int) -> None:
        """Raise `FullrankError` when the loss of some step since the last record was NaN or infinite."""
        if not math.isfinite(float(self.loss_sum)):
            raise FullrankError(
                f"the loss became {float(self.loss_sum)} within the {self.count} steps up to {step}: start a new run "
                "with a lower --optim.base_lr, or with --machine.precision float32; the last good checkpoint is in "
                f"{self.folder.checkpoints}"
            )

    def logged(
        self, step: int, lr: float, embedding: Tensor, batch_size: int, others: dict[str, float]
    ) -> tuple[float, float]:
        """Write the record of the steps since the last one, `others` in it; return their mean loss and the images/s."""
        self.check_finite(step)
        loss = float(self.loss_sum) / self.count
        std = float(torch.nn.functional.normalize(embedding.float(), dim=1).std(dim=0).mean())
        now = time.perf_counter()
        speed = self._steps_since_log * batch_size / (now - self._last_log)
        self._write({"kind": "train", "step": step, "loss": loss, "lr": lr, "std": std, **others})
        self.folder.append(TIMING, {"step": step, "seconds": self.seconds, "images_per_second": speed})
        if self._tensorboard is not None:
            self._tensorboard.add_scalar("images_per_second", speed, step)
        self.loss_sum = torch.zeros_like(self.loss_sum)
        self.count = self._steps_since_log = 0
        self._last_log = now
        return loss, speed

    def protocols(self, protocols: dict[str, Any]) -> None:
        """Write how each measurement is taken."""
        self.folder.append(METRICS, {"kind": "protocols", "step": 0, **protocols})

    def measured(self, step: int, scores: dict[str, float], measured: Spectrum) -> None:
        """Write a measurement."""
        self._latest, self._measured_at = scores, step
        self._write({"kind": "measure", "step": step, **scores})
        self.folder.append_spectrum(step, measured.singular_values.numpy())
        self._last_log, self._steps_since_log = time.perf_counter(), 0  # images/s are of training alone

    def _write(self, record: dict[str, Any]) -> None:
        self.folder.append(METRICS, record)
        if self._tensorboard is not None:
            for name, value in record.items():
                if name not in ("kind", "step"):
                    self._tensorboard.add_scalar(f"{record['kind']}/{name}", value, record["step"])

    def latest_scores(self, step: int) -> str:
        """Return the last measured scores in words, for a log of a step, and at which other step they were."""
        if not self._latest:
            return ""
        shown = {name: SCORES[name] for name in ("auc", "knn") if name in self._latest}
        words = "".join(
            f"  {kind.title.removesuffix(' accuracy')} {kind.write(self._latest[name])}" for name, kind in shown.items()
        )
        return words if self._measured_at == step else f"{words} at {self._measured_at}"

    def close(self) -> None:
        """Finish what is still being written."""
        if self._tensorboard is not None:
            self._tensorboard.close()

    def final_scores(self, protocols: dict[str, Any], training: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the last records as scores, each with its protocol: those of measurements, and that of the loss."""
        records = read_lines(self.folder.path / METRICS)
        last = {record["kind"]: record for record in records}
        lacking = [kind for kind in ("train", "measure") if kind not in last]
        if lacking:
            raise FullrankError(
                f"{self.folder.path / METRICS} has no record of the kind {lacking[0]!r}, and there are no final scores "
                "without: put the file back as it was, or delete the last checkpoint to go on from the one before"
            )
        trained, measured = last["train"], last["measure"]
        values: dict[str, float] = {
            **{name: trained[name] for name in ("loss", "online_probe_train") if name in trained},
            **{k: v for k, v in measured.items() if k not in ("kind", "step")},
        }
        return [
            Score(
                name, value, training if name == "loss" else protocols.get(name) or protocols.get("spectrum", {})
            ).as_dict()
            for name, value in values.items()
        ]


def _tensorboard(path: Path, step: int) -> Any:
    """Return a TensorBoard writer that takes over from `step`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise FullrankError("--monitor.tensorboard needs the extra: pip install 'fullrank[tensorboard]'") from None
    return SummaryWriter(str(path / "tensorboard"), purge_step=step)
