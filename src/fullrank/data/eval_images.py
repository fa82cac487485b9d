"""Evaluation images: the same pixels each time, read once, kept in 8 bits.

`images` is the set, `indices` says which of them, `(n,)`, and `unreadable` is called with the name of each image that
cannot be decoded; it is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, islice
from operator import itemgetter

import PIL.Image
import torch
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from fullrank.data import views
from fullrank.data.batches import ahead, crop_each
from fullrank.data.cache import as_array
from fullrank.data.images import Images, UnreadableImageError
from fullrank.data.views import ViewRecipe
from fullrank.errors import FullrankError

BLOCK = 256  # images that are measured at a time
PIECE = 16  # images that are there at a time as they were decoded
_FLOATS = 2**22  # numbers of them that are resized at a time: 16 MB


def load_for_eval(
    images: Images, indices: Tensor, size: int, unreadable: Callable[[str], None] = lambda name: None
) -> tuple[Tensor, Tensor]:
    """Read images as the `eval` recipe shows them: `(n, 3, size, size)` uint8, and the `(n,)` indices read."""
    shown, read = zip(*eval_blocks(images, indices, size, unreadable), strict=True)
    return torch.cat(shown), torch.cat(read)


def load_view_pairs(
    images: Images,
    indices: Tensor,
    recipes: tuple[ViewRecipe, ViewRecipe],
    size: int,
    *,
    seed: int,
    step: int,
    unreadable: Callable[[str], None] = lambda name: None,
) -> tuple[Tensor, Tensor]:
    """Make one fixed pair of random views of each image, `(n, 3, size, size)` uint8 each."""
    blocks = view_blocks(images, indices, recipes, size, seed=seed, step=step, unreadable=unreadable)
    first, second = zip(*blocks, strict=True)
    return torch.cat(first), torch.cat(second)


def eval_blocks(
    images: Images, indices: Tensor, size: int, unreadable: Callable[[str], None] = lambda name: None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Walk over what `load_for_eval` returns, some hundred images at a time."""
    for pieces in _blocks(images, indices, unreadable):
        shown, read = [], []
        for good, batch in pieces:
            at_once = max(_FLOATS // batch[0].numel(), 1)
            groups = [image[None] for image in batch] if isinstance(batch, list) else batch.split(at_once)
            shown += [_eight_bits(views.eval_view(group, size)) for group in groups]
            read.append(good)
        yield torch.cat(shown), torch.cat(read)


def transformed_blocks(
    images: Images,
    indices: Tensor,
    transform: Callable[[PIL.Image.Image], Tensor],
    unreadable: Callable[[str], None] = lambda name: None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Walk over images as somebody else's transform of PIL images shows them, stacked, with the indices read."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for pieces in _blocks(images, indices, unreadable):
            shown: list[Tensor] = []
            read = []
            for good, batch in pieces:
                shown += pool.map(lambda image: transform(to_pil_image(image)), batch)
                read.append(good)
            yield torch.stack(shown), torch.cat(read)


def view_blocks(
    images: Images,
    indices: Tensor,
    recipes: tuple[ViewRecipe, ViewRecipe],
    size: int,
    *,
    seed: int,
    step: int,
    count: int = 2,
    unreadable: Callable[[str], None] = lambda name: None,
) -> Iterator[tuple[Tensor, ...]]:
    """Walk over `count` random views of some hundred images, `(n, 3, size, size)` uint8, of both recipes in turn."""
    for number, pieces in enumerate(_blocks(images, indices, unreadable)):
        made: list[list[Tensor]] = [[] for _ in range(count)]
        first = 0  # images of the block that came before
        for _, batch in pieces:
            heights = torch.tensor([image.shape[1] for image in batch])
            widths = torch.tensor([image.shape[2] for image in batch])
            for view in range(count):
                place = {"seed": seed, "step": step + number, "view": view, "first": first}
                drawn = views.draw(recipes[view % 2], **place, heights=heights, widths=widths)
                if isinstance(batch, Tensor):
                    crops = views.crop(batch, drawn, size)
                else:
                    crops = views.as_float(torch.stack(crop_each(batch, drawn, size)))
                made[view].append(_eight_bits(views.photometric(crops, drawn)))
            first += len(batch)
        yield tuple(map(torch.cat, made))


_Piece = tuple[Tensor, Tensor | list[Tensor]]
"""The indices of some images, and they: one `(n, 3, H, W)` tensor if they have one size, else a list."""


def _blocks(images: Images, indices: Tensor, unreadable: Callable[[str], None]) -> Iterator[Iterator[_Piece]]:
    """Read images a block at a time, each a few at a time, leaving out those that cannot be decoded."""
    found = False
    for _, pieces in groupby(_pieces(images, indices, unreadable), itemgetter(0)):
        found = True
        yield (piece for _, piece in pieces)
    if not found:
        raise FullrankError(f"none of {len(indices)} images of {images.name} can be decoded")


def _pieces(images: Images, indices: Tensor, unreadable: Callable[[str], None]) -> Iterator[tuple[int, _Piece]]:
    """Give pieces with the number of their block."""
    whole = as_array(images)
    if isinstance(whole, Tensor):
        yield from ((number, (block, whole[block])) for number, block in enumerate(indices.split(BLOCK)))
        return

    def read(index: int) -> Tensor | None:
        try:
            return images.read(index)
        except UnreadableImageError:
            return None

    each = ahead(read, indices.tolist(), os.cpu_count() or 1)
    for number, block in enumerate(indices.split(BLOCK)):
        for piece in block.split(PIECE):
            decoded = list(islice(each, len(piece)))
            for index, image in zip(piece.tolist(), decoded, strict=True):
                if image is None:
                    unreadable(images.key(index))
            batch = [image for image in decoded if image is not None]
            if batch:
                good = piece[torch.tensor([image is not None for image in decoded])]
                made = torch.stack(batch) if len({image.shape for image in batch}) == 1 else batch
                del decoded, batch  # else they are there twice while they are used
                yield number, (good, made)


def _eight_bits(images: Tensor) -> Tensor:
    return images.mul(255).round_().to(torch.uint8)
