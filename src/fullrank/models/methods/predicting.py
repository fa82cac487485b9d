"""Methods with a predictor: one branch predicts what the other gives, which gets no gradient."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from fullrank import losses
from fullrank.config import HeadsConfig, TargetConfig, TrainConfig
from fullrank.errors import FullrankError
from fullrank.models import heads
from fullrank.models.methods.base import Method, Output
from fullrank.registry import register_method

__all__ = ["BYOL", "MoCoV3", "NNSiam", "SimSiam"]


@register_method("simsiam")
class SimSiam(Method, criterion=losses.simsiam):
    """SimSiam: one encoder for both views, a predictor on one side, a stop-gradient on the other.

    Each view goes through the encoder on its own, so batch-norm statistics are of one view. The predictor keeps a
    constant learning rate, so that it can follow the embeddings (section 4.2).

    Reference: Chen & He 2021, https://arxiv.org/abs/2011.10566; as [Li22] trains it.
    """

    has_predictor = True

    def __init__(self, backbone: nn.Module, config: TrainConfig | None = None, **settings: Any) -> None:
        super().__init__(backbone, config, **settings)
        self.projector = self.build_projector(last="norm")
        self.predictor = self.build_predictor(last="bias")

    @classmethod
    def own_heads(cls, width: int) -> HeadsConfig:
        """Return [Li22]'s for its ResNets: D, D, 2048 and 512 for the predictor."""
        out = min(2048, 4 * width)
        return HeadsConfig(projector_hidden=width, projector_out=out, projector_layers=3, predictor_hidden=out // 4)

    def forward(self, first: Tensor, second: Tensor) -> Output:
        """Compute the symmetric negative cosine."""
        h1, h2 = self.represent(first), self.represent(second)
        z1, z2 = self.projector(h1), self.projector(h2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        loss = self.compute_loss(*self.targets(z1, z2), p1, p2)
        return Output(loss, z1.detach(), (h1.detach(), h2.detach()))

    def targets(self, z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
        """Return what stands for each view as the other's target."""
        return z1, z2

    def constant_rate_modules(self) -> Iterable[nn.Module]:
        """Return the predictor."""
        return (self.predictor,)


@register_method("nnsiam")
class NNSiam(SimSiam):
    """SimSiam whose targets are the embeddings' nearest neighbors in a queue of earlier ones.

    Embeddings in the queue have norm 1, and the nearest has the greatest cosine. The first view's embeddings enter it
    after both views have been looked up. ([Li22]'s code compares raw embeddings by their distance, so that its first
    neighbors are chosen among random vectors that are far shorter.)

    Reference: [Li22] section 5.1; Dwibedi et al. 2021, https://arxiv.org/abs/2104.14548.
    """

    queue: Tensor
    position: Tensor

    def __init__(self, backbone: nn.Module, config: TrainConfig | None = None, **settings: Any) -> None:
        super().__init__(backbone, config, **settings)
        length, width = int(self.target_config.queue or 0), int(self.heads_config.projector_out or 0)
        batch = 1 if config is None else config.batch_size
        if length < 1 or length % batch:
            near = max(1, round(length / batch)) * batch
            what = f"target.queue={length} is not a multiple of batch_size={batch}"
            raise FullrankError(f"{what}: a batch would replace part of an older one; take {near}")
        self.register_buffer("queue", F.normalize(torch.randn(length, width), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @classmethod
    def own_target(cls) -> TargetConfig:
        """Return [Li22]'s queue."""
        return TargetConfig(queue=25_600)

    def targets(self, z1: Tensor, z2: Tensor) -> tuple[Tensor, Tensor]:
        """Return both views' nearest neighbors, and put the first view's embeddings into the queue."""
        found = self.nearest(z1), self.nearest(z2)
        if self.training:
            self.enqueue(losses.gather(z1.detach().to(self.queue.dtype)))
        return found

    @torch.no_grad()
    def nearest(self, z: Tensor) -> Tensor:
        """Return the row of the queue that has the greatest cosine with each row of z, `(N, M)`."""
        with torch.autocast(z.device.type, enabled=False):  # which would compare in half precision, with many ties
            return self.queue[(z.to(self.queue.dtype) @ self.queue.T).argmax(dim=1)]

    @torch.no_grad()
    def enqueue(self, z: Tensor) -> None:
        """Replace the oldest rows of the queue by those of z, `(N, M)`."""
        if len(z) > len(self.queue):
            raise FullrankError(f"a batch of {len(z)} does not fit into queue={len(self.queue)}: take a longer one")
        rows = (self.position + torch.arange(len(z), device=z.device)) % len(self.queue)
        self.queue[rows] = F.normalize(z, dim=1)
        self.position.copy_((self.position + len(z)) % len(self.queue))


@register_method("byol")
class BYOL(Method, criterion=losses.byol):
    """BYOL: the targets come from a moving average of the online backbone and projector.

    The average is never trained; its batch-norm statistics are its own, of the batches that it sees itself.

    Reference: Grill et al. 2020, https://arxiv.org/abs/2006.07733.
    """

    has_predictor = True
    last_of_projector: ClassVar[heads.Last] = "linear"
    own_momentum: ClassVar[float] = 0.996

    def __init__(self, backbone: nn.Module, config: TrainConfig | None = None, **settings: Any) -> None:
        super().__init__(backbone, config, **settings)
        self.projector = self.build_projector(last=self.last_of_projector)
        self.predictor = self.build_predictor(last="linear")
        online = nn.Sequential(OrderedDict(backbone=self.backbone, projector=self.projector))
        self.target = copy.deepcopy(online).requires_grad_(False)

    @classmethod
    def own_heads(cls, width: int) -> HeadsConfig:
        """Return the paper's widths: 4096 inside projector and predictor, 256 out."""
        hidden = min(4096, 8 * width)
        return HeadsConfig(projector_hidden=hidden, projector_out=256, projector_layers=2, predictor_hidden=hidden)

    @classmethod
    def own_target(cls) -> TargetConfig:
        """Return the paper's momentum."""
        return TargetConfig(momentum=cls.own_momentum, constant_momentum=False)

    def forward(self, first: Tensor, second: Tensor) -> Output:
        """Compute the loss of both directions."""
        h1, h2 = self.represent(first), self.represent(second)
        z1, z2 = self.projector(h1), self.projector(h2)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        with torch.no_grad():
            t1, t2 = self.target(first), self.target(second)
        return Output(self.compute_loss(t1, t2, p1, p2), z1.detach(), (h1.detach(), h2.detach()))

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """Move the target towards the online weights."""
        own: Any = self.target_config  # filled in
        momentum = own.momentum if own.constant_momentum else target_momentum(step, steps, own.momentum)
        online = [*self.backbone.parameters(), *self.projector.parameters()]
        get_ema_multi_avg_fn(momentum)(list(self.target.parameters()), online, None)


def target_momentum(step: int, steps: int, first: float) -> float:
    """Return the momentum of the moving average after a step k of K: a cosine from `first`, m0 in [0, 1], to 1.

        m(k) = 1 - (1 - m0) (cos(pi k / K) + 1) / 2

    Reference: Grill et al. 2020, section 3.2; MoCo-v3's code has the same.

    >>> [round(target_momentum(k, 4, 0.9), 4) for k in (0, 2, 4)]
    [0.9, 0.95, 1.0]
    """
    return 1 - (1 - first) * (math.cos(math.pi * step / steps) + 1) / 2


@register_method("mocov3")
class MoCoV3(BYOL, criterion=losses.mocov3):
    """MoCo-v3: BYOL's branches, and a contrastive loss with the batch's other images as negatives.

    Reference: Chen, Xie & He 2021, https://arxiv.org/abs/2104.02057; heads as in the authors' code for ResNets.
    """

    across_images = True
    last_of_projector = "norm"
    own_momentum = 0.99
