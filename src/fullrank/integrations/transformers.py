"""A callback for the `Trainer` of Hugging Face's transformers that says whether a representation collapses.

    from fullrank.integrations.transformers import CollapseCallback

    trainer = Trainer(model, arguments, ...)
    CollapseCallback("vit.layernorm", features=lambda tokens: tokens[:, 0]).add_to(trainer)

Install it with `pip install fullrank[transformers]`.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from fullrank.errors import FullrankError
from fullrank.integrations.layer import LayerWatch
from fullrank.losses import gather

try:
    from transformers import Trainer, TrainerCallback, TrainerState
except ImportError as error:
    raise ImportError(
        "fullrank.integrations.transformers needs transformers and accelerate: pip install 'fullrank[transformers]'"
    ) from error


class CollapseCallback(LayerWatch, TrainerCallback):
    """Log spectrum scores of a layer's output while a `Trainer` trains.

    A forward hook on `layer` reads what the training step computes there; nothing runs forward twice. Of every
    `every`-th step all calls of the layer are absorbed. `collapse/auc` and so on stand in the trainer's logs of each
    `logging_steps`, beside the loss, and in `state.log_history`. The latest spectrum, with its protocol, is `spectrum`.
    The moving moments are not in checkpoints: a resumed training begins them anew.

    Its arguments and errors are those of `fullrank.integrations.layer.LayerWatch`; steps are the batches there.
    """

    def add_to(self, trainer: Trainer) -> None:
        """Add it before the callbacks that report to TensorBoard or Weights & Biases, so that they have its scores.

        In `Trainer(callbacks=[...])` it comes after them: then the console and `state.log_history` alone do.
        """
        trainer.callback_handler.callbacks.insert(0, self)

    def on_train_begin(self, *args: Any, model: nn.Module, **kwargs: Any) -> None:
        """Hook the layer, and begin the moments anew."""
        self._attach(model)
        self._monitor = None

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Listen to every `every`-th step."""
        self._sink = self._absorb_forward if state.global_step % self.every == 0 else None

    def _absorb_forward(self, h: Tensor) -> None:
        if torch._C._current_graph_task_id() == -1:  # else activation checkpointing runs forward again
            self._absorb(h)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Stop listening: what comes next may be an evaluation."""
        self._sink = None

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Put the scores beside a training loss."""
        if "loss" not in (logs or ()) or self._monitor is None:
            return
        try:
            self.spectrum = self._monitor.compute(lambda vector: gather(vector[None]))
        except FullrankError as error:
            warnings.warn(f"CollapseCallback has nothing to log: {error}", stacklevel=2)
            return
        named = self._named(self.spectrum, "")
        logs.update(named)
        state.log_history[-1].update(named)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Unhook the layer."""
        self._detach()
