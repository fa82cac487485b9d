"""Distillation: a student learns the features of a teacher that is trained already."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullrank import losses
from fullrank.config import TargetConfig, TrainConfig
from fullrank.data.views import IMAGENET_MEAN, IMAGENET_STD
from fullrank.errors import FullrankError, shown
from fullrank.models.backbones import width_of
from fullrank.models.methods.base import Method, Output
from fullrank.registry import register_method

__all__ = ["Distillation"]

_EPS = 1e-6  # a feature of the teacher that is always 0 has no variance


@register_method("distill")
class Distillation(Method, criterion=F.mse_loss):
    """Squared distance of the student's head from the teacher's standardized representation.

    Only the first view is used. The teacher is in eval mode and is not trained; its features are standardized by their
    running mean and variance, which start at 0 and 1 and are updated after use. ([Li22]'s code averages the standard
    deviation instead of the variance.) Checkpoints hold the teacher, its statistics and what its images are scaled by,
    so that a resumed run distils the teacher that it was started with.

    Args:
        backbone: The student.
        config: The run's configuration.
        teacher: Normalized images `(N, 3, S, S)` -> representation.
        **settings: As of `Method`; `image_size` finds the teacher's width too.

    Reference: [Li22] appendix A.3.
    """

    mean: Tensor
    variance: Tensor
    rescale: Tensor
    shift: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        config: TrainConfig | None = None,
        *,
        teacher: nn.Module | None = None,
        **settings: Any,
    ) -> None:
        if not isinstance(teacher, nn.Module):
            do = "Distillation(backbone, teacher=fullrank.load('runs/teacher'))"
            raise FullrankError(f"Distillation learns from a teacher, a module, got {shown(teacher)}: {do}")
        super().__init__(backbone, config, **settings)
        width = width_of(teacher, settings.get("image_size") or (config.image_size if config else None))
        self.head = nn.Linear(self.width, width)
        self.teacher = teacher.eval().requires_grad_(False)
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        # views are normalized as most encoders expect, and some teachers expect another mean and standard deviation
        expects: dict[str, Any] = getattr(teacher, "pretrained_cfg", None) or {}
        its = (expects.get("mean", IMAGENET_MEAN), expects.get("std", IMAGENET_STD))
        mean, std, its_mean, its_std = (torch.tensor(x).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD, *its))
        self.register_buffer("rescale", std / its_std)
        self.register_buffer("shift", (mean - its_mean) / its_std)

    @classmethod
    def own_target(cls) -> TargetConfig:
        """Return [Li22]'s rate; a teacher is always given."""
        return TargetConfig(teacher="", statistics_rate=0.05)

    def forward(self, first: Tensor, second: Tensor) -> Output:
        """Compute the mean squared distance over the batch and the teacher's dimensions."""
        representation = self.represent(first)
        predicted = self.head(representation)
        with torch.no_grad():
            features = self.teacher(first * self.rescale + self.shift).to(self.mean.dtype)
        wanted = (features - self.mean) / (self.variance + _EPS).sqrt()
        loss = self.compute_loss(predicted, wanted)
        if self.training:
            self.follow(losses.gather(features))
        return Output(loss, predicted.detach(), (representation.detach(),))

    @torch.no_grad()
    def follow(self, features: Tensor) -> None:
        """Move the running mean and variance towards those of a batch of the teacher's features, `(N, D)`."""
        rate: Any = self.target_config.statistics_rate  # filled in
        self.mean.lerp_(features.mean(dim=0), rate)
        self.variance.lerp_(features.var(dim=0, correction=0), rate)

    def train(self, mode: bool = True) -> Distillation:
        """Set the student's mode; the teacher stays in eval mode."""
        super().train(mode)
        self.teacher.eval()
        return self
