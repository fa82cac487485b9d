"""Sums over all pairs of columns, through whichever Gram matrix is smaller.

Legend: A, B: (N, M); a_j: column j of A.

||A^T B||_F^2 = <A A^T, B B^T>: the sum over M x M pairs of columns is also a sum over N x N pairs of rows ([Garrido23],
the step behind Theorem 3.3). What the losses want leaves out the diagonal, which costs O(NM) to subtract.
"""

from __future__ import annotations

import torch
from torch import Tensor

LONGEST = 8  # columns whose pairs are summed one by one: 8 / N of the Gram matrix's cost


def rows_are_fewer(n: int, m: int) -> bool:
    """Tell whether sums over pairs of the M columns of an `(N, M)` matrix go through the N x N matrix."""
    return n < m


def off_diagonal_energy(a: Tensor, b: Tensor) -> Tensor:
    """Return sum_{j != k} (a_j . b_k)^2 over pairs of columns, through the smaller Gram matrix.

    All products are float64's, which no setting of float32 products reaches. Through the rows' matrix, the pairs of the
    `LONGEST` longest columns with all others are summed one by one, O(`LONGEST` NM), so what is subtracted are the
    rest's norms alone. The relative error is about 2^-52 (E_r + D_r) / E beside the rounding to the input's type: E the
    result, E_r and D_r the rest's off-diagonal and diagonal sums. For independent columns of any lengths that quotient
    is at most about N.

    Args:
        a: `(N, M)`.
        b: `(N, M)`; pass `a` itself for a Gram matrix of one.
    """
    n, m = a.shape
    x = exact(a)
    y = x if b is a else exact(b)
    if not rows_are_fewer(n, m):
        # The diagonal is left out rather than subtracted: columns may be nearly orthogonal.
        return (x.T @ y).square().masked_fill(eye(m, a), 0).sum().to(a.dtype)
    longest = (x.detach().square().sum(dim=0) * y.detach().square().sum(dim=0)).topk(min(LONGEST, n, m)).indices
    short_x = x.index_fill(1, longest, 0)
    short_y = short_x if y is x else y.index_fill(1, longest, 0)
    itself = longest[:, None] == torch.arange(m, device=a.device)
    pairs = (x[:, longest].T @ y).square().masked_fill(itself, 0).sum()
    pairs = pairs + (y[:, longest].T @ short_x).square().sum()
    gram = short_x @ short_x.T
    whole = gram.square() if y is x else gram * (short_y @ short_y.T)
    return (pairs + (whole.sum() - (short_x * short_y).sum(dim=0).square().sum())).to(a.dtype)


def log_det_identity_plus(a: Tensor, scale: float) -> Tensor:
    """Return log det(I + scale A^T A) = log det(I + scale A A^T) of A `(N, M)`, scale >= 0 (Sylvester's identity)."""
    x = exact(a)
    gram = x @ x.T if rows_are_fewer(*a.shape) else x.T @ x
    # Not `logdet` or Cholesky: NaN embeddings shall give a NaN loss, as everywhere else, and no error.
    return torch.linalg.slogdet(torch.eye(len(gram), dtype=x.dtype, device=a.device) + scale * gram).logabsdet.to(
        a.dtype
    )


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b, multiplied in float64 both ways: float32's products depend on `float32_matmul_precision`."""
    return (exact(a) @ exact(b)).to(a.dtype)


def exact(x: Tensor) -> Tensor:
    """Return x in float64, on devices that have it."""
    return x if x.device.type == "mps" else x.double()


def eye(size: int, like: Tensor) -> Tensor:
    """Return a boolean mask of the diagonal, `(size, size)`."""
    return torch.eye(size, dtype=torch.bool, device=like.device)
