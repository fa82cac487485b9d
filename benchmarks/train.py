"""Images a second and core of whole training steps, against lightly's and torchvision's pipelines.

    python benchmarks/train.py
    python benchmarks/train.py --batch-size 64
    python benchmarks/train.py --size 224 --batch-size 64 --steps 4

SimSiam with one encoder (ResNet-18 of width 16), heads of one size and SGD; each library's own views, losses and
loader, as its documentation has them. "float32" is how lightly and torchvision are documented; "bf16" adds autocast
and channels-last, which this library turns on by itself. At 32 pixels the images lie decoded in memory for all, as
torchvision's CIFAR10 has them; at 224 each library decodes JPEGs of 500 x 375. One thread, no workers, CPU time of the
process: a loader with workers does the same work on other cores. Turns of the pipelines alternate.
`pip install lightly simplejpeg`.
"""

from __future__ import annotations

import argparse
import io
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from data import machine, photo, take_turns, write_images  # the benchmark beside this one
from fullrank.config import BackboneConfig, HeadsConfig, TrainConfig
from fullrank.data.views import IMAGENET_MEAN, IMAGENET_STD, SMALL_IMAGE
from fullrank.models.backbones import backbone
from fullrank.models.heads import mlp
from fullrank.training.distributed import ALONE
from fullrank.training.loop import train_step
from fullrank.training.optim import build_optimizer
from fullrank.training.setup import resolve

WIDTH, HIDDEN, OUT = 128, 128, 512  # of the encoder, inside both heads, and of the embeddings

Steps = Callable[[int], Any]
"""Trains a number of steps."""


def encoder(size: int) -> BackboneConfig:
    """Return the encoder of all pipelines: a 3x3 stem of stride 2 where views are small."""
    return BackboneConfig(name="resnet18_w16", stem="cifar-stride2" if size <= SMALL_IMAGE else "imagenet")


def ours(
    file: Path, size: int, batch: int, *, cache: Literal["memory", "stream"], precision: Literal["bf16", "float32"]
) -> Steps:
    """Return this library's steps, as `fullrank train` makes them."""
    config = TrainConfig(
        images=str(file),
        image_size=size,
        batch_size=batch,
        steps=10**6,
        views="simsiam" if size > SMALL_IMAGE else "cifar",
        cache=cache,
        backbone=encoder(size),
        heads=HeadsConfig(projector_hidden=HIDDEN, projector_out=OUT, projector_layers=3, predictor_hidden=HIDDEN),
    )
    config = replace(config, machine=replace(config.machine, device="cpu", threads=1, workers=0, precision=precision))
    run = resolve(config)
    optimizer = build_optimizer(run.method, run.config.optim, batch)
    run.method.train()
    batches, number = run.loader(), count()

    def steps(n: int) -> None:
        for _ in range(n):
            train_step(next(number), next(batches), run, run.method, optimizer, ALONE)

    return steps


class Images(torch.utils.data.Dataset[Any]):
    """Images as others' libraries hold them: arrays where they are small, files where not. Each item is its views."""

    def __init__(self, file: Path, transform: Callable[[PIL.Image.Image], Any], *, decoded: bool) -> None:
        encoded = [row["bytes"] for row in pq.read_table(file).column("image").to_pylist()]
        self.images = [np.asarray(PIL.Image.open(io.BytesIO(each))) for each in encoded] if decoded else encoded
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        image = self.images[index]
        if isinstance(image, bytes):
            return self.transform(PIL.Image.open(io.BytesIO(image)).convert("RGB"))
        return self.transform(PIL.Image.fromarray(image))


def another(
    images: Images,
    batch: int,
    projector: nn.Module,
    predictor: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    size: int,
    *,
    tuned: bool,
) -> Steps:
    """Return the steps of a plain loop over a `DataLoader`: in float32, or tuned as this library is by itself."""
    model = nn.ModuleList([backbone(encoder(size), image_size=size), projector, predictor]).train()
    layout = torch.channels_last if tuned else torch.contiguous_format
    model.to(memory_format=layout)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)

    def endless() -> Iterator[list[Tensor]]:
        while True:
            yield from torch.utils.data.DataLoader(images, batch, shuffle=True, drop_last=True)

    batches = endless()

    def steps(n: int) -> None:
        for _ in range(n):
            pair = [view.contiguous(memory_format=layout) for view in next(batches)]
            with torch.autocast("cpu", torch.bfloat16, enabled=tuned):
                z = [model[1](model[0](view)) for view in pair]
                p = [model[2](each) for each in z]
                value = 0.5 * (loss(p[0], z[1].detach()) + loss(p[1], z[0].detach()))
            value.backward()
            optimizer.step()
            optimizer.zero_grad()

    return steps


