"""Features of an encoder: of images as they are, and of random views of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fullrank.data.images import Images
from fullrank.data.still import view_blocks
from fullrank.data.views import ViewRecipe
from fullrank.inspection.encoders import Encoder
from fullrank.models.memory_format import choose_memory_format, to_memory_format

VIEW_SEED = 0
VIEW_STEP = 2**62 + 2**40
"""Place of the views in the stream of random numbers: no training step reaches it, nor do held-out views."""
_BATCH = 128


def to_device(module: nn.Module, device: torch.device) -> nn.Module:
    """Move a network where it will run, in the memory format that convolutions like."""
    module = module.to(device)
    to_memory_format(module)
    return module


@torch.no_grad()
def features_of(
    encoder: Encoder,
    modules: Sequence[nn.Module],
    images: Images,
    indices: Tensor,
    device: torch.device,
    *,
    unreadable: Callable[[str], None],
    advance: Callable[[int], None],
) -> tuple[list[Tensor], Tensor]:
    """Return the features of images, `(n, D)` float32 on the CPU; those that cannot be decoded are left out.

    Args:
        encoder: How images are shown.
        modules: The networks that see them, on `device`: `encoder.module`, and maybe its untrained twin.
        images: The set.
        indices: Which of its images, `(n,)`.
        device: Where to compute.
        unreadable: Called with the name of each image that cannot be decoded.
        advance: Called with the number of images that were finished.

    Returns:
        Those of each network, and the `(n,)` indices of the images that could be read.
    """
    found: list[list[Tensor]] = [[] for _ in modules]
    good = []
    for shown, read in encoder.show(images, indices, unreadable):
        good.append(read)
        for module, own in zip(modules, found, strict=True):
            own.append(_forward(module, shown, device))
        advance(len(shown))
    return [torch.cat(own) for own in found], torch.cat(good)


@torch.no_grad()
def features_of_views(
    encoder: Encoder,
    images: Images,
    indices: Tensor,
    recipes: tuple[ViewRecipe, ViewRecipe],
    count: int,
    device: torch.device,
    *,
    unreadable: Callable[[str], None],
    advance: Callable[[int], None],
) -> Tensor:
    """Return the features of `count` random views of each image, `(n, count, D)` float32 on the CPU."""
    found = []
    for shown in view_blocks(
        images,
        indices,
        recipes,
        encoder.size,
        seed=VIEW_SEED,
        step=VIEW_STEP,
        count=count,
        unreadable=unreadable,
    ):
        each = []
        for view in shown:
            each.append(_forward(encoder.module, encoder.normalise(view), device))
            advance(len(view))
        found.append(torch.stack(each, dim=1))
    return torch.cat(found)


def _forward(module: nn.Module, shown: Tensor, device: torch.device) -> Tensor:
    memory_format = choose_memory_format(module)
    batches = shown.split(_BATCH)
    return torch.cat([module(x.to(device, memory_format=memory_format)).float().cpu() for x in batches])
