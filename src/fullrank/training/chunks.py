"""What a run forgets where a chunk of its order begins, if it is asked to. [Li22] resets nothing."""

from __future__ import annotations

from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from fullrank.config import TrainConfig
from fullrank.data.order import Order
from fullrank.models.methods import Method


def begin_chunk(config: TrainConfig, order: Order, step: int, method: Method, optimizer: Optimizer) -> None:
    """Reset what is to be reset before the first step of every chunk but the first; do nothing before other steps.

    It follows from the step alone, so a run that is resumed at a boundary does it too.

    Args:
        config: Says what to reset, by `reset_momentum` and `reset_statistics`.
        order: The order, over the images of this run.
        step: The step to come.
        method: What is trained. Batch norms in eval mode, a teacher's, keep their statistics.
        optimizer: SGD or LARS.
    """
    if not (config.reset_momentum or config.reset_statistics) or step == 0 or order.span(step).start != step:
        return
    if config.reset_momentum:
        for state in optimizer.state.values():
            if state.get("momentum_buffer") is not None:
                state["momentum_buffer"].zero_()
    if config.reset_statistics:
        for module in method.modules():
            if isinstance(module, _BatchNorm) and module.training:
                module.reset_running_stats()
