"""Checkpoints: everything a run needs to go on, in one file that holds no code.

A checkpoint is written to a temporary file, forced to disk, and only then given its name, so `checkpoints/` never
holds half of one.
It loads with `weights_only=True`: tensors, numbers, text, lists and dictionaries, never pickled objects.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn

from fullrank.config import Branch, TrainConfig, from_dict
from fullrank.errors import FullrankError, nearest, shown
from fullrank.files import reading, write_bytes
from fullrank.models.backbones import build_backbone
from fullrank.models.exported import is_export, open_export
from fullrank.models.weights import DamagedError, ForeignError, fill, read_pickle
from fullrank.shapes import ShapeError, Step, fit
from fullrank.training.runs import SUMMARY, check_run

FORMAT = "fullrank checkpoint"
VERSION = 1
_NAME = re.compile(r"step_(\d+)\.pt")


class _Head(TypedDict):
    version: Step
    step: Step


class _Weights(TypedDict):
    config: dict[str, Any]
    model: dict[str, torch.Tensor]


class _Optimizer(TypedDict):
    state: dict[int, dict[str, Any]]
    param_groups: list[dict[str, Any]]


class _Record(TypedDict, total=False):
    count: Step
    seconds: float


class _State(_Weights, total=False):
    """The weights, and what going on with the run needs, which is asked for there."""

    optimizer: _Optimizer
    record: _Record
    online_probe: dict[str, Any]
    order: dict[str, Any]
    skipped: list[str]


BRANCHES: dict[Branch, str] = {"online": "backbone.", "target": "target.backbone."}
"""Where each branch's encoder lies within a method's state."""


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int) -> Path:
    """Write `step_XXXXXXXX.pt` atomically, and remove all but the newest `keep` (0 keeps all)."""
    path = checkpoint_path(folder, step)
    write_state(path, {"format": FORMAT, "version": VERSION, "step": step, **state})
    for old in list_checkpoints(folder)[:-keep] if keep else ():
        old.unlink()
    return path


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values atomically, into a folder that is made where it is not there."""
    path.parent.mkdir(exist_ok=True)
    # Serialized in memory first: a full disk then gives a plain OSError, not one of the serializer's many.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_bytes(path, buffer.getbuffer())


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return folder / f"step_{step:08d}.pt"


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first."""
    found = [path for path in folder.glob("step_*.pt") if _NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the step that the name of a checkpoint says."""
    return int(checkpoint.stem.split("_")[1])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU."""
    if not path.is_file():
        raise FullrankError(f"there is no checkpoint {path}")
    remedy = "delete it to go on from the checkpoint before"
    try:
        state = read_pickle(path)
    except ForeignError:
        what = "it holds more than weights, and was not opened"
        raise FullrankError(f"{path} is not a checkpoint of fullrank: {what}") from None
    except DamagedError:
        if _NAME.fullmatch(path.name):
            raise FullrankError(f"{path} is damaged, cut short or overwritten: {remedy}") from None
        raise FullrankError(  # perhaps something else of the user's, not to be deleted
            f"{path} is no checkpoint, or damaged, cut short or overwritten: give one that `fullrank train` wrote"
        ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise FullrankError(
            f"{path} is not a checkpoint of fullrank: expected one written by `fullrank train`; weights of other code "
            "are measured by `fullrank inspect FILE --backbone NAME --images FOLDER`"
        )
    with reading(path, remedy):
        fit(state, _Head)
        if state["version"] > VERSION:
            raise FullrankError(
                f"{path} is of version {state['version']}, this fullrank reads up to {VERSION}: upgrade fullrank"
            )
        fit(state, _State)
        loss = state.get("record", {}).get("loss_sum", torch.zeros(()))
        if not isinstance(loss, torch.Tensor) or loss.shape or not loss.isfinite():
            raise ShapeError(f"record.loss_sum must be a finite tensor of no dimension, got {shown(loss)}")
    return state


def is_checkpoint(path: Path) -> bool:
    """Tell whether a file is a checkpoint of ours, its tensors unread; raise `DamagedError` where nobody can."""
    try:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception:  # not of torch's format of today, foreign, or damaged
            state = read_pickle(path)
    except ForeignError:
        return False
    return isinstance(state, dict) and state.get("format") == FORMAT


def digest(path: Path) -> str:
    """Return a hash of what a checkpoint holds, by the checksums of its parts; empty where it is damaged."""
    try:
        with zipfile.ZipFile(path) as file:
            parts = [(each.filename, each.CRC) for each in file.infolist()]
    except zipfile.BadZipFile:
        return ""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def find_checkpoint(run_or_checkpoint: Path | str) -> Path:
    """Return a checkpoint's own path, or the newest of a run."""
    path = Path(run_or_checkpoint)
    if not path.is_dir():
        return path
    check_run(path)
    if found := list_checkpoints(path / "checkpoints"):
        return found[-1]
    if (path / SUMMARY).is_file():
        raise FullrankError(
            f"{path} is finished and has no checkpoint: its weights were left out or deleted; `fullrank report` and "
            "`fullrank rank` need none"
        )
    raise FullrankError(f"{path} has no checkpoint yet")


