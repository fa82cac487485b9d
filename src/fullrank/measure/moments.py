"""Centered second moments of a stream of features: absorb a block, merge two, take the singular values.

Legend: X: (N, D) features; m: their mean; C = sum_i (x_i - m)(x_i - m)^T, so that singular values of the
centered X are the square roots of C's eigenvalues. Every sum is float64.

Two groups A and B merge exactly (Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for
computing sample variances", eq. 2.1, for matrices; delta = m_B - m_A):

    C = C_A + C_B + (n_A n_B / n) delta delta^T

A block B is absorbed with one matrix product: its rows are moved by a constant, r_i = x_i - m_B + sqrt(n_A / n) delta,
after which sum_i r_i r_i^T is just what the formula adds, since sum_i (x_i - m_B) = 0. Nothing is ever subtracted from
C, so a mean of 1e4 times the spread costs no digits. C is kept in one of three forms:

| form   | matrix                    | while               | floor, relative to s_1 | cost of n rows      |
|--------|---------------------------|---------------------|------------------------|---------------------|
| `ROOT` | F, (r, D), with F^T F = C | N <= D, or `exact`  | D eps, 1e-13           | a QR, 2 n D^2 flop  |
| `GRAM` | C, (D, D), upper triangle | otherwise           | sqrt(D eps), 3e-7      | a product, n D^2    |
| `FAST` | the same                  | `fast`              | sqrt(eps32), 3e-4      | the same in float32 |

Below the floor a singular value is rounding noise: squares of 1e-8 and of 1 do not fit in one float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from fullrank.errors import FullrankError
from fullrank.measure.checks import DTYPES, check_finite
from fullrank.numerics import l2_normalize

ROOT, GRAM, FAST = 0, 1, 2
"""Forms of the matrix; `FAST` is a `GRAM` of which some products were float32. The larger wins a merge."""
_EPS = torch.finfo(torch.float64).eps
_HEADER = 4  # dim, count, form, dtype
_BLOCK_ENTRIES = {"cpu": 2**18}  # of a float64 block: 2 MiB stay in a core's cache between conversion and product
_LEAST = 2.0**-480
"""Numbers from which their squares, and those of what is 1e-7 of them, are float64 in full."""
_FLOAT32 = 2.0**-50, 2.0**50
"""Between which the largest number of a block must be for squares in float32."""
_TILE = 128  # columns of a tile of the product: the tiles below the diagonal, nearly half the work, are left out


@dataclass(frozen=True)
class Moments:
    """Count, mean and centered second moment of the features seen so far."""

    count: int  # N
    shift: Tensor  # (D,), a point near the mean, about which `total` is summed; zero when moments are not centered
    total: Tensor  # (D,), sum_i (x_i - shift)
    matrix: Tensor  # (D, D) C, upper triangle, or (r, D) F
    form: int  # ROOT, GRAM or FAST
    dtype: str  # name of the features' dtype; empty before the first

    @property
    def dim(self) -> int:
        """The number of columns D."""
        return len(self.shift)

    @property
    def offset(self) -> Tensor:
        """The mean minus `shift`, `(D,)`."""
        return self.total / max(self.count, 1)


def empty(dim: int) -> Moments:
    """Return the moments of nothing."""
    zero = torch.zeros(dim, dtype=torch.float64)
    return Moments(0, zero, zero.clone(), torch.zeros(0, dim, dtype=torch.float64), ROOT, "")


def absorb(
    moments: Moments,
    x: Tensor,
    *,
    center: bool = True,
    normalize: bool = False,
    exact: bool = False,
    fast: bool = False,
) -> Moments:
    """Return the moments of what was seen and of `x`, `(N, D)`, together; settings are those of `SpectrumMetric`.

    The matrix of `moments` may be written to in place; it is left as it was when an error is raised: where `x` holds
    NaN or infinity, or numbers whose sums overflow. Where their squares do, `singular_values` raises it.
    """
    size = block_rows(moments.dim, x.device.type)
    if len(x) > size and moments.form != ROOT:
        # A later block may be refused: the caller's matrix must not have half of the rows by then.
        moments = replace(moments, matrix=moments.matrix.clone())
    for block in x.split(size):
        moments = _absorb_block(moments, block, x, center, normalize, exact, fast)
    return moments


def _absorb_block(
    m: Moments, block: Tensor, x: Tensor, center: bool, normalize: bool, exact: bool, fast: bool
) -> Moments:
    n = len(block)
    rows = torch.empty(block.shape, dtype=torch.float64, device=block.device).copy_(block)
    if normalize:
        rows = l2_normalize(rows)
    shift = m.shift
    if center:
        if m.count == 0:
            shift = rows.mean(dim=0)
        # A difference of two float64 within a factor of two has no rounding error: a large mean costs nothing.
        rows -= shift
    total = rows.sum(dim=0)
    # D sums instead of N x D entries: NaN and infinity survive a sum.
    if not bool(torch.isfinite(total).all()):
        check_finite(x)
        raise FullrankError(f"features reach {x.abs().max():.3g}, and sums of such numbers overflow: scale them down")
    if center:
        rows -= recentering(total, n, m.offset, m.count)
    m = replace(m, shift=shift)
    if m.form == ROOT:
        matrix, form = _stack([m.matrix, rows], exact)
    else:
        fast = fast and rows.device.type == "cpu" and _FLOAT32[0] < float(rows.abs().max()) < _FLOAT32[1]
        matrix, form = m.matrix, FAST if fast else m.form
        _add(matrix, rows.to(torch.float32) if fast else rows)
    return replace(m, count=m.count + n, total=m.total + total, matrix=matrix, form=form)


def recentering(total: Tensor, n: float | Tensor, offset: Tensor, seen: float | Tensor) -> Tensor:
    """Return what to subtract from a block's rows, `(D,)`: m_B - sqrt(n_A / n) delta, see the module.

    `total` is the sum of its n rows, `offset` the mean of what was seen before, about the same point, of weight `seen`.
    """
    mean = total / n
    return mean - (seen / (seen + n)) ** 0.5 * (mean - offset)


def block_rows(dim: int, device: str) -> int:
    """Rows of a block: `_BLOCK_ENTRIES` in all, but enough of them that a product is not bound by memory."""
    return max(_BLOCK_ENTRIES.get(device, 2**20) // dim, min(dim, 1024))


def add_gram_(gram: Tensor, rows: Tensor, decay: float = 1.0) -> None:
    """Add `rows^T rows` to the upper triangle of `gram` in place, after scaling it by `decay`.

    Rows of float32 are multiplied in float32; their product is added to `gram` in its own float64.
    """
    d = gram.shape[0]
    tile = _TILE if gram.device.type == "cpu" else max(_TILE, d // 4)
    for i in range(0, d, tile):
        j = min(i + tile, d)
        if rows.dtype == gram.dtype:
            gram[i:j, i:].addmm_(rows[:, i:j].T, rows[:, i:], beta=decay)
        else:
            if decay != 1.0:
                gram[i:j, i:].mul_(decay)
            gram[i:j, i:] += rows[:, i:j].T @ rows[:, i:]


def _add(gram: Tensor, rows: Tensor) -> None:
    """Add as `add_gram_` does; raise `FullrankError` where all squares would underflow, as if nothing varied."""
    if float(gram.diagonal().max()) < _LEAST**2 and 0 < (most := float(rows.abs().max())) < _LEAST:
        raise FullrankError(
            f"features vary by {most:.3g} at most, and squares of such numbers underflow: scale them up"
        )
    add_gram_(gram, rows)


def _stack(parts: list[Tensor], exact: bool) -> tuple[Tensor, int]:
    """Join factors F_1, F_2, ... into one of the sum of F_i^T F_i, or add up where they are many rows."""
    d = parts[0].shape[1]
    parts = [part for part in parts if len(part)]
    if sum(map(len, parts)) <= (2 * d if exact else d):
        return torch.cat(parts), ROOT
    if exact:
        return torch.linalg.qr(torch.cat(parts), mode="r").R, ROOT
    gram = torch.zeros(d, d, dtype=torch.float64, device=parts[0].device)
    for part in parts:
        _add(gram, part)
    return gram, GRAM


def merge(a: Moments, b: Moments, *, center: bool = True, exact: bool = False) -> Moments:
    """Return the moments of two groups together (Chan et al. 1979, eq. 2.1); of one `dim` and dtype, or an error."""
    if a.dim != b.dim:
        raise FullrankError(f"cannot merge moments of {a.dim} and {b.dim} dimensions: they are different layers")
    if a.count == 0 or b.count == 0:
        return b if a.count == 0 else a
    if a.dtype != b.dtype:
        raise FullrankError(f"cannot merge features of {a.dtype} and of {b.dtype}: make all parts in one dtype")
    if exact and max(a.form, b.form) != ROOT:
        raise FullrankError("cannot merge a part without exact=True into one with it: its tail is lost; make it again")
    n = a.count + b.count
    parts = [a.matrix, b.matrix]
    shift, total = a.shift, a.total + b.total
    if center:
        delta = (b.shift - a.shift) + b.offset - a.offset
        parts.append((math.sqrt(a.count * b.count / n) * delta)[None])
        # About the joint mean from now on, so that rows to come are not far from the shift.
        shift = a.shift + a.offset + (b.count / n) * delta
        total = a.count * ((a.shift - shift) + a.offset) + b.count * ((b.shift - shift) + b.offset)
    form = max(a.form, b.form)
    if form == ROOT:
        matrix, form = _stack(parts, exact)
    else:
        matrix = torch.zeros(a.dim, a.dim, dtype=torch.float64, device=a.shift.device)
        for part, kind in zip(parts, (a.form, b.form, ROOT), strict=False):
            if kind == ROOT:
                _add(matrix, part)
            else:
                matrix += part
    return Moments(n, shift, total, matrix, form, a.dtype)


def about_zero(moments: Moments) -> Moments:
    """Return the moments about zero of what was absorbed about its mean: C + N m m^T."""
    mean = moments.shift + moments.offset
    row = (math.sqrt(moments.count) * mean)[None]
    if moments.form == ROOT:
        matrix = torch.cat([moments.matrix, row])
    else:
        _add(matrix := moments.matrix.clone(), row)
    return replace(moments, shift=torch.zeros_like(mean), total=moments.count * mean, matrix=matrix)


def singular_values(moments: Moments) -> Tensor:
    """Return the D singular values, `(D,)`, descending; directions that no row reaches are zero."""
    if moments.form != ROOT:
        return gram_singular_values(moments.matrix)
    _check_overflow(moments.matrix)
    found = torch.linalg.svdvals(moments.matrix).cpu() if len(moments.matrix) else torch.zeros(0, dtype=torch.float64)
    return F.pad(found, (0, moments.dim - len(found)))


def gram_singular_values(gram: Tensor) -> Tensor:
    """Return the roots of the eigenvalues, `(D,)`, descending, of a second moment's upper triangle."""
    _check_overflow(gram)
    # On the CPU: LAPACK is as quick for one matrix of this size, and the same digits come out whatever the device.
    # flip: LAPACK's ascending order. clamp: an eigenvalue of zero may come out as -1e-16 of the largest.
    return torch.linalg.eigvalsh(gram.cpu(), UPLO="U").flip(0).clamp(min=0).sqrt()


