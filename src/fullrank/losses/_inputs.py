"""What every loss asks of its input, and the precision it computes in."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from numbers import Real
from typing import NamedTuple, ParamSpec

import torch
from torch import Tensor

from fullrank.errors import FullrankError

REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # of float8, nobody can tell the scale

P = ParamSpec("P")


class Least(NamedTuple):
    """How many rows, images, or columns, dimensions, a loss needs, and why."""

    number: int
    why: str


_DROP = "; drop_last=True of a DataLoader leaves out a last batch of one"
SOME = Least(1, "it is a mean over them")
AMONG_IMAGES = Least(2, f"it tells an image from the others of its batch{_DROP}")
OVER_IMAGES = Least(2, f"its variances are over the images of a batch{_DROP}")
AMONG_DIMENSIONS = Least(2, "it keeps dimensions apart, and one is alone")
OVER_DIMENSIONS = Least(2, "its variances are over the dimensions of an embedding")


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Make a loss compute in float32, or in float64 if any input is, whatever autocast says.

    Exponentials and sums of squares over a batch lose what matters in half precision. Gradients come back in each
    input's own dtype. A setting of one element, such as a learned temperature `(1,)`, counts as a scalar: the loss is.
    """

    @wraps(loss)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        floating = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.dtype in REAL]
        if not floating:
            return loss(*args, **kwargs)
        dtype = torch.float64 if any(x.dtype == torch.float64 for x in floating) else torch.float32

        def cast(x: object) -> object:
            x = x.reshape(()) if isinstance(x, Tensor) and x.shape == (1,) else x
            return x.to(dtype) if isinstance(x, Tensor) and x.dtype in REAL else x

        with torch.autocast(floating[0].device.type, enabled=False):
            return loss(*map(cast, args), **{name: cast(x) for name, x in kwargs.items()})  # type: ignore[arg-type]

    return wrapped


def check_matrices(loss: str, *, rows: Least = SOME, columns: Least = SOME, **matrices: Tensor) -> None:
    """Raise `FullrankError` for anything but real matrices `(N, M)` of one shape, with so many rows and columns."""
    *first, last = matrices
    names = f"{', '.join(first)} and {last}" if first else last
    for name, x in matrices.items():
        if not isinstance(x, Tensor) or type(x).__name__ == "MaskedTensor":
            raise FullrankError(f"{name} must be a tensor (N, M), got {type(x).__name__}: use torch.as_tensor")
    shapes = [tuple(x.shape) for x in matrices.values()]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise FullrankError(f"{names} must have one shape (N, M), got {', '.join(map(str, shapes))}")
    for name, x in matrices.items():
        if x.layout != torch.strided:
            raise FullrankError(f"{name} must be dense, got layout {x.layout}: call .to_dense() on it")
        if x.dtype not in REAL:
            raise FullrankError(f"{name} must hold real floating-point numbers, got {x.dtype}: call .float() on it")
    for size, least, what in zip(shapes[0], (rows, columns), ("row", "column"), strict=True):
        if size < least.number:
            needed = f"{least.number} {what}{'s' * (least.number > 1)}"
            raise FullrankError(f"{loss} needs at least {needed}, got shape {shapes[0]}: {least.why}")


def check_positive(**values: float) -> None:
    """Raise `FullrankError` for what is no positive finite number; a tensor of one element, which may learn, is one."""
    for name, value in values.items():
        if not 0 < _number(value) < math.inf:
            raise FullrankError(f"{name} must be a positive finite number, got {value!r}")


def check_finite(**values: float) -> None:
    """Raise `FullrankError` for what is no finite number, as `check_positive` does."""
    for name, value in values.items():
        if not math.isfinite(_number(value)):
            raise FullrankError(f"{name} must be a finite number, got {value!r}")


def _number(value: object) -> float:
    """Return a number, or that of a tensor of one element; NaN for anything else."""
    value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    return float(value) if isinstance(value, Real) else math.nan
