"""Decoded images of any sizes, side by side in one buffer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Kept:
    """N decoded images of any sizes."""

    pixels: Tensor  # `(P, 3)` uint8: the pixels of all, image after image, row after row
    heights: Tensor  # rows of each image, `(N,)` int64 on the CPU
    widths: Tensor  # columns of each, likewise

    def __len__(self) -> int:
        return len(self.heights)

    @cached_property
    def offsets(self) -> Tensor:
        """Where each image begins, `(N,)` int64."""
        areas = self.heights * self.widths
        return areas.cumsum(0) - areas

    @property
    def device(self) -> torch.device:
        """Where the pixels lie."""
        return self.pixels.device

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels."""
        return self.pixels.nbytes

    def __getitem__(self, index: int) -> Tensor:
        """Return one image, `(3, h, w)`, a view of the pixels."""
        start, h, w = (int(each[index]) for each in (self.offsets, self.heights, self.widths))
        return self.pixels[start : start + h * w].view(h, w, 3).permute(2, 0, 1)

    def stacked(self) -> Tensor | None:
        """Return images of one size as `(N, 3, H, W)`, a view of the pixels; None where sizes differ."""
        if len({*zip(self.heights.tolist(), self.widths.tolist(), strict=True)}) != 1:
            return None
        return self.pixels.view(len(self), int(self.heights[0]), -1, 3).permute(0, 3, 1, 2)

    def to(self, device: torch.device) -> Kept:
        """Return them on another device."""
        return Kept(self.pixels.to(device), self.heights, self.widths)


def keep(images: Iterable[Tensor], count: int) -> Kept:
    """Put at most `count` images, `(3, h, w)` uint8, one after the other into a buffer that grows with them."""
    buffer, end, sizes = np.empty(0, np.uint8), 0, []
    for number, image in enumerate(images, 1):
        stop = end + image.numel()
        if stop > len(buffer):  # by what is known of the others; in place, where the system can
            buffer.resize(max(stop, min(2 * stop, int(1.02 * count * stop / number))), refcheck=False)
        buffer[end:stop].reshape(*image.shape[1:], 3)[:] = image.permute(1, 2, 0).numpy()
        sizes.append(image.shape[1:])
        end = stop
    buffer.resize(end, refcheck=False)
    heights, widths = torch.tensor(sizes, dtype=torch.int64).reshape(-1, 2).unbind(1)
    return Kept(torch.from_numpy(buffer).view(-1, 3), heights, widths)
