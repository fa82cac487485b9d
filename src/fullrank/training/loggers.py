"""Where a run's numbers go besides its folder's own files: TensorBoard and Weights & Biases, under the same names."""

from __future__ import annotations

import importlib
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fullrank.config import MonitorConfig
from fullrank.errors import FullrankError
from fullrank.files import write_text


class TensorBoard:
    """Events in the run's folder, below `tensorboard`, of a run that goes on from a step (new: 0)."""

    module = "torch.utils.tensorboard"  # what must be installed

    def __init__(self, folder: Path, step: int, config: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what was written of later steps is not shown: the run writes it again
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else 0)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add numbers by name, such as `train/loss` and `measure/auc`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self, *, failed: bool) -> None:
        """Write what is in memory."""
        self._writer.close()


class WeightsAndBiases:
    """A W&B run of the folder's name, in the project of WANDB_PROJECT or else `fullrank`.

    Its id is kept in the folder, in `wandb/id`, so that a run that goes on is the same there. A run that the program
    around has open stays open beside it.
    """

    module = "wandb"

    def __init__(self, folder: Path, step: int, config: Mapping[str, Any]) -> None:
        import wandb

        kept = folder / "wandb" / "id"
        known = kept.read_text().strip() if kept.is_file() else None
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT") or "fullrank",
                name=folder.resolve().name,
                id=known or uuid.uuid4().hex,
                resume="allow",
                dir=str(folder),
                config=dict(config),
                reinit="create_new",
                settings=wandb.Settings(console="off", silent=True),  # our lines are not W&B's to keep
            )
        except (wandb.Error, OSError) as error:
            raise FullrankError(
                f"Weights & Biases cannot be used: {' '.join(str(error).split())}; log in with `wandb login`, set "
                "WANDB_MODE=offline, or leave out --monitor.wandb"
            ) from None
        # its own counter only rises, and a run that goes on repeats the steps after its checkpoint
        self._run.define_metric("step", hidden=True)
        self._run.define_metric("*", step_metric="step")
        if known is None:
            write_text(kept, f"{self._run.id}\n")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row."""
        self._run.log({**values, "step": step})

    def close(self, *, failed: bool) -> None:
        """Send what is still here; `failed` where an error ended the run."""
        self._run.finish(exit_code=int(failed))


Logger = TensorBoard | WeightsAndBiases
LOGGERS: dict[str, type[Logger]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}
"""By the field of `MonitorConfig` that asks for it, which is also the extra that it needs."""


def check_loggers(config: MonitorConfig) -> None:
    """Raise `FullrankError` where what is asked for is not installed."""
    for name, logger in LOGGERS.items():
        if getattr(config, name):
            try:
                importlib.import_module(logger.module)
            except ImportError:
                raise FullrankError(f"--monitor.{name} needs the extra: pip install 'fullrank[{name}]'") from None


def open_loggers(config: MonitorConfig, folder: Path, step: int, settings: Mapping[str, Any]) -> list[Logger]:
    """Open those that are asked for."""
    return [logger(folder, step, settings) for name, logger in LOGGERS.items() if getattr(config, name)]
