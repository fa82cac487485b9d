import os
import weakref

import pytest
import torch

from fullrank.data import eval_images, views
from fullrank.data.eval_images import BLOCK, PIECE, eval_blocks, view_blocks
from fullrank.data.images import Images, UnreadableImageError
from fullrank.errors import FullrankError


class Photos(Images):
    """Images that are made as they are read, of two heights; counts how many there are at a time."""

    def __init__(self, count: int, unreadable: tuple[int, ...] = ()) -> None:
        super().__init__("photos")
        self.count, self.unreadable = count, unreadable
        self.alive = self.most = 0

    def __len__(self) -> int:
        return self.count

    def listing(self):
        raise NotImplementedError

    def key(self, index: int) -> str:
        return f"photo {index}"

    def read(self, index: int) -> torch.Tensor:
        if index in self.unreadable:
            raise UnreadableImageError(self.key(index))
        image = torch.full((3, 40 if index % 3 else 50, 60), index % 251, dtype=torch.uint8)
        self.alive += 1
        self.most = max(self.most, self.alive)
        weakref.finalize(image, self.gone)
        return image

    def gone(self) -> None:
        self.alive -= 1


def test_few_images_are_there_at_a_time_as_they_were_decoded():
    photos = Photos(2 * BLOCK)
    sizes = [len(shown) for shown, _ in eval_blocks(photos, torch.arange(len(photos)), 8)]
    assert sizes == [BLOCK, BLOCK]
    assert photos.most <= 2 * PIECE + (os.cpu_count() or 1) + 1


def test_blocks_keep_order_and_leave_out_what_cannot_be_decoded():
    gone = (0, 5, *range(PIECE, 2 * PIECE), BLOCK + 1)
    photos, named = Photos(BLOCK + 3, gone), []
    shown, read = zip(*eval_blocks(photos, torch.arange(len(photos)), 8, named.append), strict=True)
    expected = [index for index in range(len(photos)) if index not in gone]
    assert torch.cat(read).tolist() == expected
    assert torch.cat(shown)[:, 0, 0, 0].tolist() == [index % 251 for index in expected]
    assert named == [photos.key(index) for index in gone]


def test_views_are_those_of_their_places_in_the_block():
    photos, recipes = Photos(BLOCK + 20, (3,)), views.recipe("cifar")
    readable = [index for index in range(len(photos)) if index != 3]
    made = [blocks[1] for blocks in view_blocks(photos, torch.arange(len(photos)), recipes, 8, seed=5, step=7)]
    assert [len(each) for each in made] == [BLOCK - 1, 20]
    for number, start, stop in ((0, 0, BLOCK - 1), (1, BLOCK - 1, BLOCK + 19)):
        batch = [photos.read(index) for index in readable[start:stop]]
        heights, widths = (torch.tensor([image.shape[axis] for image in batch]) for axis in (1, 2))
        drawn = views.draw(recipes[1], seed=5, step=7 + number, view=1, heights=heights, widths=widths)
        crops = views.as_float(torch.stack(eval_images.crop_each(batch, drawn, 8)))
        expected = views.photometric(crops, drawn).mul(255).round().to(torch.uint8)
        assert torch.equal(made[number], expected)


def test_a_set_of_which_nothing_can_be_decoded_is_an_error():
    with pytest.raises(FullrankError, match="none of 3 images of photos can be decoded"):
        list(eval_blocks(Photos(3, (0, 1, 2)), torch.arange(3), 8))
