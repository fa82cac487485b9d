"""Every operation is compared with torchvision's, image by image, given the same parameters."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from fullrank.data import views
from fullrank.data.views import ViewParameters, ViewRecipe, draw
from fullrank.errors import FullrankError


def pictures(count=12, height=40, width=52):
    """Smooth random pictures with black, white, grey and red corners: where colour operations have their hard cases."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, 5, 6, generator=generator)
    x = F.resize(small, [height, width], antialias=True)
    x[0, :, :4, :4] = 0
    x[0, :, -4:, :4] = 1
    x[0, :, :4, -4:] = 0.5
    x[0, :, -4:, -4:] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    x[-1, 1:] = x[-1, :1]
    return x.clamp(0, 1)


SIMSIAM = views.recipe("simsiam")[0]


def drawn(recipe=SIMSIAM, count=12, height=40, width=52, **place):
    place = {"seed": 0, "step": 3, "view": 0, **place}
    return draw(recipe, heights=torch.full((count,), height), widths=torch.full((count,), width), **place)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [16, 32, 64])
def test_crop_agrees_with_torchvision(interpolation, size):
    x = pictures()
    parameters = drawn(ViewRecipe(interpolation=interpolation, crop_scale=(0.05, 1.0)))
    mode = InterpolationMode[interpolation.upper()]
    found = views.crop(x, parameters, size)
    for i in range(len(x)):
        box = [int(getattr(parameters, name)[i]) for name in ("top", "left", "height", "width")]
        expected = F.resized_crop(x[i], *box, [size, size], mode, antialias=True)
        if parameters.flip[i]:
            expected = F.horizontal_flip(expected)
        torch.testing.assert_close(found[i], expected.clamp(0, 1), atol=2e-5, rtol=0)
    assert parameters.flip.any()
    assert not parameters.flip.all()


def test_crop_of_8_bit_images_agrees_with_torchvision_to_a_level():
    x = (pictures() * 255).round().to(torch.uint8)
    parameters = drawn()
    found = views.crop(x, parameters, 24) * 255
    for i in range(len(x)):
        box = [int(getattr(parameters, name)[i]) for name in ("top", "left", "height", "width")]
        expected = F.resized_crop(x[i], *box, [24, 24], antialias=True)
        expected = F.horizontal_flip(expected) if parameters.flip[i] else expected
        assert (found[i] - expected.float()).abs().max() <= 1.01  # they round after each axis


