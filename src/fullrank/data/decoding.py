"""From an encoded image to `(3, h, w)` uint8, as torchvision's loader has it: Pillow's `convert("RGB")`.

So alpha is left out (the colors that lie under transparency show), the turn that EXIF asks for is not made, and of
several frames the first is taken. What Pillow would clip to white or black is scaled first, or refused by name:

* 16-bit grays, whatever their byte order, from their whole range, 0 to 65535 (of 12-bit TIFF 0 to 4095);
* floats, from 0 to 1; others are refused, for nobody says what is white;
* integers of 32 bits, and signed ones, are refused for the same reason.

JPEG is decoded by `simplejpeg` where that is installed (the extra `[jpeg]`): the same bits in less time.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fullrank.data.memory import cores
from fullrank.errors import FullrankError, reason

S = TypeVar("S")
T = TypeVar("T")

_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_CHANNELS = (1, 3, 4)
# errors of opening a file that say something about it; any other is of the disk or the network
_IMAGES_FAULT = (None, errno.ENOENT, errno.ELOOP, errno.EINVAL, errno.EISDIR)


class UnreadableImageError(FullrankError):
    """Report an image that cannot be decoded, by name."""


def printable(path: str | os.PathLike[str]) -> str:
    r"""Return a path that can be printed: bytes of a file name that are not UTF-8 become \xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


class Smaller(NamedTuple):
    """An image that was perhaps decoded at a half, a quarter or an eighth of its size."""

    image: Tensor  # `(3, ceil(height / factor), ceil(width / factor))` uint8
    height: int  # rows of the whole image
    width: int  # its columns
    factor: int  # 1, 2, 4 or 8


def whole(height: int, width: int) -> int:
    """Return 1: no image may be smaller."""
    return 1


def decode_file(file: Path | io.BytesIO, key: str, most: Callable[[int, int], int] = whole) -> Smaller:
    """Decode an image, called `key` in errors.

    `most` tells, of an image's rows and columns, how many times smaller it may be. JPEG then is by the largest power of
    two up to 8 that is no more, at a fraction of the time; others stay whole.

    Raises:
        UnreadableImageError: It cannot be decoded, or nobody knows what its values mean.
        OSError: The disk or the network failed, not the image.
    """
    with unreadable(key):
        if isinstance(file, Path) and file.exists() and not file.is_file():  # opening a pipe would wait for ever
            raise UnreadableImageError("it is no regular file")
        with Image.open(file) as image:
            width, height = image.size
            factor = 1
            if image.format == "JPEG":
                factor = 2 ** min(max(most(height, width), 1).bit_length() - 1, 3)
            if factor > 1:
                image.draft(image.mode, (max(width // factor, 1), max(height // factor, 1)))
            return Smaller(to_pixels(image, file), height, width, factor)


@contextmanager
def unreadable(key: str) -> Iterator[None]:
    """Make what a damaged image raises an `UnreadableImageError` that names it; what a disk raises stays."""
    try:
        yield
    except Exception as error:  # Pillow's decoders raise all kinds on damaged files
        if isinstance(error, OSError) and error.errno not in _IMAGES_FAULT:
            raise  # the disk or the network failed, not the image: leaving it out would silently change the run
        raise UnreadableImageError(f"{key} cannot be decoded: {reason(error)}") from None


def to_pixels(image: Any, file: Path | io.BytesIO | None = None) -> Tensor:
    """Return an image of PIL, an array `(H, W[, C])` or a tensor `([C, ]H, W)` as `(3, h, w)` uint8.

    Where nobody knows what its values mean, that is an `UnreadableImageError`.
    """
    if isinstance(image, Image.Image):
        return torch.from_numpy(_rgb(image, file)).permute(2, 0, 1)
    # a copy: PyTorch has no negative strides, as of OpenCV's images in `[..., ::-1]`
    x = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    if x.ndim == 3 and not isinstance(image, Tensor) and x.shape[2] in _CHANNELS:
        x = x.permute(2, 0, 1)
    x = x[None] if x.ndim == 2 else x
    if x.ndim != 3 or x.shape[0] not in _CHANNELS or x.numel() == 0:
        raise UnreadableImageError(f"it has shape {tuple(x.shape)}, not that of an image of 1, 3 or 4 channels")
    if x.is_floating_point():
        _check_floats(float(x.min()), float(x.max()))
        x = (x.double() * 255).round().to(torch.uint8)
    if x.dtype != torch.uint8:
        raise UnreadableImageError(f"it holds {x.dtype}, not uint8 or floats from 0 to 1")
    return x[:3].expand(3, -1, -1).contiguous()


def _check_floats(low: float, high: float) -> None:
    if not (low >= 0 and high <= 1):  # nor is NaN
        span = f"from {low:.4g} to {high:.4g}"
        raise UnreadableImageError(f"it holds floats {span}: save it in 8 or 16 bits, or from 0 to 1")


@functools.cache
def _simplejpeg() -> Any | None:
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None


def _rgb(image: Image.Image, file: Path | io.BytesIO | None) -> np.ndarray:
    if image.mode == "RGB" and image.format == "JPEG" and file and (fast := _simplejpeg()):
        # the same bits, without Pillow's copies; where it fails, Pillow may read it, and says what is wrong with it
        with contextlib.suppress(ValueError):
            columns, rows = image.size  # after `draft`
            encoded = file.read_bytes() if isinstance(file, Path) else file.getvalue()
            return fast.decode_jpeg(encoded, min_height=rows, min_width=columns)
    if image.mode == "RGB":
        return np.array(image)
    # Pillow opens 16-bit grays of PNG (before 11.3) and PNM as `I`, and scales the latter to 16 bits
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    if sixteen:
        tags = getattr(image, "tag_v2", {})
        bits = min((tags.get(_TIFF_BITS) or (16,))[0], 16)
        gray = np.asarray(image).astype(np.float64) * (255 / (2**bits - 1))
        gray = 255 - gray if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO else gray
    elif image.mode == "I":
        raise UnreadableImageError("it holds integers that are signed or of 32 bits: save it in 8 or 16 bits")
    elif image.mode == "F":
        values = np.asarray(image)
        _check_floats(values.min(), values.max())
        gray = values.astype(np.float64) * 255
    else:
        if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
            image = image.convert("RGBA")  # the same colors, without a warning that alpha is lost
        return np.array(image.convert("RGB"))
    return np.repeat(np.rint(gray).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def ahead(make: Callable[[S], T], of: Iterable[S], threads: int) -> Iterator[T]:
    """Make something of each item, in order: by so many threads as many ahead of the one in use, or as it is needed."""
    if not threads:
        yield from map(make, of)
        return
    pool, waiting = ThreadPoolExecutor(threads), deque[Future[T]]()
    try:
        for item in of:
            waiting.append(pool.submit(make, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_ahead(
    indices: Sequence[int], read: Callable[[int], T], failed: Callable[[int], None] | None, threads: int | None = None
) -> Iterator[T | None]:
    """Read images side by side and give them in order, None for each that cannot be decoded, whose index `failed` gets.

    Where `failed` is None that is an error. As many threads read as there are cores to run on when `threads` is None;
    decoders release the interpreter's lock.
    """

    def found(index: int) -> T | None:
        try:
            return read(index)
        except UnreadableImageError:
            if failed is None:
                raise
            return None

    for index, image in zip(indices, ahead(found, indices, threads or cores()), strict=True):
        if image is None and failed is not None:  # in order: threads come to them as it happens
            failed(index)
        yield image
