"""What the runs of all studies have in common, at either scale.

`paper` holds the published settings of [Li22] (`training/presets`). `lab` is its SimSiam in minutes on a
CPU core. Four numbers carry the phenomenon when the paper is scaled down:

| ResNet-18 with multiple passes                        | paper | `simsiam` | `short` |
|-------------------------------------------------------|------:|----------:|--------:|
| clock of weight decay, sum over steps of rate x decay |  1.25 |       .62 |    .225 |
| passes over an image                                  |   100 |        96 |      96 |
| images per parameter of the encoder                   |  .115 |      .057 |    .011 |
| parameters of the encoder for each image of a chunk   |   914 |       880 |     880 |

A run of `simsiam` takes 13 minutes on a core, and one of `short` three, of a fifth of the images and of the chunks.
Studies of few settings have the first, those of many the second; `regime` has longer ones too.
"""

from __future__ import annotations

from dataclasses import replace

from fullrank.config import BackboneConfig, TrainConfig
from fullrank.studies.study import Scale
from fullrank.training.optim import scaled_lr
from fullrank.training.presets import LAB, preset

ORDERS = ("multiple-pass", "cumulative", "single-pass", "hybrid")
MULTIPLE = ORDERS[0]
SMALL, DEEPER, WIDE = "ResNet-18", "ResNet-34", "ResNet-50"
ENCODERS: dict[str, tuple[str, int]] = {
    SMALL: ("resnet18", 512),
    DEEPER: ("resnet34", 512),
    WIDE: ("resnet50", 2048),
    "Bottleneck-26": ("bottleneck26", 2048),
    "Bottleneck-26 x2": ("bottleneck26x2", 2048),
    "Basic-50": ("basic50", 512),
}
"""[Li22] Table 1: the backbone and the width D of its representation."""
LAB_WIDTH = 0.125  # of all encoders at lab scale: 8 channels at first instead of 64


def simsiam(scale: Scale, encoder: str = SMALL) -> TrainConfig:
    """Return [Li22]'s SimSiam with multiple passes; the other settings of its studies are changes of it.

    The projector's hidden width grows with the encoder: the representation's in the paper, twice that at lab scale.
    """
    name, width = ENCODERS[encoder]
    if scale == "paper":
        config = published("simsiam-resnet18-imagenet")
        return _with_encoder(config, replace(config.backbone, name=name), hidden=width)
    config = preset("simsiam-collapse")
    config = replace(config, steps=15_000, optim=replace(config.optim, weight_decay=1.1e-3))  # in half the time
    return _with_encoder(config, replace(config.backbone, name=name), hidden=2 * int(LAB_WIDTH * width))


def short(scale: Scale, encoder: str = SMALL) -> TrainConfig:
    """Return the same in a fifth of the steps, on a fifth of the images and chunks; at the paper's scale no other."""
    if scale == "paper":
        return simsiam(scale, encoder)
    recipe, config = preset("simsiam-collapse-short"), simsiam(scale, encoder)
    own = {name: getattr(recipe, name) for name in ("steps", "subset", "chunks", "monitor")}
    # Chosen by seed 0 alone, of .002, .0025 and .004: docs/findings.md has their accuracies.
    return replace(config, **own, optim=replace(recipe.optim, weight_decay=2e-3))


def _with_encoder(config: TrainConfig, backbone: BackboneConfig, hidden: int) -> TrainConfig:
    return replace(config, backbone=backbone, heads=replace(config.heads, projector_hidden=hidden))


def published(name: str) -> TrainConfig:
    """Return a preset as the studies run it: measured on all training images, those of a subset's runs too."""
    config = preset(name)
    return replace(config, monitor=replace(config.monitor, whole=True))


def other(method: str, encoder: str = SMALL) -> TrainConfig:
    """Return another method at lab scale: its own recipe's heads, loss, target and rate, `short` in all else.

    So it sees the same images as often, and its clock of weight decay differs from SimSiam's by its rate only.
    """
    recipe, config = preset(LAB[method]), short("lab", encoder)
    optim = replace(config.optim, base_lr=recipe.optim.base_lr)
    own = {name: getattr(recipe, name) for name in ("method", "heads", "loss", "target")}
    return replace(config, **own, optim=optim)


def percent(share: float) -> str:
    """Write a share.

    >>> percent(0.05)
    '5 %'
    """
    return f"{100 * share:g} %"


def clock(config: TrainConfig) -> float:
    """Return the clock of weight decay: the sum over steps of rate x decay, of what is not decayed by itself.

    The mean of a cosine that falls to 0, and of a linear warm-up, is half its peak.

    >>> round(clock(simsiam("paper")), 2), round(clock(simsiam("lab")), 2)
    (1.25, 0.62)
    """
    optim = config.optim
    return config.steps * scaled_lr(optim.base_lr, config.batch_size) * optim.weight_decay / 2
