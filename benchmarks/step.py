"""Where the time of a training step goes: loading and views, forward and backward, optimizer, the rest.

    python benchmarks/step.py --images train.parquet
    python benchmarks/step.py --images train.parquet --batch-size 256 --views simsiam

The encoder is that of the preset `simsiam-lab` (ResNet-18 of width 16, 3x3 stem of stride 2). Each part is timed within
real steps, as the training loop does them; the table gives medians over the steps after a warm-up. "Rest" is what the
loop does beside: seeding, learning rates, summing the loss.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table

from fullrank.config import TrainConfig
from fullrank.data.randomness import Purpose, random_bits
from fullrank.registry import VIEWS
from fullrank.training.machine import environment
from fullrank.training.optim import build_optimizer, set_learning_rate
from fullrank.training.presets import preset
from fullrank.training.setup import resolve

WARM_UP = 20
"""Steps that are not counted."""
PARTS = ("loading and views", "forward and backward", "optimizer", "rest")


def time_steps(
    config: TrainConfig, warm_up: int = WARM_UP
) -> tuple[TrainConfig, dict[str, list[float]], dict[str, object]]:
    """Run `config.steps` steps and time the parts of those after the warm-up, in seconds."""
    run = resolve(config)
    config, device, method = run.config, run.device, run.method
    optimizer = build_optimizer(method, config.optim, config.batch_size)
    times: dict[str, list[float]] = {part: [] for part in PARTS}

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    batches = run.loader()
    began = now()
    for step in range(config.steps):
        batch = next(batches)
        loaded = now()
        torch.manual_seed(int(random_bits(config.seed, Purpose.MODEL, step, 0, 1)[0] >> 1))
        set_learning_rate(optimizer, step, config.steps, config.optim, config.batch_size)
        prepared = now()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.machine.precision == "bf16"):
            output = method(*(view.to(memory_format=run.memory_format) for view in batch.views))
        output.loss.backward()
        differentiated = now()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        stepped = now()
        loss_sum += output.loss.detach().double()
        ended = now()
        rest = prepared - loaded + ended - stepped
        parts = (loaded - began, differentiated - prepared, stepped - differentiated, rest)
        if step >= warm_up:
            for part, seconds in zip(PARTS, parts, strict=True):
                times[part].append(seconds)
        began = ended
    return config, times, environment(device)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="cifar10", help="as `fullrank train --images`")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--views", choices=tuple(VIEWS), default="cifar")
    parser.add_argument("--order", default="multiple-pass")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    lab = preset("simsiam-lab")
    config = replace(
        lab,
        images=asked.images,
        batch_size=asked.batch_size,
        views=asked.views,
        order=asked.order,
        steps=asked.steps + WARM_UP,
        machine=replace(lab.machine, device=asked.device),
    )
    config, times, machine = time_steps(config)
    whole = statistics.median(sum(parts) for parts in zip(*times.values(), strict=True))
    table = Table(
        title=f"a step of {asked.batch_size} images, views {asked.views}: {1e3 * whole:.1f} ms, "
        f"{2 * asked.batch_size / whole:,.0f} views/s",
        caption=f"medians of {asked.steps} steps; {machine.get('gpu', machine['cpu'])}, {machine['threads']} threads, "
        f"{config.machine.precision}, torch {machine['torch']}, {platform.system()}",
    )
    table.add_column("part")
    table.add_column("ms", justify="right")
    table.add_column("share", justify="right")
    for part, seconds in times.items():
        median = statistics.median(seconds)
        table.add_row(part, f"{1e3 * median:.2f}", f"{median / whole:.1%}")
    Console().print(table)


if __name__ == "__main__":
    main()
