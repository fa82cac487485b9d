"""Decode images once and hold them in memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import torch
from torch import Tensor

from fullrank.data.images import ArrayImages, Derived, Images, Selection, UnreadableImageError, sample
from fullrank.data.memory import available_memory, gigabytes
from fullrank.data.views import SMALL_IMAGE
from fullrank.errors import FullrankError

Cache = Literal["memory", "stream"]

LARGE_VIEW = 224
_LOOKED_AT = 64


class MixedSizesError(FullrankError):
    """Report images of different sizes where one size was asked for."""


class Decoded(Derived):
    """Another set, decoded once into memory: as long as it, and what could not be decoded stays unreadable.

    Its fingerprint is the other set's: how images are held is no part of which images they are.

    Raises:
        FullrankError: None of the images can be decoded, or they have different sizes.
    """

    def __init__(self, base: Images) -> None:
        super().__init__(base)
        self.pixels, good = decode(base)
        self.size = (self.pixels.shape[2], self.pixels.shape[3])
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


def decode(images: Images, *, strict: bool = False) -> tuple[Tensor, Tensor]:
    """Decode images of one size into memory.

    Args:
        images: What to decode.
        strict: Raise on the first unreadable image instead of leaving it out.

    Returns:
        `(n, 3, H, W)` uint8 and the `(n,)` int64 indices of the images that could be read.

    Raises:
        UnreadableImageError: An image cannot be decoded, with `strict`.
        FullrankError: None can, or they have different sizes.
    """
    whole = as_array(images)
    if whole is not None:
        return whole, torch.arange(len(images))
    size = tuple(_first_readable(images, strict).shape)
    try:
        pixels = torch.empty((len(images), *size), dtype=torch.uint8)
    except RuntimeError:
        needed = gigabytes(len(images) * size[0] * size[1] * size[2])
        raise FullrankError(
            f"{len(images)} decoded images of {size[2]} x {size[1]} need {needed} of memory, which cannot be had: "
            "cache=stream decodes them as they are needed (--cache stream)"
        ) from None
    good = torch.zeros(len(images), dtype=torch.bool)

    def keep(index: int, image: Tensor) -> None:
        if tuple(image.shape) != size:
            raise MixedSizesError(
                f"images have different sizes: {images.key(0)} is {size[2]} x {size[1]}, {images.key(index)} is "
                f"{image.shape[2]} x {image.shape[1]}: cache=stream takes any sizes (--cache stream)"
            )
        pixels[index] = image
        good[index] = True

    _read_all(images, keep, strict=strict)
    indices = good.nonzero().squeeze(1)
    return (pixels if bool(good.all()) else pixels[indices]), indices


def _read_all(images: Images, keep: Callable[[int, Tensor], None], *, strict: bool = False) -> None:
    """Decode images side by side, and give each with its index to `keep`, but for those that cannot be decoded."""

    def read(index: int) -> None:
        try:
            image = images.read(index)
        except UnreadableImageError:
            if strict:
                raise
            return
        keep(index, image)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:  # decoders release the interpreter's lock
        for _ in pool.map(read, range(len(images)), chunksize=256):
            pass


def as_array(images: Images) -> Tensor | None:
    """Return the pixels of images that lie in memory already."""
    if isinstance(images, ArrayImages):
        return images.pixels
    if isinstance(images, Decoded):
        return images.pixels if len(images.pixels) == len(images) else None
    if isinstance(images, Selection):
        base = as_array(images.base)
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


def choose_cache(images: Images, order_pool: int, *, memory: float | None = None) -> Cache:
    """Decide how to keep images: `memory` where they have one size and a pool of them fits, else `stream`.

    Args:
        images: The set; up to 64 images are read, at random, to see whether they have one size.
        order_pool: The most images that one step's pool holds, twice over where the pool changes.
        memory: Bytes that images may take; half of what is available when None.
    """
    budget = available_memory() / 2 if memory is None else memory
    (height, width), *others = set(look_at_sizes(images))
    return "memory" if not others and order_pool * 3 * height * width <= budget else "stream"


def cache_all(images: Images, *, strict: bool = False) -> tuple[Images, list[str]]:
    """Decode a whole set of one size into memory, and name the images that cannot be decoded and are left out."""
    pixels, good = decode(images, strict=strict)
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
    _read_all(images, lambda index, image: good.__setitem__(index, True))
    if not bool(good.any()):
        _first_readable(images, strict=False)
    return (~good).nonzero().squeeze(1)
