"""Features whose similarities float32 computes exactly, in any order, and the neighbors that they must have."""

import torch
from torch import Tensor

WIDTH = 16


def signs(count: int, seed: int) -> Tensor:
    """Rows of +1 and -1, their length a power of two, so that cosines are multiples of 1/16; some rows are zero."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 2, (count, WIDTH), generator=generator) * 2.0 - 1
    x[torch.rand(count, generator=generator) < 0.05] = 0
    return x


def naive(bank: Tensor, queries: Tensor, k: int, leave_out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sort all similarities of `signs`, equal ones by row."""
    similarity = queries.double() @ bank.double().T / WIDTH
    if leave_out is not None:
        similarity[torch.arange(len(queries)), leave_out] = -torch.inf
    order = similarity.sort(dim=1, descending=True, stable=True)
    return order.values[:, :k], order.indices[:, :k]


def told_apart(bank: Tensor, queries: Tensor, k: int) -> Tensor:
    """Say which queries have k + 1 nearest rows that float32 orders as float64 does."""
    similarity = torch.nn.functional.normalize(queries.double()) @ torch.nn.functional.normalize(bank.double()).T
    nearest = similarity.sort(dim=1, descending=True).values[:, : k + 1]
    return (nearest[:, :-1] - nearest[:, 1:]).amin(dim=1) > 1e-6
