"""Sample-contrastive losses: embeddings of different images are pushed apart.

Legend: z1, z2: (N, M) embeddings of two views, row n of both from image n; u: their rows divided by their L2 norms,
stacked to (2N, M), so that u_i and u_i', i' = i + N mod 2N, are the two views of one image; tau: temperature.

| loss                   | repels                            | positive pair in the log-sum-exp |
|------------------------|-----------------------------------|----------------------------------|
| `info_nce` (SimCLR)    | exp(cos / tau)                    | yes                              |
| `simclr_sq`, `_abs`    | exp(cos^2 / tau), exp(|cos| / tau)| yes                              |
| `dcl`                  | exp(cos / tau)                    | no                               |
| `dcl_sq`, `dcl_abs`    | exp(cos^2 / tau), exp(|cos| / tau)| no                               |
| `spectral_contrastive` | dot product squared               | no                               |

With squares and absolute values the optimum is orthogonality, that of the sample-contrastive criterion L_c
(`fullrank.losses.duality`); with plain cosines it is only on average ([Garrido23], Propositions 3.1 and 3.2).
`vicreg_ctr`, which repels like `dcl`, is with the loss it is the transpose of, in `fullrank.losses.covariance`.

The negatives of all of them are those of the batch at hand: on several processes `gather` the embeddings first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fullrank.errors import choose
from fullrank.losses._gram import eye, normalized, off_diagonal_energy, product
from fullrank.losses._inputs import AMONG_IMAGES, check_matrices, check_positive, full_precision
from fullrank.numerics import l2_normalize

__all__ = ["dcl", "dcl_abs", "dcl_sq", "info_nce", "mocov3", "simclr_abs", "simclr_sq", "spectral_contrastive"]

Negatives = Literal["both", "cross"]


@full_precision
def info_nce(z1: Tensor, z2: Tensor, *, temperature: float = 0.1, negatives: Negatives = "both") -> Tensor:
    """Cross-entropy of picking out an image's other view among the batch: SimCLR's NT-Xent, or MoCo-v3's half of it.

        both:   L = -1/(2N) sum_i log [exp(u_i.u_i'/tau) / sum_{j != i} exp(u_i.u_j/tau)]      over 2N anchors
        cross:  L = -1/N sum_{i<=N} log [exp(u_i.u_i'/tau) / sum_{j<=N} exp(u_i.u_j'/tau)]     z1 against z2 only

    `mocov3` makes a loss of two branches of the second. `z1` and `z2` are `(N, M)`, N >= 2. `temperature` is tau > 0:
    SimCLR 0.1 (its best on ImageNet), MoCo-v3 1.0 (ResNet) and 0.2 (ViT); [Garrido23] found 0.15 best for SimCLR with
    VICReg's projector. `negatives` are those of `both` views, or of the other one (`cross`). A scalar, non-negative;
    log(2N - 1) (`both`) or log N (`cross`) after a complete collapse.

    Reference: Chen et al. 2020 (https://arxiv.org/abs/2002.05709), eq. 1; Chen, Xie & He 2021
        (https://arxiv.org/abs/2104.02057), algorithm 1.

    >>> z = torch.ones(3, 2)
    >>> round(info_nce(z, z).exp().item(), 4), round(info_nce(z, z, negatives="cross").exp().item(), 4)
    (5.0, 3.0)
    """
    choose("negatives", negatives, get_args(Negatives))
    if negatives == "both":
        return _over_both_views("info_nce", z1, z2, temperature, torch.positive, decoupled=False)
    check_matrices("info_nce", rows=AMONG_IMAGES, z1=z1, z2=z2)
    check_positive(temperature=temperature)
    logits = product(l2_normalize(z1), l2_normalize(z2).T) / temperature
    above = logits.masked_fill(eye(len(z1), z1), -torch.inf).logsumexp(dim=1) - logits.diagonal()
    return F.softplus(above).mean()


@full_precision
def mocov3(z1: Tensor, z2: Tensor, p1: Tensor, p2: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Tell each prediction's target from those of the batch's other images, in both directions: MoCo-v3's loss.

        L = 2 tau [InfoNCE(p1 -> sg(z2)) + InfoNCE(p2 -> sg(z1))]

    InfoNCE is `info_nce` with `negatives="cross"`, sg the stop-gradient. Arguments are those of `byol`, N >= 2;
    `temperature` is tau > 0, 1.0 for the paper's ResNet-50 and 0.2 for its ViTs. A scalar, non-negative; 4 tau log N
    after a complete collapse.

    Reference: Chen, Xie & He 2021 (https://arxiv.org/abs/2104.02057), algorithm 1.

    >>> z = torch.ones(3, 2)
    >>> round(mocov3(z, z, z, z).div(4).exp().item(), 4)
    3.0
    """
    check_matrices("mocov3", rows=AMONG_IMAGES, z1=z1, z2=z2, p1=p1, p2=p2)
    pairs = ((p1, z2.detach()), (p2, z1.detach()))
    first, second = (info_nce(p, z, temperature=temperature, negatives="cross") for p, z in pairs)
    return 2 * temperature * (first + second)


@full_precision
def simclr_sq(z1: Tensor, z2: Tensor, *, temperature: float = 0.1) -> Tensor:
    """SimCLR that repels squared cosines, so that negatives are best orthogonal, not opposite.

        L = -1/(2N) sum_i log [exp(u_i.u_i'/tau) / (exp(u_i.u_i'/tau) + sum_{j != i, i'} exp((u_i.u_j)^2/tau))]

    The paper names this loss in its main text and defines it in an appendix that could not be read. Here only
    negatives are squared: a squared positive would reward opposite views as much as equal ones.

    A scalar, non-negative; arguments are those of `info_nce`.

    Reference: [Garrido23] section 3.1, Proposition 3.2.
    """
    return _over_both_views("simclr_sq", z1, z2, temperature, torch.square, decoupled=False)


@full_precision
def simclr_abs(z1: Tensor, z2: Tensor, *, temperature: float = 0.1) -> Tensor:
    """SimCLR that repels absolute cosines: `simclr_sq` with |u_i.u_j| in place of the square.

        L = -1/(2N) sum_i log [exp(u_i.u_i'/tau) / (exp(u_i.u_i'/tau) + sum_{j != i, i'} exp(|u_i.u_j|/tau))]

    A scalar, non-negative; arguments are those of `info_nce`.

    Reference: [Garrido23] section 3.1, Proposition 3.2.
    """
    return _over_both_views("simclr_abs", z1, z2, temperature, torch.abs, decoupled=False)


@full_precision
def dcl(z1: Tensor, z2: Tensor, *, temperature: float = 0.1) -> Tensor:
    """SimCLR without the positive pair in the denominator: decoupled contrastive learning.

        L = 1/(2N) sum_i [-u_i.u_i'/tau + log sum_{j != i, i'} exp(u_i.u_j/tau)]

    A mean over 2N anchors, where the paper has a sum. Its variant DCLW, which weights the positive, is not here.

    A scalar, negative once positives are well above negatives; log(2N - 2) after a complete collapse. Arguments are
    those of `info_nce`.

    Reference: Yeh et al. 2022 (https://arxiv.org/abs/2110.06848), section 3.

    >>> z = torch.ones(3, 2)
    >>> round(dcl(z, z).exp().item(), 4)
    4.0
    """
    return _over_both_views("dcl", z1, z2, temperature, torch.positive, decoupled=True)


@full_precision
def dcl_sq(z1: Tensor, z2: Tensor, *, temperature: float = 0.1) -> Tensor:
    """DCL that repels squared cosines.

        L = 1/(2N) sum_i [-u_i.u_i'/tau + log sum_{j != i, i'} exp((u_i.u_j)^2/tau)]

    Arguments are those of `dcl`.

    Reference: [Garrido23] section 3.1, Proposition 3.2; see `simclr_sq` for what is our reading.
    """
    return _over_both_views("dcl_sq", z1, z2, temperature, torch.square, decoupled=True)


@full_precision
def dcl_abs(z1: Tensor, z2: Tensor, *, temperature: float = 0.1) -> Tensor:
    """DCL that repels absolute cosines.

        L = 1/(2N) sum_i [-u_i.u_i'/tau + log sum_{j != i, i'} exp(|u_i.u_j|/tau)]

    Arguments are those of `dcl`.

    Reference: [Garrido23] section 3.1, Proposition 3.2; see `simclr_sq` for what is our reading.
    """
    return _over_both_views("dcl_abs", z1, z2, temperature, torch.abs, decoupled=True)


@full_precision
def spectral_contrastive(z1: Tensor, z2: Tensor, *, mu: float = 1.0) -> Tensor:
    """Spectral contrastive loss: dot products of positives up, squared dot products of negatives down.

        L = 1/mu [-2 mean_i (v1_i.v2_i) + mean_{i != j} (v1_i.v2_j)^2],   v = z min(1, sqrt(mu) / ||z||)

    Rows longer than sqrt(mu) are scaled down to it, shorter ones stay; mu > 0 divides the loss in the authors' code and
    here, not in the paper. The sum over negatives goes through the smaller of the N x N and M x M matrices. `z1` and
    `z2` are `(N, M)`, N >= 2. A scalar, at least -2.

    Reference: HaoChen et al. 2021 (https://arxiv.org/abs/2106.04156), section 3.

    >>> z = torch.eye(3)
    >>> spectral_contrastive(z, z).item()
    -2.0
    """
    check_matrices("spectral_contrastive", rows=AMONG_IMAGES, z1=z1, z2=z2)
    check_positive(mu=mu)
    n = len(z1)
    v1, v2 = normalized(lambda z: _shortened(z, mu**0.5), z1, z2)
    negatives = off_diagonal_energy(v1.T, v2.T) / (n * (n - 1))
    return ((negatives - 2 * (v1 * v2).sum(dim=1).mean()) / mu).to(z1.dtype)


def _shortened(z: Tensor, most: float) -> Tensor:
    """Return z with the rows that are longer than `most` scaled down to it; a norm that overflows is longer too."""
    norms = torch.linalg.vector_norm(z.detach(), dim=1, keepdim=True)
    return torch.where(norms > most, l2_normalize(z) * most, z)


def _over_both_views(
    loss: str, z1: Tensor, z2: Tensor, temperature: float, repel: Callable[[Tensor], Tensor], *, decoupled: bool
) -> Tensor:
    """Return the mean over 2N anchors of -cos(positive)/tau + log-sum-exp of the rest, with or without the positive."""
    check_matrices(loss, rows=AMONG_IMAGES, z1=z1, z2=z2)
    check_positive(temperature=temperature)
    n = len(z1)
    u = l2_normalize(torch.cat([z1, z2]))
    cosine = product(u, u.T)
    other_view = torch.arange(2 * n, device=u.device).roll(n)[:, None]
    positive = cosine.gather(1, other_view)[:, 0] / temperature
    negatives = (repel(cosine) / temperature).masked_fill(eye(2 * n, u), -torch.inf).scatter(1, other_view, -torch.inf)
    above = negatives.logsumexp(dim=1) - positive
    # log(e^positive + sum e^negative) - positive, of which far above its negatives float32 would leave 0, or noise
    return (above if decoupled else F.softplus(above)).mean()
