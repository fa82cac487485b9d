"""A study's cell, small enough to be trained in a test: its method, order and options, on the digits."""

from dataclasses import replace

from fullrank.config import MachineConfig, MonitorConfig
from fullrank.models.backbones import RESNETS

STEPS = 6
BATCH = 8


def shrink(cell):
    """Return a cell of the lab scale with a few steps of a very small encoder on the digits."""
    config = cell.config
    shape, heads, target = config.backbone, config.heads, config.target
    if shape.name in RESNETS:
        shape = replace(shape, width=max(1 / 32, shape.width / 4), depths=(1, 1, 1, 1))
    else:
        shape = replace(shape, blocks=1)
    small = {name: 16 for name, value in vars(heads).items() if value is not None and name != "projector_layers"}
    return replace(
        cell,
        config=replace(
            config,
            images="digits",
            eval_images=None,
            image_size=16,
            subset=max(0.02, config.subset),
            chunks=min(3, config.chunks),
            rounds=min(2, config.rounds),
            steps=STEPS,
            batch_size=BATCH,
            checkpoint_every=STEPS,
            backbone=shape,
            heads=replace(heads, **small),
            target=replace(target, queue=2 * BATCH if target.queue else None),
            optim=replace(config.optim, warmup_steps=min(2, config.optim.warmup_steps)),
            monitor=MonitorConfig(log_every=3, measure_every=STEPS, num_images=60, knn_k=5, whole=config.monitor.whole),
            machine=MachineConfig(threads=1, workers=0),
        ),
    )
