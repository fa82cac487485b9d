"""How long a study will take, from a few timed steps of each kind of run it has."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from fullrank.config import HeadsConfig, MachineConfig, TargetConfig, TrainConfig
from fullrank.models.memory_format import to_memory_format
from fullrank.registry import SOURCES
from fullrank.studies.jobs import Job
from fullrank.training import setup
from fullrank.training.optim import build_optimizer

_TIMED_STEPS = 3
_IMAGES_ON_CPU = 16  # of a step that is timed on a CPU where a whole batch takes long: a published one takes minutes
_LONG_SECONDS = 2.0


def seconds_per_step(config: TrainConfig) -> float:
    """Time a gradient step of a run on this machine: the model and the optimizer, on random views.

    Where a step is long on a CPU, one of few images is timed and taken times the batch, which leaves out that large
    batches are more efficient. Decoding, views, measurements and evaluations are not counted.
    """
    config, device = setup.resolve_machine(replace(config, machine=MachineConfig(threads=config.machine.threads)))
    few = config.batch_size if device.type == "cuda" else min(config.batch_size, _IMAGES_ON_CPU)
    seconds = _timed(config, few, device) * config.batch_size / few
    if few == config.batch_size or seconds > _LONG_SECONDS:
        return seconds
    return _timed(config, config.batch_size, device)


def _timed(config: TrainConfig, images: int, device: torch.device) -> float:
    """Return the seconds of a step of so many images."""
    size = config.image_size or (224 if config.images not in SOURCES else 32)
    shrunk = replace(config, batch_size=images, image_size=size)
    if config.method == "distill":  # whose teacher need not be trained yet: SimSiam's second branch costs about as much
        shrunk = replace(shrunk, method="simsiam", target=TargetConfig(), heads=HeadsConfig())
    elif config.method == "nnsiam":
        shrunk = replace(shrunk, target=TargetConfig(queue=100 * images))
    method = setup.build_method(shrunk).to(device)
    memory_format = to_memory_format(method)
    optimizer = build_optimizer(method, config.optim, images)
    views = torch.randn(2, images, 3, size, size, device=device)

    def step() -> float:
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.machine.precision == "bf16"):
            output = method(*(view.to(memory_format=memory_format) for view in views))
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        output.loss.item()  # waits for the device
        return time.perf_counter() - began

    step()
    return statistics.median(step() for _ in range(_TIMED_STEPS))


def hours(jobs: Sequence[Job]) -> dict[str, float]:
    """Return the hours that each job is expected to train on, by its name; runs of one kind are timed once.

    Many processes are taken to be as many times as fast as one.
    """
    timed: dict[tuple[object, ...], float] = {}
    found = {}
    for job in jobs:
        config = replace(job.run.config, machine=job.config.machine)
        kind = (config.method, config.backbone, config.heads, config.image_size, config.images, config.batch_size)
        if kind not in timed:
            timed[kind] = seconds_per_step(config)
        left = max(0, config.steps - job.done_steps())
        found[job.name] = timed[kind] * left / 3600 / job.place.processes
    return found
