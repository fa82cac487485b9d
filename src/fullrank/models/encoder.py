"""An encoder: a network, how it wants its images, where it came from, and its features of whatever holds images.

    from fullrank.encoders import open_encoder

    encoder = open_encoder("runs/hybrid")       # or a checkpoint, an exported folder, a timm model, a module, ...
    encoder.features(images).features           # (N, D) of uint8 tensors, of `Images`, or of any DataLoader

Two ways of showing an image exist. Runs of ours see the `eval` view of `fullrank.data.views`, as they do while they are
trained. A timm model has a preprocessing of its own (size, crop, interpolation, mean and deviation): timm's transform.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fullrank.config import TrainConfig
from fullrank.data import views
from fullrank.data.eval_images import eval_blocks, transformed_blocks
from fullrank.data.images import LABEL_COLUMNS, ArrayImages, Images
from fullrank.errors import FullrankError
from fullrank.models.memory_format import choose_memory_format, to_memory_format
from fullrank.text import few, listing

_LABELS = (*LABEL_COLUMNS, "target", "targets", "y", "cls")


class Preprocessing(NamedTuple):
    """How an encoder wants its images."""

    size: int  # rows and columns S
    mean: tuple[float, ...] = views.IMAGENET_MEAN  # of the normalization, by channel
    std: tuple[float, ...] = views.IMAGENET_STD  # of the normalization, by channel
    # turns a PIL image into the encoder's input; None for the `eval` view of `fullrank.data.views`
    transform: Callable[[Any], Tensor] | None = None
    interpolation: str | None = None  # what the transform resizes with
    crop_pct: float | None = None  # the share of the image's side that the transform keeps

    @property
    def protocol(self) -> dict[str, Any]:
        """What a protocol says of it."""
        eval_view = {"view": "eval", "image_size": self.size, "mean": self.mean, "std": self.std}
        if self.transform is None:
            return eval_view
        return {**eval_view, "view": "timm's transform", "interpolation": self.interpolation, "crop_pct": self.crop_pct}

    def normalize(self, pixels: Tensor) -> Tensor:
        """Turn `(B, 3, S, S)` uint8 into the network's input."""
        return views.normalize(views.as_float(pixels), self.mean, self.std)

    def show(self, images: Images, indices: Tensor, unreadable: Callable[[str], None]) -> Iterator[tuple[Tensor, ...]]:
        """Walk over images, some hundred at a time: the network's input `(n, 3, S, S)`, and which could be read."""
        if self.transform is not None:
            yield from transformed_blocks(images, indices, self.transform, unreadable)
        else:
            for pixels, read in eval_blocks(images, indices, self.size, unreadable):
                yield self.normalize(pixels), read


class Features(NamedTuple):
    """Features of images, on the CPU."""

    features: Tensor  # `(N, D)` float32; `(N, q, D)` where batches held q views of each image
    labels: Tensor | None  # `(N,)`; None where there are none
    indices: Tensor  # `(N,)` places of the images that could be read
    protocol: Mapping[str, Any]  # how they were made, the images left out

    def matrix(self, images: str = "images") -> Tensor:
        """Return the features of what is called `images`, `(N, D)`, or raise `FullrankError`."""
        if self.features.ndim != 2:
            what = f"{images} have features of shape {tuple(self.features.shape)}, not (N, D)"
            raise FullrankError(f"{what}: give one view of each image, and a network that pools its output")
        return self.features

    def classes(self, images: str = "images") -> Tensor:
        """Return the labels of what is called `images`, or raise `FullrankError`."""
        if self.labels is None:
            where = f"a dictionary's under {listing([*map(repr, _LABELS)])}"
            do = f"give labeled images, or batches with labels (B,) of whole numbers, after the images or {where}"
            raise FullrankError(f"{images} has no labels: {do}")
        return self.labels


