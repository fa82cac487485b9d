"""`fullrank export`: the encoder of a run as timm loads it, in a folder that huggingface_hub uploads as it is.

    model.safetensors      the encoder's weights under timm's own names, and nothing else
    config.json            how timm builds it and prepares images for it, as timm's models on the Hub have it
    README.md              the model card: see `fullrank.exporting.card`
    fullrank_resnet.py     only where timm has no such ResNet: `fullrank.models.fullrank_resnet`

Before the folder gets its name, the encoder is built from it by timm and must give the same features, bit for bit.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from fullrank._version import __version__
from fullrank.config import Branch
from fullrank.encoders import open_checkpoint
from fullrank.errors import FullrankError
from fullrank.exporting.card import card, known_of
from fullrank.files import check_empty, temporary_beside, write_bytes, write_text
from fullrank.models import fullrank_resnet
from fullrank.models.backbones import FULLRANK_RESNET, TimmModel, made_by
from fullrank.models.encoder import Encoder
from fullrank.models.exported import TIMM_CONFIG, WEIGHTS, open_export
from fullrank.text import expanded

CARD = "README.md"
_DATA = ("input_size", "fixed_input_size", "interpolation", "crop_pct", "crop_mode", "mean", "std", "num_classes")
_PARTS = ("first_conv", "classifier", "pool_size")  # what timm adapts where somebody wants other channels or classes


def export(run_or_checkpoint: Path | str, out: Path | str, *, branch: Branch = "online") -> tuple[Encoder, TimmModel]:
    """Write the encoder of a run for timm and for the Hugging Face Hub; return it, and how timm makes it.

    Args:
        run_or_checkpoint: A run's folder, finished or not, for its newest checkpoint, or a checkpoint file.
        out: The folder to make, or an empty one.
        branch: `online`, which gradients train, or `target`, the moving average that BYOL and MoCo-v3 have.

    Raises:
        FullrankError: `out` is taken; there is no checkpoint, it is damaged, or its method has no such branch; its
            weights or features are not finite; or this timm builds another network from what would be written.
            Nothing is left in any of these cases.
    """
    out = expanded(out).absolute()
    check_empty(out)
    opened = open_checkpoint(expanded(run_or_checkpoint), branch=branch)
    encoder = opened.module
    made = made_by(encoder)
    known = known_of(opened)
    _check_finite(encoder, opened.source["checkpoint"])
    with _new_folder(out) as folder:
        _write_weights(folder / WEIGHTS, encoder)
        described = _timm_config(opened, made)
        write_text(folder / TIMM_CONFIG, json.dumps(described, indent=2) + "\n")
        if made.architecture == FULLRANK_RESNET:
            shutil.copyfile(fullrank_resnet.__file__, folder / f"{FULLRANK_RESNET}.py")
        write_text(folder / CARD, card(opened, known, made, described["pretrained_cfg"]))
        _check(folder, encoder)
    return opened, made


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` that takes its name when the block ends well, and vanishes when it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(out)
    temporary.mkdir()
    try:
        yield temporary
        os.rename(temporary, out)  # replaces an empty folder, and refuses one that has been filled meanwhile
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write_weights(path: Path, encoder: nn.Module) -> None:
    from safetensors.torch import save

    tensors = encoder.state_dict().items()
    weights = {name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in tensors}
    write_bytes(path, save(weights, metadata={"format": "pt"}))


def _timm_config(encoder: Encoder, made: TimmModel) -> dict[str, Any]:
    """Describe the encoder as timm's own models on the Hub are, and add where it came from."""
    module: Any = encoder.module
    given, source = module.pretrained_cfg, encoder.source
    own = {"branch": encoder.branch, "step": source["step"], "width": encoder.width}
    return {
        "architecture": made.architecture,
        "num_classes": 0,
        "num_features": module.num_features,
        "model_args": made.arguments,
        "pretrained_cfg": {key: given[key] for key in _DATA if key in given} | {key: given.get(key) for key in _PARTS},
        "fullrank": {"version": __version__, "method": source["method"], "order": source["order"], **own},
    }


def _features(encoder: Any) -> torch.Tensor:
    images = torch.randn(2, *encoder.pretrained_cfg["input_size"], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.as_tensor(encoder(images))


def _check_finite(encoder: Any, where: str) -> None:
    """Raise `FullrankError` where the encoder gives no numbers: NaN is not even equal to itself."""
    if bool(_features(encoder).isfinite().all()):
        return
    broken = [name for name, value in encoder.state_dict().items() if not bool(value.isfinite().all())]
    what = f"weights that are not finite ({', '.join(broken[:3])})" if broken else "features that are not finite"
    raise FullrankError(f"{where} has {what}: its training diverged; export a checkpoint from before that")


def _check(folder: Path, encoder: Any) -> None:
    again, _ = open_export(folder)
    here, there = _features(encoder), _features(again)
    if not torch.equal(here, there):
        apart = float((here - there).abs().max()) if here.shape == there.shape else "of another shape"
        raise FullrankError(
            f"timm {timm.__version__} builds another network from what was to be written (features differ by {apart}): "
            "nothing was; export it with the timm that trained it"
        )
