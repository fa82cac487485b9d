"""Encoders to inspect, of a run of ours, of timm or from anybody's weights file, and how each wants its images.

Two ways of showing an image exist. Runs of ours are measured as they were while they trained: the `eval` view of
`fullrank.data.views`. A timm model has a preprocessing of its own (size, crop, interpolation, mean and deviation), and
is shown images by timm's transform.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn

from fullrank.config import TrainConfig
from fullrank.data import views
from fullrank.data.images import Images
from fullrank.data.still import eval_blocks, transformed_blocks
from fullrank.errors import FullrankError, nearest
from fullrank.inspection.options import Layer, Pretrained
from fullrank.models.backbones import RESNETS, Stem, backbone, fetching, width_of
from fullrank.models.methods import METHODS, Method
from fullrank.models.weights import load_weights, read_weights
from fullrank.training.checkpoint import config_of, find_checkpoint, load, load_into, read_checkpoint
from fullrank.training.setup import build_backbone, build_method

UNTRAINED_SEED = 0
"""Seed of the random weights of an encoder whose own initial weights nobody knows."""
SETTLED_STEPS = 100
"""From which the running statistics of batch norm say how embeddings vary; before, all of them look alike."""
OTHERS = "other prefixes that fit"
_COMMON_SIZE = 224
_STEMS = {
    "imagenet": "imagenet: 7x7, stride 2, pooling",
    "cifar": "cifar: 3x3, stride 1, no pooling (if its stride was 2: --stem cifar-stride2)",
    "cifar-stride2": "cifar-stride2: 3x3, stride 2, no pooling",
}


@dataclass(frozen=True)
class Encoder:
    """A network in eval mode, and what is known about it.

    Attributes:
        module: Normalised images `(B, 3, S, S)` -> features `(B, D)`.
        width: D.
        size: Rows and columns S of the images it takes.
        mean: Of its normalisation, by channel.
        std: Of its normalisation, by channel.
        transform: Turns a PIL image into its input; None for the `eval` view of ours.
        source: Where it came from, for people to read.
        protocol: What its features' protocol says of it.
        config: How it was trained, where that is known.
        projector: What turns its features `(B, D)` into embeddings `(B, M)`, of methods whose embeddings can fall to a
            point unseen by the loss; else None.
        untrained: Builds the same network as it was, or may have been, before training; None for one that is untrained.
    """

    module: nn.Module
    width: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    transform: Callable[[Any], Tensor] | None
    source: Mapping[str, Any]
    protocol: Mapping[str, Any]
    config: TrainConfig | None = None
    projector: nn.Module | None = None
    untrained: Callable[[], nn.Module] | None = field(default=None, repr=False)

    def show(
        self, images: Images, indices: Tensor, unreadable: Callable[[str], None]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Walk over images as this encoder wants them, normalised, some hundred at a time.

        Yields:
            `(n, 3, S, S)`, and the `(n,)` indices that could be read.
        """
        if self.transform is not None:
            yield from transformed_blocks(images, indices, self.transform, unreadable)
        else:
            for pixels, read in eval_blocks(images, indices, self.size, unreadable):
                yield self.normalise(pixels), read

    def normalise(self, pixels: Tensor) -> Tensor:
        """Turn `(B, 3, S, S)` uint8 into the network's input."""
        return views.normalise(views.as_float(pixels), self.mean, self.std)


def from_run(path: Path, layer: Layer) -> Encoder:
    """Take the encoder of a run's newest checkpoint, or of one checkpoint.

    Raises:
        FullrankError: There is no checkpoint, it is damaged, or its method has no such layer.
    """
    file = find_checkpoint(path)
    state = read_checkpoint(file)
    config = config_of(state, where=str(path))
    assert config.image_size is not None

    def untrained() -> nn.Module:
        if layer == "representation":
            with _seeded(config.seed):
                return build_backbone(config).eval()
        return _with_projector(build_method(config), config)

    step = int(state["step"])
    falls = METHODS[config.method].has_predictor and step >= SETTLED_STEPS
    projector = None
    if layer == "embedding" or falls:  # not of a student, whose method cannot be built without its teacher
        method = build_method(config)
        load_into(method, state["model"], where=str(path))
    if layer == "representation":
        module = load(file)
        projector = method.get_submodule("projector").eval() if falls else None
    else:
        module = _with_projector(method, config)
    with torch.no_grad():
        width = module(torch.zeros(1, 3, config.image_size, config.image_size)).shape[1]
    return Encoder(
        module=module,
        width=width,
        size=config.image_size,
        mean=views.IMAGENET_MEAN,
        std=views.IMAGENET_STD,
        transform=None,
        source={
            "checkpoint": str(file),
            "step": step,
            "method": config.method,
            "order": config.order,
            "backbone": config.backbone.name,
            "seed": config.seed,
            "untrained": "its own initial weights",
        },
        protocol={
            "layer": "backbone" if layer == "representation" else "projector",
            "branch": "online",
            **_eval_protocol(config.image_size),
        },
        config=config,
        projector=projector,
        untrained=untrained if step else None,
    )


def _with_projector(method: Method, config: TrainConfig) -> nn.Module:
    projector = getattr(method, "projector", None)
    if projector is None:
        raise FullrankError(f"the method {config.method} has no projector, so no embedding to inspect")
    return nn.Sequential(method.backbone, projector).eval()