def _check_overflow(matrix: Tensor) -> None:
    if not bool(torch.isfinite(matrix).all()):
        raise FullrankError("features are so large that their squares overflow float64: scale them down")


def floor(moments: Moments) -> float:
    """Return the singular value, relative to the largest, below which values are rounding noise."""
    return (moments.dim * _EPS, gram_floor(moments.dim), math.sqrt(torch.finfo(torch.float32).eps))[moments.form]


def gram_floor(dim: int) -> float:
    """Return the floor of singular values that come from a second moment, sqrt(D eps)."""
    return math.sqrt(dim * _EPS)


def pack(moments: Moments) -> Tensor:
    """Return one float64 vector that holds everything: `dim, count, form, dtype, shift, total, matrix`."""
    code = DTYPES.index(moments.dtype) if moments.dtype else -1
    header = moments.shift.new_tensor([moments.dim, moments.count, moments.form, code])
    return torch.cat([header, moments.shift, moments.total, moments.matrix.flatten()])


def unpack(packed: Tensor) -> Moments:
    """Return the moments that a packed vector holds; `matrix` is a view of it."""
    dim, count, form, code = (int(value) for value in packed[:_HEADER].tolist())
    shift, total, matrix = packed[_HEADER:].split([dim, dim, len(packed) - _HEADER - 2 * dim])
    return Moments(count, shift, total, matrix.view(-1, dim), form, DTYPES[code] if code >= 0 else "")


def is_packed(packed: Tensor) -> bool:
    """Say whether a tensor may be what `pack` made."""
    if packed.ndim != 1 or len(packed) < _HEADER or not bool(packed[0] >= 1):
        return False
    rest = len(packed) - _HEADER - 2 * (dim := int(packed[0]))
    return rest >= 0 and rest % dim == 0


def repack(moments: Moments, packed: Tensor) -> Tensor:
    """Return what `pack` would; in `packed` itself where the matrix of `moments` lives there already."""
    matrix = unpack(packed).matrix
    if moments.matrix.data_ptr() != matrix.data_ptr() or moments.matrix.shape != matrix.shape or not len(matrix):
        return pack(moments)
    head = pack(replace(moments, matrix=matrix[:0]))
    packed[: len(head)] = head
    return packed
