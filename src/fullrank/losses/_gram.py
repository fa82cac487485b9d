"""Sums over all pairs of columns, through whichever Gram matrix is smaller.

Legend: A, B: (N, M); a_j: column j of A.

||A^T B||_F^2 = <A A^T, B B^T>: the sum over M x M pairs of columns is also a sum over N x N pairs of rows ([Garrido23],
the step behind Theorem 3.3). What the losses want leaves out the diagonal, which costs O(NM) to subtract.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fullrank.numerics import exact_arithmetic

LONGEST = 8  # columns whose pairs are summed one by one: 8 / N of the Gram matrix's cost
ENOUGH = 64  # what float32's rounding may be multiplied by


def rows_are_fewer(n: int, m: int) -> bool:
    """Tell whether sums over pairs of the M columns of an `(N, M)` matrix go through the N x N matrix."""
    return n < m


def off_diagonal_energy(a: Tensor, b: Tensor) -> Tensor:
    """Return sum_{j != k} (a_j . b_k)^2 over pairs of columns, through the smaller Gram matrix.

    Through the rows' matrix, the pairs of the `LONGEST` longest columns with all others are summed one by one,
    O(`LONGEST` NM), so what is subtracted are the rest's norms alone. Products are float32's where these are shown to
    be enough, else float64's, which take twice the time; no setting of float32 products reaches either. Rounding by u
    changes the result E by at most about 2 u q E,

        q = [ (|G_a| |B|^2 + |G_b| |A|^2) / 2 + sqrt(P S) ] / E

    with Frobenius norms, A and B the rest, G their Gram matrices, P the sum over pairs of the longest, and S the same
    sum of norms in place of dot products. Float32 is enough while q <= `ENOUGH`: 2^-17 or 8e-6, of which a tenth is
    measured. For independent columns of any lengths q is about sqrt(N).

    Args:
        a: `(N, M)`; in float64, all products are.
        b: `(N, M)`; pass `a` itself for a Gram matrix of one.
    """
    n, m = a.shape
    if not rows_are_fewer(n, m):
        x = exact(a)
        # The diagonal is left out rather than subtracted: columns may be nearly orthogonal.
        return (x.T @ (x if b is a else exact(b))).square().masked_fill(eye(m, a), 0).sum().to(a.dtype)
    energy, enough = _through_rows(a, b)
    if a.dtype == torch.float32 and not _holds(enough):
        x = exact(a)
        energy, _ = _through_rows(x, x if b is a else exact(b))
    return energy.to(a.dtype)


def _through_rows(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the energy, multiplied in the type of `a` and summed in float64, and whether float32 is enough for it."""
    n, m = a.shape
    one = b is a
    with torch.no_grad():
        of_a = exact(torch.linalg.vector_norm(a, dim=0)).square()
        of_b = of_a if one else exact(torch.linalg.vector_norm(b, dim=0)).square()
        longest = (of_a * of_b).topk(min(LONGEST, n, m)).indices
    itself = longest[:, None] == torch.arange(m, device=a.device)
    short_a = a.index_fill(1, longest, 0)
    short_b = short_a if one else b.index_fill(1, longest, 0)
    gram_a = exact(_Gram.apply(short_a))
    gram_b = gram_a if one else exact(_Gram.apply(short_b))
    pairs = exact(_Product.apply(a[:, longest].T, b)).square().masked_fill(itself, 0).sum()
    pairs = pairs + exact(_Product.apply(b[:, longest].T, short_a)).square().sum()
    energy = pairs + ((gram_a * gram_b).sum() - exact((short_a * short_b).sum(dim=0)).square().sum())
    with torch.no_grad():
        rest_a, rest_b = (of.index_fill(0, longest, 0).sum() for of in (of_a, of_b))
        apart = (of_a[longest] * (of_b.sum() - of_b[longest]) + of_b[longest] * rest_a).sum()
        q = (gram_a.norm() * rest_b + gram_b.norm() * rest_a) / 2 + (pairs * apart).sqrt()
        # Beyond these sizes float32 has no numbers, or few digits, for the products or their gradients.
        enough = (q <= ENOUGH * energy) & (energy > 1e-30) & (energy < 1e48)
    return energy, enough


def _holds(answer: Tensor) -> bool:
    """Tell whether a tensor is true; where nobody can look at it, in `torch.func.vmap` and in tracing, it is not."""
    try:
        return bool(answer)
    except RuntimeError:
        return False


class _Product(torch.autograd.Function):
    """a @ b and its gradients, whatever `float32_matmul_precision` is when either is computed."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        with exact_arithmetic(gradients=True):
            return a @ b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, along_a: Tensor, along_b: Tensor) -> Tensor:
        a, b = ctx.saved_tensors
        return _Product.apply(along_a, b) + _Product.apply(a, along_b)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (_Product.apply(slope, b.T) if wanted[0] else None, _Product.apply(a.T, slope) if wanted[1] else None)


class _Gram(torch.autograd.Function):
    """x @ x.T, whose gradient is one product, where autograd makes two of it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        with exact_arithmetic(gradients=True):
            return x @ x.T

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, along: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        half = _Product.apply(along, x.T)
        return half + half.T

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return _Product.apply(slope + slope.T, x)


def log_det_identity_plus(a: Tensor, scale: float) -> Tensor:
    """Return log det(I + scale A^T A) = log det(I + scale A A^T) of A `(N, M)`, scale >= 0 (Sylvester's identity)."""
    x = exact(a)
    gram = x @ x.T if rows_are_fewer(*a.shape) else x.T @ x
    identity = torch.eye(len(gram), dtype=x.dtype, device=a.device)
    # Not `logdet` or Cholesky: NaN embeddings shall give a NaN loss, as everywhere else, and no error.
    return torch.linalg.slogdet(identity + scale * gram).logabsdet.to(a.dtype)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b, multiplied in float64 both ways: float32's products depend on `float32_matmul_precision`."""
    return (exact(a) @ exact(b)).to(a.dtype)


def normalized(scale: Callable[[Tensor], Tensor], *views: Tensor) -> list[Tensor]:
    """Return what `scale` makes of each view, in float64 if any of them is then nearly of rank one.

    One very long dimension makes all rows of norm one nearly the same but for a sign, one very long sample all
    columns. A gradient then points along them but for a small rest, which is all that normalization leaves of it, and
    which float32 does not hold. Nearly: more than half of the squares lie along the image of the longest row.
    """
    scaled = [scale(z) for z in views]
    if any(z.dtype == torch.float32 and _holds(_nearly_one_direction(z.detach())) for z in scaled):
        return [scale(exact(z)) for z in views]
    return scaled


def _nearly_one_direction(x: Tensor) -> Tensor:
    rows = torch.linalg.vector_norm(x, dim=1)
    longest = x[rows.argmax(dim=0, keepdim=True)]  # a number as the index would be looked at, which `vmap` forbids
    along = x @ longest.T
    return (along.T @ x).norm() / along.norm() > 0.5**0.5 * rows.norm()


def exact(x: Tensor) -> Tensor:
    """Return x in float64, on devices that have it."""
    return x if x.device.type == "mps" else x.double()


def eye(size: int, like: Tensor) -> Tensor:
    """Return a boolean mask of the diagonal, `(size, size)`."""
    return torch.eye(size, dtype=torch.bool, device=like.device)