def from_timm(name: str, *, pretrained: Pretrained, image_size: int | None) -> Encoder:
    """Take a model of timm.

    Args:
        name: As `timm.list_models()` or `timm.list_pretrained()` names it.
        pretrained: Take trained weights ("yes") or random ones ("no").
        image_size: Rows and columns; the model's own where None.

    Raises:
        FullrankError: timm has no such model, it takes no images of that size, or its weights cannot be had.
    """
    trained = pretrained == "yes"
    with fetching(name) if trained else nullcontext():
        module = _timm_model(name, image_size, pretrained=trained)
    weights = "timm's pretrained" if trained else "random"
    return _timm_encoder(
        module,
        image_size,
        source={"backbone": f"timm's {name}", "weights": weights},
        untrained=(lambda: _timm_model(name, image_size)) if trained else None,
    )


def from_weights(path: Path, name: str, *, prefix: str | None, image_size: int | None, stem: Stem) -> Encoder:
    """Take a backbone of this name with the weights in a file.

    Where `stem` is `auto`, a ResNet of ours takes it from the weights' shape: `imagenet` for 7x7, `cifar` for 3x3. The
    stride, which tells `cifar-stride2`, is not in the weights.

    Raises:
        FullrankError: The file cannot be read, is no state dict, or does not fit the backbone.
    """
    weights = read_weights(path)
    if name not in RESNETS:
        if not timm.is_model(name):
            raise FullrankError(
                f"unknown backbone {name!r}{nearest(name, [*RESNETS, *timm.list_models()])} (known: "
                f"{', '.join(RESNETS)}, and all of timm.list_models())"
            )
        encoder = _timm_encoder(_timm_model(name, image_size), image_size, {}, lambda: _timm_model(name, image_size))
    else:
        if stem == "auto":
            small = any(k.endswith("conv1.weight") and tuple(v.shape[1:]) == (3, 3, 3) for k, v in weights.items())
            stem = "cifar" if small else "imagenet"
        size = image_size or (_COMMON_SIZE if stem == "imagenet" else 32)

        def build() -> nn.Module:
            with _seeded():
                return backbone(name, image_size=size, stem=stem).eval()

        module = build()
        encoder = Encoder(
            module=module,
            width=width_of(module),
            size=size,
            mean=views.IMAGENET_MEAN,
            std=views.IMAGENET_STD,
            transform=None,
            source={"stem": _STEMS[stem]},
            protocol={"layer": "backbone", **_eval_protocol(size)},
            untrained=build,
        )
    loaded = load_weights(encoder.module, weights, prefix=prefix)
    source: dict[str, Any] = {
        "backbone": name,
        **encoder.source,
        "weights": str(path),
        "prefix": loaded.prefix or "none",
        "left out": ", ".join(loaded.ignored) or "nothing",
        "untrained": f"random weights, seed {UNTRAINED_SEED}",
    }
    if loaded.others:
        source[OTHERS] = ", ".join(other or "none" for other in loaded.others)
    return replace(encoder, source=source)


def _eval_protocol(size: int) -> dict[str, Any]:
    return {
        "mode": "eval",
        "view": "eval",
        "image_size": size,
        "mean": views.IMAGENET_MEAN,
        "std": views.IMAGENET_STD,
    }


def _timm_encoder(
    module: nn.Module, image_size: int | None, source: Mapping[str, Any], untrained: Callable[[], nn.Module] | None
) -> Encoder:
    data = resolve_model_data_config(module)
    if image_size is not None:
        data["input_size"] = (3, image_size, image_size)
    size = int(data["input_size"][-1])
    with torch.no_grad():
        try:
            features = module(torch.zeros(1, 3, size, size))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise FullrankError(f"it does not take images of {size} x {size}: {error}") from None
    if features.ndim != 2:
        raise FullrankError(
            f"{source.get('backbone', 'the model')} gives features of shape {tuple(features.shape)}, not (B, D): it "
            "has no pooled output"
        )
    shown = {
        "view": "timm's transform",
        "interpolation": data["interpolation"],
        "crop_pct": round(float(data["crop_pct"]), 4),
        "mean": tuple(data["mean"]),
        "std": tuple(data["std"]),
    }
    if untrained is not None:
        source = {**source, "untrained": f"random weights, seed {UNTRAINED_SEED}"}
    return Encoder(
        module=module,
        width=features.shape[1],
        size=size,
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        transform=create_transform(**data, is_training=False),
        source=source,
        protocol={"layer": "backbone", **_eval_protocol(size), **shown},
        untrained=untrained,
    )


def _timm_model(name: str, image_size: int | None, *, pretrained: bool = False) -> nn.Module:
    """Make a timm model; its random weights are a function of `UNTRAINED_SEED`."""
    with _seeded():
        options: dict[str, Any] = {"num_classes": 0, "pretrained": pretrained}
        if image_size is not None:
            try:
                return timm.create_model(name, img_size=image_size, **options).eval()
            except TypeError:  # convolutional models take images of any size, and no such argument
                pass
            except AssertionError as error:
                raise FullrankError(f"{name} does not take images of {image_size} x {image_size}: {error}") from None
        return timm.create_model(name, **options).eval()


@contextmanager
def _seeded(seed: int = UNTRAINED_SEED) -> Iterator[None]:
    """Draw random weights from a seed, and put the generator back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
