"""Batch normalization whose statistics are of the batches of all processes together.

On GPUs it is torch's SyncBatchNorm, which refuses CPU tensors; on CPUs it is written here. In eval mode neither talks
to other processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers import convert_sync_batchnorm
from timm.layers.norm_act import SyncBatchNormAct
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from fullrank.errors import FullrankError


def synchronize(module: nn.Module, device: torch.device) -> nn.Module:
    """Let the batch norms of a module normalize by the statistics of the batches of all processes.

    Parameters and buffers stay the same tensors under the same names, so that an optimizer, and checkpoints of one
    process or of several, fit before and after. timm's batch norms with an activation are known too. The module, which
    runs on `device`, is changed in place; another is returned if it is a batch norm itself.
    """
    module = convert_sync_batchnorm(module)  # timm's keeps the activations that torch's would drop
    if device.type == "cpu":
        for part in module.modules():
            if type(part) in _ON_CPU:
                part.__class__ = _ON_CPU[type(part)]  # same state, another forward
    return module


class CPUSyncBatchNorm(nn.SyncBatchNorm):
    """`torch.nn.SyncBatchNorm` for CPU tensors `(N, C, ...)`; N may differ between processes."""

    @torch.compiler.disable  # talks to other processes
    def forward(self, input: Tensor) -> Tensor:
        """Normalize by the statistics of all processes in train mode, by the running ones in eval mode."""
        if not self.training:
            return super().forward(input)
        mean, var, count = batch_moments(input)
        if self.track_running_stats:
            seen: Any = self.num_batches_tracked
            seen += 1
            rate = 1 / float(seen) if self.momentum is None else self.momentum
            running: Any
            for running, now in ((self.running_mean, mean), (self.running_var, var * (count / (count - 1)))):
                running.lerp_(now.to(running.dtype), rate)
        return _Normalize.apply(input, self.weight, self.bias, mean, var, count, self.eps)


class _CPUSyncBatchNormAct(SyncBatchNormAct, CPUSyncBatchNorm):
    """timm's batch norm with an activation: its `forward` calls the next class's, and then the activation."""


_ON_CPU = {nn.SyncBatchNorm: CPUSyncBatchNorm, SyncBatchNormAct: _CPUSyncBatchNormAct}


@torch.no_grad()
def batch_moments(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return mean and variance of each channel over the batches of all processes; all processes must call it.

    Each process's mean and sum of squares about it are merged in rank order, so all get the same bits. `(N, C, ...)` ->
    mean `(C,)` and biased variance `(C,)`, both float64, and the number of values of a channel.

    Raises:
        FullrankError: A channel has one value, over all processes.

    Reference: Chan, Golub, LeVeque 1979, eq. 2.1.
    """
    channels, count = x.shape[1], x.numel() // x.shape[1]
    mean = _channel_sum(x) / max(count, 1)
    squared = (x - _spread(mean.to(_wide(x)), x)).square_()
    own = torch.cat([mean, _channel_sum(squared), torch.tensor([count], dtype=torch.float64)])
    everyones = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(everyones, own)
    means, squares, counts = torch.stack(everyones).split([channels, channels, 1], dim=1)
    total = float(counts.sum())
    if total < 2:
        raise FullrankError(f"batch norm has no variance over {int(total)} value of a channel: take a larger batch")
    mean = (counts * means).sum(dim=0) / total
    squares = squares.sum(dim=0) + (counts * (means - mean) ** 2).sum(dim=0)
    return mean, squares / total, total


class _Normalize(torch.autograd.Function):
    """y = weight (x - mean) / sqrt(var + eps) + bias, whose mean and variance depend on the x of all processes.

    With x' = (x - mean) / sqrt(var + eps), means over the global batch, and L the sum of all processes' losses:

        dL/dx = weight / sqrt(var + eps) (dL/dy - mean(dL/dy) - x' mean(x' dL/dy))

    Weight and bias get the part of their gradient that comes from this process's batch, as any other parameter does.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Any, bias: Any, mean: Tensor, var: Tensor, count: float, eps: float
    ) -> Tensor:
        kind = _wide(x) if weight is None else weight.dtype
        mean, var = mean.to(kind), var.to(kind)
        ctx.save_for_backward(x, weight, mean, (var + eps).rsqrt())
        ctx.count = count
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale = ctx.saved_tensors
        wide = _wide(x)
        normed = (x - _spread(mean.to(wide), x)).mul_(_spread(scale.to(wide), x))
        sums = torch.stack([_channel_sum(grad), _channel_sum(grad * normed)])
        for_bias, for_weight = sums.to(scale.dtype)
        of_x = None
        if ctx.needs_input_grad[0]:
            totals = sums.clone()  # of float64 inputs, the gradients above are views of the sums
            dist.all_reduce(totals)
            shift, slope = (totals / ctx.count).to(wide)
            factor = scale if weight is None else weight * scale
            # in place: new memory costs more than the arithmetic
            of_x = normed.mul_(_spread(-slope, x)).add_(grad).sub_(_spread(shift, x)).mul_(_spread(factor.to(wide), x))
            of_x = of_x.to(x.dtype)
        has_weight, has_bias = ctx.needs_input_grad[1:3]
        return of_x, for_weight if has_weight else None, for_bias if has_bias else None, None, None, None, None


def _channel_sum(x: Tensor) -> Tensor:
    """Return `(C,)` float64 sums, added up in float32 at least."""
    return x.sum(dim=[axis for axis in range(x.ndim) if axis != 1], dtype=_wide(x)).double()


def _spread(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.ndim - 2))


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
