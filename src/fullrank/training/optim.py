"""Optimiser and learning-rate schedule, both functions of the configuration and a step number."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import Optimizer

from fullrank.models.methods import Method
from fullrank.training.config import OptimConfig

LARS_TRUST = 0.001  # of MoCo-v3, VICReg and apex's LARC


def build_optimizer(method: Method, config: OptimConfig, batch_size: int) -> Optimizer:
    """Build the optimiser; parameters of constant learning rate have groups of their own, whichever it is."""
    lr = config.base_lr * batch_size / 256
    groups = parameter_groups(method, config)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=config.momentum)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    from timm.optim import Lars

    return Lars(groups, lr=lr, momentum=config.momentum, trust_coeff=LARS_TRUST)


def parameter_groups(method: Method, config: OptimConfig) -> list[dict]:
    """Split the parameters by whether their learning rate is constant and whether they decay; no group is empty."""
    constant: set[nn.Parameter] = set()
    if config.constant_predictor_lr:
        constant = {p for module in method.constant_rate_modules() for p in module.parameters()}
    groups = []
    for is_constant in (False, True):
        for decays in (True, False):
            chosen = [
                p
                for p in method.parameters()
                # biases and the affine parameters of norms have one axis
                if p.requires_grad and (p in constant) == is_constant and (config.decay_all or p.ndim > 1) == decays
            ]
            if chosen:
                decay = config.weight_decay if decays else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "constant_rate": is_constant})
    return groups


def learning_rate(step: int, steps: int, config: OptimConfig, batch_size: int, *, constant: bool = False) -> float:
    """Return the learning rate of a step.

    Linear warm-up over w steps to base_lr * batch_size / 256, then a cosine to 0 over the rest:

        lr(s) = lr0 (s + 1) / (w + 1)                          for s < w
        lr(s) = lr0 (1 + cos(pi (t - w) / (S - w))) / 2        for s >= w

    t is s rounded down to a multiple of `cosine_every`, which makes it [Li22]'s cosine by epochs. Parameters with a
    constant rate warm up too, and then keep lr0.

    Args:
        step: Which step, from 0.
        steps: S, all steps.
        config: The schedule.
        batch_size: The global batch.
        constant: Whether it is for parameters of constant rate.

    >>> config = OptimConfig(base_lr=1.0)
    >>> [round(learning_rate(s, 4, config, 256), 3) for s in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    peak = config.base_lr * batch_size / 256
    warmup = config.warmup_steps
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if constant:
        return peak
    at = max(warmup, step - step % config.cosine_every)
    return peak * 0.5 * (1 + math.cos(math.pi * (at - warmup) / (steps - warmup)))


def set_learning_rate(optimizer: Optimizer, step: int, steps: int, config: OptimConfig, batch_size: int) -> float:
    """Set every group's learning rate for a step, and return the one that decays."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, steps, config, batch_size, constant=group["constant_rate"])
    return learning_rate(step, steps, config, batch_size)