@dataclass(frozen=True)
class Encoder:
    """A network, its preprocessing, and what is known about it. `fullrank.encoders.open_encoder` makes them."""

    module: nn.Module  # the network's input `(B, 3, S, S)` -> features `(B, D)`
    preprocessing: Preprocessing  # how it wants its images
    source: Mapping[str, Any] = field(default_factory=dict)  # where it came from, for people to read
    layer: str = "backbone"  # what its features are: of the `backbone` or the `projector`
    branch: str | None = None  # `online` or `target`, of a run's encoder
    config: TrainConfig | None = None  # how it was trained, where that is known
    # builds what turns its features `(B, D)` into embeddings `(B, M)`, of methods whose embeddings can fall to a point
    # unseen by the loss; else None
    projector: Callable[[], nn.Module] | None = field(default=None, repr=False)
    # builds the same network as it was, or may have been, before training, where that is known
    untrained: Callable[[], nn.Module] | None = field(default=None, repr=False)
    random: bool = False  # whether its weights are known to be random

    @property
    def protocol(self) -> dict[str, Any]:
        """What its features' protocol says of it."""
        branch = {} if self.branch is None else {"branch": self.branch}
        return {"layer": self.layer, **branch, "mode": "eval", **self.preprocessing.protocol}

    @cached_property
    def width(self) -> int:
        """The features' width D.

        Raises:
            FullrankError: The network does not take images of this size, or gives no features `(B, D)`.
        """
        size = self.preprocessing.size
        try:
            features = self.features(torch.zeros(2, 3, size, size)).features  # of one, some drop the axis
        except (RuntimeError, AssertionError, ValueError) as error:
            raise FullrankError(f"it does not take images of {size} x {size}: {error}") from None
        if features.ndim != 2:
            what = f"{self.source.get('backbone', 'the model')} gives features of shape {tuple(features.shape)}"
            raise FullrankError(f"{what}, not (B, D): it has no pooled output")
        return features.shape[1]

    def to(self, device: torch.device) -> Encoder:
        """Move the network where it will run, in place, in the memory format that convolutions like."""
        self.module.to(device)
        to_memory_format(self.module)
        return self

    @torch.no_grad()
    def features(
        self,
        images: Tensor | Images | Iterable[Any],
        *,
        indices: Tensor | None = None,
        batch_size: int = 128,
        device: torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        progress: Callable[[int], None] = lambda done: None,
        unreadable: Callable[[str], None] = lambda name: None,
    ) -> Features:
        """Take features of images in eval mode; each part of the network is put back into its own mode afterwards.

        Args:
            images: A tensor `(N, 3, H, W)`, `Images`, or batches, such as a DataLoader's. A batch is a tensor, or a
                tuple, list or dictionary: each `(B, 3, H, W)` in it is a view, and the first `(B,)` of whole numbers
                after a view the labels; in a dictionary, one called `label`, `target` or the like. uint8 is shown as
                the encoder shows images, and as it is where it has the size S; floating point is the network's input
                already.
            indices: Which of `Images`, `(n,)`; all when omitted.
            batch_size: Images that the network sees at a time.
            device: Where to move the network and compute; where it is when omitted.
            dtype: What the network computes in, by autocast where it is not float32.
            progress: Called with the number of images that are done.
            unreadable: Called with the name of each image of `Images` that cannot be decoded; it is left out.

        Raises:
            FullrankError: A batch holds no images, none of the images can be decoded, or the network gives no tensor.
        """
        module = self.module
        if device is not None:
            self.to(device)
        else:
            device = next((p.device for p in module.parameters()), torch.device("cpu"))
        memory_format = choose_memory_format(module)
        dtype_of_weights = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
        found, labels, read = [], [], []
        done, as_given = 0, True
        modes = [(part, part.training) for part in module.modules()]
        module.eval()
        try:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                for shown, answers, places in self._batches(images, indices, unreadable):
                    each = []
                    as_given &= places is None and all(view.dtype != torch.uint8 for view in shown)
                    for view in shown:
                        parts = (self._input(part.to(device)) for part in view.split(batch_size))
                        inputs = (part.to(dtype_of_weights, memory_format=memory_format) for part in parts)
                        each.append(torch.cat([_output(module(x), len(x)).float().cpu() for x in inputs]))
                    found.append(each[0] if len(each) == 1 else torch.stack(each, dim=1))
                    labels.append(answers)
                    read.append(torch.arange(done, done + len(found[-1])) if places is None else places)
                    done += len(found[-1])
                    progress(done)
        finally:
            for part, mode in modes:
                part.training = mode
        if not found:
            raise FullrankError("there are no images to take features of")
        shapes = dict.fromkeys(f"({', '.join(map(str, ('B', *each.shape[1:])))})" for each in found)
        if len(shapes) > 1:
            do = "give as many views of each image, in a size that the network gives as many features of"
            raise FullrankError(f"batches give features of shapes {listing([*shapes])}: {do}")
        known = [one for one in labels if one is not None]
        answers = torch.cat(known) if len(known) == len(found) else None
        protocol = self.protocol
        if as_given:
            ours = "image_size", "mean", "std", "interpolation", "crop_pct"
            protocol = {name: value for name, value in protocol.items() if name not in ours}
            protocol["view"] = "as the batches hold it"
        return Features(torch.cat(found), answers, torch.cat(read), protocol)

    def _batches(
        self, images: Any, indices: Tensor | None, unreadable: Callable[[str], None]
    ) -> Iterator[tuple[list[Tensor], Tensor | None, Tensor | None]]:
        """Yield views, labels, and places where they are not one after another."""
        if isinstance(images, Tensor):
            images = [images]
        if not isinstance(images, Images):
            for batch in images:
                shown, answers = images_and_labels(batch)
                yield shown, answers, None
            return
        chosen = torch.arange(len(images)) if indices is None else indices
        for inputs, read in self.preprocessing.show(images, chosen, unreadable):
            yield [inputs], None if images.labels is None else images.labels[read], read

    def _input(self, pixels: Tensor) -> Tensor:
        if pixels.is_floating_point():
            return pixels
        if pixels.dtype != torch.uint8:
            do = "give uint8 from 0 to 255, which is normalized, or floating point, which is the network's input"
            raise FullrankError(f"images hold {pixels.dtype}: {do}")
        if pixels.shape[1] not in (1, 3, 4):
            what = f"uint8 images (B, C, H, W) have 1, 3 or 4 channels, got {tuple(pixels.shape)}"
            raise FullrankError(f"{what}: of images with the channels last, permute(0, 3, 1, 2)")
        pixels = pixels[:, :3].expand(-1, 3, -1, -1)  # alpha is left out, as of images in files
        if pixels.shape[2:] == (self.preprocessing.size,) * 2:
            return self.preprocessing.normalize(pixels)
        images = ArrayImages("the batch", pixels.cpu(), None)
        shown = self.preprocessing.show(images, torch.arange(len(pixels)), lambda name: None)
        return torch.cat([x for x, _ in shown]).to(pixels.device)


