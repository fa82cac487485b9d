"""The online probe: a linear classifier that learns on the representations of the training views while they change.

It sees them without gradient, draws no random number and has an optimizer of its own, so the run is the same to the
last bit with it and without. [Garrido23] (https://arxiv.org/abs/2206.02574) evaluates with one, and saw its accuracy
follow that of a probe that is trained afterwards. It costs a product of 2 B x D with D x C numbers a step.

It is off unless it is asked for: labels then enter a run nowhere but in measurements, and k-NN is measured by itself.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fullrank.data.images import Images
from fullrank.errors import FullrankError
from fullrank.models.batchnorm import synchronize
from fullrank.training.distributed import ALONE, Gradients, World

REACH = 1.0
"""About how far Adam's first step may move a logit: its learning rate is this divided by D. It falls to 0 along a
cosine, so that the last weights are not noisy."""


class OnlineProbe:
    """A linear classifier beside an encoder of width D while that is trained; it learns from images with a label.

    Representations are standardized by batch statistics, in measurements by running ones, for their scale is a matter
    of the method. The weights start at 0. All processes hold the same probe; each learns from its piece of the batch.
    """

    def __init__(
        self,
        images: Images,
        width: int,
        steps: int,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        world: World = ALONE,
    ) -> None:
        if images.labels is None or not bool((images.labels >= 0).any()):
            raise FullrankError(
                f"monitor.online_probe learns labels, and the training images {images.name} have none: leave it out"
            )
        known = images.labels >= 0
        self.classes, places = images.labels[known].unique(return_inverse=True)
        if len(self.classes) < 2:
            raise FullrankError(
                f"monitor.online_probe tells classes apart, and the training images {images.name} are all of one: "
                "leave it out"
            )
        self.labels = torch.full_like(images.labels, -1)
        self.labels[known] = places
        self.steps = steps
        self.device = device
        self.world = world
        linear = nn.utils.skip_init(nn.Linear, width, len(self.classes))  # which would draw random weights
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
        self.classifier = nn.Sequential(nn.BatchNorm1d(width, affine=False), linear).to(device, dtype)
        if world.size > 1:
            synchronize(self.classifier, device)
        self._gradients = Gradients(self.classifier, world)
        self.rate = REACH / width
        self.optimizer = torch.optim.Adam(self.classifier.parameters(), self.rate)
        self.learned = False  # before its first step it knows nothing
        self._dtype = dtype
        self._right = torch.zeros(2, dtype=torch.float64, device=device)  # and of how many, since the last record

    @property
    def protocol(self) -> dict[str, Any]:
        """How it learns; a measurement adds what it is measured on."""
        return {
            "layer": "backbone",
            "branch": "online",
            "classifier": "linear, of standardized representations, beside the encoder and without gradient to it",
            "trained_on": "the training views, in train mode",
            "optimizer": "adam",
            "lr": self.rate,
            "schedule": "cosine to 0",
            "classes": self.classifier[1].out_features,
        }

    def step(self, step: int, representations: tuple[Tensor, ...], images: Tensor) -> None:
        """Learn from the representations `(B, D)` of each view of `(B,)` images, without waiting for the device."""
        labels = self.labels[images].to(self.device, non_blocking=True).repeat(len(representations))
        logits = self.classifier(torch.cat(representations).to(self._dtype))
        right = torch.stack([(logits.argmax(dim=1) == labels).sum(), (labels >= 0).sum()]).double()
        right = self.world.mean(right) * self.world.size
        self._right += right
        # The mean over the labeled views of the global batch, of which there may be none; gradients are averaged next.
        share = self.world.size / right[1].clamp(min=1).to(logits.dtype)
        (share * F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum")).backward()
        self._gradients.average()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * (1 + math.cos(math.pi * step / self.steps)) / 2
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.learned = True

    def taken(self) -> float | None:
        """Return the accuracy on the views since this was last asked, each before it was learned from.

        None where none of them had a label.
        """
        right, count = self._right.tolist()
        self._right.zero_()
        return right / count if count else None

    @torch.no_grad()
    def measure(self, representations: Tensor, labels: Tensor) -> float:
        """Return the share of `(N, D)` representations, taken in eval mode, whose label `(N,)` it gets right."""
        self.classifier.eval()
        try:
            found = self.classes[self.classifier(representations.to(self._dtype)).argmax(dim=1).cpu()]
            return float((found == labels.cpu()).double().mean())
        finally:
            self.classifier.train()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        own = {"classifier": self.classifier.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {**own, "right": self._right.cpu()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what a checkpoint kept."""
        self.classifier.load_state_dict(state["classifier"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._right = state["right"].to(self.device)
        self.learned = bool(self.optimizer.state)