def load(run_or_checkpoint: Path | str, *, branch: Branch | None = None) -> nn.Module:
    """Load the encoder of a run.

    Args:
        run_or_checkpoint: A run's folder, for its newest checkpoint, a checkpoint file, or a folder that
            `fullrank export` wrote.
        branch: `online`, which gradients train, or `target`, the moving average that BYOL and MoCo-v3 have. None is
            online, or the one that was exported.

    Returns:
        The backbone, a plain timm module in eval mode: normalized images `(B, 3, S, S)` -> representation `(B, D)`.
        `timm.data.create_transform(**timm.data.resolve_model_data_config(encoder))` prepares an image for it as the
        run's measurements do, to within the rounding of pixels to 8 bits.

    Raises:
        FullrankError: There is no run or checkpoint, the file is damaged or foreign, or the method has no such branch.
    """
    if not isinstance(run_or_checkpoint, (str, Path)):
        raise FullrankError(
            "load takes a run's folder, a checkpoint or an exported folder, got an object of the type "
            f"{type(run_or_checkpoint).__name__}: give a path (of a Run in memory, run.encoder() is the encoder)"
        )
    if not is_export(Path(run_or_checkpoint)):
        state = read_checkpoint(find_checkpoint(run_or_checkpoint))
        return encoder_of(state, branch or "online", where=str(run_or_checkpoint))
    encoder, about = open_export(Path(run_or_checkpoint))
    if branch not in (None, about["branch"]):
        raise FullrankError(f"{run_or_checkpoint} is an export of the branch {about['branch']!r}, not of {branch!r}")
    return encoder


def config_of(state: dict[str, Any], where: str) -> TrainConfig:
    """Return the configuration of a checkpoint that was read."""
    if not isinstance(state.get("config"), dict):
        raise FullrankError(f"{where} has no configuration in it: take a checkpoint as `fullrank train` wrote it")
    config = from_dict(state["config"], TrainConfig(), where)
    if config.image_size is None:
        raise FullrankError(f"{where}: its configuration lacks image_size: take one as `fullrank train` wrote it")
    return config


def encoder_of(state: dict[str, Any], branch: Branch = "online", *, where: str) -> nn.Module:
    """Build the encoder of a checkpoint that `read_checkpoint` gave, in eval mode; an error calls it `where`."""
    config = config_of(state, where)
    there = [name for name, prefix in BRANCHES.items() if any(key.startswith(prefix) for key in state["model"])]
    if branch not in there:
        raise FullrankError(
            f"{where}: the method {config.method} has no branch {branch!r}: take {' or '.join(there)}"
            f"{nearest(branch, there)}"
        )
    # the generator's state is put back: loading a model inside someone's program changes nothing there
    with torch.random.fork_rng(devices=[]):
        encoder = build_backbone(config)
    prefix = BRANCHES[branch]
    own = {key.removeprefix(prefix): value for key, value in state["model"].items() if key.startswith(prefix)}
    fill(encoder, own, where)
    return encoder.eval()
