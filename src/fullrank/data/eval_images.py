"""Evaluation images: the same pixels each time, read once, kept in 8 bits.

`images` is the set, `indices` says which of them, `(n,)`, and `unreadable` is called with the name of each image that
cannot be decoded; it is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import PIL.Image
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from fullrank.data import views
from fullrank.data.batches import crop_each
from fullrank.data.cache import as_array
from fullrank.data.decoding import ahead, read_ahead
from fullrank.data.images import Images
from fullrank.data.memory import cores
from fullrank.data.views import ViewRecipe
from fullrank.errors import FullrankError

Unreadable = Callable[[str], None]
Batch = Tensor | list[Tensor]  # images, `(n, 3, H, W)` if they have one size
Shown = Iterator[tuple[Tensor, ...]]

BLOCK = 256  # images that are measured at a time
PIECE = 16  # images that are there at a time as they were decoded
_FLOATS = 2**22  # numbers of them that are resized at a time: 16 MB


def ignore(name: str) -> None:
    """Tell nobody of an image that cannot be decoded."""


def load_for_eval(images: Images, indices: Tensor, size: int, unreadable: Unreadable = ignore) -> tuple[Tensor, Tensor]:
    """Read images as the `eval` recipe shows them: `(n, 3, size, size)` uint8, and the `(n,)` indices read."""
    shown, read = zip(*eval_blocks(images, indices, size, unreadable), strict=True)
    return torch.cat(shown), torch.cat(read)


def eval_blocks(images: Images, indices: Tensor, size: int, unreadable: Unreadable = ignore) -> Shown:
    """Walk over what `load_for_eval` returns, some hundred images at a time."""

    def show(batch: Batch, *_: int) -> list[Tensor]:
        at_once = max(_FLOATS // batch[0].numel(), 1)
        groups = [image[None] for image in batch] if isinstance(batch, list) else batch.split(at_once)
        return [torch.cat([_eight_bits(views.eval_view(group, size)) for group in groups])]

    return _blocks(images, indices, unreadable, show)


def transformed_blocks(
    images: Images, indices: Tensor, transform: Callable[[PIL.Image.Image], Tensor], unreadable: Unreadable = ignore
) -> Shown:
    """Walk over images as somebody else's transform of PIL images shows them, stacked, with the indices read."""

    def show(batch: Batch, *_: int) -> list[Tensor]:
        return [torch.stack(list(ahead(lambda image: transform(to_pil_image(image)), batch, cores())))]

    return _blocks(images, indices, unreadable, show)


def view_blocks(
    images: Images,
    indices: Tensor,
    recipes: tuple[ViewRecipe, ViewRecipe],
    size: int,
    *,
    seed: int,
    step: int,
    count: int = 2,
    unreadable: Unreadable = ignore,
) -> Shown:
    """Walk over `count` random views of some hundred images, `(n, 3, size, size)` uint8, of both recipes in turn."""

    def show(batch: Batch, number: int, before: int) -> list[Tensor]:
        heights, widths = (torch.tensor([image.shape[axis] for image in batch]) for axis in (1, 2))
        made = []
        for view in range(count):
            place = {"seed": seed, "step": step + number, "view": view, "first": before}
            drawn = views.draw(recipes[view % 2], **place, heights=heights, widths=widths)
            if isinstance(batch, Tensor):
                crops = views.crop(batch, drawn, size)
            else:
                crops = views.as_float(torch.stack(crop_each(batch, drawn, size)))
            made.append(_eight_bits(views.photometric(crops, drawn)))
        return made

    for *shown, _ in _blocks(images, indices, unreadable, show):
        yield tuple(shown)


def _blocks(
    images: Images, indices: Tensor, unreadable: Unreadable, show: Callable[[Batch, int, int], list[Tensor]]
) -> Shown:
    """Show images a few at a time, and give what is shown a block at a time, with the indices of those read.

    `show` gets some images, the number of their block, and how many images of the block came before.
    """
    whole = as_array(images)
    decoded = read_ahead(indices.tolist(), images.read, lambda index: unreadable(images.key(index)))

    def pieces(block: Tensor) -> Iterator[tuple[Tensor, Batch]]:
        if isinstance(whole, Tensor):
            yield block, whole[block]
            return
        for piece in block.split(PIECE):
            read = list(islice(decoded, len(piece)))
            good = piece[torch.tensor([image is not None for image in read])]
            batch = [image for image in read if image is not None]
            if batch:
                made = torch.stack(batch) if len({image.shape for image in batch}) == 1 else batch
                del read, batch  # else they are there twice while they are used
                yield good, made

    found = 0
    for number, block in enumerate(indices.split(BLOCK)):
        shown, before = [], found
        for good, batch in pieces(block):
            shown.append((*show(batch, number, found - before), good))
            found += len(good)
        if shown:
            yield tuple(map(torch.cat, zip(*shown, strict=True)))
    if not found:
        raise FullrankError(f"none of {len(indices)} images of {images.name} can be decoded")


def _eight_bits(images: Tensor) -> Tensor:
    return images.mul(255).round_().to(torch.uint8)
