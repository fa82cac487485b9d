"""`TwoViews`: the training path's pixels, in anybody's dataset, workers and batches."""

import pickle

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import FakeData
from torchvision.transforms.functional import to_pil_image

from fullrank.data.batches import ViewLoader
from fullrank.data.images import ArrayImages
from fullrank.data.views import recipe
from fullrank.errors import FullrankError
from fullrank.orders import MultiplePass
from fullrank.views import TwoViews

PIXELS = torch.randint(256, (12, 3, 40, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["simsiam", "byol", "cifar"])
def test_pixels_are_those_of_training(name):
    order = MultiplePass(len(PIXELS), 4, 3, seed=5)
    loader = ViewLoader(ArrayImages("x", PIXELS, None), order, recipe(name, crop_min=0.3), 24)
    transform = TwoViews(name, size=24, crop_min=0.3, seed=5)
    for step, expected in enumerate(loader()):
        found = transform(PIXELS[order[step]])
        assert all(torch.equal(a, b) for a, b in zip(found, expected.views, strict=True))


def test_an_image_a_tensor_and_a_batch_give_the_same():
    transform = TwoViews("simsiam", size=32)
    found = []
    for images in (PIXELS[:1], PIXELS[0], to_pil_image(PIXELS[0])):
        torch.manual_seed(3)
        found.append(torch.stack([view.reshape(3, 32, 32) for view in transform(images)]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0][0], found[0][1])
    assert transform(Image.new("L", (50, 30)))[0].shape == (3, 32, 32)


class Same(Dataset):
    """One image, again and again."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return self.transform(PIXELS[0])


def test_draws_differ_between_images_workers_and_epochs_and_are_repeated_by_a_seed():
    def epochs():
        torch.manual_seed(0)
        loader = DataLoader(Same(TwoViews("cifar", size=16)), batch_size=2, num_workers=2)
        return [view for _ in range(2) for batch in loader for views in batch for view in views]

    found = epochs()
    assert len({tuple(view.flatten().tolist()) for view in found}) == len(found) == 32
    assert torch.equal(torch.stack(found), torch.stack(epochs()))


def test_a_torchvision_dataset_takes_it():
    dataset = FakeData(6, (3, 40, 40), transform=pickle.loads(pickle.dumps(TwoViews("byol", size=16))))
    for (view1, view2), labels in DataLoader(dataset, batch_size=3):
        assert view1.shape == view2.shape == (3, 3, 16, 16)
        assert labels.shape == (3,)


@pytest.mark.gpu
def test_a_batch_stays_on_the_gpu():
    found = TwoViews("simsiam", size=24, seed=1)(PIXELS.cuda())
    expected = TwoViews("simsiam", size=24, seed=1)(PIXELS)
    assert found[0].is_cuda
    torch.testing.assert_close(found[0].cpu(), expected[0], atol=1e-4, rtol=1e-4)


def test_what_is_wrong_is_named():
    with pytest.raises(FullrankError, match=r"uint8 .* got torch.float32 \(3, 8, 8\): give them before"):
        TwoViews(size=8)(torch.zeros(3, 8, 8))
    with pytest.raises(FullrankError, match="views must be one of .*simsaim.*did you mean 'simsiam'"):
        TwoViews("simsaim")
    with pytest.raises(FullrankError, match="size must be .*got 0"):
        TwoViews(size=0)
    with pytest.raises(FullrankError, match="crop_min must be .*got 2"):
        TwoViews(crop_min=2)
    with pytest.raises(FullrankError, match="seed=1 numbers the calls.*leave it out"):
        next(iter(DataLoader(Same(TwoViews(seed=1)), num_workers=1)))
    assert repr(TwoViews(size=32, crop_min=0.5)) == "TwoViews('simsiam', size=32, crop_min=0.5)"
