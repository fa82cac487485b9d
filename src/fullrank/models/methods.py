"""Methods: the branches that images go through, and the loss between them.

A method is a module that knows its backbone, gives a loss for the two views of a batch, and says which of its
parameters keep a constant learning rate. To add one: subclass `Method`, build the heads, write `forward`, and
register it in `METHODS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fullrank import losses
from fullrank.models import heads
from fullrank.models.backbones import width_of

if TYPE_CHECKING:
    from fullrank.training.config import HeadsConfig


@dataclass(frozen=True)
class Output:
    """What a method computes for a batch.

    Attributes:
        loss: A scalar to minimise.
        embedding: `(N, M)`, the first view's, without gradient: monitors read it.
    """

    loss: Tensor
    embedding: Tensor


class Method(nn.Module, ABC):
    """A backbone, heads, and a loss.

    Attributes:
        backbone: Images -> representation: the part that is kept after training.
    """

    backbone: nn.Module

    @abstractmethod
    def forward(self, first: Tensor, second: Tensor) -> Output:
        """Compute the loss of two views, `(N, 3, S, S)` each, row n of both from image n."""

    def constant_rate_modules(self) -> Iterable[nn.Module]:
        """Return the modules whose learning rate does not decay."""
        return ()


class SimSiam(Method):
    """SimSiam: one encoder for both views, a predictor on one side, a stop-gradient on the other.

    Each view goes through the encoder on its own, so batch-norm statistics are of one view. The predictor keeps a
    constant learning rate, so that it can follow the embeddings (Chen & He 2021, section 4.2).
    """

    def __init__(self, backbone: nn.Module, config: HeadsConfig) -> None:
        super().__init__()
        width = width_of(backbone)
        self.backbone = backbone
        self.projector = heads.projector(
            width,
            width if config.projector_hidden is None else config.projector_hidden,
            config.projector_out,
            config.projector_layers,
        )
        self.predictor = heads.predictor(config.projector_out, config.predictor_hidden)

    def forward(self, first: Tensor, second: Tensor) -> Output:
        """Compute the symmetric negative cosine."""
        z1, z2 = self.projector(self.backbone(first)), self.projector(self.backbone(second))
        p1, p2 = self.predictor(z1), self.predictor(z2)
        with torch.autocast(first.device.type, enabled=False):  # cosines of half-precision numbers are too coarse
            loss = losses.simsiam(z1.float(), z2.float(), p1.float(), p2.float())
        return Output(loss, z1.detach())

    def constant_rate_modules(self) -> Iterable[nn.Module]:
        """Return the predictor."""
        return (self.predictor,)


METHODS: dict[str, type[SimSiam]] = {"simsiam": SimSiam}
