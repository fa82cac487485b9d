"""Decode images once and hold them in memory."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fullrank.data.decoding import UnreadableImageError, read_ahead
from fullrank.data.images import ArrayImages, Derived, Images, Selection, sample
from fullrank.data.kept import Kept, keep
from fullrank.data.memory import available_memory, gigabytes
from fullrank.data.views import SMALL_IMAGE
from fullrank.errors import FullrankError

Cache = Literal["memory", "stream"]

LARGE_VIEW = 224
_LOOKED_AT = 64


class Decoded(Derived):
    """Another set, decoded once into memory: as long as it, and what could not be decoded stays unreadable.

    Its fingerprint is the other set's: how images are held is no part of which images they are.
    """

    def __init__(self, base: Images) -> None:
        super().__init__(base)
        self.pixels, good = decode(base)
        self.footprint = ""  # what is decoded is all that is kept
        self.size = None if isinstance(self.pixels, Kept) else (self.pixels.shape[2], self.pixels.shape[3])
        self._row = torch.full((len(base),), -1)
        self._row[good] = torch.arange(len(good))

    def read(self, index: int) -> Tensor:
        """Return one image."""
        row = int(self._row[index])
        if row < 0:
            raise UnreadableImageError(f"{self.key(index)} cannot be decoded")
        return self.pixels[row]


def decode(
    images: Images, *, side: int | None = None, strict: bool = False, threads: int | None = None
) -> tuple[Tensor | Kept, Tensor]:
    """Decode images into memory; what lies there already stays as it is.

    With `side`, the shorter side of larger ones is scaled down to it, and all are put side by side even if they have
    one size, so that they are cropped in 8 bits, as streamed ones are. Unreadable ones are left out, or with `strict`
    an error. Returns the others, `(n, 3, H, W)` uint8 where they have one size, and their `(n,)` int64 indices.
    """
    whole = as_array(images)
    if whole is not None:
        return whole, torch.arange(len(images))
    good = torch.ones(len(images), dtype=torch.bool)

    def read(index: int) -> Tensor:
        if side is None:
            return images.read(index)
        return scaled(images.read_smaller(index, lambda height, width: min(height, width) // side).image, side)

    def leave_out(index: int) -> None:
        good[index] = False

    found = read_ahead(range(len(images)), read, None if strict else leave_out, threads)
    try:
        kept = keep((image for image in found if image is not None), len(images))
    except MemoryError:
        needed = f"{len(images)} decoded images need {gigabytes(kept_bytes(images, len(images), side))} of memory"
        raise FullrankError(f"{needed}, which cannot be had: --cache stream decodes them as needed") from None
    if not len(kept):
        _first_readable(images)
    stacked = kept.stacked() if side is None else None
    return kept if stacked is None else stacked, good.nonzero().squeeze(1)


def scaled(image: Tensor, side: int) -> Tensor:
    """Return an image, `(3, h, w)` uint8, whose shorter side is at most `side`, resized with antialiasing."""
    height, width = image.shape[1:]
    if min(height, width) <= side:
        return image
    from torchvision.transforms.v2.functional import resize_image

    size = [max(round(length * side / min(height, width)), 1) for length in (height, width)]
    return resize_image(image[None].contiguous(memory_format=torch.channels_last), size)[0]


def as_array(images: Images) -> Tensor | Kept | None:
    """Return the pixels of images that lie in memory already."""
    if isinstance(images, (ArrayImages, Decoded)):
        return images.pixels if len(images.pixels) == len(images) else None
    if not isinstance(images, Selection):
        return None
    base = as_array(images.base)
    if isinstance(base, Kept):
        return keep((base[index] for index in images.indices.tolist()), len(images))
    return None if base is None else base[images.indices]


def _first_readable(images: Images) -> Tensor:
    first: UnreadableImageError | None = None
    for index in range(len(images)):
        try:
            return images.read(index)
        except UnreadableImageError as error:
            first = first or error
    raise FullrankError(f"none of the {len(images)} images of {images.name} can be decoded; the first: {first}")


def look_at_sizes(images: Images) -> list[tuple[int, int]]:
    """Return rows and columns of up to 64 images at random, of those that can be decoded."""
    if images.size is not None:
        return [images.size]
    shapes = []
    for index in sample(torch.arange(len(images)), _LOOKED_AT).tolist():
        with suppress(UnreadableImageError):
            shapes.append(images.read(index).shape)
    return [(height, width) for _, height, width in shapes or [_first_readable(images).shape]]


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
    sizes = look_at_sizes(images)
    areas = [h * w * (1.0 if side is None else min(1.0, side / min(h, w)) ** 2) for h, w in sizes]
    return 3 * count * sum(areas) / len(areas)


def choose_cache(images: Images, count: int, *, side: int | None = None, memory: float | None = None) -> Cache:
    """Return `memory` where so many images fit, scaled as `decode` does, into `memory` bytes, else `stream`.

    Half of what is available may be taken when `memory` is None.
    """
    budget = available_memory() / 2 if memory is None else memory
    return "memory" if kept_bytes(images, count, side) <= budget else "stream"


def cache_all(images: Images, *, side: int | None = None, strict: bool = False) -> tuple[Images, list[str]]:
    """Decode a whole set into memory (`decode`), and name the images that cannot be decoded and are left out."""
    pixels, good = decode(images, side=side, strict=strict)
    names = [images.key(index) for index in np.setdiff1d(np.arange(len(images)), good).tolist()]
    labels = None if images.labels is None else images.labels[good]
    about = {name: getattr(images, name) for name in ("classes", "numbered", "preferred_size")}
    return ArrayImages(images.name, pixels, labels, **about), names


def find_unreadable(images: Images) -> Tensor:
    """Decode every image once, keep none, and return the `(n,)` indices of those that cannot be decoded."""
    unreadable: list[int] = []
    if as_array(images) is None:
        for _ in read_ahead(range(len(images)), lambda index: images.read(index).ndim, unreadable.append):
            pass
    if len(unreadable) == len(images):
        _first_readable(images)
    return torch.tensor(sorted(unreadable), dtype=torch.int64)