OPERATIONS = {
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_colour_operation_agrees_with_torchvision(name):
    x = pictures()
    column = list(OPERATIONS).index(name)
    assert views.JITTER[column] == name
    values = torch.linspace(-0.5, 0.5, len(x)) if name == "hue" else torch.linspace(0, 2, len(x))
    order = torch.full((len(x), 4), -1)
    order[:, 1] = column
    factors = torch.ones(len(x), 4, dtype=torch.float64)
    factors[:, column] = values
    found = views.color_jitter(x.clone(), order, factors)
    for i in range(len(x)):
        torch.testing.assert_close(found[i], OPERATIONS[name](x[i], float(values[i])), atol=1e-5, rtol=0)


def test_jitter_applies_the_operations_in_each_images_own_order():
    x = pictures(count=60, height=9, width=9)
    parameters = drawn(count=60, height=9, width=9)
    found = views.color_jitter(x.clone(), parameters.jitter_order, parameters.jitter)
    for i in range(len(x)):
        expected = x[i]
        for operation in parameters.jitter_order[i].tolist():
            if operation >= 0:
                adjust = OPERATIONS[views.JITTER[operation]]
                expected = adjust(expected, float(parameters.jitter[i, operation]))
        torch.testing.assert_close(found[i], expected, atol=2e-5, rtol=0)
    orders = {tuple(row) for row in parameters.jitter_order.tolist()}
    assert (-1,) * 4 in orders
    assert len(orders) > 10


def test_grayscale_agrees_with_torchvision():
    x = pictures()
    found = views._luma(x).expand_as(x)
    torch.testing.assert_close(found, F.rgb_to_grayscale(x, num_output_channels=3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [8, 16, 32, 96, 224])
def test_blur_agrees_with_torchvision(size):
    x = pictures(4, size, size)
    sigma = torch.tensor([0.1, 0.5, 1.3, 2.0])
    found = views.gaussian_blur(x, sigma)
    for i in range(len(x)):
        expected = F.gaussian_blur(x[i], [views.blur_kernel_size(size)] * 2, [float(sigma[i])] * 2)
        torch.testing.assert_close(found[i], expected, atol=1e-5, rtol=0)


def test_a_gpu_blurs_as_a_cpu_does():
    x, sigma = pictures(4, 224, 224), torch.tensor([0.1, 0.5, 1.3, 2.0])
    found = views.gaussian_blur(x, sigma)
    offset = torch.arange(-11, 12)
    taps = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    torch.testing.assert_close(found, views._convolve(x, taps / taps.sum(1, keepdim=True)), atol=1e-6, rtol=0)


def test_blur_has_simclrs_taps():
    assert [views.blur_kernel_size(size) for size in (8, 32, 96, 224)] == [3, 3, 9, 23]


def test_solarize_agrees_with_torchvision():
    x = (pictures() * 255).round() / 255
    torch.testing.assert_close(views.solarize(x), F.solarize(x, 128 / 255), atol=0, rtol=0)
    levels = torch.tensor([127, 128]).view(2, 1, 1, 1) / 255
    assert (views.solarize(levels) * 255).round().flatten().tolist() == [127, 127]  # PIL's threshold of 128


def test_appearance_is_jitter_grayscale_blur_solarize_each_where_drawn():
    recipe = ViewRecipe(grayscale=0.5, blur=0.5, solarize=0.5)
    x = pictures(40, 20, 20)
    parameters = drawn(recipe, count=40, height=20, width=20)
    found = views.photometric(x.clone(), parameters)
    expected = views.color_jitter(x.clone(), parameters.jitter_order, parameters.jitter)
    for i in range(len(x)):
        y = expected[i]
        if parameters.grayscale[i]:
            y = F.rgb_to_grayscale(y, num_output_channels=3)
        if parameters.blur_sigma[i] > 0:
            y = F.gaussian_blur(y, [3, 3], [float(parameters.blur_sigma[i])] * 2)
        if parameters.solarize[i]:
            y = F.solarize(y, 128 / 255)
        # a pixel within rounding of the threshold may fall on either side
        difference = (found[i] - y).abs()
        assert (difference > 1e-4).float().mean() < 0.001
    for chosen in (parameters.grayscale, parameters.blur_sigma > 0, parameters.solarize):
        assert 8 < int(chosen.sum()) < 32


@pytest.mark.parametrize("at_once", [1, 3, 39])
def test_images_are_changed_alike_however_many_at_a_time(monkeypatch, at_once):
    recipe = ViewRecipe(grayscale=0.5, blur=0.5, solarize=0.5)
    x, parameters = pictures(40, 20, 20), drawn(recipe, count=40, height=20, width=20)
    whole = views.photometric(x.clone(), parameters)
    monkeypatch.setattr(views, "_CACHED", at_once * x[0].numel())
    placed, _ = parameters.place(x.device)
    for given in (parameters, placed):
        assert torch.equal(views.photometric(x.clone(), given), whole)


def test_parameters_are_of_the_place_in_the_global_batch_alone():
    whole = drawn(count=12)
    piece = drawn(count=5, first=4)
    for name in ViewParameters.__dataclass_fields__:
        assert torch.equal(getattr(whole[4:9], name), getattr(piece, name))
    sizes = torch.full((12,), 40)
    sizes[3] = 99  # another image's size changes nothing here
    other = draw(views.recipe("simsiam")[0], seed=0, step=3, view=0, heights=sizes, widths=torch.full((12,), 52))
    assert torch.equal(other.left[4:], whole.left[4:])
    for place in ({"seed": 1}, {"step": 4}, {"view": 1}):
        assert not torch.equal(drawn(**place).jitter, whole.jitter)


def test_drawn_frequencies_and_ranges_are_the_recipes():
    recipe = views.recipe("byol")[1]
    p = drawn(recipe, count=20_000)
    for chosen, probability in (
        (p.flip, 0.5),
        (p.jitter_order[:, 0] >= 0, 0.8),
        (p.grayscale, 0.2),
        (p.blur_sigma > 0, 0.1),
        (p.solarize, 0.2),
    ):
        assert abs(float(chosen.float().mean()) - probability) < 0.02
    low, high = torch.tensor([0.6, 0.6, 0.8, -0.1]), torch.tensor([1.4, 1.4, 1.2, 0.1])
    torch.testing.assert_close(p.jitter.amin(0).float(), low, atol=1e-3, rtol=0)
    torch.testing.assert_close(p.jitter.amax(0).float(), high, atol=1e-3, rtol=0)
    sigma = p.blur_sigma[p.blur_sigma > 0]
    assert 0.1 <= sigma.min() < 0.12
    assert 1.98 < sigma.max() < 2.0


def test_crops_are_distributed_as_torchvisions():
    height, width, count = 40, 52, 4000
    p = drawn(count=count)
    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, (0.2, 1.0), (3 / 4, 4 / 3)) for _ in range(count)])
    ours = torch.stack([p.top, p.left, p.height, p.width], dim=1)
    assert (ours[:, 0] + ours[:, 2] <= height).all()
    assert (ours[:, 1] + ours[:, 3] <= width).all()
    for column in range(4):
        a, b = ours[:, column].float(), theirs[:, column].float()
        spread = math.sqrt((a.var() + b.var()) / count)
        assert abs(a.mean() - b.mean()) < 5 * spread
        assert abs(a.std() - b.std()) < 0.1 * b.std()


