"""The two criteria of [Garrido23], the identity between them, and what normalization makes of it.

Legend: z: (N, M), row = sample. The paper's K is z^T, (M, N), column = sample: its K_{.,i} is row i of z, an embedding;
its K_{j,.} is column j of z, a dimension.

    L_c  = sum_{i != n} (z_i . z_n)^2          pairs of rows: `sample_contrastive`
    L_nc = sum_{j != k} (z_.j . z_.k)^2        pairs of columns: `dimension_contrastive`
    L_nc + sum_j ||z_.j||^4 = L_c + sum_i ||z_i||^4                            (Theorem 3.3, for any z)

The two sums of fourth powers are `dimension_residual` and `sample_residual`. Where they are constant, both criteria
have the same minimizers. **A correction**: the text gives L_nc = L_c + N - M for rows and columns of norm one. But rows
of norm one make ||z||_F^2 = N and columns of norm one make it M, so this holds for N = M only, where it says
L_nc = L_c. What other shapes allow is rows of norm one and columns of norm sqrt(N / M), and then

    L_nc = L_c + N - N^2 / M                                                   (`balanced_gap`)

`balance` scales any z to that.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from fullrank.errors import FullrankError, choose
from fullrank.losses._gram import off_diagonal_energy
from fullrank.losses._inputs import AMONG_DIMENSIONS, AMONG_IMAGES, check_matrices, check_positive, full_precision
from fullrank.numerics import centered, l2_normalize

__all__ = ["balance", "balanced_gap", "dimension_contrastive", "dimension_contrastive_bounds", "dimension_residual"]
__all__ += ["normalize", "sample_contrastive", "sample_contrastive_bounds", "sample_residual"]

Scheme = Literal["vicreg", "vicreg_exp", "vicreg_ctr", "simclr", "simclr_a", "simclr_b"]


@full_precision
def sample_contrastive(z: Tensor) -> Tensor:
    """Sum of squared dot products between different embeddings, L_c = ||K^T K - diag(K^T K)||_F^2.

    Of one view's embeddings `(N, M)`, N >= 2, neither centered nor normalized (see `normalize`), through the smaller of
    the N x N and M x M matrices. Non-negative up to rounding; 0 for orthogonal embeddings. A sum: it grows as N^2.

    Reference: [Garrido23] Definition 3.2.

    >>> import torch
    >>> sample_contrastive(torch.tensor([[1.0, 0.0, 0.0], [2.0, 1.0, 0.0]])).item()
    8.0
    """
    check_matrices("sample_contrastive", rows=AMONG_IMAGES, z=z)
    return off_diagonal_energy(columns := z.T, columns)


@full_precision
def dimension_contrastive(z: Tensor) -> Tensor:
    """Sum of squared dot products between different dimensions, L_nc = ||K K^T - diag(K K^T)||_F^2.

    As `sample_contrastive`, but M >= 2: 0 for orthogonal dimensions, growing as M^2. Of centered z it is M (N - 1)^2
    times the covariance term that VICReg takes of one view.

    Reference: [Garrido23] Definition 3.2.

    >>> import torch
    >>> dimension_contrastive(torch.tensor([[1.0, 0.0, 0.0], [2.0, 1.0, 0.0]])).item()
    8.0
    """
    check_matrices("dimension_contrastive", columns=AMONG_DIMENSIONS, z=z)
    return off_diagonal_energy(z, z)


@full_precision
def sample_residual(z: Tensor) -> Tensor:
    """Sum over embeddings of the fourth power of their norm, sum_i ||K_{.,i}||^4: what the identity adds to L_c.

    Between ||z||_F^4 / N, at equal norms, and ||z||_F^4 (Lemma 3.4).

    Takes what `sample_contrastive` takes, of any shape that is not empty.

    Reference: [Garrido23] Theorem 3.3, Lemma 3.4.
    """
    check_matrices("sample_residual", z=z)
    return z.square().sum(dim=1).square().sum()


@full_precision
def dimension_residual(z: Tensor) -> Tensor:
    """Sum over dimensions of the fourth power of their norm, sum_j ||K_{j,.}||^4: what the identity adds to L_nc.

    Between ||z||_F^4 / M, at equal norms, and ||z||_F^4 (Lemma 3.4). VICReg's covariance term is L_c + L_reg of
    centered embeddings, L_reg = `sample_residual` - `dimension_residual` (eq. 9 and 10).

    Takes what `sample_contrastive` takes, of any shape that is not empty.

    Reference: [Garrido23] Theorem 3.3, Lemma 3.4.

    >>> import torch
    >>> z = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> (dimension_contrastive(z) + dimension_residual(z)).item(), (sample_contrastive(z) + sample_residual(z)).item()
    (8233.0, 8233.0)
    """
    check_matrices("dimension_residual", z=z)
    return z.square().sum(dim=0).square().sum()


def sample_contrastive_bounds(dimension_loss: float, n: int, m: int) -> tuple[float, float]:
    """Return the least and the greatest L_c that N embeddings of norm one and M dimensions can have at a given L_nc.

        L_nc - N + N^2 / M <= L_c <= L_nc - N + N^2

    The lower end is reached when all dimensions have one norm (`balance`), the upper when all but one are zero.

    Reference: [Garrido23] Corollary 3.4.1, eq. 6.

    >>> sample_contrastive_bounds(10.0, n=4, m=2)
    (14.0, 22.0)
    """
    check_positive(n=n, m=m)
    return dimension_loss - n + n * n / m, dimension_loss - n + n * n


def dimension_contrastive_bounds(sample_loss: float, n: int, m: int) -> tuple[float, float]:
    """Return the least and the greatest L_nc that dimensions of norm one can have at a given L_c.

        L_c - M + M^2 / N <= L_nc <= L_c - M + M^2

    Arguments are as in `sample_contrastive_bounds`.

    Reference: [Garrido23] Corollary 3.4.1, eq. 7.

    >>> dimension_contrastive_bounds(10.0, n=2, m=4)
    (14.0, 22.0)
    """
    check_positive(n=n, m=m)
    return sample_loss - m + m * m / n, sample_loss - m + m * m


def balanced_gap(n: int, m: int) -> float:
    """Return L_nc - L_c = N - N^2 / M of N embeddings of norm one whose M dimensions all have one norm, sqrt(N / M).

    The paper's text has N - M, for dimensions of norm one: those exist only for N = M (see the module).

    Reference: [Garrido23] Theorem 3.3, corrected.

    >>> balanced_gap(256, 8192)
    248.0
    """
    check_positive(n=n, m=m)
    return n - n * n / m


@full_precision
def balance(z: Tensor, *, iterations: int = 100) -> Tensor:
    """Scale rows to norm one and columns to norm sqrt(N / M), in turn: Sinkhorn's algorithm on the squared entries.

    `(N, M)` in and out; both are scaled `iterations` times, at least once. It converges for z without zeros. The last
    step is the rows', so their norms are exact, and those of the columns as good as the iterations made them.
    """
    check_matrices("balance", z=z)
    if iterations < 1:
        raise FullrankError(f"iterations must be at least 1, got {iterations}")
    n, m = z.shape
    for _ in range(iterations):
        z = l2_normalize(l2_normalize(z, dim=0) * (n / m) ** 0.5)
    return z


@full_precision
def normalize(z: Tensor, scheme: Scheme) -> Tensor:
    """Normalize embeddings as a method does, or as [Garrido23] do to compare it with another.

    | scheme                 | columns centered | rows' norm | columns' norm |
    |------------------------|-----------------|------------|---------------|
    | `vicreg`, `vicreg_exp` | yes             |            | sqrt(N)       |
    | `vicreg_ctr`           | yes             | 1          |               |
    | `simclr`               | no              | 1          |               |
    | `simclr_a`             | yes             | 1          |               |
    | `simclr_b`             | yes             |            | sqrt(N / M)   |

    VICReg and its variants do not normalize: it is where their variance term drives embeddings, up to one scale.
    `simclr_a` and `simclr_b` are SimCLR made comparable to VICReg-ctr and VICReg. Centering comes first. Rows and
    columns of zeros stay zero. `(N, M)` in and out.

    Reference: [Garrido23] Table 1, eq. 14.

    >>> import torch
    >>> normalize(torch.tensor([[3.0, 1.0], [5.0, 5.0]]), "simclr_b")
    tensor([[-0.7071, -0.7071],
            [ 0.7071,  0.7071]])
    """
    check_matrices("normalize", z=z)
    choose("scheme", scheme, get_args(Scheme))
    n, m = z.shape
    if scheme != "simclr":
        z = centered(z)
    if scheme in ("vicreg", "vicreg_exp", "simclr_b"):
        return l2_normalize(z, dim=0) * (n / m if scheme == "simclr_b" else n) ** 0.5
    return l2_normalize(z)
