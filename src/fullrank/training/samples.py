"""A picture of what a run trains on: some images, and the two views of each at the first step."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import interpolate
from torchvision.utils import save_image

from fullrank.data.batches import ViewLoader
from fullrank.data.views import IMAGENET_MEAN, IMAGENET_STD, eval_view
from fullrank.files import atomic_path

_COLUMNS = 12
_CELL = 96  # pixels of a cell; smaller views are enlarged without smoothing, so that what the encoder sees is seen


def write_samples(path: Path, loader: ViewLoader) -> None:
    """Draw the first step's images (top row) and their two views, as a PNG."""
    batch = next(iter(loader(0)))
    count = min(_COLUMNS, len(batch.images))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    cells = [eval_view(loader.images.read(index)[None], loader.size) for index in batch.images[:count].tolist()]
    cells += [view[:count].cpu() * std + mean for view in batch.views]
    enlarged = interpolate(torch.cat(cells), scale_factor=max(1, _CELL // loader.size))
    with atomic_path(path) as temporary:
        save_image(enlarged, temporary, format="PNG", nrow=count, padding=4, pad_value=1)
