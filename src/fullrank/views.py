"""Two random views of an image or of a batch, as a transform: the recipes and the pixels of `fullrank train`.

    from fullrank.views import TwoViews

    dataset = CIFAR10("data", transform=TwoViews("cifar", size=32))     # ((view1, view2), label), in any DataLoader
    view1, view2 = TwoViews("simsiam", size=224)(batch)                 # (B, 3, H, W) uint8, on the device it lies on

`fullrank.data.views` has the operations, and `register_views` adds a recipe.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from fullrank.data.decoding import to_pixels
from fullrank.data.randomness import check_seed
from fullrank.data.views import ViewParameters, ViewRecipe, as_float, crop, draw, normalize, photometric, recipe
from fullrank.errors import FullrankError
from fullrank.registry import VIEWS, register_views

__all__ = ["VIEWS", "TwoViews", "ViewRecipe", "register_views"]


class TwoViews:
    """Make two random views of each image, normalized by ImageNet's mean and standard deviation.

    Random numbers come from torch's generator, which `torch.manual_seed` makes repeatable. Each worker of a DataLoader
    has its own, new in each epoch.

    Args:
        name: A recipe: `simsiam` ([Li22]'s), `byol`, `mocov3`, `cifar`, or a registered one.
        size: Rows and columns S of a view.
        crop_min: Replaces the least share of the image's area that a crop covers, in (0, 1].
        seed: Draw as a run of this seed does: call k, from 0, gives the views of its step k. Not in workers.

    Raises:
        FullrankError: There is no such recipe, or a number is out of its range.

    >>> view1, view2 = TwoViews("cifar", size=32)(torch.zeros(5, 3, 40, 50, dtype=torch.uint8))
    >>> view1.shape, view2.dtype
    (torch.Size([5, 3, 32, 32]), torch.float32)
    """

    def __init__(
        self, name: str = "simsiam", *, size: int = 224, crop_min: float | None = None, seed: int | None = None
    ) -> None:
        if not isinstance(size, int) or size < 4:
            raise FullrankError(f"size must be a whole number of pixels, at least 4, got {size!r}")
        if seed is not None:
            check_seed(seed)
        self.name, self.size, self.crop_min, self.seed = name, size, crop_min, seed
        self.recipes = recipe(name, crop_min=crop_min)
        self.calls = 0

    def __call__(self, images: Image.Image | Tensor) -> tuple[Tensor, Tensor]:
        """Return the two views.

        Args:
            images: An image of PIL, or uint8 `(3, H, W)` or `(B, 3, H, W)`.

        Returns:
            Two float32 tensors, `(3, S, S)` or `(B, 3, S, S)`.

        Raises:
            FullrankError: They are something else.
        """
        pixels = images if isinstance(images, Tensor) else to_pixels(images)
        if pixels.dtype != torch.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-3] != 3:
            raise FullrankError(
                f"views are made of PIL images or uint8 (3, H, W) or (B, 3, H, W), got {pixels.dtype} "
                f"{tuple(pixels.shape)}: give them before they are scaled or normalized"
            )
        batch = as_float(pixels if pixels.ndim == 4 else pixels[None])
        heights, widths = (torch.full((len(batch),), side) for side in batch.shape[2:])
        place = self._place()
        drawn = [
            draw(each, view=view, heights=heights, widths=widths, **place) for view, each in enumerate(self.recipes)
        ]
        crops = torch.cat([crop(batch, parameters, self.size) for parameters in drawn])
        first, second = normalize(photometric(crops, ViewParameters.cat(drawn))).chunk(2)
        return (first, second) if pixels.ndim == 4 else (first[0], second[0])

    def _place(self) -> dict[str, Any]:
        """Return the seed and step that this call's random numbers are a function of."""
        if self.seed is None:
            return {"seed": int(torch.randint(2**63 - 1, ())), "step": 0}
        if get_worker_info() is not None:
            raise FullrankError(
                f"seed={self.seed} numbers the calls, and each worker would begin at 0: leave it out "
                "(torch.manual_seed repeats the views), or use num_workers=0"
            )
        self.calls += 1
        return {"seed": self.seed, "step": self.calls - 1}

    def __repr__(self) -> str:
        settings = f"{self.name!r}, size={self.size}"
        for key in ("crop_min", "seed"):
            settings += f", {key}={value}" if (value := getattr(self, key)) is not None else ""
        return f"TwoViews({settings})"
