"""From an order to the views of each step, two or any other number: decode, keep, crop, augment.

Two ways to keep images:

* `memory`: images are decoded once and stay, in main memory or on the GPU; crops are batched on the device. With
  `cache=chunks` in a run's configuration a set is held a pool at a time, while threads decode the next, and `hybrid`
  streams from its switch on.
* `stream`: images are decoded and cropped by `DataLoader` workers as steps need them, once for all views.

Both see the same images with the same parameters at the same step. Pixels differ by at most the rounding to 8 bits
that `stream` does after cropping; not even by that where images have several sizes and stay on the CPU. Where kept
images are scaled down (`cache_side`), crops are drawn from the smaller image.

An unreadable image is an error with `strict`. Otherwise one found before training, as all are when the whole set is
held, is left out of the order; one met later gives its place in the batch to the next readable image of that batch, the
global one. Both are named.
"""

from __future__ import annotations

import atexit
import functools
import multiprocessing.util
import os
import signal
from collections.abc import Generator, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fullrank.data import views
from fullrank.data.cache import Cache, as_array, decode
from fullrank.data.decoding import Smaller, UnreadableImageError, ahead
from fullrank.data.images import Images
from fullrank.data.kept import Kept
from fullrank.data.order import Order
from fullrank.data.views import PlacedParameters, ViewParameters, ViewRecipe
from fullrank.errors import FullrankError

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
"""Signals that ask a run to save and end: Ctrl-C, a scheduler, a terminal that closes, Slurm's `--signal=USR1`."""

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Views:
    """Views of one step's images, on the device, normalized."""

    step: int  # the step they belong to
    # which image of the set each row shows, `(B,)` int64 on the CPU; not the order's where that one is unreadable
    images: Tensor
    views: tuple[Tensor, ...]  # one for each recipe, `(B, 3, S, S)` float32


