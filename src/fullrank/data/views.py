"""Random views: augment a whole batch at once, on the device it lies on, each image with parameters of its own.

A view is `photometric(crop(images, parameters), parameters)`. The parameters come from `draw`, a pure function of
`(seed, step, place in the global batch)`; the operations are deterministic given them, and agree with
`torchvision.transforms.v2.functional` on the same image, to within interpolation rounding.

Recipes:

* `simsiam`: Chen & He 2021 (https://arxiv.org/abs/2011.10566), the MoCo-v2 set; also [Li22]'s.
* `byol`: Grill et al. 2020 (https://arxiv.org/abs/2006.07733), asymmetric: blur and solarize differ between the views.
* `cifar`: `simsiam` without blur, as is usual for images of about 32 x 32.
* `eval`: no augmentation: resize the shorter side, crop the center (256, then 224, on ImageNet; 32 on CIFAR): see
  `eval_view`.

Images are `(B, 3, H, W)`, float in [0, 1] unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fullrank.data.randomness import Purpose, uniform
from fullrank.errors import FullrankError
from fullrank.registry import VIEWS, register_views

Interpolation = Literal["bilinear", "bicubic"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
NORMALIZATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)),  # as others' code has it, for CIFAR-100 too
}

SMALL_IMAGE = 64  # views up to it show whole images in `eval`, and get the `cifar` stem where the stem is `auto`
SOLARIZE_THRESHOLD = 128 / 255  # pixels at or above it are inverted (PIL's default of 128)
_NO_WEIGHT = 2**-26  # a tap of so little of the middle one changes no float32 pixel
_CACHED = 2**19  # numbers of the images that a CPU changes at a time: 2 MB, which its cache holds
_GATHERED = 2**23  # pixels of ragged images that are cropped at a time: 25 MB, and 67 MB of their places
_ALIGNED = 8  # bytes, of the largest kind of number


@dataclass(frozen=True)
class ViewRecipe:
    """The distribution that one view's parameters are drawn from. A lone number is a probability or a spread."""

    crop_scale: tuple[float, float] = (0.2, 1.0)  # least and greatest share of the image's area, in (0, 1]
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)  # least and greatest width / height
    interpolation: Interpolation = "bilinear"  # how the crop is resized, with antialiasing, as PIL does
    flip: float = 0.5  # probability of a horizontal flip
    jitter: float = 0.8  # probability of color jitter, its four operations in a random order
    brightness: float = 0.4  # factor from [1 - brightness, 1 + brightness]; contrast and saturation likewise
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # shift from [-hue, hue], in turns of the color circle; at most 0.5
    grayscale: float = 0.2  # probability of dropping the color
    blur: float = 0.5  # probability of Gaussian blur
    blur_sigma: tuple[float, float] = (0.1, 2.0)  # least and greatest standard deviation, in pixels of the view
    solarize: float = 0.0  # probability of inverting the bright pixels


_SIMSIAM = ViewRecipe()
_CIFAR = ViewRecipe(blur=0.0)
_BYOL = ViewRecipe(crop_scale=(0.08, 1.0), interpolation="bicubic", saturation=0.2, blur=1.0)
_MOCOV3 = replace(_BYOL, interpolation="bilinear")  # BYOL's, with torchvision's own interpolation

for _name, _recipes in {
    "simsiam": (_SIMSIAM, _SIMSIAM),
    "byol": (_BYOL, replace(_BYOL, blur=0.1, solarize=0.2)),
    "mocov3": (_MOCOV3, replace(_MOCOV3, blur=0.1, solarize=0.2)),
    "cifar": (_CIFAR, _CIFAR),
}.items():
    register_views(_name)(lambda recipes=_recipes: recipes)


