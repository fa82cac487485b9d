"""Losses that only pull the two views together, and rely on an asymmetry between the branches not to collapse.

Legend: z: (N, M) embeddings, p: (N, M) predictions made from them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fullrank.errors import FullrankError


def simsiam(z1: Tensor, z2: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
    """Negative cosine between each prediction and the other view's embedding, which gets no gradient: SimSiam's loss.

        L = -1/2 mean_n [cos(p1_n, sg(z2_n)) + cos(p2_n, sg(z1_n))]

    Args:
        z1: Embeddings of the first view, `(N, M)`.
        z2: Embeddings of the second view, `(N, M)`.
        p1: Predictions from the first view, `(N, M)`.
        p2: Predictions from the second view, `(N, M)`.

    Returns:
        A scalar in [-1, 1]; -1 when every prediction points along its target, as it does after a complete collapse too.

    Raises:
        FullrankError: The four are not of one shape `(N, M)`.

    Reference: Chen & He 2021 (https://arxiv.org/abs/2011.10566), eq. 4; [Li22] section 3.1.

    >>> import torch
    >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> simsiam(z, z, z, -z).item()
    -0.0
    """
    shapes = {tuple(x.shape) for x in (z1, z2, p1, p2)}
    if len(shapes) != 1 or z1.ndim != 2:
        raise FullrankError(
            f"z1, z2, p1 and p2 must all have one shape (N, M), got "
            f"{', '.join(str(tuple(x.shape)) for x in (z1, z2, p1, p2))}"
        )
    return -0.5 * (
        F.cosine_similarity(p1, z2.detach(), dim=1).mean() + F.cosine_similarity(p2, z1.detach(), dim=1).mean()
    )
