import dataclasses
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fullrank.data import batches, decoding, views
from fullrank.data.batches import ViewLoader, crop_each
from fullrank.data.cache import Decoded, as_array, cache_all, choose_cache, decode, find_unreadable, kept_bytes, scaled
from fullrank.data.eval_images import load_for_eval, view_blocks
from fullrank.data.images import ArrayImages, DatasetImages, UnreadableImageError, open_images
from fullrank.data.kept import Kept, keep
from fullrank.data.order import Hybrid, MultiplePass, SinglePass
from fullrank.errors import FullrankError

RECIPES = views.recipe("simsiam")


def arrays(count=40, height=12, width=12):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)
    return ArrayImages("random", pixels, torch.arange(count) % 3)


@pytest.fixture
def folder(tmp_path):
    """Twenty images of one size as files; number 7 is damaged."""
    pixels = arrays(20).pixels.permute(0, 2, 3, 1).numpy()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(tmp_path / f"{number:02d}.png")
    (tmp_path / "07.png").write_bytes(b"damaged")
    return tmp_path


def collect(loader, start=0):
    return [(batch.step, batch.views[0], batch.views[1]) for batch in loader(start)]


def test_a_view_is_crop_appearance_normalise_with_the_drawn_parameters():
    images, order = arrays(), MultiplePass(40, 8, 6, seed=5)
    for step, *seen in collect(ViewLoader(images, order, RECIPES, 10)):
        for view, found in enumerate(seen):
            size = torch.full((8,), 12)
            drawn = views.draw(RECIPES[view], seed=5, step=step, view=view, heights=size, widths=size)
            crops = views.crop(images.pixels[order[step]], drawn, 10)
            torch.testing.assert_close(found, views.normalize(views.photometric(crops, drawn)), atol=1e-5, rtol=0)


def test_a_batch_names_its_images():
    order = MultiplePass(40, 8, 3)
    for rank in range(2):
        for batch in ViewLoader(arrays(), order, RECIPES, 10, rank=rank, world_size=2)(1):
            assert batch.images.tolist() == order[batch.step][4 * rank : 4 * rank + 4].tolist()


def test_starting_in_the_middle_gives_the_same_bits():
    loader = ViewLoader(arrays(), Hybrid(40, 4, 20, 5, seed=1), RECIPES, 10)
    whole = collect(loader)
    for start in (1, 7, 8, 19):
        for (s, a, b), (t, c, d) in zip(whole[start:], collect(loader, start), strict=True):
            assert s == t
            assert torch.equal(a, c)
            assert torch.equal(b, d)