def recipe(name: str, *, crop_min: float | None = None) -> tuple[ViewRecipe, ViewRecipe]:
    """Return a recipe of `VIEWS` for the two views. `eval` is none: it draws nothing (see `eval_view`).

    `crop_min` replaces the least share of the area that a crop covers, in (0, 1].

    Raises:
        FullrankError: The name is unknown, or `crop_min` out of range.
    """
    VIEWS.check("views", name)
    first, second = VIEWS[name]()
    if crop_min is None:
        return first, second
    if not 0 < crop_min <= 1:
        raise FullrankError(f"crop_min must be a share of the image's area in (0, 1], got {crop_min!r}")
    return replace(first, crop_scale=(crop_min, 1.0)), replace(second, crop_scale=(crop_min, 1.0))


@dataclass(frozen=True)
class ViewParameters:
    """What is done to each of B images to make one view of it; every field is a CPU tensor with B rows."""

    top: Tensor  # first row of the crop, int64
    left: Tensor  # first column, int64
    height: Tensor  # rows, int64
    width: Tensor  # columns, int64
    bicubic: Tensor  # whether the crop is resized with the bicubic filter, else bilinear, bool
    flip: Tensor  # whether it is flipped horizontally, bool
    jitter_order: Tensor  # (B, 4) int64: which operation comes first, second, ... (an index into JITTER); -1 for none
    jitter: Tensor  # (B, 4) float64: brightness, contrast and saturation factor, and hue shift in turns
    grayscale: Tensor  # whether the color is dropped, bool
    blur_sigma: Tensor  # standard deviation of the blur in pixels, float64; 0 for none
    solarize: Tensor  # whether bright pixels are inverted, bool

    def __len__(self) -> int:
        return len(self.top)

    def __getitem__(self, rows: slice) -> ViewParameters:
        return ViewParameters(*(getattr(self, field.name)[rows] for field in fields(ViewParameters)))

    def shrunk(self, factors: Tensor) -> ViewParameters:
        """Return the crops of images that are so many times smaller, `(B,)` int64, to their nearest pixels."""
        if bool((factors == 1).all()):
            return self
        boxes = {}
        for start, length in (("top", "height"), ("left", "width")):
            begin, size = getattr(self, start), getattr(self, length)
            boxes[start], stop = ((edge / factors).round().long() for edge in (begin, begin + size))
            boxes[length] = (stop - boxes[start]).clamp(min=1)
        return replace(self, **boxes)

    @staticmethod
    def cat(parts: list[ViewParameters]) -> ViewParameters:
        """Join the parameters of several batches into those of one."""
        return ViewParameters(*map(torch.cat, zip(*(vars(part).values() for part in parts), strict=True)))

    def place(self, device: torch.device, *others: Tensor) -> tuple[PlacedParameters, list[Tensor]]:
        """Take to a device, in one copy, all that `crop` and `photometric` read there, and other tensors with it."""
        boxes, colors = [getattr(self, name) for name in _BOX], _Colors.of(self)
        there = to_device([*boxes, *colors.tensors(), *others], device)
        here = vars(self) | dict(zip(_BOX, there, strict=False)) | {"colors": colors.replaced(there[len(_BOX) :])}
        return PlacedParameters(**here), there[len(there) - len(others) :]


@dataclass(frozen=True)
class PlacedParameters(ViewParameters):
    """Parameters of which the device has what it reads; the others stay on the CPU."""

    colors: _Colors


_BOX = ("top", "left", "height", "width", "flip")


class _Turn(NamedTuple):
    """One turn of the color jitter: a blend of all images, and a turn of the hue of some."""

    factor: Tensor  # (B,) float64, 1 for none
    to_mean: Tensor  # (B,) bool: whose blend is with the mean luma, the contrast's
    to_luma: Tensor  # (B,) bool: whose is with the luma, the saturation's
    hue: Tensor  # (n,) int64: the images whose hue is turned
    shift: Tensor  # (n,) float64: by how much


