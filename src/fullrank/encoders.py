"""Open an encoder, whatever it is: a run of ours, an export, a timm model, anybody's weights, a module in memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from timm.data import create_transform, resolve_model_data_config
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from fullrank.config import BackboneConfig, Branch, Layer, Layers, Normalization, Pixels, Pretrained, Stem, TrainConfig
from fullrank.data.views import NORMALIZATIONS
from fullrank.errors import FullrankError, nearest
from fullrank.files import PICKLES, check_backbone
from fullrank.models.backbones import RESNETS, backbone, fetching
from fullrank.models.encoder import Encoder, Preprocessing
from fullrank.models.exported import is_export, open_export
from fullrank.models.methods import METHODS, Method
from fullrank.models.weights import fill, load_weights, read_weights
from fullrank.shapes import check_meant, fields, fit
from fullrank.text import expanded, listing
from fullrank.training.checkpoint import (
    config_of,
    encoder_of,
    find_checkpoint,
    is_checkpoint,
    read_checkpoint,
)
from fullrank.training.runs import CONFIG
from fullrank.training.setup import build_backbone, build_method

Kind = Literal["run", "checkpoint", "exported encoder", "timm model", "weights", "features", "module"]

UNTRAINED_SEED = 0
"""Seed of the random weights of an encoder whose own initial weights nobody knows."""
SETTLED_STEPS = 100
"""From which the running statistics of batch norm say how embeddings vary; before, all of them look alike."""
OTHERS = "other prefixes that fit"
MATRICES = (".npy", ".parquet", ".safetensors")
CALLED: dict[Kind, str] = {
    "run": "runs",
    "checkpoint": "checkpoints",
    "exported encoder": "exported encoders",
    "timm model": "timm models",
    "weights": "weights files",
    "features": "feature files",
    "module": "modules",
}
"""Each kind in the plural."""
_ALL = tuple(words for kind, words in CALLED.items() if kind != "features")
MEANT_FOR: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("backbone", "prefix", "stem", "attention_heads", "normalization"), ("weights files",)),
    "pretrained": ("timm models",),
    **dict.fromkeys(("layer", "branch"), ("runs", "checkpoints")),
    "image_size": ("timm models", "weights files", "modules"),
    "key": ("feature files",),
    **dict.fromkeys(("images", "limit", "views", "device"), _ALL),
}
"""What each option of `open_encoder`, and of those who open encoders, means something to."""
_COMMON_SIZE = 224
_CLASSIFIERS = ("fc", "classifier", "head", "heads")  # what torchvision, timm and transformers call theirs
_STEMS = {
    "imagenet": "imagenet: 7x7, stride 2, pooling",
    "cifar": "cifar: 3x3, stride 1, no pooling (with stride 2: --stem cifar-stride2; of solo-learn: cifar-padding2)",
    "cifar-stride2": "cifar-stride2: 3x3, stride 2, no pooling",
    "cifar-padding2": "cifar-padding2: 3x3, stride 1, border of 2, no pooling",
}


def open_encoder(
    source: str | Path | nn.Module,
    *,
    backbone: str | None = None,
    layer: Layer = "representation",
    branch: Branch = "online",
    pretrained: Pretrained = "yes",
    prefix: str | None = None,
    stem: Stem = "auto",
    attention_heads: Layers | None = None,
    normalization: Normalization = "auto",
    image_size: Pixels | None = None,
) -> Encoder:
    """Open an encoder, in eval mode.

    Args:
        source: A run's folder, for its newest checkpoint; a checkpoint; a folder that `fullrank export` wrote; the name
            of a timm model; a weights file (give `backbone`); or a module.
        backbone: The network that a weights file is for: a ResNet of [Li22], or any timm model.
        layer: Of a run: the backbone's output, or the projector's.
        branch: Of a run: `online`, which gradients train, or `target`, its moving average.
        pretrained: Trained weights of a timm model ("yes") or random ones ("no").
        prefix: What stands before the backbone's own names in a weights file; found when omitted.
        stem: First layers of the ResNet that a weights file is for. `auto` tells 7x7 (`imagenet`) from 3x3 (`cifar`);
            stride and padding, which tell `cifar-stride2` and solo-learn's `cifar-padding2`, are not in the weights.
        attention_heads: Of the vision transformer that a weights file is for, where they are not timm's: weights do
            not tell.
        normalization: What images are normalized by for a weights file's network: the mean and deviation of ImageNet,
            of CIFAR-10, or timm's own for the network, which for a ResNet of [Li22] are ImageNet's (`auto`).
        image_size: Rows and columns that a timm model, a weights file's network or a module is shown; its own, or 224
            of a module that does not say (`fullrank.api` takes the images' own then), when omitted.

    Raises:
        FullrankError: It cannot be read or built, takes no images of that size, or an option means nothing to it.
    """
    given = dict(locals())
    shapes = fields(open_encoder)
    for name in DEFAULTS:
        fit(given[name], shapes[name], name)
    kind = kind_of(source, backbone=backbone)
    check_meant(given, DEFAULTS, MEANT_FOR, [CALLED[kind]])
    if isinstance(source, nn.Module):
        encoder = _module(source, image_size)
    else:
        path = expanded(source)
        if kind in ("run", "checkpoint"):
            encoder = open_checkpoint(path, layer, branch)
        elif kind == "exported encoder":
            module, about = open_export(path)
            encoder = _timm(module, None, {"folder": str(path), **about}, branch=about.get("branch"))
        elif kind == "timm model":
            encoder = _named(str(source), image_size, trained=pretrained == "yes")
        elif kind == "weights":
            assert backbone is not None
            encoder = _weights(path, backbone, prefix, stem, attention_heads, normalization, image_size)
        else:
            raise FullrankError(f"{source} holds features, not an encoder: open it with fullrank.data.matrices")
    if image_size is not None or not isinstance(source, nn.Module):
        _ = encoder.width  # where it takes no such images, that is found here; a module may be given batches of its own
    return encoder


DEFAULTS = dict(open_encoder.__kwdefaults__ or {})
"""The options of `open_encoder` where they are not set."""


def kind_of(source: str | Path | nn.Module, *, backbone: str | None = None) -> Kind:
    """Say what a module is, or what a name stands for."""
    if isinstance(source, nn.Module):
        return "module"
    name, path = str(source), expanded(source)
    suffix = path.suffix.lower()
    if is_export(path):
        return "exported encoder"
    if path.is_dir() and ((path / CONFIG).is_file() or not timm.is_model(name)):
        return "run"
    if not path.is_file():
        _check_timm(name)
        return "timm model"
    if suffix == ".pt" and is_checkpoint(path):
        return "checkpoint"
    if suffix not in PICKLES and not (suffix == ".safetensors" and backbone is not None):
        return "features"
    check_backbone(name, backbone)
    return "weights"


def _check_timm(name: str) -> None:
    architecture = name.split(".")[0]
    file = Path(name).suffix.lower() in (*PICKLES, *MATRICES)  # resnet18.pth is not timm's resnet18
    if file or not timm.is_model(architecture):
        raise FullrankError(
            f"there is no {name}: expected a run's folder, a checkpoint, a weights file, a feature file "
            f"({', '.join(MATRICES)}) or the name of a timm model{'' if file else nearest(name, timm.list_models())}"
        )
    tags = timm.list_pretrained(f"{architecture}.*")
    if "." in name and name not in tags:
        known = ", ".join(tags) or f"none of {architecture}"
        raise FullrankError(f"timm has no weights {name}{nearest(name, tags)} (there are: {known})")


def open_checkpoint(path: Path, layer: Layer = "representation", branch: Branch = "online") -> Encoder:
    """Open the encoder of a run's newest checkpoint, or of one checkpoint, as `open_encoder` does."""
    file = find_checkpoint(path)
    state = read_checkpoint(file)
    config = config_of(state, str(path))
    assert config.image_size is not None
    step = int(state["step"])

    def trained() -> Method:
        method = build_method(config)
        fill(method, state["model"], str(path))
        return method

    def untrained() -> nn.Module:
        if layer == "embedding":
            return _with_projector(build_method(config), config)
        with _seeded(config.seed):
            return build_backbone(config).eval()

    embedding = layer == "embedding"
    if embedding and branch != "online":
        raise FullrankError(f"the embedding is of the online branch, got branch={branch!r}: leave it out")
    falls = METHODS[config.method].has_predictor and step >= SETTLED_STEPS and not embedding
    source = {"checkpoint": str(file), "step": step, "method": config.method, "order": config.order}
    source |= {"backbone": config.backbone.name, "seed": config.seed, "untrained": "its own initial weights"}
    return Encoder(
        module=_with_projector(trained(), config) if embedding else encoder_of(state, branch, where=str(path)),
        preprocessing=Preprocessing(config.image_size),
        source=source,
        layer="projector" if embedding else "backbone",
        branch=branch,
        config=config,
        projector=(lambda: trained().get_submodule("projector").eval()) if falls else None,
        untrained=untrained if step else None,
        random=step == 0,
    )


def _with_projector(method: Method, config: TrainConfig) -> nn.Module:
    projector = getattr(method, "projector", None)
    if projector is None:
        raise FullrankError(f"the method {config.method} has no projector, so no embedding to inspect")
    return nn.Sequential(method.backbone, projector).eval()


def _named(name: str, image_size: int | None, *, trained: bool) -> Encoder:
    with fetching(name) if trained else nullcontext():
        module = _timm_model(name, image_size, pretrained=trained)
    source = {"backbone": f"timm's {name}", "weights": "timm's pretrained" if trained else "random"}
    untrained = (lambda: _timm_model(name, image_size)) if trained else None
    return _timm(module, image_size, source, untrained, random=not trained)


def _weights(
    path: Path,
    name: str,
    prefix: str | None,
    stem: Stem,
    heads: int | None,
    normalization: Normalization,
    image_size: int | None,
) -> Encoder:
    weights = read_weights(path)
    if name in RESNETS:
        if heads is not None:
            raise _no_heads(name)
        if stem == "auto":
            small = any(k.endswith("conv1.weight") and tuple(v.shape[1:]) == (3, 3, 3) for k, v in weights.items())
            stem = "cifar" if small else "imagenet"
        size = image_size or (_COMMON_SIZE if stem == "imagenet" else 32)

        def build() -> nn.Module:
            with _seeded():
                return backbone(BackboneConfig(name, stem=stem), image_size=size).eval()

        shown = NORMALIZATIONS["imagenet" if normalization == "auto" else normalization]
        encoder = Encoder(build(), Preprocessing(size, *shown), {"stem": _STEMS[stem]}, untrained=build)
    elif timm.is_model(name):
        if stem != "auto":
            what = f"stem={stem} is of a ResNet of [Li22] ({', '.join(RESNETS)})"
            raise FullrankError(f"{what}, and {name!r} has its own: leave it out")
        build = partial(_timm_model, name, image_size, heads=heads)
        encoder = _timm(build(), image_size, {}, build, normalization=normalization)
    else:
        raise FullrankError(
            f"unknown backbone {name!r}{nearest(name, [*RESNETS, *timm.list_models()])} (known: "
            f"{', '.join(RESNETS)}, and all of timm.list_models())"
        )
    loaded = load_weights(encoder.module, weights, prefix=prefix)
    source = {
        "backbone": name,
        **encoder.source,
        **_untold(encoder, stem, heads, normalization),
        "weights": str(path),
        "prefix": loaded.prefix or "none",
    }
    source["left out"] = ", ".join(loaded.ignored) or "nothing"
    source["untrained"] = f"random weights, seed {UNTRAINED_SEED}"
    if loaded.others:
        source[OTHERS] = ", ".join(other or "none" for other in loaded.others)
    return replace(encoder, source=source)


def _module(module: nn.Module, image_size: int | None) -> Encoder:
    """Take a module in memory: as timm prepares images for it where it says how, else the `eval` view."""
    name = {"module": type(module).__name__}
    _look_for_classifier(module)
    if _is_of_timm(module):
        return _timm(module, image_size, name)
    return Encoder(module, Preprocessing(image_size or _COMMON_SIZE), name)


def _is_of_timm(module: nn.Module) -> bool:
    return bool(getattr(module, "pretrained_cfg", None))


def _look_for_classifier(module: nn.Module) -> None:
    """Warn of a module that ends in a linear layer as classifiers do: class scores are no representation."""
    ends, remove = [*module.named_children()], "set model.{name} = torch.nn.Identity() first"
    if _is_of_timm(module):  # in whose heads it may lie deep, and which takes it out
        found: Any = module.get_classifier()  # type: ignore[operator]
        several = found if isinstance(found, tuple) else (found,)  # of distilled ones
        ends = [each for each in module.named_modules() if each[1] in several][:1]
        remove = "call model.reset_classifier(0) first"
    name, last = next((each for each in reversed(ends) if not isinstance(each[1], nn.Identity)), ("", None))
    outer = name.split(".")[0]
    if outer in _CLASSIFIERS and isinstance(last, nn.Sequential) and len(last):
        last = last[-1]
    if outer in _CLASSIFIERS and isinstance(last, nn.Linear):
        warnings.warn(
            f"{type(module).__name__} ends in {name}, linear and {last.out_features} wide: if that is its classifier, "
            f"its outputs are class scores and not the representation; {remove.format(name=name)}",
            stacklevel=5,
        )


def _timm(
    module: nn.Module,
    image_size: int | None,
    source: dict[str, Any],
    untrained: Callable[[], nn.Module] | None = None,
    normalization: Normalization = "auto",
    **known: Any,
) -> Encoder:
    data = resolve_model_data_config(module)
    if normalization != "auto":
        data |= dict(zip(("mean", "std"), NORMALIZATIONS[normalization], strict=True))
    if image_size is not None:
        data["input_size"] = (3, image_size, image_size)
    if untrained is not None:
        source = {**source, "untrained": f"random weights, seed {UNTRAINED_SEED}"}
    preprocessing = Preprocessing(
        size=int(data["input_size"][-1]),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        transform=create_transform(**data, is_training=False),
        interpolation=data["interpolation"],
        crop_pct=round(float(data["crop_pct"]), 4),
    )
    return Encoder(module, preprocessing, source, untrained=untrained, **known)


def _timm_model(name: str, image_size: int | None, *, pretrained: bool = False, heads: int | None = None) -> nn.Module:
    """Make a timm model; its random weights are a function of `UNTRAINED_SEED`."""
    options: dict[str, Any] = {"num_classes": 0, "pretrained": pretrained}
    options |= {} if heads is None else {"num_heads": heads}
    asked = [] if image_size is None else [f"images of {image_size} x {image_size}"]
    asked += [] if heads is None else [f"{heads} attention heads"]
    with _seeded():
        try:
            if image_size is not None:
                with suppress(TypeError):  # convolutional models take images of any size, and no such argument
                    return timm.create_model(name, img_size=image_size, **options).eval()
            return timm.create_model(name, **options).eval()
        except AssertionError as error:
            raise FullrankError(f"{name} does not take {listing(asked)}: {error}") from None
        except TypeError:
            if heads is None:
                raise
            raise _no_heads(name) from None


def _no_heads(name: str) -> FullrankError:
    what = "attention_heads are of a vision transformer of timm, such as vit_small_patch16_224"
    return FullrankError(f"{what}, and {name!r} is none: leave them out")


def _untold(encoder: Encoder, stem: Stem, heads: int | None, normalization: Normalization) -> dict[str, str]:
    """Say what weights do not tell of their network, and was taken as it mostly is."""
    module, found = encoder.module, {}
    own = next((each.num_heads for each in module.modules() if hasattr(each, "num_heads")), None)
    if heads is not None:
        found["attention heads"] = f"{heads}"
    elif isinstance(module, VisionTransformer) and own is not None:
        moco = ", and 12 in MoCo v3's small one" if (own, module.embed_dim) == (6, 384) else ""
        found["attention heads"] = f"{own} (timm's{moco}; weights do not tell: --attention-heads)"
    shown = encoder.preprocessing.mean, encoder.preprocessing.std
    if normalization == "auto" and shown != NORMALIZATIONS["imagenet"]:
        found["normalization"] = "timm's (for weights of DINO, MAE or MoCo v3: --normalization imagenet)"
    elif normalization == "auto" and stem.startswith("cifar"):
        found["normalization"] = "ImageNet's (for weights of solo-learn, trained on CIFAR: --normalization cifar10)"
    return found


@contextmanager
def _seeded(seed: int = UNTRAINED_SEED) -> Iterator[None]:
    """Draw random weights from a seed, and put the generator back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