@pytest.mark.parametrize(("height", "width"), [(4, 400), (400, 4)])
def test_an_image_too_long_for_the_ratio_gets_the_largest_centre_crop(height, width):
    # below (3 / 4) ** 2 * 0.2 of the area no try can fit
    p = drawn(count=50, height=height, width=width)
    torch.manual_seed(0)
    expected = RandomResizedCrop.get_params(torch.zeros(3, height, width), (0.9, 1.0), (3 / 4, 4 / 3))
    assert {tuple(row) for row in torch.stack([p.top, p.left, p.height, p.width], 1).tolist()} == {tuple(expected)}


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (256, 256), (225, 500), (224, 224), (90, 100)])
def test_eval_view_is_resize_and_centre_crop(height, width):
    x = pictures(2, height, width)
    expected = F.center_crop(F.resize(x, [256], antialias=True), [224, 224])
    torch.testing.assert_close(views.eval_view(x, 224), expected, atol=2e-5, rtol=0)


def test_eval_view_of_a_very_long_image_builds_only_what_it_shows():
    x = pictures(1, 4, 8000)
    found = views.eval_view(x, 32)
    middle = F.resize(x[..., 3900:4100], [32, 1600], antialias=True)[..., 784:816]
    torch.testing.assert_close(found, middle, atol=1e-3, rtol=0)


def test_eval_view_leaves_images_of_the_right_size_alone_and_enlarges_small_ones():
    x = (pictures(2, 32, 32) * 255).to(torch.uint8)
    assert torch.equal(views.eval_view(x, 32), x.float() / 255)
    torch.testing.assert_close(
        views.eval_view(pictures(2, 8, 8), 16), F.resize(pictures(2, 8, 8), [16, 16], antialias=True), atol=1e-5, rtol=0
    )


def test_normalise_agrees_with_torchvision():
    x = pictures()
    expected = F.normalize(x, list(views.IMAGENET_MEAN), list(views.IMAGENET_STD))
    torch.testing.assert_close(views.normalize(x), expected, atol=1e-5, rtol=0)


def test_published_recipes():
    first, second = views.recipe("simsiam")
    assert first == second == ViewRecipe()
    assert (first.crop_scale, first.blur, first.blur_sigma, first.solarize) == ((0.2, 1.0), 0.5, (0.1, 2.0), 0.0)
    assert views.recipe("cifar")[0].blur == 0
    first, second = views.recipe("byol")
    assert (first.blur, first.solarize, second.blur, second.solarize) == (1.0, 0.0, 0.1, 0.2)
    assert views.recipe("cifar", crop_min=0.08)[1].crop_scale == (0.08, 1.0)


def test_errors_say_what_to_do():
    with pytest.raises(FullrankError, match="views must be one of .*, got 'simsaim'; did you mean 'simsiam'"):
        views.recipe("simsaim")
    with pytest.raises(FullrankError, match=r"crop_min must be .* got 0"):
        views.recipe("cifar", crop_min=0)
    with pytest.raises(FullrankError, match="12 images need as many rows of parameters, got 5"):
        views.crop(pictures(), drawn(count=5), 8)
    mixed = ViewParameters.cat([drawn(count=6), drawn(views.recipe("byol")[0], count=6)])
    with pytest.raises(FullrankError, match="mixes bilinear and bicubic"):
        views.crop(pictures(), mixed, 8)


def test_identity_parameters_change_nothing():
    recipe = ViewRecipe(crop_scale=(1, 1), crop_ratio=(1, 1), flip=0, jitter=0, grayscale=0, blur=0)
    x = pictures(5, 32, 32)
    p = drawn(recipe, count=5, height=32, width=32)
    seen = views.photometric(views.crop(x, p, 32), p)
    torch.testing.assert_close(seen, x, atol=1e-6, rtol=0)
    assert np.array_equal(p.top.numpy(), np.zeros(5))