class _Colors(NamedTuple):
    """What `photometric` reads on a device. Which images it changes is found on the CPU, which need not ask a GPU."""

    turns: tuple[_Turn, ...]
    grayscale: Tensor  # (n,) int64: the images that it changes; blur and solarize likewise
    blur: Tensor
    sigma: Tensor  # (n,) float64, of those that are blurred
    solarize: Tensor

    @staticmethod
    def of(parameters: ViewParameters) -> _Colors:
        blurred = parameters.blur_sigma > 0
        return _Colors(
            _turns(parameters.jitter_order, parameters.jitter),
            _rows(parameters.grayscale),
            _rows(blurred),
            parameters.blur_sigma[blurred],
            _rows(parameters.solarize),
        )

    def tensors(self) -> list[Tensor]:
        return [*(tensor for turn in self.turns for tensor in turn), *self[1:]]

    def replaced(self, tensors: Sequence[Tensor]) -> _Colors:
        """Return the same of other tensors, in the order of `tensors()`; what follows them is left."""
        each = iter(tensors)
        return _Colors(tuple(_Turn(*islice(each, 5)) for _ in self.turns), *islice(each, 4))


def _rows(chosen: Tensor) -> Tensor:
    return chosen.nonzero().squeeze(1)


def _turns(order: Tensor, values: Tensor) -> tuple[_Turn, ...]:
    found = []
    brightness, contrast, saturation, hue = range(len(JITTER))
    for operation in order.T:
        if bool((operation < 0).all()):
            continue
        blends = (operation >= brightness) & (operation < hue)
        factor = values.gather(1, operation.clamp(min=0)[:, None]).squeeze(1).where(blends, torch.tensor(1.0))
        turned = _rows(operation == hue)
        found.append(_Turn(factor, operation == contrast, operation == saturation, turned, values[turned, hue]))
    return tuple(found)


