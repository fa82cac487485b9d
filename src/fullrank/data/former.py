"""How runs that were started before version 2 saw their images, so that they can go on as they began.

They took every n-th image to measure on, recognized files by their names alone, walked hidden folders inside class
folders, and left held-out images of unknown classes out. Such a run goes on with the same images, bits and protocol.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fullrank.data.images import Images

VERSION = 2
"""How images are seen now: kept in a run's config.yaml. Runs from before it have none."""


def spread(indices: Tensor, wanted: int) -> Tensor:
    """Return `wanted` of the indices at a fixed stride, or all."""
    count = min(len(indices), wanted)
    return indices[torch.arange(count) * len(indices) // count]


def match_labels(images: Images, reference: Images) -> Tensor | None:
    """Return labels by name where both sets have names, else by number; -1 for a class that the other lacks."""
    if images.labels is None or images.classes is None or reference.classes is None:
        return images.labels
    number = {name: index for index, name in enumerate(reference.classes)}
    table = torch.tensor([*(number.get(name, -1) for name in images.classes), -1])  # the last row is for -1
    return table[images.labels]
