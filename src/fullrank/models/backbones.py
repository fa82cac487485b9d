"""Backbones: timm's models without their classifier, ResNets of any block, depth and width, ViTs of any depth.

A backbone is a plain timm module, images `(B, 3, S, S)` -> representation `(B, D)`; `width_of` gives D, and `made_by`
how `timm.create_model` makes it.

[Li22] (https://arxiv.org/abs/2209.15007) Table 1 compares six ResNets, here by name with the published parameter
counts (with the ImageNet classifier of 1,000 classes, which we leave off):

| name             | block      | depths       | D    | parameters |
|------------------|------------|--------------|------|------------|
| `resnet18`       | basic      | 2, 2, 2, 2   | 512  | 11.7 M     |
| `resnet34`       | basic      | 3, 4, 6, 3   | 512  | 21.8 M     |
| `resnet50`       | bottleneck | 3, 4, 6, 3   | 2048 | 25.6 M     |
| `bottleneck26`   | bottleneck | 2, 2, 2, 2   | 2048 | 16.0 M     |
| `bottleneck26x2` | bottleneck | 2, 2, 2, 2   | 2048 | 39.6 M     |
| `basic50`        | basic      | 4, 6, 10, 4  | 512  | 31.9 M     |

The authors' code has depths 5, 6, 9, 4 for `basic50`, which gives 30.8 M; the depths here give the 31.9 M of the table.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from fullrank.config import BackboneConfig, Block, Stem, TrainConfig
from fullrank.data.views import IMAGENET_MEAN, IMAGENET_STD, SMALL_IMAGE, eval_share
from fullrank.errors import FullrankError, nearest, reason
from fullrank.models.fullrank_resnet import fullrank_resnet
from fullrank.shapes import check_fields

FULLRANK_RESNET = fullrank_resnet.__name__  # the model of timm that `fullrank.models.fullrank_resnet` registers


class ResNetShape(NamedTuple):
    """What tells one ResNet from another: see `BackboneConfig`."""

    block: Block
    depths: tuple[int, ...]
    inner_width: float = 1.0
    width: float = 1.0


@dataclass(frozen=True)
class TimmModel:
    """What `timm.create_model` makes a network of, but for its classifier: `num_classes=0`."""

    architecture: str  # a name that timm knows; `FULLRANK_RESNET` it knows from `fullrank.models.fullrank_resnet`
    arguments: dict[str, Any]  # its keyword arguments, plain values for JSON


RESNETS = {
    "resnet18": ResNetShape("basic", (2, 2, 2, 2)),
    "resnet34": ResNetShape("basic", (3, 4, 6, 3)),
    "resnet50": ResNetShape("bottleneck", (3, 4, 6, 3)),
    "bottleneck26": ResNetShape("bottleneck", (2, 2, 2, 2)),
    "bottleneck26x2": ResNetShape("bottleneck", (2, 2, 2, 2), inner_width=2.0),
    "basic50": ResNetShape("basic", (4, 6, 10, 4)),
    "resnet18_w16": ResNetShape("basic", (2, 2, 2, 2), width=0.25),  # ours: 0.7 M parameters, D = 128, for laptops
}
CHANNELS = (64, 128, 256, 512)  # of a ResNet's four stages at width 1; bottlenecks put out four times as many
# what timm calls the ResNets of these blocks and depths, at width 1 and with the stem for large images
TIMMS_RESNETS: dict[tuple[Block, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (2, 2, 2, 2)): "resnet26",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
}

_PATIENCE = 5.0  # seconds to wait for the Hub's first answer


def backbone(config: BackboneConfig | str, *, image_size: int) -> nn.Module:
    """Build a backbone with random weights for views of a size; of a name alone, the named network as it is.

    Raises:
        FullrankError: The name is unknown, or the shape does not fit it.
    """
    config = BackboneConfig(config) if isinstance(config, str) else config
    check_fields(config, "backbone.")
    name, stem = config.name, config.stem
    changed = {"depth": config.blocks, "num_heads": config.attention_heads, "patch_size": config.patch}
    vit = {key: value for key, value in changed.items() if value is not None}
    sincos = config.positions == "sincos"
    model: Any  # timm's modules have attributes that torch's do not
    if name in RESNETS:
        if vit or sincos or config.frozen_patches:
            raise _no_vit(name)
        named = RESNETS[name]
        depths = config.depths or named.depths
        inner = named.inner_width if config.inner_width is None else config.inner_width
        if stem == "auto":
            stem = "cifar" if image_size <= SMALL_IMAGE else "imagenet"
        shape = ResNetShape(config.block or named.block, tuple(depths), inner, named.width * config.width)
        first = CHANNELS[0] * shape.width
        if round(first) < 2 or round(first) % 2:
            what = f"width={config.width:g} gives {name} a first stage of {first:g} channels"
            raise FullrankError(f"{what}: use a multiple of {2 / (CHANNELS[0] * named.width):g}, so that it is even")
        model, made = _resnet(shape, stem)
    else:
        model, made = _from_timm(name, image_size, vit=vit)
        if sincos or config.frozen_patches:
            _fix(model, name, positions=sincos, patches=config.frozen_patches)
        shaped = (config.block, config.depths, config.width, config.inner_width)
        if shaped != (None, None, 1.0, None) or stem not in ("auto", "imagenet"):
            what = f"block, depths, width, inner_width and stem shape a ResNet ({', '.join(RESNETS)})"
            raise FullrankError(f"{what}; timm's {name!r} has its own: leave them out")
    # timm.data.resolve_model_data_config(model) reads this, so that others show images as `views.eval_view` does
    shown = {"input_size": (3, image_size, image_size), "mean": IMAGENET_MEAN, "std": IMAGENET_STD, "num_classes": 0}
    shown |= {"interpolation": "bilinear", "crop_pct": eval_share(image_size), "crop_mode": "center"}
    model.pretrained_cfg = (getattr(model, "pretrained_cfg", None) or {}) | shown
    model.made_by = made
    return model


def build_backbone(config: TrainConfig) -> nn.Module:
    """Build the backbone of a run with weights from torch's generator."""
    return backbone(config.backbone, image_size=image_size_of(config))