def to_device(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Copy small tensors of the CPU to a device in one piece, pinned where that is a GPU; there they are views of it.

    Those that lie there already stay as they are.
    """
    missing = [tensor for tensor in tensors if tensor.device != device]
    if not missing:
        return list(tensors)
    ends = np.cumsum([-(-tensor.nbytes // _ALIGNED) * _ALIGNED for tensor in missing]).tolist()
    packed = torch.empty(ends[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
    places = [slice(start, start + tensor.nbytes) for start, tensor in zip([0, *ends], missing, strict=False)]
    for place, tensor in zip(places, missing, strict=True):
        packed[place].view(tensor.dtype).view(tensor.shape).copy_(tensor)
    packed = packed.to(device, non_blocking=True)
    taken = iter(places)
    return [
        tensor if tensor.device == device else packed[next(taken)].view(tensor.dtype).view(tensor.shape)
        for tensor in tensors
    ]


JITTER = ("brightness", "contrast", "saturation", "hue")

# The columns of the table of uniform numbers that `draw` reads, one row an image. A column's meaning never changes:
# new operations take new columns, so old runs can still be repeated.
_SCALE = slice(0, 10)  # ten tries, as torchvision's RandomResizedCrop
_RATIO = slice(10, 20)
_TOP, _LEFT, _FLIP, _JITTER, _GRAY, _BLUR, _SIGMA, _SOLARIZE = range(20, 28)
_FACTORS = slice(28, 32)
_ORDER = slice(32, 36)
_COLUMNS = 40


def draw(
    recipe: ViewRecipe, *, seed: int, step: int, view: int, heights: Tensor, widths: Tensor, first: int = 0
) -> ViewParameters:
    """Draw the parameters of a view, 0 or 1, of each image of (a piece of) a step's global batch.

    `heights` and `widths` are the images' rows and columns, `(B,)`, and `first` is where in the global batch they
    begin: a process that holds places 32..63 of it passes 32. Nothing depends on B, on the other images or on earlier
    draws.
    """
    u = uniform(seed, Purpose.VIEW, step, view, (first + len(heights), _COLUMNS))[first:]
    h, w = heights.numpy().astype(np.float64), widths.numpy().astype(np.float64)
    centered = 2 * u[:, _FACTORS] - 1
    spread = np.array([recipe.brightness, recipe.contrast, recipe.saturation])
    jitter = np.concatenate([1 + spread * centered[:, :3], recipe.hue * centered[:, 3:]], axis=1)
    order = np.argsort(u[:, _ORDER], axis=1, kind="stable")
    order[u[:, _JITTER] >= recipe.jitter] = -1
    low, high = recipe.blur_sigma
    sigma = np.where(u[:, _BLUR] < recipe.blur, low + (high - low) * u[:, _SIGMA], 0.0)
    drawn = (
        *_random_crop(recipe, u, h, w),
        np.full(len(u), recipe.interpolation == "bicubic"),
        u[:, _FLIP] < recipe.flip,
        order,
        jitter,
        u[:, _GRAY] < recipe.grayscale,
        sigma,
        u[:, _SOLARIZE] < recipe.solarize,
    )
    return ViewParameters(*map(torch.from_numpy, drawn))


def _random_crop(
    recipe: ViewRecipe, u: np.ndarray, h: np.ndarray, w: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Draw crops as torchvision's RandomResizedCrop: ten tries at an area and a ratio, else the largest center crop."""
    low, high = recipe.crop_scale
    area = (h * w)[:, None] * (low + (high - low) * u[:, _SCALE])
    log_low, log_high = math.log(recipe.crop_ratio[0]), math.log(recipe.crop_ratio[1])
    ratio = np.exp(log_low + (log_high - log_low) * u[:, _RATIO])
    widths, heights = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (widths > 0) & (widths <= w[:, None]) & (heights > 0) & (heights <= h[:, None])
    rows, chosen = np.arange(len(u)), fits.argmax(axis=1)
    found = fits[rows, chosen]

    fallback_w = np.where(w / h > recipe.crop_ratio[1], np.rint(h * recipe.crop_ratio[1]), w)
    fallback_h = np.where(w / h < recipe.crop_ratio[0], np.rint(w / recipe.crop_ratio[0]), h)
    crop_w = np.where(found, widths[rows, chosen], fallback_w)
    crop_h = np.where(found, heights[rows, chosen], fallback_h)
    top = np.where(found, np.floor(u[:, _TOP] * (h - crop_h + 1)), (h - crop_h) // 2)
    left = np.where(found, np.floor(u[:, _LEFT] * (w - crop_w + 1)), (w - crop_w) // 2)
    return top.astype(np.int64), left.astype(np.int64), crop_h.astype(np.int64), crop_w.astype(np.int64)


def crop(images: Tensor, parameters: ViewParameters, size: int) -> Tensor:
    """Crop each image to its own box, resize the box to `size` x `size` with antialiasing, and flip where asked.

    `(B, C, H, W)`, uint8 or float -> `(B, C, size, size)` float32 in [0, 1] (clamped: the bicubic filter overshoots).
    Resizing is linear and separable, so a box, a resize and a flip are one matrix for the rows and one for the
    columns of each image, and the whole batch is two batched products.

    Raises:
        FullrankError: The parameters are not as many as the images, or mix the two interpolations.
    """
    b, c, h, w = images.shape
    if len(parameters) != b:
        raise FullrankError(f"{b} images need as many rows of parameters, got {len(parameters)}")
    if bool(parameters.bicubic.any()) != bool(parameters.bicubic.all()):
        raise FullrankError("one batch mixes bilinear and bicubic crops: crop the two kinds separately")
    kind: Interpolation = "bicubic" if bool(parameters.bicubic.any()) else "bilinear"
    x = as_float(images)
    # a few numbers an image: the matrices, which are large, are built where they are used
    top, left, height, width, flip = to_device([getattr(parameters, name) for name in _BOX], x.device)
    rows = resize_matrix(top, height, h, size, kind)
    columns = resize_matrix(left, width, w, size, kind, reverse=flip)
    x = torch.bmm(x.reshape(b, c * h, w), columns.transpose(1, 2)).reshape(b, c, h, size)
    x = torch.matmul(rows[:, None], x)
    return x.clamp_(0, 1) if kind == "bicubic" else x


def crop_ragged(
    pixels: Tensor, offsets: Tensor, widths: Tensor, parameters: ViewParameters, size: int, largest: tuple[int, int]
) -> Tensor:
    """Crop images of any sizes that lie in one buffer as `crop` does a batch of one size, some at a time.

    `pixels`, `(P, 3)` uint8, are those of `fullrank.data.kept.Kept`; on their device, `offsets` say at which of them
    each image begins, `(B,)` int64, and `widths` how many columns it has. No crop exceeds the rows and columns of
    `largest`, which would have to be asked of a device.
    """
    rows, columns = (torch.arange(length, device=pixels.device) for length in largest)
    found = []
    for first in range(0, len(parameters), at_once := max(_GATHERED // (largest[0] * largest[1]), 1)):
        part = parameters[first : first + at_once]
        top, left, height, width = to_device([part.top, part.left, part.height, part.width], pixels.device)
        # what lies beyond a crop repeats its border, and has no weight
        y = top[:, None] + rows.minimum(height[:, None] - 1)
        x = left[:, None] + columns.minimum(width[:, None] - 1)
        place, across = (each[first : first + at_once, None, None] for each in (offsets, widths))
        boxes = pixels[place + y[:, :, None] * across + x[:, None, :]].permute(0, 3, 1, 2)
        zero = torch.zeros_like(top)
        found.append(crop(boxes, replace(part, top=zero, left=zero), size))
    return torch.cat(found)


def as_float(images: Tensor) -> Tensor:
    """Return uint8 images as float32 in [0, 1], and float ones as float32."""
    return images.to(torch.float32).div_(255) if images.dtype == torch.uint8 else images.to(torch.float32)


def resize_matrix(
    start: Tensor,
    length: Tensor,
    source: int,
    size: int,
    kind: Interpolation = "bilinear",
    *,
    reverse: Tensor | None = None,
    part: slice | None = None,
) -> Tensor:
    """Build the matrices that take `source` pixels to `size` by antialiased resizing of `[start, start + length)`.

    The weights are PIL's and torchvision's (`antialias=True`): a triangle, or Keys' cubic with a = -1/2, widened by the
    scale where it shrinks, evaluated at pixel centers, cut at the box's border and normalized.

    `start` and `length`, at least 1, are `(B,)`, and `reverse`, `(B,)` bool, says whose result to reverse (a flip).
    Returns `(B, size, source)` float32, or of all rows those of `part`; each sums to 1.
    """
    scale = length.to(torch.float32) / size
    stretch = scale.clamp(min=1)[:, None, None]
    out = torch.arange(size, dtype=torch.float32, device=start.device)[part or slice(None)]
    center = scale[:, None] * (out + 0.5)
    if reverse is not None:
        center = torch.where(reverse[:, None], center.flip(1), center)
    pixel = torch.arange(source, device=start.device)[None] - start[:, None]
    distance = ((pixel[:, None, :] + 0.5 - center[:, :, None]) / stretch).abs_()
    weights = (1 - distance).clamp_(min=0) if kind == "bilinear" else _keys_cubic(distance)
    weights *= ((pixel >= 0) & (pixel < length[:, None]))[:, None, :]
    return weights / weights.sum(dim=2, keepdim=True)


def _keys_cubic(x: Tensor) -> Tensor:
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def photometric(images: Tensor, parameters: ViewParameters) -> Tensor:
    """Apply color jitter, grayscale, blur and solarize, in this order, each to the images that drew it.

    `(B, 3, S, S)` float in [0, 1] in and out; `images` may be overwritten.
    """
    at_once = max(_CACHED // images[0].numel(), 1) if len(images) and images.device.type == "cpu" else len(images)
    if at_once < len(images):
        for start in range(0, len(images), at_once):
            part = slice(start, start + at_once)
            images[part] = photometric(images[part], parameters[part])
        return images
    if not isinstance(parameters, PlacedParameters):
        parameters, _ = parameters.place(images.device)
    colors = parameters.colors
    images = _jitter(images, colors.turns)
    for rows, operation in (
        (colors.grayscale, lambda x: _luma(x).expand_as(x)),
        (colors.blur, lambda x: gaussian_blur(x, colors.sigma.to(x.dtype))),
        (colors.solarize, solarize),
    ):
        if len(rows):
            images.index_copy_(0, rows, operation(images[rows]))
    return images


def color_jitter(images: Tensor, order: Tensor, values: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image, in the image's own order.

    The first three are one blend, `target + factor (image - target)`, with black, the mean luma or the luma as
    target; so each of the four turns is one blend of the whole batch, and a turn of the hue for the images whose turn
    that is. `(B, 3, S, S)` float in [0, 1] in and out; `order` and `values`, on the CPU, are `jitter_order` and
    `jitter` of `ViewParameters`.
    """
    return _jitter(images, tuple(_Turn(*to_device(turn, images.device)) for turn in _turns(order, values)))


def _jitter(images: Tensor, turns: tuple[_Turn, ...]) -> Tensor:
    for turn in turns:
        luma = _luma(images)
        to_mean = turn.to_mean * luma.mean(dim=(1, 2, 3))
        to_luma, factor = (each.to(images.dtype)[:, None, None, None] for each in (turn.to_luma, turn.factor))
        target = torch.addcmul(to_mean[:, None, None, None], luma, to_luma)
        images = torch.lerp(target, images, factor).clamp_(0, 1)
        if len(turn.hue):
            images.index_copy_(0, turn.hue, turn_hue(images[turn.hue], turn.shift.to(images.dtype)))
    return images


def _luma(images: Tensor) -> Tensor:
    """Return ITU-R 601-2 luma, `(B, 1, S, S)`, with torchvision's coefficients."""
    luma = 0.2989 * images[:, :1]
    return luma.add_(images[:, 1:2], alpha=0.587).add_(images[:, 2:], alpha=0.114)


def turn_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of `(B, 3, S, S)` images by `(B,)` shifts, in turns of the color circle.

    Written without going through HSV and back. Value v (the largest channel) and chroma c (largest minus smallest)
    stay; with h the hue in turns, the red, green and blue channels are v - c clamp(2 - 6 |k|, 0, 1), where k is
    h + 1/2, h + 1/6 and h - 1/6, each taken to [-1/2, 1/2].
    """
    r, g, b = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    sixth = (6 * chroma).clamp_(min=1e-12).reciprocal_()  # a gray pixel has no hue, and c = 0 makes any do
    h = torch.where(
        value == r,
        (g - b) * sixth,
        torch.where(value == g, ((b - r) * sixth).add_(1 / 3), ((r - g) * sixth).add_(2 / 3)),
    )
    h += shift[:, None, None]
    k = h.unsqueeze(1) + _channels((1 / 2, 1 / 6, -1 / 6), h.dtype, h.device)
    k -= k.round()
    k.abs_().mul_(-6).add_(2).clamp_(0, 1)
    return torch.addcmul(value.unsqueeze(1), chroma.unsqueeze(1), k, value=-1)


def blur_kernel_size(size: int) -> int:
    """Return the blur's taps for views of `size` pixels: a tenth of it, odd, at least 3 (SimCLR's rule; 23 at 224)."""
    return max(3, 2 * round((size / 10 - 1) / 2) + 1)


def gaussian_blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur `(B, C, S, S)` images by `(B,)` standard deviations in pixels, `blur_kernel_size(S)` taps, reflected."""
    radius = blur_kernel_size(min(images.shape[2:])) // 2
    offset = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    taps = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    taps /= taps.sum(dim=1, keepdim=True)
    if images.device.type != "cpu":
        return _convolve(images, taps)
    return torch.stack([_add_shifted(image, own[radius:]) for image, own in zip(images, taps, strict=True)])


def _convolve(images: Tensor, taps: Tensor) -> Tensor:
    b, c, h, w = images.shape
    radius = taps.shape[1] // 2
    taps = taps.repeat_interleave(c, dim=0)
    x = F.pad(images, (radius,) * 4, mode="reflect").reshape(1, b * c, h + 2 * radius, w + 2 * radius)
    x = F.conv2d(x, taps[:, None, :, None], groups=b * c)
    return F.conv2d(x, taps[:, None, None, :], groups=b * c).reshape(b, c, h, w)


def _add_shifted(image: Tensor, taps: Tensor) -> Tensor:
    """Blur `(C, H, W)` by the taps from the middle one on: a fifth of a convolution's time on a CPU."""
    reach = int((taps > taps[0] * _NO_WEIGHT).sum()) - 1
    middle, *others = taps[: reach + 1].tolist()
    for axis, padding in ((1, (0, 0, reach, reach)), (2, (reach, reach, 0, 0))):
        length = image.shape[axis]
        padded = F.pad(image[None], padding, mode="reflect")[0]
        image = image * middle
        for shift, tap in enumerate(others, 1):
            for start in (reach - shift, reach + shift):
                image.add_(padded.narrow(axis, start, length), alpha=tap)
    return image


def solarize(images: Tensor) -> Tensor:
    """Invert the pixels of images at or above `SOLARIZE_THRESHOLD`."""
    return torch.where(images >= SOLARIZE_THRESHOLD, 1 - images, images)


def eval_share(size: int) -> float:
    """Return which share of the shorter side an `eval` view of `size` pixels shows, timm's `crop_pct`.

    >>> eval_share(32), eval_share(224)
    (1.0, 0.875)
    """
    return 1.0 if size <= SMALL_IMAGE else 7 / 8


def eval_view(images: Tensor, size: int) -> Tensor:
    """Resize and crop the center, without augmentation, as timm's transform does.

    The shorter side, of whatever length, is resized to `size / eval_share(size)`, rounded down, before the crop: 256
    for 224 pixels, as [Li22] do, and 32 for 32. So images of exactly `size` x `size` stay as they are where all is
    shown. `(B, C, H, W)`, uint8 or float -> `(B, C, size, size)` float32 in [0, 1].
    """
    h, w = images.shape[-2:]
    x = as_float(images)
    short = math.floor(size / eval_share(size))
    if h == w == short == size:
        return x
    # torchvision's Resize(short): the longer side keeps the ratio, rounded down; then CenterCrop
    new_h, new_w = (short, int(short * w / h)) if h <= w else (int(short * h / w), short)
    top, left = round((new_h - size) / 2), round((new_w - size) / 2)
    zero = torch.zeros(1, dtype=torch.int64)
    rows, columns = (
        resize_matrix(zero, torch.tensor([old]), old, new, part=slice(first, first + size))[0].to(x.device)
        for old, new, first in ((h, new_h, top), (w, new_w, left))
    )
    return rows @ (x @ columns.T)


def normalize(images: Tensor, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> Tensor:
    """Subtract the channels' mean and divide by their standard deviation; `(B, 3, S, S)` in [0, 1] in and out."""
    scale = 1 / _channels(tuple(std), images.dtype, images.device)
    shift = -_channels(tuple(mean), images.dtype, images.device) * scale
    return torch.addcmul(shift, images, scale)


@cache
def _channels(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return one number a channel, `(1, C, 1, 1)`, taken to a device once."""
    with torch.inference_mode(False):  # the first to ask may be in it, and the next needs gradients
        return torch.tensor(values, dtype=dtype, device=device).view(1, -1, 1, 1)
