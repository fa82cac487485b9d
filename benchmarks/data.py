"""Images a second and core from encoded JPEG to two random crops, against others' pipelines.

    python benchmarks/data.py
    python benchmarks/data.py --runs 9 --size 96

Every pipeline reads the same parquet file of 500 x 375 JPEGs (about 70 kB each, made here), decodes each once and takes
two crops of 20 to 100 % of the area, flipped half of the time, in 8 bits or as the pipeline gives them. Colors and blur
are left out: here they are made for a whole batch, on the device. One thread; the time is the process's own (CPU time),
so that a busy machine counts little. Runs of the pipelines take turns. A package that is not installed is left out:
`pip install simplejpeg lightly datasets`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import io
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table

from fullrank.data import decoding, views
from fullrank.data.batches import ViewLoader, _StepCrops
from fullrank.data.cache import decode
from fullrank.data.images import open_images
from fullrank.data.kept import Kept
from fullrank.data.order import MultiplePass

BATCH = 64
QUALITY = 87
"""Of the JPEGs: it gives some 70 kB."""


def photo(seed: int) -> bytes:
    """Return a JPEG of 500 x 375 with structure of many sizes, as photographs have."""
    generator = np.random.default_rng(seed)
    pixels = np.full((375, 500, 3), 128.0)
    for rows, contrast in ((6, 60), (25, 40), (125, 20), (375, 9)):
        noise = generator.normal(size=(3, rows, rows * 4 // 3)).astype(np.float32)
        resized = [PIL.Image.fromarray(channel).resize((500, 375), PIL.Image.Resampling.BICUBIC) for channel in noise]
        pixels += contrast * np.stack([np.asarray(channel) for channel in resized], axis=2)
    out = io.BytesIO()
    PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "jpeg", quality=QUALITY)
    return out.getvalue()


def write_images(file: Path, encoded: list[bytes], count: int) -> None:
    """Write so many images to a parquet file, these over and over."""
    rows = [{"bytes": encoded[index % len(encoded)], "path": None} for index in range(count)]
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    pq.write_table(pa.table({"image": pa.array(rows, kind)}), file)


def take_turns(compared: dict[str, Callable[[], Any]], images: int, runs: int) -> dict[str, list[float]]:
    """Return the images/s of CPU time that each gives in each run, of which one more goes before to warm up."""
    rates: dict[str, list[float]] = {name: [] for name in compared}
    for run in range(runs + 1):
        for name, pipeline in compared.items():
            start = time.process_time()
            pipeline()
            if run:
                rates[name].append(images / (time.process_time() - start))
    return rates


def machine(*packages: str) -> str:
    """Name the machine, and the versions of packages that are installed."""
    versions = []
    for package in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    return f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}; {', '.join(versions)}"


def streamed(file: Path, size: int, *, fast: bool, reduced: bool = False) -> Callable[[], Any]:
    """Return this library's: what a worker of `--cache stream` does."""
    made = _StepCrops(loader(file, size, reduced))
    decoder = decoding._simplejpeg if fast else lambda: None

    def run() -> None:
        decoding._simplejpeg = decoder  # type: ignore[assignment]
        for step in range(len(made.loader.order)):
            made[step]

    return run


def kept(file: Path, size: int) -> Callable[[], Any]:
    """Return this library's after the first pass over a chunk: what a thread of `--cache chunks` does."""
    made = loader(file, size)
    pixels, rows = decode(made.images, side=2 * size)
    assert isinstance(pixels, Kept)

    def run() -> None:
        for step in range(len(made.order)):
            made._crop_ragged(step, pixels, rows[made.order[step]])

    return run


def loader(file: Path, size: int, reduced: bool = False) -> ViewLoader:
    """Return a loader of one pass over the images."""
    images = open_images(str(file))
    order = MultiplePass(len(images), BATCH, len(images) // BATCH)
    return ViewLoader(images, order, views.recipe("simsiam"), size, cache="stream", reduced=reduced)


def transformed(images: Iterable[PIL.Image.Image], transform: Callable[[PIL.Image.Image], Any]) -> None:
    """Decode images and transform them."""
    for image in images:
        transform(image.convert("RGB"))


def pipelines(file: Path, size: int) -> dict[str, Callable[[], Any]]:
    """Return what is compared, by name; each call of a value reads all images once."""
    from torchvision.transforms import v2

    column = pq.read_table(file).column("image")
    encoded = [row["bytes"] for row in column.to_pylist()]
    crop = v2.Compose([v2.RandomResizedCrop(size, (0.2, 1.0), antialias=True), v2.RandomHorizontalFlip()])
    tensor = v2.PILToTensor()

    def twice(image: PIL.Image.Image) -> Any:
        return tensor(crop(image)), tensor(crop(image))

    def opened() -> Iterable[PIL.Image.Image]:
        return (PIL.Image.open(io.BytesIO(each)) for each in encoded)

    def on_tensors() -> None:
        for image in opened():
            whole = tensor(image.convert("RGB"))
            crop(whole), crop(whole)

    found: dict[str, Callable[[], Any]] = {"fullrank, streamed, Pillow": streamed(file, size, fast=False)}
    if decoding._simplejpeg():
        found["fullrank, streamed, simplejpeg"] = streamed(file, size, fast=True)
        found["fullrank, --reduced-jpeg, simplejpeg"] = streamed(file, size, fast=True, reduced=True)
    found["fullrank, kept after the first pass"] = kept(file, size)
    found["torchvision, on PIL images"] = lambda: transformed(opened(), twice)
    found["torchvision, on tensors"] = on_tensors
    with suppress(ImportError):
        from lightly.transforms import SimSiamTransform

        lightly = SimSiamTransform(
            size, cj_prob=0.0, random_gray_scale=0.0, gaussian_blur=0.0, min_scale=0.2, normalize=None
        )
        found["lightly, SimSiamTransform without colors"] = lambda: transformed(opened(), lightly)
    with suppress(ImportError):
        import datasets

        datasets.disable_progress_bars()
        rows = datasets.load_dataset("parquet", data_files=str(file), split="train", cache_dir=str(file.parent))
        rows = rows.cast_column("image", datasets.Image())
        found["datasets, with torchvision's crops"] = lambda: transformed((row["image"] for row in rows), twice)
    return found


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128, help=f"a multiple of {BATCH}")
    parser.add_argument("--size", type=int, default=224, help="rows and columns of a crop")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        photos = [photo(seed) for seed in range(32)]
        file = Path(folder) / "images.parquet"
        write_images(file, photos, arguments.images)
        rates = take_turns(pipelines(file, arguments.size), arguments.images, arguments.runs)
    table = Table("pipeline", "images/s a core", "from", "to", "ratio")
    base = statistics.median(rates["torchvision, on PIL images"])
    for name, found in rates.items():
        middle = statistics.median(found)
        table.add_row(name, f"{middle:.0f}", f"{min(found):.0f}", f"{max(found):.0f}", f"{middle / base:.2f}")
    console = Console(width=110)
    console.print(table)
    mean = sum(map(len, photos)) / len(photos) / 1e3
    console.print(
        f"{arguments.images} JPEGs of 500 x 375 ({mean:.0f} kB), crops of {arguments.size}, "
        f"medians of {arguments.runs} runs, one thread; "
        f"{machine('torch', 'torchvision', 'pillow', 'simplejpeg', 'lightly', 'datasets')}",
        highlight=False,
    )


if __name__ == "__main__":
    main()
