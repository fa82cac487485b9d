"""Dimension-contrastive losses: dimensions of the embedding are pushed apart, by their covariance over the batch.

Legend: z1, z2: (N, M) embeddings of two views, row n of both from image n; x: z minus the mean of each column;
C = x^T x / (N - 1): (M, M) covariance.

`vicreg`, `barlow_twins` and `tcr` take whichever of the N x N and M x M matrices is smaller: same value, same gradient
([Garrido23], Theorem 3.3; docs/duality.md). `vicreg_exp` needs each entry of C and builds it, M x M; `vicreg_ctr`, its
transpose and so a sample-contrastive loss, N x N.

Statistics are those of the batch at hand: on several processes `gather` the embeddings first.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fullrank.errors import choose
from fullrank.losses._gram import exact, eye, log_det_identity_plus, normalized, off_diagonal_energy
from fullrank.losses._inputs import (
    AMONG_DIMENSIONS,
    AMONG_IMAGES,
    OVER_DIMENSIONS,
    OVER_IMAGES,
    check_finite,
    check_matrices,
    check_positive,
    full_precision,
)
from fullrank.numerics import centered, l2_normalize

__all__ = ["barlow_twins", "tcr", "vicreg", "vicreg_ctr", "vicreg_exp"]

Center = Literal["dimensions", "embeddings"]
Toward = Literal["mean", "view"]


@full_precision
def vicreg(
    z1: Tensor,
    z2: Tensor,
    *,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    eps: float = 1e-4,
) -> Tensor:
    """VICReg: keep views together, each dimension's deviation above one, and dimensions uncorrelated.

        L = invariance mean_{n,j} (z1_nj - z2_nj)^2
          + variance   1/2 sum_{z = z1, z2} mean_j max(0, 1 - sqrt(C_jj + eps))
          + covariance sum_{z = z1, z2} 1/M sum_{j != k} C_jk^2

    Conventions are those of the authors' code: the invariance is a mean over images and dimensions, the variance term
    a mean over the two views, the covariance term a sum over them, C unbiased. Elsewhere:
    - the paper's invariance (eq. 5) sums over dimensions: its lambda is `invariance` / M here; [Garrido23] eq. 10 sums
      over images too, lambda = `invariance` / (N M), and its mu is `variance` / 2;
    - solo-learn sums the variance term over the views: its weight w is `variance=2 * w` here.

    `z1` and `z2` are `(N, M)`, N >= 2, M >= 2, not normalized; `eps` is positive, so that the gradient of a root at 0
    is finite. A scalar, non-negative for non-negative weights; 24.75 with the defaults after a complete collapse.

    Reference: Bardes, Ponce & LeCun 2022 (https://arxiv.org/abs/2105.04906), eq. 1 to 6 and algorithm 1.

    >>> z = torch.ones(4, 2)
    >>> vicreg(z, z).item()
    24.75
    """
    check_matrices("vicreg", rows=OVER_IMAGES, columns=AMONG_DIMENSIONS, z1=z1, z2=z2)
    check_positive(eps=eps)
    check_finite(invariance=invariance, variance=variance, covariance=covariance)
    n, m = z1.shape
    loss = invariance * _squared_distance(z1, z2)
    for x in (centered(z1), centered(z2)):
        loss = loss + variance / 2 * _hinge(x, eps) + covariance * off_diagonal_energy(x, x) / ((n - 1) ** 2 * m)
    return loss


@full_precision
def vicreg_exp(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float = 0.1,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 10.0,
    eps: float = 1e-4,
) -> Tensor:
    """VICReg whose covariance term is a log-sum-exp, as the repulsion of InfoNCE: VICReg-exp.

        L = `vicreg` with sum_{z = z1, z2} 1/M sum_j log sum_{k != j} exp(C_jk / tau) in place of the squares

    It rewards negative covariance and nearly ignores small entries, unlike squares. The invariance and variance terms
    follow `vicreg` (a mean over images and dimensions; a mean over views); the paper's lambda and mu are `invariance` /
    (N M) and `variance` / 2.

    **tau and the weights are ours**: the authors' are in an appendix that could not be read, and their code is not
    public. log sum_k exp(C_jk / tau) is log M + mean C / tau + mean C^2 / (2 tau^2) + ..., so that small covariances
    are punished as `vicreg` punishes them at a weight of 2 tau^2 M times its own: 10 at tau = 0.1, M = 512, which is
    the default. Scale it with M.

    A scalar; `temperature` is tau > 0, and the other arguments are those of `vicreg`.

    Reference: [Garrido23] eq. 11 and 12.

    >>> z = torch.ones(4, 3)
    >>> round(vicreg_exp(z, z, variance=0, covariance=1 / 2).exp().item(), 4)
    2.0
    """
    check_matrices("vicreg_exp", rows=OVER_IMAGES, columns=AMONG_DIMENSIONS, z1=z1, z2=z2)
    check_positive(temperature=temperature, eps=eps)
    check_finite(invariance=invariance, variance=variance, covariance=covariance)
    loss = invariance * _squared_distance(z1, z2)
    for x in (centered(z1), centered(z2)):
        loss = loss + variance / 2 * _hinge(x, eps) + covariance * _exponential(x, temperature)
    return loss


@full_precision
def vicreg_ctr(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float = 0.1,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 2.5,
    eps: float = 1e-4,
    center: Center = "dimensions",
) -> Tensor:
    """VICReg-exp of the transposed embeddings, which makes it sample-contrastive: VICReg-ctr.

        L = invariance mean_{n,j} (z1_nj - z2_nj)^2
          + variance   1/2 sum_{z = z1, z2} mean_n max(0, 1 - sqrt(G_nn + eps))
          + covariance sum_{z = z1, z2} 1/N sum_n log sum_{i != n} exp(G_ni / tau),    G = x x^T / (M - 1), (N, N)

    The hinge holds the embeddings' norms above about sqrt(M), which makes G a matrix of cosines, and the repulsion is
    `dcl`'s without the other view's negatives.

    **tau and the weights are ours**, as in `vicreg_exp`. At squared norms of M the invariance term is `invariance`
    |u1 - u2|^2 of unit embeddings, where SimCLR has |u1 - u2|^2 / (2 tau), and the repulsion is summed over two views
    where SimCLR has their mean: the two are in SimCLR's proportion at a weight of tau `invariance`, the default.

    `center` says what x is: each column of z minus its mean (`dimensions`), as the paper's Table 1 has it, or each row
    minus its mean (`embeddings`), which is eq. 13 to the letter, the variance and covariance of z^T.

    A scalar; `temperature` is tau > 0, and the other arguments are those of `vicreg`.

    Reference: [Garrido23] eq. 13 and Table 1.

    >>> z = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, -1.0]]).repeat(1, 2)
    >>> vicreg_ctr(z, z, center="embeddings").item() == vicreg_exp(z.T, z.T, covariance=2.5).item()
    True
    """
    check_matrices("vicreg_ctr", rows=AMONG_IMAGES, columns=OVER_DIMENSIONS, z1=z1, z2=z2)
    check_positive(temperature=temperature, eps=eps)
    check_finite(invariance=invariance, variance=variance, covariance=covariance)
    choose("center", center, get_args(Center))
    loss = invariance * _squared_distance(z1, z2)
    for z in (z1, z2):
        x = centered(z, dim=0 if center == "dimensions" else 1).T
        loss = loss + variance / 2 * _hinge(x, eps) + covariance * _exponential(x, temperature)
    return loss


@full_precision
def barlow_twins(z1: Tensor, z2: Tensor, *, lambd: float = 0.0051, eps: float = 1e-5) -> Tensor:
    """Barlow Twins: the correlations between the dimensions of two views shall be the identity.

        L = sum_j (1 - R_jj)^2 + lambda sum_{j != k} R_jk^2,    R = b1^T b2 / N, (M, M)
        b_nj = x_nj / sqrt(mean_n x_nj^2 + eps)

    b is a batch norm without affine weights, as in the authors' code: biased variance, statistics of each view alone
    and of all processes (eq. 2 is without eps). `z1` and `z2` are `(N, M)`, N >= 2, M >= 2; `lambd` is lambda, and
    `eps` positive. A scalar, non-negative for a non-negative weight; M after a complete collapse.

    Reference: Zbontar et al. 2021 (https://arxiv.org/abs/2103.03230), eq. 1 and 2, algorithm 1.

    >>> z = torch.ones(4, 3)
    >>> barlow_twins(z, z).item()
    3.0
    """
    check_matrices("barlow_twins", rows=OVER_IMAGES, columns=AMONG_DIMENSIONS, z1=z1, z2=z2)
    check_positive(eps=eps)
    check_finite(lambd=lambd)
    b1, b2 = normalized(lambda z: _standardized(centered(z), eps), z1, z2)
    agreement = (b1 * b2).mean(dim=0)
    return ((1 - agreement).square().sum() + lambd * off_diagonal_energy(b1, b2) / len(z1) ** 2).to(z1.dtype)


@full_precision
def tcr(z1: Tensor, z2: Tensor, *, eps: float = 0.2, invariance: float = 200.0, toward: Toward = "mean") -> Tensor:
    """Total coding rate: unit embeddings of each view shall fill as many directions as they can, and views agree.

        L = -1/2 [R(u1) + R(u2)] - invariance S,    R(u) = 1/2 log det(I + M / (N eps) u^T u),   u: rows of norm 1
        mean:  S = 1/2 mean_n [cos(u1_n, m_n) + cos(u2_n, m_n)],   m = (u1 + u2) / 2
        view:  S = mean_n u1_n.u2_n

    What is whose: R is the coding rate of maximal coding rate reduction (Yu et al. 2020), where `eps` is the paper's
    epsilon *squared*. Li et al. 2022 (NMCE), whom [Garrido23] mean by TCR, add S between the two views: their code's
    defaults are `toward="view"`, `eps=0.5`, `invariance=100`. EMP-SSL takes S to the mean of many views: the defaults
    here are its code's, for two views.

    `z1` and `z2` are `(N, M)`, and `eps` positive; `invariance=0` leaves the coding rate alone. A scalar, at least
    -invariance - min(N, M)/2 log(1 + M / (min(N, M) eps)).

    Reference: Li et al. 2022 (https://arxiv.org/abs/2201.10000); Tong et al. 2023, EMP-SSL
        (https://arxiv.org/abs/2304.03977); Yu et al. 2020 (https://arxiv.org/abs/2006.08558).

    >>> z = torch.eye(2)
    >>> round(tcr(z, z, eps=1.0, invariance=0).mul(-1).exp().item(), 4)
    2.0
    """
    check_matrices("tcr", z1=z1, z2=z2)
    check_positive(eps=eps)
    check_finite(invariance=invariance)
    choose("toward", toward, get_args(Toward))
    n, m = z1.shape
    u1, u2 = normalized(l2_normalize, z1, z2)
    rate = (log_det_identity_plus(u1, m / (n * eps)) + log_det_identity_plus(u2, m / (n * eps))) / 4
    cosines = u1 * u2 if toward == "view" else (u1 + u2) / 2 * l2_normalize(u1 + u2)
    return (-rate - invariance * cosines.sum(dim=1).mean()).to(z1.dtype)


def _squared_distance(z1: Tensor, z2: Tensor) -> Tensor:
    """Return the mean of (z1_nj - z2_nj)^2, as `F.mse_loss` does, which has no derivative in forward mode."""
    return (z1 - z2).square().mean()


def _hinge(x: Tensor, eps: float) -> Tensor:
    """Return the mean over columns of max(0, 1 - standard deviation), of centered x."""
    return F.relu(1 - (x.square().sum(dim=0) / (len(x) - 1) + eps).sqrt()).mean()


def _standardized(x: Tensor, eps: float) -> Tensor:
    """Return centered x over the standard deviations of its columns; NaN where a variance is too large for its type."""
    variance = x.square().mean(dim=0)
    # infinite variances would make x 0, as if the encoder had collapsed, with no gradient by which to notice
    return x * (variance + eps).rsqrt().masked_fill(variance.isinf(), torch.nan)


def _exponential(x: Tensor, temperature: float) -> Tensor:
    """Return the mean over columns j of log sum_{k != j} exp(C_jk / tau), of centered x."""
    wide = exact(x)  # scores may be far larger than their differences, of which the result is made
    scores = wide.T @ wide / ((len(x) - 1) * temperature)
    return scores.masked_fill(eye(len(scores), x), -torch.inf).logsumexp(dim=1).mean().to(x.dtype)