def image_size_of(config: TrainConfig) -> int:
    """Return the rows and columns of a view, or raise `FullrankError` where the configuration leaves them open."""
    if config.image_size is None:
        raise FullrankError("image_size must be known before the encoder is built: resolve the configuration first")
    return config.image_size


def made_by(model: nn.Module) -> TimmModel:
    """Return how timm makes a network that `backbone` built; its weights, fixed or learned, are not in that."""
    made: Any = model.made_by
    assert isinstance(made, TimmModel)
    return made


def sincos_positions(rows: int, columns: int, width: int) -> Tensor:
    """Return fixed positions of the patches of a grid, `(rows * columns, width)` float32, by column x and row y.

        [sin(x w), cos(x w), sin(y w), cos(y w)],  w_k = 10000^(-k / K),  k = 0 .. K - 1,  K = width / 4

    Reference: Chen, Xie & He 2021, section 4.1; Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.5.
    """
    if width % 4:
        raise FullrankError(f"sincos positions need a width that is a multiple of 4, got {width}")
    frequencies = 10_000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.reshape(-1, 1) * frequencies for place in (x, y)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1).float()


def pretrained_backbone(name: str, *, image_size: int) -> nn.Module:
    """Build a timm model with its published weights, in eval mode, for images of a size."""
    _from_timm(name, image_size)  # what does not fit is said before anything is downloaded
    with fetching(name):
        return _from_timm(name, image_size, pretrained=True)[0].eval()


