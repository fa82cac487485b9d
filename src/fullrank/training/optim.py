"""Optimizer, learning-rate schedule and what a chunk resets: functions of the configuration and a step number."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from fullrank.config import OptimConfig, TrainConfig
from fullrank.data.order import Order
from fullrank.models.methods import Method

LARS_TRUST = 0.001  # of MoCo-v3, VICReg and apex's LARC


def scaled_lr(base_lr: float, batch_size: int) -> float:
    """Return the learning rate of a batch, in proportion to its size: `base_lr` is that of 256 images."""
    return base_lr * batch_size / 256


def build_optimizer(method: Method, config: OptimConfig, batch_size: int) -> Optimizer:
    """Build the optimizer; parameters of constant learning rate have groups of their own, whichever it is.

    LARS neither decays parameters of one axis (biases, norms) nor scales their rate, as in BYOL, VICReg, Barlow Twins
    and MoCo-v3.
    """
    lr = scaled_lr(config.base_lr, batch_size)
    groups = parameter_groups(method, config)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, fused=True)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    from timm.optim import Lars

    for group in groups:
        # timm scales the rate of a group that decays; one of several axes is to be scaled without decay too
        group["always_adapt"] = group["params"][0].ndim > 1
    return Lars(groups, lr=lr, momentum=config.momentum, trust_coeff=LARS_TRUST)


def parameter_groups(method: Method, config: OptimConfig) -> list[dict]:
    """Split what is trained by its learning rate and its decay; no group is empty.

    In each group, `constant_rate` says whether its rate stays, and `rate_scale` what it is multiplied by.
    """
    constant: set[nn.Parameter] = set()
    if config.constant_predictor_lr:
        constant = {p for module in method.constant_rate_modules() for p in module.parameters()}
    some_do_not_decay = not config.decay_all or config.optimizer == "lars"
    bias_scale = 1.0 if config.bias_lr is None else config.bias_lr / config.base_lr
    groups: dict[tuple[bool, bool, bool], list[nn.Parameter]] = {}
    for name, p in method.named_parameters():
        part = name.partition(".")[0]
        spared = part != "backbone" and (
            config.decay_heads == "none" or (config.decay_heads == "projector" and part == "predictor")
        )
        # biases and the affine parameters of norms have one axis
        is_bias = p.ndim <= 1 and (some_do_not_decay or config.bias_lr is not None)
        if p.requires_grad:
            groups.setdefault((p in constant, is_bias, spared), []).append(p)
    return [
        {
            "params": groups[is_constant, is_bias, spared],
            "weight_decay": 0.0 if spared or (is_bias and some_do_not_decay) else config.weight_decay,
            "constant_rate": is_constant,
            "rate_scale": bias_scale if is_bias else 1.0,
        }
        for is_constant, is_bias, spared in sorted(groups)
    ]


def learning_rate(step: int, steps: int, config: OptimConfig, batch_size: int, *, constant: bool = False) -> float:
    """Return the learning rate of a step.

    Linear warm-up over w steps to lr0 = `scaled_lr(base_lr, batch_size)`, then a cosine to f lr0 up to S, all `steps`:

        lr(s) = lr0 (t + c) / (w + c)                                      for s < w
        lr(s) = lr0 (f + (1 - f) (1 + cos(pi (t - w) / (S - w))) / 2)      for s >= w

    f is `final_lr`, c `cosine_every`, and t is s rounded down to a multiple of c: with the steps of an epoch for c this
    is [Li22]'s schedule by epochs, whose warm-up of W epochs begins at lr0 / (W + 1). Parameters with a constant rate
    warm up too, and then keep lr0.

    >>> config = OptimConfig(base_lr=1.0)
    >>> [round(learning_rate(s, 4, config, 256), 3) for s in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    peak = scaled_lr(config.base_lr, batch_size)
    warmup = config.warmup_steps
    at = step - step % config.cosine_every
    if step < warmup:
        return peak * (at + config.cosine_every) / (warmup + config.cosine_every)
    if constant:
        return peak
    at = max(warmup, at)
    falling = 0.5 * (1 + math.cos(math.pi * (at - warmup) / (steps - warmup)))
    return peak * (config.final_lr + (1 - config.final_lr) * falling)


def set_learning_rate(optimizer: Optimizer, step: int, steps: int, config: OptimConfig, batch_size: int) -> float:
    """Set every group's learning rate for a step, and return the one that decays."""
    for group in optimizer.param_groups:
        lr = learning_rate(step, steps, config, batch_size, constant=group["constant_rate"])
        group["lr"] = lr * group.get("rate_scale", 1.0)  # checkpoints of version 0.1.0 have none
    return learning_rate(step, steps, config, batch_size)


def begin_chunk(config: TrainConfig, order: Order, step: int, method: Method, optimizer: Optimizer) -> None:
    """Reset what is to be reset before the first step of every chunk but the first; do nothing before other steps.

    [Li22] resets nothing. It follows from the step alone, so a run that is resumed at a boundary does it too.
    Batch norms in eval mode, a teacher's, keep their statistics.
    """
    if not (config.reset_momentum or config.reset_statistics) or step == 0 or order.span(step).start != step:
        return
    if config.reset_momentum:
        for state in optimizer.state.values():
            if state.get("momentum_buffer") is not None:
                state["momentum_buffer"].zero_()
    if config.reset_statistics:
        for module in method.modules():
            if isinstance(module, _BatchNorm) and module.training:
                module.reset_running_stats()
