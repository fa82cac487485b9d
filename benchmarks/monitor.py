"""What `MovingSpectrum` and the Lightning callback's schedule cost beside a training step: the target is 1 %.

    python benchmarks/monitor.py                 # ResNet-18 (512-d), batch 256, two views of 32 x 32
    python benchmarks/monitor.py --image 224     # the usual size; on a GPU

The default is the hard case, a cheap step. A share of 1 % drowns in the noise of whole steps, so the parts
are timed alone, between steps on the same machine:

    overhead = (views x update / every + compute / log_every) / step

An update is timed 20 at a time, so that on a GPU its launches count and nothing waits in between.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from statistics import median

import timm
import torch

from fullrank.measure.monitor import MovingSpectrum

VIEWS, EVERY, LOG_EVERY = 2, 4, 500  # SimSiam's two views; the callback's defaults


def main() -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=int, default=32)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    device = torch.device(args.device)
    model = timm.create_model(args.backbone, num_classes=0).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    images = torch.randn(args.batch, 3, args.image, args.image, device=device)
    with torch.no_grad():
        h = model(images)
    monitor = MovingSpectrum(h.shape[1])

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = torch.stack([model(images).square().mean() for _ in range(VIEWS)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def update() -> None:
        for _ in range(20):
            monitor.update(h)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    parts: dict[str, Callable[[], object]] = {"step": step, "update": update, "compute": monitor.compute}
    times: dict[str, list[float]] = {name: [] for name in parts}
    for run in range(args.runs + 1):
        for name, part in parts.items():
            wait()
            start = time.perf_counter()
            part()
            wait()
            if run:  # the first one warms up
                times[name].append(time.perf_counter() - start)
    each = {name: median(values) for name, values in times.items()}
    each["update"] /= 20
    overhead = (VIEWS * each["update"] / EVERY + each["compute"] / LOG_EVERY) / each["step"]
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, medians of {args.runs}")
    print(f"{args.backbone}, D = {h.shape[1]}, batch {args.batch}, {VIEWS} views of {args.image} x {args.image}")
    print(f"| step, ms | update, ms | compute, ms | overhead, every {EVERY}, log_every {LOG_EVERY} |")
    print("|---|---|---|---|")
    step_ms, update_ms, compute_ms = (f"{1e3 * each[part]:.2f}" for part in parts)
    print(f"| {step_ms} | {update_ms} | {compute_ms} | {overhead:.3%} |")


if __name__ == "__main__":
    main()