@contextmanager
def fetching(name: str) -> Iterator[None]:
    """Make a pretrained model of timm within: from the Hub's cache alone where the Hub does not answer at once.

    Its client would ask again and again for a minute or more.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        random = f"`fullrank inspect {name} --pretrained no` for random ones"
        raise FullrankError(f"timm has no pretrained weights of {name}: name another model, or {random}")
    print(f"{name}: fetching its pretrained weights, where they are not here yet", file=sys.stderr)
    unreachable = "" if constants.HF_HUB_OFFLINE else _unreachable(constants.ENDPOINT)
    retries = logging.getLogger("huggingface_hub")
    level, offline = retries.level, constants.HF_HUB_OFFLINE
    try:
        retries.level, constants.HF_HUB_OFFLINE = logging.ERROR, offline or bool(unreachable)  # each retry is a warning
        yield
    except (RuntimeError, OSError, HfHubHTTPError) as error:  # nothing in the cache, or a server that refuses
        why = unreachable or reason(error).split(". ")[0]
        raise FullrankError(
            f"the pretrained weights of {name} cannot be had ({why}): they are downloaded from the Hugging Face Hub "
            "once and lie in its cache afterwards; to inspect, give a weights file with --backbone "
            f"{name.split('.')[0]}, or --pretrained no for random weights"
        ) from None
    finally:
        retries.level, constants.HF_HUB_OFFLINE = level, offline


def _unreachable(server: str) -> str:
    """Say why a server cannot be reached, or nothing where it answers, with whatever status, within seconds."""
    from huggingface_hub.utils import get_session

    try:
        get_session().head(server, timeout=_PATIENCE)
    except Exception as error:  # of the client's library, which is another one in each of its major versions
        return f"{server} cannot be reached: {reason(error)}"
    return ""


def width_of(model: nn.Module, image_size: int | None = None) -> int:
    """Return D, the width of a model's pooled output: a timm model says it, of others a forward pass finds it.

    Raises:
        FullrankError: It does not say D, and `image_size` is not given, or it gives no `(B, D)` of such images.
    """
    width: Any = getattr(model, "head_hidden_size", None) or getattr(model, "num_features", None)
    if width is not None:
        return int(width)
    if image_size is None:
        what = f"{type(model).__name__} does not say how wide its output (B, D) is"
        raise FullrankError(f"{what}: give width=D, or image_size= for a forward pass that finds it")
    from fullrank.models.encoder import Encoder, Preprocessing

    return Encoder(model, Preprocessing(image_size)).width


def _resnet(shape: ResNetShape, stem: Stem) -> tuple[nn.Module, TimmModel]:
    channels = [round(c * shape.width) for c in CHANNELS]
    if shape.block == "basic" and shape.inner_width != 1:
        what = f"inner_width={shape.inner_width:g} is for bottlenecks, and these blocks are basic"
        raise FullrankError(f"{what}: leave it out, or set block=bottleneck")
    layers, inside = list(shape.depths), round(64 * shape.inner_width)
    arguments: dict[str, Any] = {"block": shape.block, "layers": layers, "channels": channels}
    arguments |= {"base_width": inside, "stem": stem}
    model = timm.create_model(FULLRANK_RESNET, num_classes=0, **arguments)
    if stem != "imagenet" or channels != list(CHANNELS):
        return model, TimmModel(FULLRANK_RESNET, arguments)
    # the same network under timm's own name; it would draw other random weights
    name = TIMMS_RESNETS.get((shape.block, shape.depths))
    arguments = {} if name else {"layers": layers}
    if inside != 64:
        arguments["base_width"] = inside
    return model, TimmModel(name or ("resnet18" if shape.block == "basic" else "resnet50"), arguments)


def _no_vit(name: str) -> FullrankError:
    what = "blocks, attention_heads, patch, positions and frozen_patches shape a vision transformer of timm"
    return FullrankError(f"{what}, such as vit_small_patch16_224, and {name!r} is none: leave them out")


def _fix(model: nn.Module, name: str, *, positions: bool, patches: bool) -> None:
    """Fix what is not to be learned of a vision transformer."""
    if not isinstance(model, VisionTransformer) or model.pos_embed is None:
        raise _no_vit(name)
    if positions:
        # the class token, which comes first, is nowhere
        rows, columns = model.patch_embed.grid_size
        grid = sincos_positions(rows, columns, model.embed_dim)
        table = torch.zeros_like(model.pos_embed)
        table[0, -len(grid) :] = grid
        model.pos_embed = nn.Parameter(table, requires_grad=False)
    if patches:
        model.patch_embed.proj.requires_grad_(False)


def _from_timm(
    name: str, image_size: int, *, pretrained: bool = False, vit: dict[str, int] | None = None
) -> tuple[nn.Module, TimmModel]:
    if not timm.is_model(name):
        hint, known = nearest(name, [*RESNETS, *timm.list_models()]), ", ".join(RESNETS)
        raise FullrankError(f"unknown backbone {name!r}{hint} (known: {known}, and all of timm.list_models())")
    vit = vit or {}
    if image_size % vit.get("patch_size", 1):
        raise FullrankError(f"patch={vit['patch_size']} does not divide views of {image_size} x {image_size}")
    options: dict[str, Any] = {"num_classes": 0, "pretrained": pretrained}
    arguments: dict[str, Any] = {"img_size": image_size, **vit}
    try:
        try:
            model = timm.create_model(name, **options, **arguments)
        except TypeError:  # convolutional models take images of any size, and no such argument
            if vit:
                raise _no_vit(name) from None
            arguments = {}
            model = timm.create_model(name, **options)
    except AssertionError as error:  # of timm's, about the shape of a vision transformer
        raise FullrankError(f"timm cannot build {name} so: {error} (got {vit})") from None
    with torch.no_grad():
        try:
            features = model.eval()(torch.zeros(2, 3, image_size, image_size))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise FullrankError(f"{name} does not take images of {image_size} x {image_size}: {error}") from None
    if features.ndim != 2 or features.shape[1] != width_of(model):
        what = f"features of shape {tuple(features.shape)}, not (B, {width_of(model)})"
        raise FullrankError(f"{name} gives {what}: it has no pooled output")
    return model.train(), TimmModel(name.split(".")[0], arguments)
