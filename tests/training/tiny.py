"""A run small enough for tests: a few steps of a very small encoder on the digits."""

import io
from dataclasses import replace

from rich.console import Console

from fullrank.config import BackboneConfig, HeadsConfig, MachineConfig, MonitorConfig, TrainConfig

TINY = TrainConfig(
    subset=0.15,
    chunks=4,
    steps=20,
    batch_size=16,
    checkpoint_every=5,
    keep_checkpoints=0,
    backbone=BackboneConfig(name="resnet18", width=0.0625, depths=(1, 1, 1, 1), stem="cifar-stride2"),
    heads=HeadsConfig(projector_out=16, predictor_hidden=8),
    monitor=MonitorConfig(log_every=3, measure_every=4, num_images=80, knn_k=5),
    machine=MachineConfig(threads=1, workers=0),
)


def tiny(**changes):
    return replace(TINY, **{key: str(value) if key == "out" else value for key, value in changes.items()})


def quiet():
    return Console(file=io.StringIO())
