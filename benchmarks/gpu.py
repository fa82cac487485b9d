"""What a GPU does with fullrank, in one command of under nine minutes: tests, steps, views, epochs, spectra, lab runs.

    pip install -e '.[dev]'
    python benchmarks/gpu.py --out gpu                                        # gpu/gpu.json and gpu/gpu.md
    python benchmarks/gpu.py --out gpu --images train.parquet --eval-images test.parquet   # CIFAR-10, for k-NN
    python benchmarks/gpu.py --out try --device cpu --quick                   # tiny sizes, to see that it works

It has not been run on a GPU yet. Images are random pixels where none are given. Each part runs in a process of its own
with a time limit; one that fails or takes too long is named, and the others go on. What is done is in the JSON file at
once.

Floors of a step: `matrix work` is the step's multiply-adds at the rate that one large bf16 product attains here, times
three for forward and backward; `copy` is the batch's uncropped pixels at the rate of one large pinned copy.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from fullrank.config import BackboneConfig, MachineConfig, MonitorConfig, OptimConfig, TrainConfig
from fullrank.data.images import ArrayImages, Images
from fullrank.registry import register_source
from fullrank.training.distributed import ALONE
from fullrank.training.loop import train, train_step
from fullrank.training.machine import environment
from fullrank.training.optim import build_optimizer
from fullrank.training.presets import preset
from fullrank.training.setup import Resolved, resolve

HERE = Path(__file__).parent
LIMITS = {"tests": 90, "steps": 110, "epochs": 50, "knn": 150, "losses": 40, "spectrum": 40, "lab": 50}
"""Seconds that a part may take: 530 in all."""
RANDOM = 2048


@register_source("random")
def random_images(split: str, root: str) -> Images:
    """Give random pixels of the size that the environment says: the work is that of real ones."""
    size = int(os.environ.get("RANDOM_SIZE", "32"))
    pixels = torch.randint(0, 256, (RANDOM, 3, size, size), dtype=torch.uint8)
    return ArrayImages("random", pixels, None)


def config(given: argparse.Namespace, backbone: str, size: int, batch: int, **changes: Any) -> TrainConfig:
    """Return a run of SimSiam on random pixels, which lie on the device."""
    os.environ["RANDOM_SIZE"] = str(size if size <= 64 else 256)
    return TrainConfig(
        images="random",
        image_size=size,
        views="cifar" if size <= 64 else "simsiam",
        batch_size=batch,
        steps=1000,
        backbone=BackboneConfig(backbone),
        monitor=MonitorConfig(num_images=256),
        machine=MachineConfig(device=given.device, compile=given.compile),
        **changes,
    )


def now(device: torch.device) -> float:
    """Return the time at which all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def milliseconds(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Return the median time of a piece of work, after two that are not counted."""
    taken = []
    for _ in range(times + 2):
        began = now(device)
        work()
        taken.append(now(device) - began)
    return 1e3 * median(taken[2:])


def rates(device: torch.device, quick: bool) -> tuple[float, float]:
    """Return multiply-adds a second of a large bf16 product, and bytes a second of a large copy to the device."""
    side = 256 if quick else 8192
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    product = side**3 / milliseconds(lambda: a @ a, device, 5) * 1e3
    pixels = torch.zeros(2**20 if quick else 2**28, dtype=torch.uint8, pin_memory=device.type == "cuda")
    there = torch.empty_like(pixels, device=device)
    copied = pixels.nbytes / milliseconds(lambda: there.copy_(pixels, non_blocking=True), device, 5) * 1e3
    return product, copied


def multiply_adds(run: Resolved, size: int) -> int:
    """Return those of one view's forward pass through the method."""
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        run.method.eval()(*torch.zeros(2, 2, 3, size, size, device=run.device))  # two views of two images
    run.method.train()
    return counted.get_total_flops() // 8


def tests(given: argparse.Namespace) -> dict[str, Any]:
    """Run the tests that need a GPU."""
    if given.quick or given.device == "cpu":
        return {"tests": "left out: they need a GPU"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(HERE.parent / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"tests": (done.stdout or done.stderr).strip().splitlines()[-1]}


def steps(given: argparse.Namespace) -> dict[str, Any]:
    """Time a step and its views at 32 and 224 pixels, with the floors beside."""
    found: dict[str, Any] = {}
    asked = [("resnet18", 32, 512), ("resnet18", 224, 256), ("resnet50", 224, 256)]
    for backbone, size, batch in [("resnet18_w16", 32, 16)] if given.quick else asked:
        run = resolve(config(given, backbone, size, batch))
        product, copied = rates(run.device, given.quick)
        optimizer = build_optimizer(run.method, run.config.optim, batch)
        run.method.train()
        batches = run.loader()
        views = milliseconds(lambda: next(batches), run.device, 3 if given.quick else 20)  # noqa: B023 - called at once
        shown = next(batches)
        whole = milliseconds(
            lambda: train_step(0, shown, run, run.method, optimizer, ALONE),  # noqa: B023
            run.device,
            2 if given.quick else 20,
        )
        found[f"{backbone}, {size} px, batch {batch}"] = {
            "views, ms": views,
            "forward, backward, optimizer, ms": whole,
            "floor: matrix work, ms": 1e3 * 3 * 2 * batch * multiply_adds(run, size) / product,
            "floor: copy, ms": 1e3 * batch * 3 * (size if size <= 64 else 256) ** 2 / copied,
            "images a second": 1e3 * batch / (views + whole),
        }
    return found


def _cifar(given: argparse.Namespace, steps: int, out: Path) -> TrainConfig:
    recipe = config(given, "resnet18_w16" if given.quick else "resnet18", 32, 64 if given.quick else 512)
    if given.images:
        recipe = replace(recipe, images=given.images, eval_images=given.eval_images)
    monitor = replace(recipe.monitor, measure_every=steps, num_images=256 if given.quick else 10_000)
    optim = OptimConfig(base_lr=0.06, weight_decay=5e-4, decay_all=False)
    return replace(recipe, steps=steps, checkpoint_every=steps, out=str(out), monitor=monitor, optim=optim)


def epochs(given: argparse.Namespace) -> dict[str, Any]:
    """Time an epoch of CIFAR-10's 50,000 images: ResNet-18 of full width, batch 512, all that the loop does."""
    with tempfile.TemporaryDirectory() as folder:
        run = resolve(_cifar(given, 1000, Path(folder) / "run"))
        optimizer = build_optimizer(run.method, run.config.optim, run.config.batch_size)
        run.method.train()
        batches = run.loader()

        def step() -> None:
            train_step(0, next(batches), run, run.method, optimizer, ALONE)

        taken = milliseconds(step, run.device, 2 if given.quick else 100)
    return {"an epoch of 50,000 images, s": taken / 1e3 * 50_000 / run.config.batch_size}


def knn(given: argparse.Namespace) -> dict[str, Any]:
    """Train for two minutes, and measure: k-NN where labeled images are given, AUC and the loss else."""
    per_step = epochs(given)["an epoch of 50,000 images, s"] * (64 if given.quick else 512) / 50_000
    count = 4 if given.quick else max(int(100 / per_step), 10)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        finished = train(_cifar(given, count, Path(folder) / "run"))
        lines = (finished.path / "metrics.jsonl").read_text("utf-8").splitlines()
        last = next(record for record in map(json.loads, reversed(lines)) if record["kind"] == "measure")
    scores = {name: value for name, value in last.items() if name in ("knn", "auc", "heldout_loss")}
    return {"steps": count, "seconds": time.perf_counter() - began, **scores}


def losses(given: argparse.Namespace) -> dict[str, Any]:
    """Run `benchmarks/losses.py`."""
    command = [sys.executable, str(HERE / "losses.py"), "--device", given.device, "--runs", "1"]
    command += ["--n", "32", "--m", "64"] if given.quick else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"losses": done.stdout.strip() or done.stderr.strip()[-300:]}


def spectrum(given: argparse.Namespace) -> dict[str, Any]:
    """Time one pass of `SpectrumMetric` over features on the device, against a float64 decomposition of the same."""
    from fullrank import SpectrumMetric

    device = torch.device(given.device)
    rows = 2_000 if given.quick else 1_000_000
    features = torch.randn(rows, 512, device=device)
    metric = SpectrumMetric(512).to(device)

    def measure() -> None:
        metric.reset()
        metric.update(features)
        metric.compute()

    ours = milliseconds(measure, device, 3)
    theirs = milliseconds(lambda: torch.linalg.svdvals(features.double() - features.double().mean(0)), device, 1)
    return {"SpectrumMetric, ms": ours, "svdvals in float64, ms": theirs, "times as fast": theirs / ours}


def lab(given: argparse.Namespace) -> dict[str, Any]:
    """Train runs of the lab's regime side by side on one device, and count the steps of all together."""
    found, count = {}, 3 if given.quick else 300
    for jobs in (1, 2) if given.quick else (1, 4, 8):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--only", "lab-run", "--device", given.device, "--steps", str(count)]
            began = time.perf_counter()
            started = [subprocess.Popen([*command, "--out", f"{folder}/{job}"]) for job in range(jobs)]
            if max(job.wait() for job in started):  # all are waited for
                raise RuntimeError("a run failed")
            found[f"{jobs} at a time: steps a second, start included"] = jobs * count / (time.perf_counter() - began)
    return found


def lab_run(given: argparse.Namespace) -> dict[str, Any]:
    """Train one run of the lab's regime."""
    recipe = preset("simsiam-lab")
    train(
        replace(
            recipe,
            images="random",
            steps=given.steps,
            chunks=20,
            order="single-pass",
            checkpoint_every=given.steps,
            out=given.out,
            backbone=replace(recipe.backbone, width=0.125),
            monitor=replace(recipe.monitor, num_images=256, measure_every=given.steps),
            machine=MachineConfig(device=given.device, threads=1),
        )
        if given.steps >= 20
        else replace(config(given, "resnet18_w16", 32, 16), steps=given.steps, out=given.out)
    )
    return {}


PARTS = {part.__name__: part for part in (tests, steps, epochs, knn, losses, spectrum, lab)}


def table(found: dict[str, Any]) -> str:
    """Write the figures as Markdown."""
    lines = [
        f"# {found['environment'].get('gpu') or found['environment'].get('cpu') or found['environment']['system']}"
    ]
    for part, figures in found.items():
        if part != "environment":
            lines += ["", f"## {part}", "", "```", json.dumps(figures, indent=2), "```"]
    return "\n".join([*lines, ""])


def main() -> None:
    """Run the parts that are asked for, one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="gpu", help="folder of the figures")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--compile", action="store_true", help="with torch.compile and CUDA graphs")
    parser.add_argument("--images", help="CIFAR-10's training images, with labels")
    parser.add_argument("--eval-images", help="its test images")
    parser.add_argument("--only", help=f"one part: {', '.join(PARTS)}")
    parser.add_argument("--steps", type=int, default=300, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        figures = {**PARTS, "lab-run": lab_run}[given.only](given)
        print(json.dumps(figures))
        return
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here: give --device cpu --quick to see that it works")
    out = Path(given.out)
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"environment": environment(device)}
    for part, limit in LIMITS.items():
        began = time.perf_counter()
        command = [sys.executable, __file__, "--only", part, *sys.argv[1:]]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, start_new_session=True, **pipes) as started:
            try:
                printed, errors = started.communicate(timeout=limit)
                found[part] = (
                    {"failed": errors.strip().splitlines()[-1:]}
                    if started.returncode
                    else json.loads(printed.splitlines()[-1])
                )
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)  # and what it started
                found[part] = {"failed": f"took longer than its {limit} s"}
        (out / "gpu.json").write_text(json.dumps(found, indent=2), "utf-8")
        (out / "gpu.md").write_text(table(found), "utf-8")
        print(f"{part}: {time.perf_counter() - began:.0f} s {json.dumps(found[part])[:300]}", flush=True)


if __name__ == "__main__":
    main()