def test_processes_share_the_global_batch():
    order = MultiplePass(40, 8, 3)
    whole = collect(ViewLoader(arrays(), order, RECIPES, 10))
    shares = [collect(ViewLoader(arrays(), order, RECIPES, 10, rank=r, world_size=2)) for r in range(2)]
    for all_of_it, left, right in zip(whole, *shares, strict=True):
        torch.testing.assert_close(all_of_it[1], torch.cat([left[1], right[1]]), atol=1e-5, rtol=0)
        torch.testing.assert_close(all_of_it[2], torch.cat([left[2], right[2]]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_cropping_one_by_one_is_cropping_a_batch_up_to_8_bits(interpolation):
    images = arrays()
    recipe = views.ViewRecipe(interpolation=interpolation, crop_scale=(0.08, 1))
    drawn = views.draw(recipe, seed=0, step=0, view=0, heights=torch.full((40,), 12), widths=torch.full((40,), 12))
    one_by_one = torch.stack(crop_each(list(images.pixels), drawn, 17)).float()
    assert (views.crop(images.pixels, drawn, 17) * 255 - one_by_one).abs().max() < 1.02


@pytest.mark.parametrize("workers", [0, 2])
def test_streamed_views_are_the_held_ones_up_to_8_bits(folder, workers):
    (folder / "07.png").unlink()
    images = open_images(str(folder))
    order = MultiplePass(19, 4, 6)
    plain = tuple(dataclasses.replace(recipe, jitter=0, grayscale=0) for recipe in RECIPES)
    held = collect(ViewLoader(cache_all(images)[0], order, plain, 10))
    streamed = collect(ViewLoader(images, order, plain, 10, cache="stream", workers=workers))
    assert [step for step, _, _ in streamed] == list(range(6))
    for a, b in zip(held, streamed, strict=True):
        for x, y in zip(a[1:], b[1:], strict=True):
            assert (x - y).abs().max() < 1.1 / 255 / 0.22


def test_a_pool_at_a_time_gives_the_same_views_as_the_whole_set(folder):
    (folder / "07.png").unlink()
    images = open_images(str(folder))
    order = SinglePass(19, 3, 12, 4)
    whole = collect(ViewLoader(cache_all(images)[0], order, RECIPES, 10))
    by_pool = ViewLoader(images, order, RECIPES, 10)
    for start in (0, 4):
        for a, b in zip(whole[start:], collect(by_pool, start), strict=True):
            assert torch.equal(a[1], b[1])


def test_unreadable_images_found_before_training_are_left_out_and_named(folder):
    images = open_images(str(folder))
    held, skipped = cache_all(images)
    assert len(held) == 19
    assert [name[-6:] for name in skipped] == ["07.png"]
    pixels, good = decode(images)
    assert len(pixels) == 19
    assert good.tolist() == [i for i in range(20) if i != 7]
    with pytest.raises(UnreadableImageError, match="07.png cannot be decoded"):
        cache_all(images, strict=True)


def test_a_set_that_was_decoded_is_the_same_set(folder):
    images = open_images(str(folder))
    decoded = Decoded(images)
    assert len(decoded) == len(images) == 20
    assert decoded.fingerprint() == images.fingerprint()
    assert decoded.select(torch.tensor([3, 8])).fingerprint() == images.select(torch.tensor([3, 8])).fingerprint()
    assert decoded.key(7) == images.key(7)
    assert all(torch.equal(decoded.read(i), images.read(i)) for i in range(20) if i != 7)
    with pytest.raises(UnreadableImageError, match="07.png cannot be decoded"):
        decoded.read(7)
    assert as_array(decoded) is None
    assert find_unreadable(images).tolist() == find_unreadable(decoded).tolist() == [7]
    some = Decoded(images.select(torch.tensor([3, 8])))
    assert torch.equal(as_array(some), torch.stack([images.read(3), images.read(8)]))


@pytest.mark.parametrize("cache", ["stream", "memory"])
def test_unreadable_images_met_while_training_give_their_place_to_the_next(folder, cache):
    images = open_images(str(folder))
    order = SinglePass(20, 4, 10, 5)
    plain = tuple(views.ViewRecipe(crop_scale=(1, 1), flip=0, jitter=0, grayscale=0, blur=0) for _ in range(2))
    loader = ViewLoader(images, order, plain, 12, cache=cache)
    expected = arrays(20)
    met = False
    for batch in loader(0):
        step, first = batch.step, batch.views[0]
        indices = order[step].tolist()
        if 7 in indices:
            met = True
            place = indices.index(7)
            indices[place] = indices[(place + 1) % 4]
        assert batch.images.tolist() == indices
        drawn = views.draw(
            plain[0], seed=0, step=step, view=0, heights=torch.full((4,), 12), widths=torch.full((4,), 12)
        )
        right = views.normalize(views.crop(expected.pixels[indices], drawn, 12))
        torch.testing.assert_close(first, right, atol=1.1 / 255 / 0.22, rtol=0)
    assert met
    assert [name[-6:] for name in loader.skipped] == ["07.png"]
    with pytest.raises(UnreadableImageError, match="07.png cannot be decoded"):
        collect(ViewLoader(images, order, plain, 12, cache=cache, strict=True))


@pytest.mark.parametrize("cache", ["stream", "memory"])
def test_one_view_and_which_images_it_shows(folder, cache):
    images, order = open_images(str(folder)), SinglePass(20, 4, 10, 5)
    recipe = views.ViewRecipe(jitter=0, grayscale=0, blur=0)
    replaced = 0
    for made in ViewLoader(images, order, (recipe,), 10, cache=cache)(3):
        (seen,) = made.views
        replaced += made.images.tolist() != order[made.step].tolist()
        size = torch.full((4,), 12)
        drawn = views.draw(recipe, seed=0, step=made.step, view=0, heights=size, widths=size)
        right = views.normalize(views.crop(arrays(20).pixels[made.images], drawn, 10))
        torch.testing.assert_close(seen, right, atol=1.1 / 255 / 0.22, rtol=0)
    assert replaced > 0
    assert made.step == 9


@pytest.mark.parametrize("cache", ["stream", "memory"])
def test_processes_replace_unreadable_images_from_the_global_batch(folder, cache):
    images, order = open_images(str(folder)), SinglePass(20, 4, 10, 5)
    at = [int((order[step] == 7).nonzero()) for step in range(10) if 7 in order[step]]
    assert 1 in at  # the last of the first process's piece: the image after it is the second one's
    whole = collect(ViewLoader(images, order, RECIPES, 10, cache=cache))
    shares = [
        collect(ViewLoader(images, order, RECIPES, 10, cache=cache, rank=rank, world_size=2)) for rank in range(2)
    ]
    for one, left, right in zip(whole, *shares, strict=True):
        torch.testing.assert_close(one[1], torch.cat([left[1], right[1]]), atol=1e-5, rtol=0)
    loaders = [ViewLoader(images, order, RECIPES, 10, cache=cache, rank=rank, world_size=2) for rank in range(2)]
    named = [[batch.images for batch in loader(0)] for loader in (ViewLoader(images, order, RECIPES, 10), *loaders)]
    for one, left, right in zip(*named, strict=True):
        assert one.tolist() == torch.cat([left, right]).tolist()


def test_a_batch_of_unreadable_images_is_an_error(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    images = open_images(str(tmp_path))
    with pytest.raises(FullrankError, match="none of the images of step 0 can be decoded: .*png"):
        collect(ViewLoader(images, MultiplePass(4, 2, 1), RECIPES, 8, cache="stream"))
    with pytest.raises(FullrankError, match="none of the 4 images .* can be decoded"):
        decode(images)


@pytest.fixture
def mixed(tmp_path):
    """Twenty images of different sizes as files; number 7 is damaged."""
    for number, image in enumerate(arrays(20, 60, 60).pixels.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image[: 20 + number, : 60 - 2 * number]).save(tmp_path / f"{number:02d}.png")
    (tmp_path / "07.png").write_bytes(b"damaged")
    return open_images(str(tmp_path))


def test_images_of_different_sizes_lie_in_one_buffer(mixed):
    kept, good = decode(mixed, threads=2)
    assert isinstance(kept, Kept)
    assert good.tolist() == [i for i in range(20) if i != 7]
    assert kept.pixels.shape == (int((kept.heights * kept.widths).sum()), 3)
    for row, index in enumerate(good.tolist()):
        assert torch.equal(kept[row], mixed.read(index))
        assert kept[row].data_ptr() == kept.pixels[kept.offsets[row]].data_ptr()
    held, skipped = cache_all(mixed)
    assert len(held) == 19
    assert [name[-6:] for name in skipped] == ["07.png"]
    decoded = Decoded(mixed)
    assert torch.equal(decoded.read(8), mixed.read(8))
    for one in (held, decoded, held.select(torch.tensor([3, 8])), Decoded(mixed.select(torch.tensor([3, 9])))):
        shown, read = load_for_eval(one, torch.arange(2), 14)
        again, _ = load_for_eval(mixed.select(torch.tensor([0, 1] if len(one) > 2 else [3, 9])), torch.arange(2), 14)
        assert torch.equal(shown, again)
        assert read.tolist() == [0, 1]
    with pytest.raises(UnreadableImageError, match="07.png cannot be decoded"):
        decode(mixed, strict=True)


def test_each_image_is_decoded_once_whatever_their_sizes(monkeypatch):
    images = DatasetImages([torch.zeros(3, 4, columns, dtype=torch.uint8) for columns in (5, 5, 5, 6)])
    read = []
    monkeypatch.setattr(images, "read", lambda index: read.append(index) or DatasetImages.read(images, index))
    assert isinstance(decode(images, threads=1)[0], Kept)
    assert read == [0, 1, 2, 3]


@pytest.mark.parametrize("counted", [1, 5, 500])
def test_a_buffer_grows_with_what_is_put_into_it(counted):
    images = [torch.full((3, 1 + number, 400), number, dtype=torch.uint8) for number in range(30)]
    kept = keep(iter(images), counted)
    assert all(torch.equal(kept[row], image) for row, image in enumerate(images))
    assert kept.nbytes == sum(image.numel() for image in images)
    assert len(keep([], counted)) == 0


def test_the_fingerprint_of_kept_images_is_of_them_alone():
    kept = keep(iter([torch.zeros(3, 2, 4, dtype=torch.uint8), torch.ones(3, 3, 2, dtype=torch.uint8)]), 2)
    before = ArrayImages("kept", kept).fingerprint()
    assert kept.offsets.tolist() == [0, 8]  # computed once, and kept beside the pixels
    assert ArrayImages("kept", kept).fingerprint() == before


@pytest.mark.parametrize("name", ["simsiam", "byol"])
@pytest.mark.parametrize("workers", [0, 2])
def test_images_of_different_sizes_are_seen_alike_however_they_are_kept(mixed, name, workers):
    recipes, order = views.recipe(name), SinglePass(20, 4, 12, 5, seed=2)
    streamed = collect(ViewLoader(mixed, order, recipes, 14, cache="stream"))
    kept = ViewLoader(mixed, order, recipes, 14, workers=workers)
    for one, other in zip(streamed, collect(kept), strict=True):
        assert torch.equal(one[1], other[1])
        assert torch.equal(one[2], other[2])
    for one, other in zip(streamed[5:], collect(kept, 5), strict=True):
        assert torch.equal(one[1], other[1])
    assert [name[-6:] for name in kept.skipped] == ["07.png"]


def test_hybrid_keeps_chunks_until_its_switch_and_streams_then(mixed, monkeypatch):
    order, asked = Hybrid(20, 4, 20, 4, switch=0.6), []
    real = batches.decode
    monkeypatch.setattr(batches, "decode", lambda images, **more: asked.append(len(images)) or real(images, **more))
    streamed = [batch.views for batch in ViewLoader(mixed, order, RECIPES, 14, cache="stream")()]
    for start in (0, 7, 12, 15):
        asked.clear()
        found = list(ViewLoader(mixed, order, RECIPES, 14, workers=1)(start))
        assert [batch.step for batch in found] == list(range(start, 20))
        assert all(
            torch.equal(a, b)
            for x, y in zip(found, streamed[start:], strict=True)
            for a, b in zip(x.views, y, strict=True)
        )
        assert asked == [5] * {0: 3, 7: 2}.get(start, 0)  # chunks, and never the whole set


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("gathered", [1, 2**23])
def test_a_batch_of_any_sizes_is_cropped_as_one_by_one_up_to_8_bits(mixed, monkeypatch, interpolation, gathered):
    monkeypatch.setattr(views, "_GATHERED", gathered)
    kept, _ = decode(mixed)
    recipe = views.ViewRecipe(interpolation=interpolation, crop_scale=(0.08, 1))
    drawn = views.draw(recipe, seed=0, step=0, view=0, heights=kept.heights, widths=kept.widths)
    one_by_one = torch.stack(crop_each([kept[row] for row in range(19)], drawn, 17)).float()
    largest = int(drawn.height.max()), int(drawn.width.max())
    found = views.crop_ragged(kept.pixels, kept.offsets, kept.widths, drawn, 17, largest)
    assert (found * 255 - one_by_one).abs().max() < 1.02


@pytest.fixture
def photographs(tmp_path):
    """Two photographs of 640 x 427 as JPEG, one as PNG, and one that is damaged."""
    from sklearn.datasets import load_sample_images

    for number, photo in enumerate(load_sample_images().images):
        Image.fromarray(photo).save(tmp_path / f"{number}.jpg", quality=90)
    Image.fromarray(photo).save(tmp_path / "2.png")
    (tmp_path / "3.jpg").write_bytes((tmp_path / "0.jpg").read_bytes()[:30_000])
    return open_images(str(tmp_path))


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("most", "factor"), [(0, 1), (1, 1), (2, 2), (3, 2), (4, 4), (100, 8)])
def test_jpeg_is_decoded_smaller_by_a_power_of_two_at_most_as_allowed(photographs, monkeypatch, fast, most, factor):
    if not fast:
        monkeypatch.setattr(decoding, "_simplejpeg", lambda: None)
    asked = []
    found = photographs.select(torch.tensor([1, 2])).read_smaller(0, lambda *size: asked.append(size) or most)
    assert asked == [(427, 640)]
    assert found[1:] == (427, 640, factor)
    assert found.image.shape == (3, -(-427 // factor), -(-640 // factor))
    blocks = F.interpolate(photographs.read(1)[None, :, :424].float(), scale_factor=1 / factor, mode="area")[0]
    assert (found.image[:, : blocks.shape[1]] - blocks).abs().mean() < 2.5  # a mean of blocks, nearly
    monkeypatch.setattr(decoding, "_simplejpeg", lambda: None)
    assert torch.equal(photographs.read_smaller(1, lambda *size: most).image, found.image)  # by Pillow the same bits
    assert photographs.read_smaller(2, lambda *size: most).factor == 1


@pytest.mark.parametrize("size", [48, 96])
def test_reduced_jpeg_is_as_large_as_the_crop_needs_and_differs_by_two_levels_of_255(photographs, monkeypatch, size):
    plain = tuple(dataclasses.replace(recipe, jitter=0, grayscale=0, blur=0) for recipe in RECIPES)
    order, seen = MultiplePass(4, 4, 12, seed=1), []
    real = batches.crop_each

    def noted(images, drawn, size):
        for image, height, width in zip(images, drawn.height.tolist(), drawn.width.tolist(), strict=True):
            assert image.shape[1] in (427, 214, 107, 54)
            seen.append((image.shape[1], min(height, width)))
        return real(images, drawn, size)

    monkeypatch.setattr(batches, "crop_each", noted)
    whole, reduced = (ViewLoader(photographs, order, plain, size, cache="stream", reduced=r) for r in (False, True))
    differences = []
    for one, other in zip(whole(), reduced(), strict=True):
        assert torch.equal(one.images, other.images)
        for a, b in zip(one.views, other.views, strict=True):
            difference = (a - b).abs().mean(dim=(1, 2, 3)) * 255 * 0.225  # not normalized
            differences.append(difference[one.images < 2])
            assert not difference[one.images == 2].any()
    assert min(box for rows, box in seen if rows < 427) >= size - 1  # to the nearest pixel
    assert sum(rows < 427 for rows, _ in seen) > len(seen) / 5  # two of the four are JPEG, and half are of `whole`
    found = torch.cat(differences)
    assert 0 < found.mean() < 2.5
    assert found.max() < 8
    assert reduced.skipped == whole.skipped != set()


@pytest.mark.parametrize(("size", "side"), [(64, 128), (112, 224)])
def test_photographs_kept_at_twice_the_view_differ_by_three_levels_of_255(size, side):
    """The bound that `cache_side` states, on two photographs of 640 x 427 of a mean contrast of 75 levels."""
    from sklearn.datasets import load_sample_images

    whole = [torch.tensor(photo).permute(2, 0, 1) for photo in load_sample_images().images]
    assert scaled(whole[0], 427) is whole[0]
    smaller = [scaled(photo, side) for photo in whole]
    assert smaller[0].shape == (3, side, round(side * 640 / 427))
    differences = []
    for step in range(20):
        crops = []
        for photos in (whole, smaller):
            heights, widths = (torch.tensor([photo.shape[axis] for photo in photos]) for axis in (1, 2))
            drawn = views.draw(RECIPES[0], seed=0, step=step, view=0, heights=heights, widths=widths)
            crops.append(torch.stack(crop_each(photos, drawn, size)).float())
        differences.append((crops[0] - crops[1]).abs().mean(dim=(1, 2, 3)))
    found = torch.cat(differences)
    assert found.mean() < 4
    assert found.max() < 12


def test_what_is_scaled_is_kept_at_its_side_and_cropped_as_the_smaller_image(mixed):
    kept, good = decode(mixed, side=25)
    for row, index in enumerate(good.tolist()):
        assert torch.equal(kept[row], scaled(mixed.read(index), 25))
    assert torch.minimum(kept.heights, kept.widths).max() == 25
    small, _ = cache_all(mixed, side=25)
    order = MultiplePass(19, 4, 5)
    a, b = ViewLoader(small, order, RECIPES, 14), ViewLoader(small, order, RECIPES, 14, cache="stream")
    assert all(torch.equal(x.views[0], y.views[0]) for x, y in zip(a(), b(), strict=True))


def test_images_of_one_size_that_are_given_a_side_are_cropped_as_streamed_ones(folder):
    images, order = open_images(str(folder)), SinglePass(20, 4, 12, 5)
    a, b = ViewLoader(images, order, RECIPES, 10, side=20), ViewLoader(images, order, RECIPES, 10, cache="stream")
    assert all(torch.equal(x.views[0], y.views[0]) for x, y in zip(a(), b(), strict=True))


def test_memory_that_cannot_be_had_is_named(mixed, folder, monkeypatch):
    def fail(*given, **named):
        raise MemoryError

    monkeypatch.setattr("fullrank.data.cache.keep", fail)
    with pytest.raises(FullrankError, match=r"20 decoded images need .* MB of memory, .*--cache stream"):
        decode(mixed, side=20000)


def test_holding_is_chosen_by_size():
    images = arrays()
    assert choose_cache(images, 40, memory=40 * 432) == "memory"
    assert choose_cache(images, 40, memory=40 * 432 - 1) == "stream"
    assert choose_cache(images, 40, side=6, memory=40 * 108) == "memory"


def test_several_sizes_count_with_their_mean(mixed):
    there = [3 * (20 + i) * (60 - 2 * i) for i in range(20) if i != 7]
    assert kept_bytes(mixed, 1) == pytest.approx(sum(there) / 19)
    assert choose_cache(mixed, 20, memory=20 * sum(there) / 19 + 1) == "memory"
    assert choose_cache(mixed, 20, memory=20 * sum(there) / 19 - 1) == "stream"


def test_fixed_pairs_of_views_are_the_same_whether_held_or_not(folder):
    (folder / "07.png").unlink()
    images = open_images(str(folder))
    arguments = (torch.arange(19), views.recipe("cifar"), 12)
    (a,) = view_blocks(images, *arguments, seed=0, step=9)
    (b,) = view_blocks(cache_all(images)[0], *arguments, seed=0, step=9)
    for x, y in zip(a, b, strict=True):
        assert x.dtype == torch.uint8
        # jitter amplifies the 8-bit rounding of streamed crops
        assert (x.float() - y.float()).abs().mean() < 1
    assert not torch.equal(a[0], a[1])


def test_the_order_must_be_over_the_images():
    with pytest.raises(FullrankError, match="order is over 39 images and the set has 40"):
        ViewLoader(arrays(), MultiplePass(39, 4, 2), RECIPES, 8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_cropping_one_by_one_is_torchvisions_resized_crop(interpolation):
    from torchvision.transforms.v2 import InterpolationMode, functional

    images = [image[:, :, : 12 - row % 5] for row, image in enumerate(arrays().pixels)]
    widths = torch.tensor([image.shape[2] for image in images])
    given = views.ViewRecipe(interpolation=interpolation, crop_scale=(0.08, 1))
    drawn = views.draw(given, seed=0, step=0, view=0, heights=torch.full((40,), 12), widths=widths)
    for row, found in enumerate(crop_each(images, drawn, 9)):
        image = images[row].float() if interpolation == "bicubic" else images[row]
        box = (int(getattr(drawn, name)[row]) for name in ("top", "left", "height", "width"))
        made = functional.resized_crop(image, *box, [9, 9], InterpolationMode(interpolation), antialias=True)
        made = made.clamp(0, 255).round().to(torch.uint8)
        assert torch.equal(found, made.flip(2) if drawn.flip[row] else made)


class Copies(TorchDispatchMode):
    """Note what is taken from the CPU to another device."""

    def __enter__(self):
        self.sizes = []
        return super().__enter__()

    def __torch_dispatch__(self, function, types, given=(), named=None):
        result = function(*given, **(named or {}))
        tensors = [each for each in tree_leaves((given, named)) if isinstance(each, torch.Tensor)]
        if any(each.device.type == "meta" for each in tree_leaves(result) if isinstance(each, torch.Tensor)):
            self.sizes += [each.numel() for each in tensors if each.device.type == "cpu"]
        return result


def test_ragged_images_on_a_device_take_one_copy_too(mixed, monkeypatch):
    monkeypatch.setattr(batches, "ahead", lambda make, of, threads: map(make, of))
    monkeypatch.setattr(ViewLoader, "_place", lambda self, pixels: pixels.to(self.device))
    loader = ViewLoader(mixed, SinglePass(20, 4, 4, 1), RECIPES, 10, device="meta")
    next(iter(loader()))
    with Copies() as copies:
        assert [tuple(batch.views[0].shape) for batch in loader()] == [(4, 3, 10, 10)] * 4
    assert len(copies.sizes) == 1 + 4  # the chunk, and then parameters alone


@pytest.mark.parametrize("kept", ["on the device", "on the CPU", "stream"])
def test_parameters_go_to_the_device_in_one_copy(monkeypatch, kept):
    images, order = arrays(), MultiplePass(40, 8, 4)
    monkeypatch.setattr(batches, "ahead", lambda make, of, threads: map(make, of))  # a mode is of one thread
    recipes = views.recipe("byol")  # solarizes too
    loader = ViewLoader(images, order, recipes, 10, device="meta", cache="stream" if kept == "stream" else "memory")
    if kept == "on the device":
        loader._pixels = images.pixels.to("meta")
    next(iter(loader()))  # constants are taken there once
    with Copies() as copies:
        found = list(loader())
    assert [view.device.type for batch in found for view in batch.views] == ["meta"] * 8
    pixels = {"on the device": 0, "on the CPU": 8 * 3 * 12 * 12, "stream": 16 * 3 * 10 * 10}[kept]
    assert len(copies.sizes) == 4 * (2 if pixels else 1)
    assert copies.sizes.count(pixels) == (4 if pixels else 0)
    # two views of 8 images: boxes, rows, and the four turns of the color jitter
    assert all(16 * 4 * 8 < size < 16 * 40 * 8 for size in copies.sizes if size != pixels)


def test_what_is_packed_is_what_arrives():
    generator = torch.Generator().manual_seed(0)
    given = [
        torch.randint(-9, 9, (5,), generator=generator),
        torch.rand(3, 2, dtype=torch.float64, generator=generator),
        torch.rand(7, generator=generator) > 0.5,
        torch.zeros(0, dtype=torch.int64),
        torch.rand(2, generator=generator)[:1],
    ]
    elsewhere = torch.device("cpu", 0)  # a device that is not `cpu` by name
    found = views.to_device(given, elsewhere)
    for one, other in zip(given, found, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    assert len({other.untyped_storage().data_ptr() for other in found}) == 1


def test_steps_are_made_ahead_in_order_and_no_further():
    made, gate = [], threading.Semaphore(0)

    def make(item):
        gate.acquire()
        made.append(item)
        return item * item

    asked = []
    results = decoding.ahead(make, (asked.append(item) or item for item in range(9)), 2)
    gate.release(3)
    assert next(results) == 0
    assert asked == [0, 1, 2]  # two ahead of the first
    gate.release(9)
    assert list(results) == [item * item for item in range(1, 9)]
    assert sorted(made) == list(range(9))
    assert list(decoding.ahead(str, [1, 2], 0)) == ["1", "2"]


def test_what_fails_ahead_is_raised_in_its_place_and_ends_the_threads():
    results = decoding.ahead(lambda item: 1 // item, [2, 1, 0, 4], 1)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    before = threading.active_count()
    stopped = decoding.ahead(str, range(100), 3)
    next(stopped)
    stopped.close()
    assert threading.active_count() == before


def test_the_thread_that_decodes_chunks_ends_with_them(folder):
    before = threading.active_count()
    loader = ViewLoader(open_images(str(folder)), Hybrid(20, 4, 12, 2, switch=0.5), RECIPES, 10)
    for batch in loader():
        streamed = not loader.order.keeps(batch.step)
        assert (threading.active_count() == before) == streamed


def test_views_made_ahead_are_those_made_at_once(monkeypatch):
    loader = ViewLoader(arrays(), Hybrid(40, 4, 12, 5, seed=1), RECIPES, 10)
    at_once = collect(loader)
    real = decoding.ahead
    monkeypatch.setattr(batches, "ahead", lambda make, of, threads: real(make, of, 3))
    for one, other in zip(at_once, collect(loader), strict=True):
        assert torch.equal(one[1], other[1])
        assert torch.equal(one[2], other[2])


def test_a_process_ends_though_its_stream_is_held_to_the_end(tmp_path):
    """Its workers ignore the SIGTERM that would end them, which may have come to the whole group."""
    code = """if True:
        import multiprocessing, sys, torch
        from tests.data import test_batches

        torch.set_num_threads(1)
        child = multiprocessing.get_context("fork").Process(target=test_batches.hold)  # which skips atexit
        child.start()
        test_batches.hold()
        child.join()
        sys.exit(child.exitcode)"""
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], cwd=root, start_new_session=True) as process:
        try:
            assert process.wait(120) == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def hold():
    """Take one step of a stream, and let go of it at exit only."""
    hold.stream = ViewLoader(arrays(), MultiplePass(40, 8, 6), RECIPES, 10, cache="stream", workers=1)(0)
    next(hold.stream)
