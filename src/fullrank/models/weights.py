"""Weights that somebody's training code saved, put into a backbone.

A checkpoint seldom is a plain state dict: it lies under `state_dict` or `model`, wrappers have put `module.` or
`_orig_mod.` before every name, and the encoder is one of several networks (`encoder_q`, `teacher.backbone`), with a
projector or a classifier on top. `read_weights` reads any such file into one flat dictionary, running no code in it.
`load_weights` finds the encoder in it by the model's own names, and loads all of it or nothing.
"""

from __future__ import annotations

import argparse
import difflib
import pickle
import re
import tarfile
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fullrank.data.views import SMALL_IMAGE
from fullrank.errors import FullrankError, nearest

PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".tar")
"""Suffixes of files that `torch.save` writes; `.pth.tar` is one of them."""

_OPTIONAL = "num_batches_tracked"  # counts batches for BatchNorm's mean without momentum; no output depends on it
_COMMON = ("resnet101", "resnet152", "wide_resnet50_2", "vit_tiny_patch16_224", "vit_small_patch16_224",
           "vit_base_patch16_224", "convnext_tiny")  # fmt: skip
_ZIP, _PICKLE = b"PK\3\4", b"\x80"  # how such files start
_SHOWN = 3  # keys named in a message, of each kind


class DamagedError(FullrankError):
    """Report a file that is cut short, overwritten, or of no format that is read."""


class ForeignError(FullrankError):
    """Report a file that holds more than tensors, numbers and text, and of which nothing was run."""


@dataclass(frozen=True)
class Loaded:
    """What `load_weights` took, and what it left.

    Attributes:
        prefix: Where the model's weights lie in the file, such as `module.encoder_q`; empty for the top level.
        others: Other places whose weights fit as well, such as `module.encoder_k`, in the file's order.
        ignored: Names under `prefix` that the model does not have, such as `fc`, `head`, `projector`.
    """

    prefix: str
    others: tuple[str, ...]
    ignored: tuple[str, ...]


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Read all tensors of a file onto the CPU, in the file's order.

    Args:
        path: A `.safetensors` file, or one that `torch.save` wrote: `.pt`, `.pth`, `.ckpt`, `.bin`, `.tar`.

    Returns:
        The tensors by name; dictionaries in dictionaries are joined by dots (`state_dict.module.conv1.weight`), and
        what is no tensor is left out.

    Raises:
        FullrankError: There is no such file, it is damaged (`DamagedError`), holds anything but tensors, numbers and
            text (`ForeignError`), or holds no tensor.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FullrankError(f"{path} {what}: give a file of weights, .safetensors, {', '.join(PICKLES)}")
    if suffix == ".safetensors":
        weights = _read_safetensors(path)
    elif suffix in PICKLES:
        weights = dict(_flat(read_pickle(path)))
    else:
        raise FullrankError(
            f"{path} is none of the formats that weights are read from, .safetensors, {', '.join(PICKLES)}: save them "
            "with torch.save(model.state_dict(), 'weights.pt')"
        )
    if not weights:
        raise FullrankError(f"{path} holds no tensors: give a file that has a model's state dict in it")
    return weights


