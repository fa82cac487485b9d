"""Losses that only pull the two views together, and rely on an asymmetry between the branches not to collapse.

Legend: z: (N, M) embeddings, p: (N, M) predictions made from them; sg: stop-gradient.
"""

from __future__ import annotations

from torch import Tensor

from fullrank.losses._inputs import check_matrices, full_precision
from fullrank.numerics import l2_normalize

__all__ = ["byol", "simsiam"]


@full_precision
def simsiam(z1: Tensor, z2: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
    """Negative cosine between each prediction and the other view's embedding, which gets no gradient: SimSiam's loss.

        L = -1/2 mean_n [cos(p1_n, sg(z2_n)) + cos(p2_n, sg(z1_n))]

    All are `(N, M)`. A scalar in [-1, 1]; -1 when every prediction points along its target, as it does after a complete
    collapse too.

    Reference: Chen & He 2021 (https://arxiv.org/abs/2011.10566), eq. 4; [Li22] section 3.1.

    >>> import torch
    >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> simsiam(z, z, z, -z).item()
    -0.0
    """
    check_matrices("simsiam", z1=z1, z2=z2, p1=p1, p2=p2)
    return -0.5 * (_cosine(p1, z2) + _cosine(p2, z1))


@full_precision
def byol(z1: Tensor, z2: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
    """Squared distance between each prediction and the other view's target embedding, both normalized: BYOL's loss.

        L = mean_n [(2 - 2 cos(p1_n, sg(z2_n))) + (2 - 2 cos(p2_n, sg(z1_n)))]

    A sum over the two directions, so it is 4 + 4 `simsiam`, in [0, 8]; the methods differ in where `z` comes from.
    Arguments are those of `simsiam`, z by the target branch (the moving average), without gradient, and p by the online
    one.

    Reference: Grill et al. 2020 (https://arxiv.org/abs/2006.07733), eq. 2 and its symmetric form.

    >>> import torch
    >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> byol(z, z, z, -z).item()
    4.0
    """
    check_matrices("byol", z1=z1, z2=z2, p1=p1, p2=p2)
    return 4 - 2 * (_cosine(p1, z2) + _cosine(p2, z1))


def _cosine(p: Tensor, target: Tensor) -> Tensor:
    return (l2_normalize(p) * l2_normalize(target.detach())).sum(dim=1).mean()
