"""Does training keep the pace that `benchmarks/scale.py` foresees when the disk is slow, with one process and two?

    python benchmarks/slow_disk.py

A data set sleeps for each image, as a slow disk makes its reader wait. Each number of processes trains twice: without
sleep, which gives the rest of its step, and with it. The plan's step is then the longer of reading and the rest, and
each process reads its piece of the batch. The two runs of the same images must end at the same held-out loss.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

import fullrank
from fullrank.registry import register_source
from scale import Step

STEPS, LOG = 20, 5
"""Steps of a run, and those between two records; the first record's are a warm-up."""


class Slow(Dataset):
    """Images of noise, each so many seconds away for those who read for training: not while it is measured."""

    def __init__(self, images: int, seconds: float) -> None:
        self.images, self.seconds = images, seconds

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if get_worker_info() is not None:
            time.sleep(self.seconds)
        return np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8), index % 10


def train(sleep: float, batch: int, workers: int, folder: Path) -> None:
    """Train in this process, one of as many as torchrun started."""
    torch.set_num_threads(1)

    @register_source("slow")
    def slow(split: str, root: str) -> Slow:
        return Slow(1024 if split == "train" else 64, sleep)

    fullrank.train(
        "slow", preset="simsiam-lab", cache="stream", steps=STEPS, batch_size=batch, out=folder,
        backbone={"width": 0.125}, monitor={"log_every": LOG, "measure_every": STEPS, "images": 64},
        machine={"workers": workers, "threads": 1, "precision": "float32"},
    )  # fmt: skip


def measure(processes: int, sleep: float, batch: int, workers: int, folder: Path) -> tuple[float, float]:
    """Return a step's seconds after the warm-up, and the held-out loss at the end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    options = ["--sleep", str(sleep), "--batch", str(batch), "--workers", str(workers), "--train", str(folder)]
    subprocess.run([*command, __file__, *options], check=True, stdout=sys.stderr)
    timing = [json.loads(line) for line in (folder / "timing.jsonl").read_text().splitlines()]
    logged = [row["seconds"] for row in timing if "images_per_second" in row]
    return (logged[-1] - logged[0]) / (STEPS - LOG), fullrank.Run(folder).scores["heldout_loss"].taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sleep", type=float, default=0.5, help="seconds for each image")
    parser.add_argument("--batch", type=int, default=16, help="images of a step, over all processes")
    parser.add_argument("--workers", type=int, default=2, help="processes that read, for each that trains")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    settings = asked.batch, asked.workers
    if asked.train:
        train(asked.sleep, *settings, asked.train)
        return
    print("| processes | read, ms | the rest, ms | planned images/s | measured | ratio | held-out loss |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as kept:
        for processes in (1, 2):
            rest, _ = measure(processes, 0, *settings, Path(kept) / f"fast-{processes}")
            read = asked.batch / processes * asked.sleep / asked.workers
            step = Step(read=read, decode=0, copy=0, views=0, compute=rest, exchange=0)
            taken, loss = measure(processes, asked.sleep, *settings, Path(kept) / f"slow-{processes}")
            planned, measured = asked.batch / step.seconds, asked.batch / taken
            row = (f"{1e3 * read:.0f}", f"{1e3 * rest:.0f}", f"{planned:.1f}", f"{measured:.1f}")
            print(f"| {processes} | {' | '.join(row)} | {measured / planned:.2f} | {loss:.6f} |", flush=True)


if __name__ == "__main__":
    main()
