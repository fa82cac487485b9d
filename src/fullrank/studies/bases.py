"""What the runs of all studies have in common, at either scale.

`paper` holds the published settings of [Li22] (`training/presets/imagenet.py`). `lab` keeps what carries the phenomenon
when the paper is scaled down to minutes on a CPU core: the clock of weight decay (the sum over steps of rate x decay;
1.25 in the paper), the passes over an image (100), and images per parameter.
"""

from __future__ import annotations

from dataclasses import replace

from fullrank.config import BackboneConfig, MonitorConfig, TrainConfig
from fullrank.studies.study import Scale
from fullrank.training.presets import preset

ORDERS = ("multiple-pass", "cumulative", "single-pass", "hybrid")
SMALL, DEEPER, WIDE = "ResNet-18", "ResNet-34", "ResNet-50"
ENCODERS = (SMALL, DEEPER, WIDE)
LAB_WIDTH = 0.25
"""Of all encoders at lab scale: 16 channels at first instead of 64."""


def simsiam(scale: Scale, encoder: str = SMALL) -> TrainConfig:
    """Return [Li22]'s SimSiam with multiple passes; the other settings of its studies are changes of it.

    The projector's hidden width is the representation's, as in the paper, so that both grow with the encoder.
    """
    if scale == "paper":
        return preset(f"simsiam-{encoder.replace('-', '').lower()}-imagenet")
    config = preset("simsiam-lab")
    name = encoder.replace("-", "").lower()
    width = int(LAB_WIDTH * (2048 if encoder == WIDE else 512))
    return replace(
        config,
        backbone=BackboneConfig(name=name, width=LAB_WIDTH, stem="cifar-stride2"),
        heads=replace(config.heads, projector_hidden=width),
        monitor=MonitorConfig(log_every=100, measure_every=1000, images=10_000),
        checkpoint_every=2000,
        keep_checkpoints=1,
    )


def with_order(config: TrainConfig, order: str) -> TrainConfig:
    """Return the same run with another order."""
    return replace(config, order=order)  # type: ignore[arg-type]
