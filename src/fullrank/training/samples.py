"""A picture of what a run trains on: some images, and the two views of each at the first step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fullrank.data.batches import ViewLoader
from fullrank.data.images import UnreadableImageError
from fullrank.data.views import IMAGENET_MEAN, IMAGENET_STD, eval_view
from fullrank.files import atomic_path

_COLUMNS = 12
_CELL = 96  # pixels of a cell; smaller views are enlarged without smoothing, so that what the encoder sees is seen


def write_samples(path: Path, loader: ViewLoader) -> None:
    """Draw the first step's images (top row) and their two views, as a PNG.

    Args:
        path: The file to write, atomically.
        loader: The run's loader.
    """
    batch = next(iter(loader(0)))
    count = min(_COLUMNS, len(batch.first))
    indices = loader.order[0][loader.share][:count].tolist()
    originals = torch.cat([_original(loader, index) for index in indices])
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    rows = [originals, *(view[:count].cpu() * std + mean for view in (batch.first, batch.second))]
    picture = np.concatenate([_row(row) for row in rows])
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def _original(loader: ViewLoader, index: int) -> Tensor:
    try:
        return eval_view(loader.images.read(index)[None], loader.size)
    except UnreadableImageError:
        return torch.full((1, 3, loader.size, loader.size), 0.5)


def _row(images: Tensor) -> np.ndarray:
    pixels = images.clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    zoom = max(1, _CELL // pixels.shape[1])
    cells = [
        np.pad(np.kron(cell, np.ones((zoom, zoom, 1), np.uint8)), ((2, 2), (2, 2), (0, 0)), constant_values=255)
        for cell in pixels
    ]
    return np.concatenate(cells, axis=1)
