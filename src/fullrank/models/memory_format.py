"""The memory format that a network and its images are in: channels last, where convolutions are quickest."""

from __future__ import annotations

import torch
from torch import nn

_AVX2_FLOATS = 8


def choose_memory_format(module: nn.Module) -> torch.memory_format:
    """Return channels last, but for networks that would crash in it.

    On a CPU without AVX-512, oneDNN (as of torch 2.15) writes past its buffers in the backward pass of a strided
    1 x 1 convolution over fewer than 8 channels that are last: the heap is damaged, and the process ends at some later
    time. Only encoders a sixteenth as wide as usual have such a convolution.
    """
    if any(map(_damages_the_heap, module.modules())) and torch.backends.cpu.get_cpu_capability() == "AVX2":
        return torch.contiguous_format
    return torch.channels_last


def to_memory_format(module: nn.Module) -> torch.memory_format:
    """Put a network into its memory format, in place, and return which: its images want the same."""
    chosen = choose_memory_format(module)
    if any(p.ndim == 5 for p in module.parameters()):  # of video or volumes: there is no such format
        return torch.contiguous_format
    module.to(memory_format=chosen)
    return chosen


def _damages_the_heap(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and module.stride != (1, 1)
        and module.in_channels < _AVX2_FLOATS
    )
