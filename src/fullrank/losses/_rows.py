"""Rows and columns of norm one, for any finite matrix: zeros, very long and very short ones too."""

from __future__ import annotations

import torch
from torch import Tensor


def unit(z: Tensor, dim: int = 1) -> Tensor:
    """Return z divided by its norms along an axis; what has norm 0 stays 0, with gradient 0.

    A norm's square overflows float32 beyond 1e19 and vanishes below 1e-19, and embeddings of a diverging encoder would
    look collapsed: so each row is divided by its greatest entry first, which does not change its direction.

    Args:
        z: `(N, M)`.
        dim: The axis that the norm sums over: 1 for unit rows, 0 for unit columns.
    """
    greatest = z.detach().abs().amax(dim=dim, keepdim=True)
    # below the least normal number a quotient has few digits left, and 1 / greatest may be infinite
    there = (greatest >= torch.finfo(z.dtype).tiny) | greatest.isnan()
    scaled = z / greatest.where(there, torch.ones_like(greatest))
    norm = torch.linalg.vector_norm(scaled, dim=dim, keepdim=True)
    return torch.where(there, scaled / norm.where(there, torch.ones_like(norm)), torch.zeros_like(z))


def norms(z: Tensor) -> Tensor:
    """Return the norm of each row of z, `(N, 1)`, without overflow of its square."""
    greatest = z.detach().abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(z.dtype).tiny)
    return greatest * torch.linalg.vector_norm(z / greatest, dim=1, keepdim=True)
