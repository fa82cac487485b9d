"""Encoders that `fullrank export` wrote: a folder with timm's configuration and the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from fullrank.errors import FullrankError
from fullrank.models import fullrank_resnet  # noqa: F401 - lets timm know the model

WEIGHTS, TIMM_CONFIG = "model.safetensors", "config.json"


def is_export(path: Path) -> bool:
    """Tell whether `path` is a folder that `fullrank export` wrote."""
    return (path / TIMM_CONFIG).is_file() and (path / WEIGHTS).is_file()


def open_export(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Build an exported encoder with timm, in eval mode; with it, what its folder says of how it came about."""
    # the generator's state is put back: loading a model inside someone's program changes nothing there
    with torch.random.fork_rng(devices=[]):
        try:
            config = json.loads((folder / TIMM_CONFIG).read_text(encoding="utf-8"))
            if "fullrank" not in config:
                raise FullrankError(f"it was not written by `fullrank export`; timm may load it as local-dir:{folder}")
            encoder = timm.create_model(
                config["architecture"],
                pretrained_cfg=config["pretrained_cfg"],
                num_classes=0,
                checkpoint_path=str(folder / WEIGHTS),
                **config["model_args"],
            )
        except Exception as error:  # readers that are fed arbitrary bytes raise errors of nearly every kind
            reason = " ".join(str(error).split())[:300] or type(error).__name__  # timm names the weights from line 2 on
            raise FullrankError(f"timm {timm.__version__} cannot build the encoder of {folder}: {reason}") from None
    return encoder.eval(), config["fullrank"]