@dataclass(eq=False, repr=False)
class ViewLoader:
    """Give the views of each step of an order, from any step on."""

    images: Images  # the set that the order indexes; one that lies in memory already (`ArrayImages`) is held whole
    order: Order
    recipes: tuple[ViewRecipe, ...]  # one view by each
    size: int  # rows and columns of a view
    _: KW_ONLY
    cache: Cache = "memory"  # how images are kept; see the module
    side: int | None = None  # what kept images are scaled down to; see `fullrank.data.cache.decode`
    device: torch.device = _CPU  # where views are made; a name, such as `cuda`, will do
    workers: int = 0  # processes that decode, for `stream`; 0 decodes in this one. Otherwise threads
    reduced: bool = False  # see `TrainConfig.reduced_jpeg`
    strict: bool = False  # raise on an unreadable image
    rank: int = 0  # this process, which gets its contiguous piece of each global batch
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.order.size != (there := len(self.images)):
            raise FullrankError(f"the order is over {self.order.size} images and the set has {there}: make them agree")
        self.device = torch.empty(0, device=self.device).device  # with its number, which `cuda` leaves out
        first, stop = ((self.rank + end) * self.order.batch_size // self.world_size for end in (0, 1))
        self.share = slice(first, stop)
        self.skipped: set[str] = set()
        whole = as_array(self.images) if self.cache == "memory" else None
        self._pixels = None if whole is None else self._place(whole)

    def __call__(self, start: int = 0) -> Iterator[Views]:
        """Give a view by each recipe of the steps from `start` to the last, and say which images they show."""
        for step, images, crops, parameters in self._steps(start):
            # all views in one batch: each operation is called once
            seen = views.normalize(views.photometric(views.as_float(crops), parameters))
            yield Views(step, images, seen.chunk(len(self.recipes)))

    def parameters(
        self, step: int, heights: Tensor, widths: Tensor, *, first: int | None = None
    ) -> list[ViewParameters]:
        """Return the parameters of the views of this process's images at a step, or of those from place `first` on."""
        of: dict[str, Any] = {"seed": self.order.seed, "step": step, "heights": heights, "widths": widths}
        of["first"] = self.share.start if first is None else first
        return [views.draw(recipe, view=view, **of) for view, recipe in enumerate(self.recipes)]

    def _steps(self, start: int) -> Iterator[_Crops]:
        if self._pixels is not None:
            whole = torch.arange(len(self.images))
            yield from self._from_memory(range(start, len(self.order)), self._pixels, whole, whole)
            return
        spans: list[range] = []
        step = start
        while self.cache == "memory" and step < len(self.order) and self.order.keeps(step):
            spans.append(range(step, self.order.span(step).stop))
            step = spans[-1].stop
        # the first by all cores; others behind the steps, by as many threads as there are workers
        few = max(self.workers, 1)
        pools = ahead(lambda span: self._decode_pool(span[0], few if span is not spans[0] else None), spans, 1)
        for span in spans:
            pool = next(pools)
            yield from self._from_memory(span, *pool)
            del pool  # before the one after the next is decoded
        next(pools, None)  # there is none: its thread ends
        if step < len(self.order):
            streamed = self._from_workers(step)
            _OPEN.add(streamed)
            _end_workers_at_exit(os.getpid())
            yield from streamed

    def _decode_pool(self, step: int, threads: int | None) -> tuple[Tensor | Kept, Tensor, Tensor]:
        """Return the pixels of a step's pool, each image's row in them, -1 for none, and each row's image."""
        pool = self.order.pool(step)
        pixels, good = decode(self.images.select(pool), side=self.side, strict=self.strict, threads=threads)
        row_of = torch.full((len(self.images),), -1)
        row_of[pool[good]] = torch.arange(len(good))
        self.skipped.update(self.images.key(int(index)) for index in pool if row_of[index] < 0)
        return self._place(pixels), row_of, pool[good]

    def _place(self, pixels: Tensor | Kept) -> Tensor | Kept:
        """Put held images on the GPU where they take at most a quarter of its free memory."""
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            return pixels.to(self.device) if pixels.nbytes <= free / 4 else pixels
        return pixels

    def _from_memory(self, steps: range, pixels: Tensor | Kept, row_of: Tensor, image_of: Tensor) -> Iterator[_Crops]:
        def make(step: int) -> _Crops:
            rows = _replace_missing(row_of[self.order[step]])[self.share]
            take = self._crop_ragged if isinstance(pixels, Kept) else self._crop
            return step, image_of[rows], *take(step, pixels, rows)  # type: ignore[arg-type] # each its own kind

        # small images on the CPU: a thread would compete with the step that it is to hide behind
        threads = self.workers if isinstance(pixels, Kept) else int(self.device.type != "cpu")
        yield from ahead(make, steps, threads)

    def _crop(self, step: int, pixels: Tensor, rows: Tensor) -> tuple[Tensor, PlacedParameters]:
        """Crop images of one size, all together."""
        drawn = self.parameters(step, *(torch.full((len(rows),), side) for side in pixels.shape[2:]))
        placed, (there,) = ViewParameters.cat(drawn).place(self.device, rows)
        batch = views.as_float(pixels[there] if pixels.device == self.device else self._send(pixels[rows]))
        parts = [placed[part : part + len(batch)] for part in range(0, len(placed), len(batch))]
        return torch.cat([views.crop(batch, part, self.size) for part in parts]), placed

    def _crop_ragged(self, step: int, kept: Kept, rows: Tensor) -> tuple[Tensor, PlacedParameters]:
        """Crop images of any sizes: on the CPU as streamed ones are, else all together."""
        heights, widths = kept.heights[rows], kept.widths[rows]
        drawn = self.parameters(step, heights, widths)
        joined = ViewParameters.cat(drawn)
        placed, (offsets, across) = joined.place(self.device, kept.offsets[rows], widths)
        if kept.device.type == "cpu":
            batch = [kept[row] for row in rows.tolist()]
            one_by_one = [crop for parameters in drawn for crop in crop_each(batch, parameters, self.size)]
            return self._send(torch.stack(one_by_one)), placed
        largest = int(joined.height.max()), int(joined.width.max())
        parts = [placed[part : part + len(rows)] for part in range(0, len(placed), len(rows))]
        crops = [views.crop_ragged(kept.pixels, offsets, across, part, self.size, largest) for part in parts]
        return torch.cat(crops), placed

    def _send(self, batch: Tensor) -> Tensor:
        batch = batch.pin_memory() if self.device.type == "cuda" else batch
        return batch.to(self.device, non_blocking=True)

    def _from_workers(self, start: int) -> Generator[_Crops]:
        loader: DataLoader = DataLoader(
            _StepCrops(self),
            sampler=range(start, len(self.order)),
            batch_size=None,
            num_workers=self.workers,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_ignore_signals,
        )
        for made in loader:
            if isinstance(made, FullrankError):
                raise made
            step, images, crops, parameters, unreadable = made
            self.skipped.update(unreadable)
            placed, _ = parameters.place(self.device)
            yield step, images, crops.to(self.device, non_blocking=True), placed


_Crops = tuple[int, Tensor, Tensor, PlacedParameters]
"""A step, its images, their crops or they themselves, and the parameters of all its views."""


def _ignore_signals(worker: int) -> None:
    """Leave signals, which may reach a whole group, to the process that saves and then ends its workers."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


_OPEN: WeakSet[Generator[_Crops]] = WeakSet()


@functools.cache
def _end_workers_at_exit(process: int) -> None:
    """Let iterators that are held to the end not keep their process, whose SIGTERM their workers would ignore."""
    atexit.register(_end_workers)
    # multiprocessing's own processes skip atexit; its queues, by which workers are told to end, close at priority 10
    multiprocessing.util.Finalize(None, _end_workers, exitpriority=11)


def _end_workers() -> None:
    for each in list(_OPEN):
        each.close()


class _StepCrops(Dataset):
    """The cropped, still uncolored views of a step, made in a worker."""

    def __init__(self, loader: ViewLoader) -> None:
        self.loader = loader

    def __getitem__(self, step: int) -> tuple[int, Tensor, Tensor, ViewParameters, list[str]] | FullrankError:
        """Return the step, its images, crops, parameters and the names of unreadable ones; or what went wrong.

        What a worker raises arrives wrapped in its traceback.
        """
        try:
            return self._make(step)
        except FullrankError as error:
            return error
        except OSError as error:  # the disk or the network failed
            return FullrankError(f"the images of step {step} cannot be read: {error}")

    def _make(self, step: int) -> tuple[int, Tensor, Tensor, ViewParameters, list[str]]:
        loader = self.loader
        indices = loader.order[step].tolist()
        unreadable: list[str] = []

        @functools.cache
        def read(place: int, alone: bool) -> Smaller | None:
            def most(height: int, width: int) -> int:
                if alone or not loader.reduced:
                    return 1
                drawn = loader.parameters(step, torch.tensor([height]), torch.tensor([width]), first=place)
                return min(int(min(each.height, each.width)) for each in drawn) // loader.size

            try:
                return loader.images.read_smaller(indices[place], most)
            except UnreadableImageError:
                unreadable.append(loader.images.key(indices[place]))
                if loader.strict:
                    raise UnreadableImageError(f"{unreadable[0]} cannot be decoded") from None
                return None

        batch, shown = [], []
        for place in range(loader.share.start, loader.share.stop):
            following = ((place + offset) % len(indices) for offset in range(len(indices)))
            # an image in another's place is cropped as that one's would be, and may be needed whole
            found = next(((there, image) for there in following if (image := read(there, there != place))), None)
            if found is None:
                raise FullrankError(f"none of the images of step {step} can be decoded: {unreadable[0]}")
            batch.append(found[1])
            shown.append(indices[found[0]])
        images, *sizes = zip(*batch, strict=True)
        heights, widths, factors = map(torch.tensor, sizes)
        drawn = loader.parameters(step, heights, widths)
        crops = torch.stack([crop for each in drawn for crop in crop_each(images, each.shrunk(factors), loader.size)])
        return step, torch.tensor(shown), crops, ViewParameters.cat(drawn), unreadable


def crop_each(batch: Sequence[Tensor], parameters: ViewParameters, size: int) -> list[Tensor]:
    """Crop images of any sizes, `(3, h, w)` uint8, by torchvision and to 8 bits: what `views.crop` does to a batch."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resize_image

    crops, how = [], ("top", "left", "height", "width", "bicubic", "flip")
    each = zip(batch, *(getattr(parameters, name).tolist() for name in how), strict=True)
    for image, top, left, height, width, bicubic, flip in each:
        crop = image[None, :, top : top + height, left : left + width]
        if bicubic:  # torchvision clamps 8-bit ones after each axis: 20 levels off
            crop = resize_image(crop.float(), [size, size], InterpolationMode.BICUBIC)
            crop = crop.clamp(0, 255).round().to(torch.uint8)
        else:  # three channels beside each other are resized fastest
            crop = crop.contiguous(memory_format=torch.channels_last)
            crop = resize_image(crop, [size, size], InterpolationMode.BILINEAR)
        crops.append((crop.flip(3) if flip else crop)[0])
    return crops


def _replace_missing(rows: Tensor) -> Tensor:
    """Let each missing place (-1) take the next one that is there, going round; `(B,)` int64."""
    missing = rows < 0
    if not bool(missing.any()):
        return rows
    if bool(missing.all()):
        raise FullrankError(f"none of the {len(rows)} images of a batch can be decoded: check the files")
    there = (~missing).nonzero().squeeze(1)
    following = torch.searchsorted(there, torch.arange(len(rows))) % len(there)
    return rows[there[following]]