def of_lightly(file: Path, size: int, batch: int, *, tuned: bool) -> Steps:
    """Return the steps of lightly's SimSiam example: its transform, heads and loss."""
    from lightly.loss import NegativeCosineSimilarity
    from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead
    from lightly.transforms import SimSiamTransform

    small = size <= SMALL_IMAGE
    transform = SimSiamTransform(size, gaussian_blur=0.0) if small else SimSiamTransform(size)
    return another(
        Images(file, transform, decoded=small),
        batch,
        SimSiamProjectionHead(WIDTH, HIDDEN, OUT),
        SimSiamPredictionHead(OUT, HIDDEN, OUT),
        NegativeCosineSimilarity(),
        size,
        tuned=tuned,
    )


def of_torchvision(file: Path, size: int, batch: int, *, tuned: bool) -> Steps:
    """Return the steps of a loop of one's own: torchvision's transforms on uint8 tensors, which are its fastest."""
    from torchvision.transforms import v2

    small = size <= SMALL_IMAGE
    view = v2.Compose(
        [
            v2.RandomResizedCrop(size, (0.2, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8),
            v2.RandomGrayscale(0.2),
            *([] if small else [v2.RandomApply([v2.GaussianBlur(23, (0.1, 2.0))], 0.5)]),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    to_tensor = v2.PILToTensor()

    def pair(image: PIL.Image.Image) -> tuple[Tensor, Tensor]:
        whole = to_tensor(image)
        return view(whole), view(whole)

    return another(
        Images(file, pair, decoded=small),
        batch,
        mlp(WIDTH, HIDDEN, OUT, 3, last="norm"),
        mlp(OUT, HIDDEN, OUT, 2, last="bias"),
        lambda p, z: -torch.nn.functional.cosine_similarity(p, z).mean(),
        size,
        tuned=tuned,
    )


def small_image(seed: int) -> bytes:
    """Return a PNG of 32 x 32."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    out = io.BytesIO()
    PIL.Image.fromarray(pixels).resize((32, 32), PIL.Image.Resampling.BICUBIC).save(out, "png")
    return out.getvalue()


def pipelines(file: Path, size: int, batch: int) -> dict[str, Steps]:
    """Return what is compared, by name."""
    found: dict[str, Steps] = {}
    if size <= SMALL_IMAGE:
        found["fullrank"] = ours(file, size, batch, cache="memory", precision="bf16")
        found["fullrank, float32"] = ours(file, size, batch, cache="memory", precision="float32")
    else:
        found["fullrank, kept chunk"] = ours(file, size, batch, cache="memory", precision="bf16")
        found["fullrank, streamed"] = ours(file, size, batch, cache="stream", precision="bf16")
    for label, tuned in (("float32", False), ("bf16, channels-last", True)):
        with suppress(ImportError):
            found[f"lightly, {label}"] = of_lightly(file, size, batch, tuned=tuned)
        found[f"torchvision, {label}"] = of_torchvision(file, size, batch, tuned=tuned)
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--size", type=int, default=32, help="rows and columns of a view")
    parser.add_argument("--steps", type=int, default=8, help="steps of a run")
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.parquet"
        made = small_image if asked.size <= SMALL_IMAGE else photo
        encoded = [made(seed) for seed in range(32)]
        write_images(file, encoded, 4 * asked.batch_size)
        compared = pipelines(file, asked.size, asked.batch_size)
        runs: dict[str, Callable[[], Any]] = {name: partial(steps, asked.steps) for name, steps in compared.items()}
        rates = take_turns(runs, asked.steps * asked.batch_size, asked.runs)
    table = Table("pipeline", "images/s a core", "from", "to", "fullrank is faster")
    ahead = statistics.median(next(iter(rates.values())))
    for name, found in rates.items():
        middle = statistics.median(found)
        table.add_row(name, f"{middle:.0f}", f"{min(found):.0f}", f"{max(found):.0f}", f"{ahead / middle:.1f} times")
    console = Console(width=110)
    console.print(table)
    console.print(
        f"SimSiam, ResNet-18 of width 16, views of {asked.size}, batches of {asked.batch_size}; medians of "
        f"{asked.runs} runs of {asked.steps} steps, one thread; "
        f"{machine('torch', 'torchvision', 'pillow', 'simplejpeg', 'lightly')}",
        highlight=False,
    )


if __name__ == "__main__":
    main()