def _output(given: Any, rows: int) -> Tensor:
    if not isinstance(given, Tensor):
        do = "wrap it in a module whose forward returns them, such as the first token's or the pooled output"
        raise FullrankError(f"the network gives {type(given).__name__}, not features (B, D): {do}")
    if given.is_complex():
        raise FullrankError("the network gives complex numbers: give their real and imaginary part, or abs()")
    if rows == 1 and given.ndim < 2:
        given = given.reshape(1, -1)  # of a batch of one, `squeeze()` takes that axis away too
    if given.ndim < 2 or len(given) != rows:
        what = f"the network gives features of shape {tuple(given.shape)} for {rows} images, not (B, D)"
        raise FullrankError(f"{what}: it has no pooled output, or its first axis is not the images'")
    return given


def images_and_labels(batch: Any) -> tuple[list[Tensor], Tensor | None]:
    """Return the views of a batch, `(B, 3, H, W)` each, and its labels `(B,)`, as `Encoder.features` finds them."""
    shown: list[Tensor] = []
    answers = None
    for name, tensor in _tensors(batch):
        if tensor.ndim == 4:
            shown.append(tensor)
        # whole numbers before the images, or of another name, may be their index
        elif (
            tensor.ndim in (1, 2)
            and tensor.numel() == len(tensor)
            and not tensor.is_floating_point()
            and (name in _LABELS or (name is None and shown))
        ):
            answers = tensor.flatten().cpu() if answers is None else answers
    if not shown:
        held = [f"{type(batch).__name__}", *(f"{tuple(each.shape)}" for _, each in _tensors(batch))]
        do = ": give batches of tensors, as a DataLoader makes them"
        raise FullrankError(f"a batch holds no tensor of images (B, 3, H, W): it is {listing(held)}{do}")
    return shown, answers


def _tensors(batch: Any, name: Any = None) -> Iterator[tuple[Any, Tensor]]:
    """Yield the tensors of a batch in order, however deep, each with its name in the dictionary that it is in."""
    if isinstance(batch, Tensor):
        yield name, batch
    elif isinstance(batch, Mapping):
        for name, each in batch.items():
            yield from _tensors(each, name)
    elif isinstance(batch, (list, tuple)):
        for each in batch:
            yield from _tensors(each, name)


def fingerprint(module: nn.Module) -> str:
    """Return one hash of all parameters and buffers with their names: equal for equal networks, wherever they lie."""
    hashed = hashlib.sha256()
    for name, value in sorted(_values(module).items()):
        own = f"{value.dtype} {tuple(value.shape)}".encode() + _bits(value).cpu().numpy().tobytes()
        hashed.update(f"{name}={hashlib.sha256(own).hexdigest()};".encode())
    return hashed.hexdigest()[:16]


@contextmanager
def unchanged(module: nn.Module) -> Iterator[Callable[[], None]]:
    """Check that a block leaves every parameter and buffer of a module as it was; gives a function that checks now.

    PyTorch counts how often a tensor was written to, so that weights need no copy. Batch norm's statistics are written
    to without a count: buffers are copied, and compared.
    """
    buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)}
    before = {
        name: (value, value._version, _bits(value).clone() if name in buffers else None)
        for name, value in _values(module).items()
    }

    def same(name: str, value: Tensor) -> bool:
        was, version, bits = before.get(name, (None, 0, None))
        return was is value and version == value._version and (bits is None or torch.equal(bits, _bits(value)))

    def check() -> None:
        after = _values(module)
        if changed := sorted(name for name, value in after.items() if not same(name, value)):
            where = f"in {len(changed)} of {len(after)} parameters and buffers ({few(changed)})"
            do = "a frozen encoder stays as it is; use one whose forward pass writes nothing in eval mode"
            raise FullrankError(f"the encoder changed while it was probed, {where}: {do}")

    yield check
    check()


def _values(module: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and every buffer, also those that a state dict leaves out."""
    found: dict[str, Tensor] = dict(module.named_buffers(remove_duplicate=False))
    return {**dict(module.named_parameters(remove_duplicate=False)), **found}


def _bits(value: Tensor) -> Tensor:
    return value.detach().contiguous().reshape(-1).view(torch.uint8)
