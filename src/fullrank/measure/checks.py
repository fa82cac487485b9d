"""What every measurement asks of its input, and the walk over rows that keeps float64 copies small."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fullrank.errors import FullrankError

if TYPE_CHECKING:
    import numpy as np

BLOCK_ENTRIES = 2**22
"""Entries of a float64 block, 32 MiB; beside it, the features keep the memory and the dtype they came in."""


def as_matrix(features: Tensor | np.ndarray) -> Tensor:
    """Return `features` as a detached matrix of the same numbers, without a copy where possible.

    Raises:
        FullrankError: `features` is not a matrix of real numbers, or is empty.
    """
    x = as_tensor(features, "a matrix of numbers (N, D)")
    if x.ndim != 2:
        raise FullrankError(f"features must be a matrix (N, D), got shape {tuple(x.shape)}: flatten or pool them first")
    if x.numel() == 0:
        raise FullrankError(f"features are empty, shape {tuple(x.shape)}: give at least two rows and one column")
    if x.is_complex():
        raise FullrankError("features must be real, got complex numbers")
    return x


def as_tensor(values: object, wanted: str) -> Tensor:
    """Return anything array-like as a detached tensor; `wanted` completes "features must be ...".

    Raises:
        FullrankError: PyTorch cannot read `values` as numbers.
    """
    if hasattr(values, "__array__") and any(step < 0 for step in getattr(values, "strides", ()) or ()):
        values = values.copy()  # type: ignore[attr-defined]  # PyTorch has no negative strides.
    try:
        with warnings.catch_warnings():
            # A memory map opened for reading cannot be written, and nothing here writes to its input.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return torch.as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise FullrankError(f"features must be {wanted}, got {type(values).__name__}: {error}") from None


def check_finite(x: Tensor) -> None:
    """Refuse NaN and infinity in a matrix `(N, D)`.

    Raises:
        FullrankError: Some row holds NaN or infinity.
    """
    rows = torch.cat([(~torch.isfinite(block)).any(dim=1) for block in x.split(_rows(x))])
    if bool(rows.any()):
        raise FullrankError(
            f"features hold NaN or infinity in {int(rows.sum())} of {len(x)} rows, "
            f"first in row {int(rows.int().argmax())}: "
            "the encoder diverged or the file is damaged; drop these rows or look at the checkpoint before"
        )


def check_directions(x: Tensor) -> None:
    """Refuse rows that are all zero, for scores that look at directions (cosines) only.

    Raises:
        FullrankError: Some row is all zero.
    """
    rows = torch.cat([(block == 0).all(dim=1) for block in x.split(_rows(x))])
    if bool(rows.any()):
        raise FullrankError(
            f"{int(rows.sum())} of {len(x)} rows are all zero, first row {int(rows.int().argmax())}: "
            "a zero vector has no direction, so cosines are undefined; "
            "drop these rows, or look whether the encoder's output is dead"
        )


def as_features(features: Tensor | np.ndarray, *, rows: int, score: str) -> Tensor:
    """Return `features` as a finite matrix of at least `rows` rows.

    Raises:
        FullrankError: `features` is no such matrix.
    """
    x = as_matrix(features)
    check_finite(x)
    if len(x) < rows:
        raise FullrankError(f"{score} needs at least {rows} rows, got {len(x)}: give features of more images")
    return x


def double_blocks(x: Tensor, least: int = 1) -> Iterator[Tensor]:
    """Walk over `(N, D)` in float64 blocks of about `BLOCK_ENTRIES` entries and at least `least` rows."""
    for block in x.split(max(_rows(x), least)):
        yield block.to(torch.float64)


def unit(x: Tensor) -> Tensor:
    """Divide each row of `(..., D)`, none of them zero, by its L2 norm, in float64."""
    x = x.to(torch.float64)
    # Scaled first: the square of 1e200, or of 1e-200, is not a float64.
    x = x / x.abs().amax(dim=-1, keepdim=True)
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def subsample(x: Tensor, max_samples: int | None, seed: int) -> Tensor:
    """Return `max_samples` rows of `x`, drawn without replacement by `seed` and kept in order; all for None.

    Raises:
        FullrankError: `max_samples` is below one.
    """
    import numpy as np

    if max_samples is None or len(x) <= max_samples:
        return x
    if max_samples < 1:
        raise FullrankError(f"max_samples must be positive, or None for all rows, got {max_samples}")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(x))[:max_samples])
    return x[torch.from_numpy(chosen).to(x.device)]


def _rows(x: Tensor) -> int:
    return max(1, BLOCK_ENTRIES // x.shape[1])
