"""Sums over all pairs of columns, through whichever Gram matrix is smaller.

Legend: A, B: (N, M); a_j: column j of A.

||A^T B||_F^2 = <A A^T, B B^T>: the sum over M x M pairs of columns is also a sum over N x N pairs of rows ([Garrido23],
the step behind Theorem 3.3). What the losses want leaves out the diagonal, which costs O(NM) to subtract.
"""

from __future__ import annotations

import torch
from torch import Tensor


def rows_are_fewer(n: int, m: int) -> bool:
    """Tell whether sums over pairs of the M columns of an `(N, M)` matrix go through the N x N matrix."""
    return n < m


def off_diagonal_energy(a: Tensor, b: Tensor) -> Tensor:
    """Return sum_{j != k} (a_j . b_k)^2 over pairs of columns, through the smaller Gram matrix.

    Args:
        a: `(N, M)`.
        b: `(N, M)`; pass `a` itself for a Gram matrix of one.
    """
    n, m = a.shape
    if rows_are_fewer(n, m):
        gram = a @ a.T
        whole = gram.square() if b is a else gram * (b @ b.T)
        return (_sum(whole.sum(dim=1)) - _sum((a * b).sum(dim=0).square())).to(a.dtype)
    # The diagonal is left out rather than subtracted: columns may be nearly orthogonal.
    return _sum((a.T @ b).square().masked_fill(eye(m, a), 0).sum(dim=1)).to(a.dtype)


def log_det_identity_plus(a: Tensor, scale: float) -> Tensor:
    """Return log det(I + scale A^T A) = log det(I + scale A A^T) of A `(N, M)`, scale >= 0 (Sylvester's identity)."""
    gram = a @ a.T if rows_are_fewer(*a.shape) else a.T @ a
    # Not `logdet` or Cholesky: NaN embeddings shall give a NaN loss, as everywhere else, and no error.
    return torch.linalg.slogdet(torch.eye(len(gram), dtype=a.dtype, device=a.device) + scale * gram).logabsdet


def eye(size: int, like: Tensor) -> Tensor:
    """Return a boolean mask of the diagonal, `(size, size)`."""
    return torch.eye(size, dtype=torch.bool, device=like.device)


def _sum(x: Tensor) -> Tensor:
    """Return the sum of a vector in float64, for a difference of such sums, on devices that have it."""
    return x.sum(dtype=x.dtype if x.device.type == "mps" else torch.float64)
