"""What every measurement asks of its input, and the walk over rows that keeps float64 copies small."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from fullrank.config import Count
from fullrank.data.randomness import check_seed
from fullrank.errors import FullrankError, reason
from fullrank.shapes import fit

Array = Tensor | np.ndarray

# dtypes of features that are measured, and that a saved state can name; the position is what that stores
DTYPES = ("float64", "float32", "bfloat16", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
BLOCK_ENTRIES = 2**22  # of a float64 block, 32 MiB; beside it, features keep the memory and the dtype they came in


def as_matrix(features: object) -> Tensor:
    """Return a matrix of real numbers, not empty, detached and without a copy where possible; else `FullrankError`."""
    x = as_tensor(features, "a matrix of numbers (N, D)")
    if x.ndim != 2:
        raise FullrankError(f"features must be a matrix (N, D), got shape {tuple(x.shape)}: flatten or pool them first")
    if x.numel() == 0:
        raise FullrankError(f"features are empty, shape {tuple(x.shape)}: give at least two rows and one column")
    return x


def as_tensor(values: object, wanted: str) -> Tensor:
    """Return anything array-like as a detached, dense tensor of a dtype in `DTYPES`; `wanted` completes its error.

    Tensors, NumPy arrays, data frames of numbers and nested lists will do; Python's floats are float64.
    """
    x = _read(values, "features", wanted)
    if x.is_complex():
        raise FullrankError("features must be real, got complex numbers: give their real and imaginary part, or abs()")
    dtype = str(x.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise FullrankError(f"features are {dtype}: convert them to float32 first")
    return x


def as_labels(labels: object, rows: int, what: str = "labels") -> Tensor:
    """Return class labels as int64, one for each of `rows` rows: whole numbers of any type; else `FullrankError`."""
    y = _read(labels, what, "whole numbers (N,), one for each name where there are names")
    wanted = f"{what} must be one whole number of at least 0 for each of {rows} rows"
    if tuple(y.shape) != (rows,):
        do = ": flatten them first" if y.numel() == rows else ""
        if y.ndim == 2 and len(y) == rows and y.shape[1] > 1:
            do = ": of one-hot rows take argmax(1)"
        raise FullrankError(f"{wanted}, got shape {tuple(y.shape)}{do}")
    values = y.double() if y.is_floating_point() else y
    # a float64 of 2^63 is the first that no int64 holds
    fractions = values.is_floating_point() and not bool(((values == values.floor()) & (values < 2.0**63)).all())
    if y.is_complex() or fractions:
        got = f"{y.dtype} with fractions, NaN, infinity or an imaginary part"
        raise FullrankError(f"{what} must be whole numbers, got {got}")
    whole = values.to(torch.int64)  # of a uint64 above the largest int64 this is negative
    if bool((whole < 0).any()):
        raise FullrankError(f"{wanted}, got {y.dtype}, the least {int(whole.min())}: leave out rows without a label")
    return whole


def _read(values: object, what: str, wanted: str) -> Tensor:
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        got = f"an array with {np.ma.count_masked(values)} masked entries"
        raise FullrankError(f"{what} must be {wanted}, got {got}: leave out their rows, or fill them")
    try:
        if isinstance(values, (list, tuple)) and values and all(isinstance(value, Tensor) for value in values):
            values = torch.stack(tuple(values))
        if not isinstance(values, Tensor) and not hasattr(values, "__cuda_array_interface__"):
            values = np.asarray(values)
            if not values.dtype.isnative:
                values = values.astype(values.dtype.newbyteorder("="))
            if any(step < 0 for step in values.strides):
                values = values.copy()  # PyTorch has no negative strides.
        with warnings.catch_warnings():
            # A memory map opened for reading cannot be written, and nothing here writes to its input.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            x = torch.as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise FullrankError(f"{what} must be {wanted}, got {type(values).__name__}: {reason(error)}") from None
    special = x.is_nested or x.is_quantized or x.is_meta or type(x).__name__ == "MaskedTensor"
    if special or x.layout != torch.strided:
        got = "a tensor that is sparse, nested, quantized, masked or without numbers (on the meta device)"
        do = "give an ordinary one, as .to_dense() or .dequantize() makes it"
        raise FullrankError(f"{what} must be {wanted}, got {got}: {do}")
    return x


def check_finite(x: Tensor) -> None:
    """Raise `FullrankError` where a row of `(N, D)` holds NaN or infinity."""
    why = "the encoder diverged or the file is damaged; drop these rows, or take an earlier checkpoint"
    _refuse(x, lambda block: (~torch.isfinite(block)).any(dim=1), "hold NaN or infinity", why)


def check_directions(x: Tensor) -> None:
    """Raise `FullrankError` where a row of `(N, D)` is all zero, for scores of directions (cosines)."""
    why = "a zero vector has no direction; drop these rows, or check whether the encoder's output is dead"
    _refuse(x, lambda block: (block == 0).all(dim=1), "are all zero", why)


def _refuse(x: Tensor, wrong: Callable[[Tensor], Tensor], what: str, why: str) -> None:
    rows = torch.cat([wrong(block) for block in x.split(_rows(x))])
    if bool(rows.any()):
        where = f"{int(rows.sum())} of {len(x)} rows, first in row {int(rows.int().argmax())}"
        raise FullrankError(f"features {what} in {where}: {why}")


def as_features(features: Array, *, rows: int, score: str) -> Tensor:
    """Return `features` as a finite matrix of at least `rows` rows, or raise `FullrankError`."""
    x = as_matrix(features)
    check_finite(x)
    if len(x) < rows:
        raise FullrankError(f"{score} needs at least {rows} rows, got {len(x)}: give features of more images")
    return x


def double_blocks(x: Tensor, least: int = 1) -> Iterator[Tensor]:
    """Walk over `(N, D)` in float64 blocks of about `BLOCK_ENTRIES` entries and at least `least` rows."""
    for block in x.split(max(_rows(x), least)):
        yield block.to(torch.float64)


def subsample(x: Tensor, max_samples: int | None, seed: int) -> Tensor:
    """Return `max_samples` rows of `x`, drawn without replacement by `seed` and kept in order; all for None."""
    fit(max_samples, Count | None, "max_samples")
    check_seed(seed)
    if max_samples is None or len(x) <= max_samples:
        return x
    chosen = np.sort(np.random.default_rng(seed).permutation(len(x))[:max_samples])
    return x[torch.from_numpy(chosen).to(x.device)]


def _rows(x: Tensor) -> int:
    return max(1, BLOCK_ENTRIES // x.shape[1])
