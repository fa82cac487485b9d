"""Decode images once and hold them in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Literal, TypeVar

import torch
from torch import Tensor

from fullrank.data.images import ArrayImages, Derived, Images, Selection, UnreadableImageError, sample
from fullrank.data.kept import Kept, keep
from fullrank.data.memory import available_memory, gigabytes
from fullrank.data.views import SMALL_IMAGE
from fullrank.errors import FullrankError

Cache = Literal["memory", "stream"]

T = TypeVar("T")

LARGE_VIEW = 224
_LOOKED_AT = 64
_BLOCK = 256


class _MixedSizes(Exception):
    """Images have several sizes, so that they are kept in another way."""


class Decoded(Derived):
    """Another set, decoded once into memory: as long as it, and what could not be decoded stays unreadable.

    Its fingerprint is the other set's: how images are held is no part of which images they are.

    Raises:
        FullrankError: None of the images can be decoded.
    """

    def __init__(self, base: Images) -> None:
        super().__init__(base)
        self.pixels, good = decode(base)
        self.size = None if isinstance(self.pixels, Kept) else (self.pixels.shape[2], self.pixels.shape[3])
        self._row = torch.full((len(base),), -1)
        self._row[good] = torch.arange(len(good))

    def read(self, index: int) -> Tensor:
        """Return one image."""
        row = int(self._row[index])
        if row < 0:
            raise UnreadableImageError(f"{self.key(index)} cannot be decoded")
        return self.pixels[row]

    @property
    def encoded_bytes(self) -> int:
        """Return 0: what is decoded is all that is kept."""
        return 0


def decode(
    images: Images, *, side: int | None = None, strict: bool = False, threads: int | None = None
) -> tuple[Tensor | Kept, Tensor]:
    """Decode images into memory.

    Args:
        images: What to decode. What lies in memory already stays as it is.
        side: Rows or columns, whichever are fewer, that larger images are scaled down to. They are put side by side
            then, even if they have one size, so that they are cropped in 8 bits, as streamed ones are.
        strict: Raise on the first unreadable image instead of leaving it out.
        threads: How many decode; as many as there are cores when None.

    Returns:
        Those that could be read, `(n, 3, H, W)` uint8 where they have one size, and their `(n,)` int64 indices.

    Raises:
        UnreadableImageError: An image cannot be decoded, with `strict`.
        FullrankError: None can, or memory does not hold them.
    """
    whole = as_array(images)
    if whole is not None:
        return whole, torch.arange(len(images))
    try:
        if side is None:
            with suppress(_MixedSizes):
                return _decode_one_size(images, strict, threads)
        good = torch.zeros(len(images), dtype=torch.bool)

        def read(index: int) -> Tensor:
            if side is None:
                return images.read(index)
            return scaled(images.read_smaller(index, lambda height, width: min(height, width) // side).image, side)

        def each() -> Iterator[Tensor]:
            for index, image in _read_all(len(images), strict, threads, read):
                good[index] = True
                yield image

        kept = keep(each(), len(images))
    except MemoryError:
        needed = gigabytes(kept_bytes(images, len(images), side))
        raise FullrankError(
            f"{len(images)} decoded images need {needed} of memory, which cannot be had: "
            "cache=stream decodes them as they are needed (--cache stream)"
        ) from None
    if not len(kept):
        _first_readable(images, strict)
    return kept, good.nonzero().squeeze(1)


def _decode_one_size(images: Images, strict: bool, threads: int | None) -> tuple[Tensor, Tensor]:
    size = tuple(_first_readable(images, strict).shape)
    try:
        pixels = torch.empty((len(images), *size), dtype=torch.uint8)
    except RuntimeError:
        raise MemoryError from None
    good = torch.zeros(len(images), dtype=torch.bool)

    def put(index: int) -> None:
        image = images.read(index)
        if tuple(image.shape) != size:
            raise _MixedSizes
        pixels[index] = image
        good[index] = True

    for _ in _read_all(len(images), strict, threads, put):
        pass
    indices = good.nonzero().squeeze(1)
    return (pixels if bool(good.all()) else pixels[indices]), indices


def scaled(image: Tensor, side: int | None) -> Tensor:
    """Return an image, `(3, h, w)` uint8, whose shorter side is at most `side`, resized with antialiasing."""
    height, width = image.shape[1:]
    if side is None or min(height, width) <= side:
        return image
    from torchvision.transforms.v2.functional import resize_image

    size = [max(round(length * side / min(height, width)), 1) for length in (height, width)]
    return resize_image(image[None].contiguous(memory_format=torch.channels_last), size)[0]


def _read_all(count: int, strict: bool, threads: int | None, read: Callable[[int], T]) -> Iterator[tuple[int, T]]:
    """Read images side by side and give each with its index, but for those that cannot be decoded."""

    def found(index: int) -> tuple[int, T] | None:
        try:
            return index, read(index)
        except UnreadableImageError:
            if strict:
                raise
            return None

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:  # decoders release the interpreter's lock
        for start in range(0, count, _BLOCK):  # so that no more are held than are asked for
            yield from filter(None, pool.map(found, range(start, min(start + _BLOCK, count))))


def as_array(images: Images) -> Tensor | Kept | None:
    """Return the pixels of images that lie in memory already."""
    if isinstance(images, ArrayImages):
        return images.pixels
    if isinstance(images, Decoded):
        return images.pixels if len(images.pixels) == len(images) else None
    if isinstance(images, Selection):
        base = as_array(images.base)
        if isinstance(base, Kept):
            return keep((base[index] for index in images.indices.tolist()), len(images))
        return None if base is None else base[images.indices]
    return None


def _first_readable(images: Images, strict: bool) -> Tensor:
    first: UnreadableImageError | None = None
    for index in range(len(images)):
        try:
            return images.read(index)
        except UnreadableImageError as error:
            if strict:
                raise
            first = first or error
    raise FullrankError(f"none of the {len(images)} images of {images.name} can be decoded; the first: {first}")


def look_at_sizes(images: Images) -> list[tuple[int, int]]:
    """Return rows and columns of up to 64 images at random, of those that can be decoded.

    Raises:
        FullrankError: No image of the set can be.
    """
    if images.size is not None:
        return [images.size]
    sizes = []
    for index in sample(torch.arange(len(images)), _LOOKED_AT).tolist():
        try:
            _, height, width = images.read(index).shape
            sizes.append((height, width))
        except UnreadableImageError:
            continue
    if not sizes:
        _, height, width = _first_readable(images, strict=False).shape
        sizes.append((height, width))
    return sizes


def view_size(images: Images) -> int:
    """Return the rows and columns of a view that suit a set: its own, up to 64, else 224."""
    if images.preferred_size is not None:
        return images.preferred_size
    # the median of some at random: a set of photos may begin with an icon
    longest = sorted(max(size) for size in look_at_sizes(images))
    size = longest[len(longest) // 2]
    return size if size <= SMALL_IMAGE else LARGE_VIEW


def kept_bytes(images: Images, count: float, side: int | None = None) -> float:
    """Estimate the bytes of `count` images of a set, decoded and scaled as `decode` does: of up to 64, the mean."""
    areas = []
    for height, width in look_at_sizes(images):
        smaller = 1.0 if side is None else min(1.0, side / min(height, width))
        areas.append(height * width * smaller**2)
    return 3 * count * sum(areas) / len(areas)


def choose_cache(images: Images, order_pool: int, *, side: int | None = None, memory: float | None = None) -> Cache:
    """Decide how to keep images: `memory` where a pool of them fits, else `stream`.

    Args:
        images: The set; up to 64 images are read, at random, to see how large they are.
        order_pool: The most images that one step's pool holds, twice over where the pool changes.
        side: What larger ones are scaled down to; see `decode`.
        memory: Bytes that images may take; half of what is available when None.
    """
    budget = available_memory() / 2 if memory is None else memory
    return "memory" if kept_bytes(images, order_pool, side) <= budget else "stream"


def cache_all(images: Images, *, side: int | None = None, strict: bool = False) -> tuple[Images, list[str]]:
    """Decode a whole set into memory (`decode`), and name the images that cannot be decoded and are left out."""
    pixels, good = decode(images, side=side, strict=strict)
    left_out = torch.ones(len(images), dtype=torch.bool)
    left_out[good] = False
    names = [images.key(index) for index in left_out.nonzero().squeeze(1).tolist()]
    labels = None if images.labels is None else images.labels[good]
    held = ArrayImages(
        images.name,
        pixels,
        labels,
        images.classes,
        numbered=images.numbered,
        preferred_size=images.preferred_size,
    )
    return held, names


def find_unreadable(images: Images) -> Tensor:
    """Decode every image once, keep none, and return the `(n,)` indices of those that cannot be decoded."""
    if as_array(images) is not None:
        return torch.empty(0, dtype=torch.int64)
    good = torch.zeros(len(images), dtype=torch.bool)
    for index, _ in _read_all(len(images), False, None, lambda index: bool(images.read(index).ndim)):
        good[index] = True
    if not bool(good.any()):
        _first_readable(images, strict=False)
    return (~good).nonzero().squeeze(1)
