"""Small methods, and the teacher of one of them."""

import torch
from torch import nn

from fullrank.config import BackboneConfig, HeadsConfig, LossConfig, TargetConfig, TrainConfig
from fullrank.models.backbones import backbone
from fullrank.models.methods import METHODS

WIDTH = 32
BATCH = 6


def encoder(seed=0, width=0.0625):
    torch.manual_seed(seed)
    return backbone(BackboneConfig("resnet18", width=width, depths=(1, 1, 1, 1)), image_size=16)


def method(name="simsiam", *, target=None, loss=None, teacher=None, batch_size=BATCH, **heads):
    """Build a method on an encoder of width 32."""
    target = dict(target or {})
    if name == "nnsiam":
        target.setdefault("queue", 4 * batch_size)
    config = TrainConfig(
        method=name,
        batch_size=batch_size,
        heads=HeadsConfig(**heads),
        loss=LossConfig(**(loss or {})),
        target=TargetConfig(**target),
    )
    model = encoder()
    if name == "distill":
        return METHODS[name](model, config, teacher=teacher or encoder(seed=1, width=0.09375))
    return METHODS[name](model, config)


def views(n=BATCH, seed=0):
    """Two views that differ in distribution, so that taking one for the other shows."""
    torch.manual_seed(seed)
    return torch.randn(n, 3, 16, 16), 0.5 + 2 * torch.randn(n, 3, 16, 16)


def linears(head):
    return [(m.in_features, m.out_features) for m in head.modules() if isinstance(m, nn.Linear)]
