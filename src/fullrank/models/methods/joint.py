"""Joint-embedding methods: one encoder and projector for both views, and a loss that alone keeps them from collapsing.

All of [Garrido23] (https://arxiv.org/abs/2206.02574), contrastive or not, are this one class with another loss.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fullrank import losses
from fullrank.config import HeadsConfig, TrainConfig
from fullrank.models.methods.base import Method, Output
from fullrank.registry import register_method

__all__ = ["DCL", "TCR", "BarlowTwins", "DCLAbs", "DCLSq", "JointEmbedding", "SimCLR", "SimCLRAbs", "SimCLRSq"]
__all__ += ["SpectralContrastive", "VICReg", "VICRegCtr", "VICRegExp"]


class JointEmbedding(Method):
    """A projector behind the backbone, without a predictor; both branches are trained."""

    across_images = True

    def __init__(self, backbone: nn.Module, config: TrainConfig | None = None, **settings: Any) -> None:
        super().__init__(backbone, config, **settings)
        self.projector = self.build_projector(last="linear")

    @classmethod
    def own_heads(cls, width: int) -> HeadsConfig:
        """Return 8192-8192-8192, [Garrido23]'s, VICReg's and Barlow Twins' for ResNet-50."""
        out = min(8192, 4 * width)
        return HeadsConfig(projector_hidden=out, projector_out=out, projector_layers=3, normalize="none")

    def forward(self, first: Tensor, second: Tensor) -> Output:
        """Compute the loss of the two views' embeddings."""
        h1, h2 = self.represent(first), self.represent(second)
        z1, z2 = self.projector(h1), self.projector(h2)
        return Output(self.compute_loss(z1, z2), z1.detach(), (h1.detach(), h2.detach()))

    def prepare(self, embeddings: list[Tensor]) -> list[Tensor]:
        """Normalize each view's embeddings as configured."""
        scheme = self.heads_config.normalize
        assert scheme is not None
        return embeddings if scheme == "none" else [losses.normalize(z, scheme) for z in embeddings]


# fmt: off
@register_method("simclr")
class SimCLR(JointEmbedding, criterion=losses.info_nce):
    """SimCLR: the other view is to be told from all other images (Chen et al. 2020, https://arxiv.org/abs/2002.05709)."""

@register_method("simclr_sq")
class SimCLRSq(JointEmbedding, criterion=losses.simclr_sq):
    """SimCLR with squared cosines ([Garrido23])."""

@register_method("simclr_abs")
class SimCLRAbs(JointEmbedding, criterion=losses.simclr_abs):
    """SimCLR with absolute cosines ([Garrido23])."""

@register_method("dcl")
class DCL(JointEmbedding, criterion=losses.dcl):
    """SimCLR without the positive pair among the negatives (Yeh et al. 2022, https://arxiv.org/abs/2110.06848)."""

@register_method("dcl_sq")
class DCLSq(JointEmbedding, criterion=losses.dcl_sq):
    """DCL with squared cosines ([Garrido23])."""

@register_method("dcl_abs")
class DCLAbs(JointEmbedding, criterion=losses.dcl_abs):
    """DCL with absolute cosines ([Garrido23])."""

@register_method("spectral")
class SpectralContrastive(JointEmbedding, criterion=losses.spectral_contrastive):
    """The spectral contrastive loss (HaoChen et al. 2021, https://arxiv.org/abs/2106.04156)."""

@register_method("vicreg")
class VICReg(JointEmbedding, criterion=losses.vicreg):
    """VICReg: variance, invariance, covariance (Bardes et al. 2022, https://arxiv.org/abs/2105.04906)."""

@register_method("vicreg_exp")
class VICRegExp(JointEmbedding, criterion=losses.vicreg_exp):
    """VICReg with a LogSumExp of covariances ([Garrido23])."""

@register_method("vicreg_ctr")
class VICRegCtr(JointEmbedding, criterion=losses.vicreg_ctr):
    """VICReg-exp on the transposed embeddings, which makes it contrastive ([Garrido23])."""

@register_method("barlow_twins")
class BarlowTwins(JointEmbedding, criterion=losses.barlow_twins):
    """Barlow Twins: the views' cross-correlation is to be the identity (https://arxiv.org/abs/2103.03230)."""

@register_method("tcr")
class TCR(JointEmbedding, criterion=losses.tcr):
    """Total coding rate: EMP-SSL's or NMCE's (https://arxiv.org/abs/2304.03977)."""
# fmt: on
