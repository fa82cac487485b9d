"""What a name on the command line stands for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import timm

from fullrank.errors import FullrankError, nearest
from fullrank.inspection.options import Options
from fullrank.inspection.result import Kind
from fullrank.models.weights import PICKLES
from fullrank.training.checkpoint import is_checkpoint
from fullrank.training.runs import CONFIG

MATRICES = (".npy", ".parquet", ".safetensors")
# Flags that mean nothing to other kinds; what is set and fits none of the X is a mistake that would go unnoticed.
_ENCODERS: tuple[Kind, ...] = ("run", "checkpoint", "timm model", "weights")
_CALLED: dict[Kind, str] = {
    "run": "runs",
    "checkpoint": "checkpoints",
    "timm model": "timm models",
    "weights": "weights files",
    "features": "feature files",
}
_MEANT_FOR: dict[str, tuple[Kind, ...]] = {
    "backbone": ("weights",),
    "prefix": ("weights",),
    "stem": ("weights",),
    "key": ("features",),
    "pretrained": ("timm model",),
    "layer": ("run", "checkpoint"),
    "image_size": ("timm model", "weights"),
    "images": _ENCODERS,
    "limit": _ENCODERS,
    "views": _ENCODERS,
}


def kinds_of(names: Sequence[str], options: Options) -> list[Kind]:
    """Say what each name stands for: a misspelt last one is found before the first one's work.

    Raises:
        FullrankError: One is nothing that can be inspected, a flag that it needs is missing, or one is set that fits
            none of them.
    """
    kinds = [kind_of(name, options) for name in names]
    for flag, meant in _MEANT_FOR.items():
        if getattr(options, flag) != getattr(Options(), flag) and not set(meant) & set(kinds):
            called = " and ".join(_CALLED[kind] for kind in meant)
            raise FullrankError(f"--{flag.replace('_', '-')} is for {called}, and there are none here: leave it out")
    return kinds


def kind_of(name: str, options: Options) -> Kind:
    """Say what a name stands for.

    Raises:
        FullrankError: It is nothing that can be inspected, or a flag that it needs is missing.
    """
    path = Path(name).expanduser()
    suffix = path.suffix.lower()
    if path.is_dir() and ((path / CONFIG).is_file() or not timm.is_model(name)):
        return "run"
    if path.is_file():
        if suffix == ".pt" and is_checkpoint(path):
            return "checkpoint"
        if suffix not in PICKLES and not (suffix == ".safetensors" and options.backbone is not None):
            return "features"
        if options.backbone is None:
            raise FullrankError(
                f"{name} is not a checkpoint of ours: if it holds weights, say whose, as in --backbone resnet50; "
                "if it holds features, save them with numpy.save"
            )
        kind: Kind = "weights"
    else:
        _check_timm(name)
        kind = "timm model"
    if options.images is None:
        raise FullrankError(
            f"{name} does not say which images to take features of: give some, such as --images photos/"
        )
    return kind


def _check_timm(name: str) -> None:
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        raise FullrankError(
            f"there is no {name}: expected a run's folder, a checkpoint, a weights file, a feature file "
            f"({', '.join(MATRICES)}) or the name of a timm model{nearest(name, timm.list_models())}"
        )
    tags = timm.list_pretrained(f"{architecture}.*")
    if "." in name and name not in tags:
        known = ", ".join(tags) or f"none of {architecture}"
        raise FullrankError(f"timm has no weights {name}{nearest(name, tags)} (there are: {known})")
