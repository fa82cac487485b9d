"""Joint-embedding methods: one encoder and projector for both views, and a loss that alone keeps them from collapsing.

All of [Garrido23] (https://arxiv.org/abs/2206.02574), contrastive or not, are this one class with another loss.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from fullrank import losses
from fullrank.config import HeadsConfig, TrainConfig
from fullrank.models.methods.base import Method, Output
from fullrank.registry import register_method


class JointEmbedding(Method):
    """A projector behind the backbone, without a predictor; both branches are trained."""

    across_images = True

    def __init__(self, backbone: nn.Module, config: TrainConfig) -> None:
        super().__init__(backbone, config)
        self.projector = self.build_projector(last="linear")

    @classmethod
    def own_heads(cls, width: int) -> HeadsConfig:
        """Return 8192-8192-8192, [Garrido23]'s, VICReg's and Barlow Twins' for ResNet-50."""
        out = min(8192, 4 * width)
        return HeadsConfig(projector_hidden=out, projector_out=out, projector_layers=3, normalize="none")

    def forward(self, first: Tensor, second: Tensor) -> Output:
        """Compute the loss of the two views' embeddings."""
        h1, h2 = self.backbone(first), self.backbone(second)
        z1, z2 = self.projector(h1), self.projector(h2)
        return Output(self.compute_loss(z1, z2), z1.detach(), (h1.detach(), h2.detach()))

    def prepare(self, embeddings: list[Tensor]) -> list[Tensor]:
        """Normalize each view's embeddings as configured."""
        scheme = self.heads_config.normalize
        assert scheme is not None
        return embeddings if scheme == "none" else [losses.normalize(z, scheme) for z in embeddings]


LOSSES: dict[str, Callable[..., Tensor]] = {
    "simclr": losses.info_nce,
    "simclr-sq": losses.simclr_sq,
    "simclr-abs": losses.simclr_abs,
    "dcl": losses.dcl,
    "dcl-sq": losses.dcl_sq,
    "dcl-abs": losses.dcl_abs,
    "spectral": losses.spectral_contrastive,
    "vicreg": losses.vicreg,
    "vicreg-exp": losses.vicreg_exp,
    "vicreg-ctr": losses.vicreg_ctr,
    "barlow": losses.barlow_twins,
    "tcr": losses.tcr,
}
for _name, _loss in LOSSES.items():
    register_method(_name)(
        type(f"JointEmbedding[{_name}]", (JointEmbedding,), {"criterion": staticmethod(_loss), "__module__": __name__})
    )
