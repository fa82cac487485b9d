"""The arithmetic of what is measured, whatever the program around it has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

_DEVICES = ("cpu", "cuda", "mps", "xpu")


@contextmanager
def exact_arithmetic(*, gradients: bool = False) -> Iterator[None]:
    """Compute as if the program had changed nothing; a decorator too, for every public entry that computes.

    Within it there is no autocast, float32 matrices are multiplied in float32 (not in TF32 or bfloat16), new tensors
    are float32 on the CPU where nothing else is said, and no gradient is recorded. What is made in it can be written to
    later, outside `torch.inference_mode` too. All is as it was afterwards. With `gradients`, for losses,
    `torch.no_grad` and `torch.inference_mode` stay as they are.
    """
    with ExitStack() as stack:
        for device in _DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.empty(0).device.type != "cpu":  # get_default_device() of torch 2.6 sees no `with`
            stack.enter_context(torch.device("cpu"))
        if torch.get_default_dtype() != torch.float32:
            stack.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float32)
        if not gradients:
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        _multiply_in_float32(stack)
        yield


def l2_normalize(x: Tensor, dim: int = 1) -> Tensor:
    """Return x divided by its L2 norms along an axis; what has norm 0 stays 0, with gradients 0.

    A norm's square overflows float32 beyond 1e19 and vanishes below 1e-19, and features of a diverging encoder would
    look collapsed: so each row is divided by its greatest entry first, which does not change its direction.
    """
    greatest = x.detach().abs().amax(dim=dim, keepdim=True)
    # below the least normal number a quotient has few digits left, and 1 / greatest may be infinite
    there = (greatest >= torch.finfo(x.dtype).tiny) | greatest.isnan()
    scaled = x.where(there, 1.0) / greatest.where(there, 1.0)  # a norm of 0 has no second derivative
    return scaled / torch.linalg.vector_norm(scaled, dim=dim, keepdim=True).where(there, torch.inf)


def centered(x: Tensor, dim: int = 0) -> Tensor:
    """Return x minus its mean along an axis; what is constant along it becomes exactly zero.

    The mean of N equal numbers is not that number when it is rounded, and beside a large mean what is left by rounding
    would be taken for variation: so a point near the mean is taken away first, which costs no digits.
    """
    values = x.detach()
    first = values.narrow(dim, 0, 1)
    moved = x - (first + (values - first).mean(dim=dim, keepdim=True))
    return moved - moved.mean(dim=dim, keepdim=True)


def _multiply_in_float32(stack: ExitStack) -> None:
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set for one backend alone, which PyTorch will not say in one word
        backends: tuple[Any, ...] = (torch.backends.cuda, torch.backends.mkldnn)
        for backend in [each.matmul for each in backends]:
            stack.callback(setattr, backend, "fp32_precision", backend.fp32_precision)
            backend.fp32_precision = "ieee"
        return
    if before != "highest":
        stack.callback(torch.set_float32_matmul_precision, before)
        torch.set_float32_matmul_precision("highest")
