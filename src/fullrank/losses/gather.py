"""Embeddings of all processes on each of them, with gradients that flow back to where they came from."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from fullrank.errors import FullrankError


def gather(z: Tensor) -> Tensor:
    """Concatenate the rows of all W processes, in rank order: `(N, M)` -> `(W N, M)`.

    On one process it returns `z` itself. On W, use it as `loss(gather(z1), gather(z2))`: each computes the loss of the
    global batch. The backward pass adds up the gradients of all processes, which is W times the gradient of that one
    loss; `DistributedDataParallel` averages over processes and so makes it right. (A gather that kept only the own
    process's part would make it 1/W, silently, as several public libraries' losses once did.)

    All processes must give the same shape and dtype (a training loader drops the last, smaller batch).

    Raises:
        FullrankError: `z` is not a matrix.

    >>> gather(torch.eye(2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    if not isinstance(z, Tensor) or z.ndim != 2:
        got = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise FullrankError(f"z must be a tensor (N, M), got {got}")
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return z
    return _gather(z)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        world = dist.get_world_size()
        rows = z.new_empty(world * len(z), z.shape[1])
        dist.all_gather(list(rows.chunk(world)), z.contiguous())
        return rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Sum.apply(grad)


class _Sum(torch.autograd.Function):
    """This process's rows of what all processes' matrices add up to; each is the other's gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.clone(memory_format=torch.contiguous_format)  # the reduction writes to it, and it may be shared
        dist.all_reduce(rows)
        return rows.chunk(dist.get_world_size())[dist.get_rank()]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Gather.apply(grad)


@torch.compiler.disable  # which would trace the collectives, and need not
def _gather(z: Tensor) -> Tensor:
    return _Gather.apply(z)