def read_pickle(path: Path) -> Any:
    """Read what `torch.save` wrote onto the CPU, in its format of today or of old, without running code in it.

    Raises:
        DamagedError: The file is empty, cut short or overwritten, or `torch.save` did not write it.
        ForeignError: It holds anything but tensors, numbers (numpy's too), text, lists, dictionaries and
            `argparse.Namespace`, in which DINO's and MAE's code keeps its arguments.
    """
    damaged = f"{path} is damaged, cut short or overwritten (or torch.save did not write it): copy or save it again"
    with open(path, "rb") as file:
        start = file.read(4)
    try:
        _check_container(path, start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on the version of the pickle, which is read or refused
            with torch.serialization.safe_globals(_harmless()):
                return torch.load(path, map_location="cpu", weights_only=True)
    except (FullrankError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None and start != _ZIP and not start.startswith(_PICKLE):
            raise DamagedError(damaged) from None
        raise ForeignError(_refused(path, named[1] if named else None)) from None
    except Exception:  # readers that are fed arbitrary bytes raise errors of nearly every kind
        raise DamagedError(damaged) from None


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, prefix: str | None = None) -> Loaded:
    """Load the part of a file's weights that is this model, whatever stands before its names.

    A prefix fits when all parameters and buffers of the model lie under it in equal shapes, and what else lies there
    belongs to layers that the model does not have. The first in the file's order is taken. A file that holds a deeper
    model of the same family is refused, although it has all the names of this one.

    Args:
        model: A backbone without classifier. Its dtypes and devices stay.
        weights: What `read_weights` gives, or any state dict.
        prefix: Where to look, such as `module.encoder_q`, or an empty string for the top level; None looks everywhere.

    Raises:
        FullrankError: No prefix fits; the model is as it was. The message names what is missing, of another shape, or
            left over.
    """
    places = _votes(model, weights)
    if prefix is not None:
        start = f"{prefix.removesuffix('.')}." if prefix.removesuffix(".") else ""
        if start not in places:
            found = [place for place, _ in places.most_common()]
            raise FullrankError(
                f"the file has none of the model's weights under {prefix!r}{nearest(prefix, map(_plain, found))} "
                f"(they may lie under {_few([repr(_plain(place)) for place in found]) or 'nothing in this file'})"
            )
        places = Counter({start: places[start]})
    fitting = _fitting(model, weights, places)
    if not fitting:
        named = _by_name(model, weights)
        if named.keys() != weights.keys() and _fitting(model, named, _votes(model, named)):
            return load_weights(model, named, prefix=prefix)
        raise FullrankError(_mismatch(model, weights, places, given=prefix is not None))
    first = fitting[0]
    state = model.state_dict()
    # Those that may be missing keep the model's own values.
    model.load_state_dict({key: weights.get(first + key, own) for key, own in state.items()})
    ignored, _ = _leftover(model, weights, first)
    return Loaded(_plain(first), tuple(map(_plain, fitting[1:])), ignored)


def fill(module: nn.Module, weights: Mapping[str, Any], where: str) -> None:
    """Load weights that a checkpoint of ours says are this module's: all of them, under its own names.

    Args:
        module: What the checkpoint's configuration builds.
        weights: By the module's names.
        where: What to call the checkpoint in an error.

    Raises:
        FullrankError: They are of another network; the message names the first names and shapes that do not fit.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in weights]
    left = [key for key in weights if key not in own]
    shapes = [
        f"{key} is {tuple(getattr(weights[key], 'shape', ()))} in the file and {tuple(value.shape)} in the network"
        for key, value in own.items()
        if key in weights and getattr(weights[key], "shape", None) != value.shape
    ]
    if not (missing or left or shapes):
        module.load_state_dict(dict(weights))
        return
    kinds = (("missing", missing), ("of another shape", shapes), ("left over", left))
    raise FullrankError(
        f"{where}: its weights are not of the network that its configuration describes; "
        + "; ".join(f"{kind}: {_few(names)}" for kind, names in kinds if names)
        + ". Give a checkpoint as `fullrank train` wrote it; weights of another network, saved alone as "
        "weights.pt, are measured by `fullrank inspect weights.pt --backbone NAME --images FOLDER`"
    )


# reading


def _harmless() -> list[Any]:
    """Return what may be made beside tensors: it holds data, and making it runs nothing else."""
    scalar = np.float64(0).__reduce__()[0]  # under its name of numpy 2 and of numpy 1
    numbers = [type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")]
    names = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")
    return [argparse.Namespace, np.dtype, *numbers, *((scalar, name) for name in names)]


def _check_container(path: Path, start: bytes) -> None:
    """Look at what torch.load would not: checksums, and kinds of file for which its errors mislead.

    Raises:
        FullrankError: torch.save did not write the file, or it has changed since.
        Exception: It is too damaged to tell.
    """
    if start == _ZIP:  # torch's format of today
        with zipfile.ZipFile(path) as archive:
            members = {name.split("/")[-1] for name in archive.namelist()}
            changed = archive.testzip()
        if changed is not None:
            raise DamagedError(
                f"{path} is damaged or was overwritten: the checksum of {changed} in it is wrong; copy or save it again"
            )
        if "constants.pkl" in members:
            raise ForeignError(
                f"{path} is a TorchScript program, which was not run: where you trust it, save its weights alone, "
                f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pt')"
            )
        if "data.pkl" not in members:
            raise DamagedError(f"{path} is a zip file that torch.save did not write: give a file that it wrote")
    elif tarfile.is_tarfile(path):
        raise DamagedError(f"{path} is a tar archive: unpack it, and give the file of weights in it")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise DamagedError(
            f"{path} is damaged, cut short or overwritten: copy or save it again ({str(error).splitlines()[0]})"
        ) from None


def _flat(value: object, name: str = "") -> Iterable[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value.detach()
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))


def _refused(path: Path, name: str | None) -> str:
    what = f"asks for {name}" if name else "is a pickle that torch.save did not write as it does by default"
    return (
        f"{path} {what}, and only tensors, numbers and text are read: it was refused, and nothing in it was run. "
        "If you trust whoever made it, save its state dict alone: "
        f"checkpoint = torch.load({path.name!r}, map_location='cpu', weights_only=False), then "
        "torch.save(checkpoint['state_dict'], 'weights.pt'), or whatever the state dict is called in it "
        "(checkpoint.state_dict() where it is a whole module)"
    )


# finding


def _votes(model: nn.Module, weights: Mapping[str, Tensor]) -> Counter[str]:
    """Count the model's keys under each prefix (empty, or ending with a dot), in the order of the file."""
    wanted = model.state_dict().keys()
    votes: Counter[str] = Counter()
    for key in weights:
        start = 0
        while True:
            if key[start:] in wanted:
                votes[key[:start]] += 1
            start = key.find(".", start) + 1
            if not start:
                break
    return votes


def _by_name(model: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the layers that `nn.Sequential(*model.children())` numbers, a common way to cut a classifier off."""
    names = {str(number): name for number, (name, _) in enumerate(model.named_children())}
    wanted = model.state_dict().keys()

    def rename(key: str) -> str:
        parts = key.split(".")
        for at, part in enumerate(parts):
            inner = ".".join([names.get(part, ""), *parts[at + 1 :]])
            if inner in wanted:
                return ".".join([*parts[:at], inner])
        return key

    return {rename(key): value for key, value in weights.items()}


def _fitting(model: nn.Module, weights: Mapping[str, Tensor], places: Iterable[str]) -> list[str]:
    return [place for place in places if _complete(model, weights, place) and not _leftover(model, weights, place)[1]]


def _complete(model: nn.Module, weights: Mapping[str, Tensor], prefix: str) -> bool:
    return all(
        weights[prefix + key].shape == own.shape if prefix + key in weights else key.endswith(_OPTIONAL)
        for key, own in model.state_dict().items()
    )


def _leftover(model: nn.Module, weights: Mapping[str, Tensor], prefix: str) -> tuple[tuple[str, ...], list[str]]:
    """Sort the keys under a prefix that the model does not have.

    Returns:
        The names of what may be left out, a classifier or a whole layer that the model has no place for; and the keys
        that may not, since they are part of a layer that it has.
    """
    state = model.state_dict()
    children = {name for name, _ in model.named_children()} | {key.split(".")[0] for key in state}
    heads = _heads(model)
    ignored: dict[str, None] = {}
    wrong = []
    for key in weights:
        inner = key.removeprefix(prefix)
        if not key.startswith(prefix) or inner in state:
            continue
        top = inner.split(".")[0]
        head = next((head for head in heads if inner.startswith(f"{head}.")), None)
        if head is not None or top not in children:
            ignored[head or top] = None
        elif not inner.endswith(_OPTIONAL):
            wrong.append(inner)
    return tuple(ignored), wrong


def _heads(model: nn.Module) -> list[str]:
    """Name the places where a classifier was taken out: timm leaves an Identity there, others often `fc`."""
    classifier: Any = getattr(model, "get_classifier", lambda: None)()
    found = classifier if isinstance(classifier, tuple) else (classifier,)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Identity)
        and (any(module is one for one in found) or name in ("fc", "head", "classifier"))
    ]


# explaining


def _mismatch(model: nn.Module, weights: Mapping[str, Tensor], places: Counter[str], *, given: bool) -> str:
    wanted = {key: own for key, own in model.state_dict().items() if not key.endswith(_OPTIONAL)}

    def equal(place: str) -> int:
        return sum(place + key in weights and weights[place + key].shape == own.shape for key, own in wanted.items())

    # the file's order decides between equals
    prefix = max(places, key=lambda place: (equal(place), places[place]), default="")
    parts = [
        f"the weights do not fit the model: {equal(prefix)} of its {len(wanted)} parameters and buffers were found "
        f"in equal shape {f'under {_plain(prefix)!r}' if prefix else 'at the top level'}"
    ]
    missing = [key for key in wanted if prefix + key not in weights]
    if missing:
        shown = [f"{key}{_nearest_key(prefix + key, weights)}" for key in missing[:_SHOWN]]
        parts.append(f"missing: {_few(shown, len(missing))}")
    shapes = [
        f"{key} is {tuple(weights[prefix + key].shape)} in the file and {tuple(own.shape)} in the model"
        for key, own in wanted.items()
        if prefix + key in weights and weights[prefix + key].shape != own.shape
    ]
    if shapes:
        parts.append(f"of another shape: {_few(shapes)}")
    _, wrong = _leftover(model, weights, prefix)
    if wrong and prefix in places:
        parts.append(f"left over, in layers that the model has: {_few(wrong)}")
    parts.append(_advice(weights, prefix if given else None))
    return "; ".join(parts)


def _nearest_key(key: str, weights: Mapping[str, Tensor]) -> str:
    matches = difflib.get_close_matches(key, weights, n=1)
    return f" (nearest in the file: {matches[0]})" if matches else ""


def _advice(weights: Mapping[str, Tensor], prefix: str | None) -> str:
    """Try the models that most weights are of; on the meta device that takes no memory and little time."""
    import timm

    from fullrank.models.backbones import RESNETS, backbone

    for name in (*RESNETS, *_COMMON):
        ours = name in RESNETS
        for size in (224, SMALL_IMAGE) if ours else (224,):
            with torch.device("meta"):
                model = backbone(name, image_size=size) if ours else timm.create_model(name, num_classes=0)
            if _fitting(model, weights, _votes(model, weights) if prefix is None else [prefix]):
                stem = f" for images of {'more than' if size > SMALL_IMAGE else 'up to'} {SMALL_IMAGE} pixels"
                return f"they fit the backbone {name}" + (stem if ours else "")
    return (
        "name the backbone that they were trained with (--backbone), and the size of its images: up to "
        f"{SMALL_IMAGE} pixels a ResNet begins with a 3x3 convolution, above with 7x7"
    )


def _plain(prefix: str) -> str:
    return prefix.removesuffix(".")


def _few(names: list[str], count: int | None = None) -> str:
    count = len(names) if count is None else count
    return ", ".join(names[:_SHOWN]) + (f" and {count - _SHOWN} more" if count > _SHOWN else "")
