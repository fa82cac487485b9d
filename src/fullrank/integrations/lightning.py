"""A Lightning callback that says whether the representation of any LightningModule collapses.

    from fullrank.integrations.lightning import CollapseMonitor

    trainer = Trainer(callbacks=[CollapseMonitor("backbone")])

The `Trainer` may be of `lightning.pytorch` or of `pytorch_lightning`, as lightly's and solo-learn's scripts have it.

Install it with `pip install fullrank[lightning]`.

An order (`fullrank.orders.OrderSampler`) is a run, not an epoch, and a second walk over it repeats the run: give the
trainer `max_epochs=1` or `max_steps=len(order)`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fullrank.config import Steps
from fullrank.errors import FullrankError
from fullrank.integrations.layer import LayerWatch
from fullrank.measure.metrics import SpectrumMetric
from fullrank.measure.spectrum import Spectrum
from fullrank.shapes import fit

try:
    try:
        from lightning.pytorch import Callback, LightningModule, Trainer
        from lightning.pytorch.utilities import rank_zero_warn
    except ImportError:  # its other package
        from pytorch_lightning import Callback, LightningModule, Trainer  # type: ignore[assignment]
        from pytorch_lightning.utilities import rank_zero_warn
except ImportError as error:
    raise ImportError("fullrank.integrations.lightning needs Lightning: pip install 'fullrank[lightning]'") from error


class CollapseMonitor(LayerWatch, Callback):
    """Log spectrum scores of a layer's output: a moving estimate while training, an exact pass at validation.

    A forward hook on `layer` reads what the training step computes there, so nothing runs forward twice. It measures
    every `every`-th batch, with all calls of the layer (both views of a Siamese network), but without those that
    activation checkpointing repeats. Every `log_every` batches, scores go to the trainer's loggers and
    `callback_metrics`, as `collapse/auc` and so on. At validation, `collapse/val_auc` and so on are the scores of
    `fullrank.spectrum` on the whole validation set, over all processes. Other callbacks can monitor them.

    With the defaults the cost at D = 512 is under 1 % of a step of 256 images (`benchmarks/monitor.py`). The latest
    spectra, with their protocols, are `spectrum` and `val_spectrum`. The moving moments are part of the checkpoint.

    Args:
        layer: Name of the submodule whose output is the representation, as in `named_modules()`.
        log_every: Log every so many training batches; when omitted 500, or a tenth of a training of fewer than 5,000.
            The eigendecomposition takes some 50 ms at D = 512.
        validate: Measure the validation set.

    The other arguments are those of `fullrank.integrations.layer.LayerWatch`.

    Raises:
        FullrankError: As `fullrank.integrations.layer.LayerWatch`.
    """

    def __init__(self, layer: str, *, log_every: int | None = None, validate: bool = True, **watch: Any) -> None:
        super().__init__(layer, **watch)
        self.log_every, self.validate = fit(log_every, Steps | None, "log_every"), validate
        self._log_every: int | None = None  # of this training
        self._refused = ""
        self.val_spectrum: Spectrum | None = None
        self._metric: SpectrumMetric | None = None
        self._batches = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hook the layer; a training begins its moments anew, but for those of a checkpoint, read after this."""
        if stage in ("fit", "validate"):
            self._attach(pl_module)
        if stage == "fit":
            self._monitor, self._saved, self._batches = None, None, 0

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Unhook the layer."""
        self._detach()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide how often to log, where it is left open: a short training's curve needs points too."""
        self._log_every = self.log_every
        if self._log_every is None:
            steps = trainer.estimated_stepping_batches  # infinite, or -1, where nobody knows
            batches = steps * trainer.accumulate_grad_batches if steps > 0 else math.inf
            self._log_every = int(min(500, max(1, batches / 10)))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Listen to every `every`-th batch."""
        self._sink = self._absorb if self._batches % self.every == 0 else None
        self._batches += 1

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Stop listening: activation checkpointing runs forward again from here."""
        self._sink = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log every `log_every`-th batch."""
        self._sink = None
        if self._log_every is None or self._batches % self._log_every or self._monitor is None:
            return
        try:
            self.spectrum = self._monitor.compute(partial(_gather, pl_module) if trainer.world_size > 1 else None)
        except FullrankError as error:
            rank_zero_warn(f"CollapseMonitor has nothing to log: {error}")
            return
        named = self._named(self.spectrum, "")
        # As Lightning's LearningRateMonitor: `self.log` would lose what the trainer's log_every_n_steps skips.
        trainer.callback_metrics.update({key: torch.tensor(value) for key, value in named.items()})
        for logger in trainer.loggers:
            logger.log_metrics(named, step=trainer.global_step)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the exact pass."""
        self._metric = None
        self._refused = ""
        self._sink = self._measure if self.validate and not trainer.sanity_checking else None

    def _measure(self, h: Tensor) -> None:
        self._metric = self._metric or self._new_metric(h.shape[1], h.device)
        try:
            self._metric.update(h)
        except FullrankError as error:  # NaN or infinity: a reason to say so, not to end the training
            self._refused = str(error)

    def _new_metric(self, dim: int, device: torch.device) -> SpectrumMetric:
        metric = SpectrumMetric(dim, center=self.center, normalize=self.normalize)
        return metric if device.type == "mps" else metric.to(device)  # MPS has no float64

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the exact pass."""
        if self._sink is None:
            return
        self._sink = None
        dim = 0 if self._metric is None else self._metric.dim
        if trainer.world_size > 1:
            # A process without a validation batch has to take part in the others' merge.
            dim = int(_gather(pl_module, torch.tensor(dim, device=pl_module.device)).max())
        if dim == 0:
            rank_zero_warn(f"CollapseMonitor: validation never called layer {self.layer!r}; nothing to measure")
            return
        if self._refused:
            rank_zero_warn(f"CollapseMonitor left out validation batches: {self._refused}")
        metric = self._metric or self._new_metric(dim, pl_module.device)
        self._metric = None
        try:
            self.val_spectrum = metric.compute()
        except FullrankError as error:
            rank_zero_warn(f"CollapseMonitor cannot measure the validation set: {error}")
            return
        pl_module.log_dict(self._named(self.val_spectrum, "val_"), sync_dist=trainer.world_size > 1)

    @property
    def state_key(self) -> str:
        """What tells this callback's state in a checkpoint from another one's."""
        return f"{type(self).__name__}[{self.name}, {self.layer}]"

    def state_dict(self) -> dict[str, Any]:
        """Return the moving moments, for the checkpoint."""
        monitor = self._saved if self._monitor is None else self._monitor.state_dict()
        return {"batches": self._batches, "monitor": monitor}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._batches = state_dict["batches"]
        # The layer's width is known once it has run.
        self._monitor, self._saved = None, state_dict["monitor"]


def _gather(pl_module: LightningModule, x: Tensor) -> Tensor:
    # Where communication needs a GPU, features and so the moments are on one.
    gathered = pl_module.all_gather(x)
    assert isinstance(gathered, Tensor)
    return gathered
