"""Ten real steps of a study at the paper's scale, on generated photographs in ImageNet's layout.

    python benchmarks/published.py                              # `orders`, its first setting: 256 images of 224 x 224
    python benchmarks/published.py orders --setting hybrid ResNet-34 --device cuda

It makes OUT/train/CLASS/*.JPEG and OUT/val/CLASS/*.JPEG: JPEG files of some 500 x 375 pixels, of which --distinct are
different and the others links to them, so that decoding costs what it costs on ImageNet and the disk does not. Then it
starts the command that a study's job starts, with the published settings (fewer images are measured, more is logged),
lets it take the steps, stops it as a cluster does (SIGTERM), and takes one step more from the checkpoint. It prints the
losses and the images/s. The images are noise: nothing is learnt from them.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from fullrank.config import MachineConfig
from fullrank.errors import FullrankError
from fullrank.studies.jobs import Job, Place
from fullrank.studies.registry import find
from fullrank.studies.store import Planned
from fullrank.training.runs import read_run

CLASSES = 100


def photograph(number: int) -> Image.Image:
    """Return noise of a photograph's size and smoothness: about 100 kB as a JPEG file, as in ImageNet."""
    generator = np.random.default_rng(number)
    width, height = (int(side) for side in generator.integers((400, 300), (600, 450)))
    coarse = generator.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = generator.normal(0, 12, smooth.shape)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def make_images(out: Path, splits: dict[str, int], distinct: int) -> None:
    """Write folders of classes, the first `distinct` files of each split real ones."""
    for split, count in splits.items():
        real: list[Path] = []
        for number in track(range(count), f"{split}: {count:,} images"):
            path = out / split / f"n{number % CLASSES:08d}" / f"{split}_{number:08d}.JPEG"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                if number < distinct:
                    photograph(number).save(path, "JPEG", quality=90)
                else:
                    os.link(real[number % distinct], path)
            if number < distinct:
                real.append(path)


def take_steps(made: Job, steps: int) -> None:
    """Start a job's training, or go on with it, and stop it once it has taken so many steps in all.

    Raises:
        FullrankError: It ended by itself.
    """
    with open(made.log, "a", encoding="utf-8") as log:
        process = subprocess.Popen(made.training(), stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None and made.done_steps() < steps:
            time.sleep(0.2)
        if process.poll() is not None:
            raise FullrankError(f"training ended by itself ({process.returncode}): see {made.log}")
        process.send_signal(signal.SIGTERM)
        process.wait()


def main() -> int:
    """Make the images, take the steps, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", nargs="?", default="orders")
    parser.add_argument("--setting", nargs="+", metavar="VALUE", help="a setting's factors; the first when left out")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--distinct", type=int, default=512, help="images that are not links to others")
    parser.add_argument("--workers", type=int, default=MachineConfig().workers, help="processes that decode")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/published"))
    asked = parser.parse_args()
    console = Console()
    try:
        cells = {tuple(cell.factors.values()): cell for cell in find(asked.study).cells("paper")}
        wanted = tuple(asked.setting or next(iter(cells)))
        if wanted not in cells:
            known = "; ".join(" ".join(map(repr, key)) for key in cells)
            raise FullrankError(f"{asked.study} has no setting {wanted} (known: {known})")
        cell = cells[wanted]
        config = replace(
            cell.config,
            machine=replace(cell.config.machine, device=asked.device, workers=asked.workers),
            monitor=replace(cell.config.monitor, log_every=1, num_images=asked.distinct),
        )
        make_images(asked.out, {"train": config.chunks * config.batch_size, "val": 2 * CLASSES}, asked.distinct)
        place = Place(str(asked.out / "train"), str(asked.out / "val"), asked.out / "work", asked.out / "results")
        made = Job(Planned(cell, 0, config), "paper", place)
        if made.folder.exists():
            raise FullrankError(f"{made.folder} has taken its steps already: remove it, or give another --out")
        made.work.mkdir(parents=True, exist_ok=True)
        take_steps(made, asked.steps)
        first = made.done_steps()
        take_steps(made, first + 1)
        record = read_run(made.folder)
    except FullrankError as error:
        parser.error(str(error))
    speeds = {each["step"]: each["images_per_second"] for each in record.timing if "images_per_second" in each}
    for each in record.of_kind("train"):
        note = " (from the checkpoint)" if each["step"] > first else ""
        console.print(
            f"step {each['step']}: loss {each['loss']:.4f}, {speeds[each['step']]:.1f} images/s{note}", highlight=False
        )
    machine = record.environment
    console.print(
        f"{asked.study}, {', '.join(wanted)}: batch {config.batch_size}, {config.steps:,} steps in all; "
        f"{machine.get('gpu', machine['cpu'])}, {machine['threads']} threads, torch {machine['torch']}",
        highlight=False,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
