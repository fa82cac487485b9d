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
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from fullrank.config import BackboneConfig, Stem
from fullrank.data.views import SMALL_IMAGE
from fullrank.errors import FullrankError, nearest, reason
from fullrank.files import PICKLES
from fullrank.models.backbones import RESNETS, backbone
from fullrank.text import few

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
    """What `load_weights` took, and what it left."""

    prefix: str  # where the model's weights lie in the file, such as `module.encoder_q`; empty for the top level
    others: tuple[str, ...]  # other places whose weights fit as well, such as `module.encoder_k`, in the file's order
    ignored: tuple[str, ...]  # names under `prefix` that the model does not have, such as `fc`, `head`, `projector`


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """Read all tensors of a file onto the CPU, in the file's order.

    Dictionaries in dictionaries are joined by dots (`state_dict.module.conv1.weight`); what is no tensor is left out.

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
        try:
            weights = load_file(path)
        except SafetensorError as error:
            what = f"{path} is damaged, cut short or overwritten"
            raise DamagedError(f"{what}: copy or save it again ({reason(error)})") from None
    elif suffix in PICKLES:
        weights = dict(_flat(read_pickle(path)))
    else:
        formats, do = f".safetensors, {', '.join(PICKLES)}", "torch.save(model.state_dict(), 'weights.pt')"
        raise FullrankError(f"{path} is none of the formats that weights are read from, {formats}: save them with {do}")
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
        what = f"asks for {named[1]}" if named else "is a pickle that torch.save did not write as it does by default"
        raise ForeignError(
            f"{path} {what}, and only tensors, numbers and text are read: it was refused, and nothing in it was run. "
            "If you trust whoever made it, save its state dict alone: "
            f"checkpoint = torch.load({path.name!r}, map_location='cpu', weights_only=False), then "
            "torch.save(checkpoint['state_dict'], 'weights.pt'), or whatever the state dict is called in it "
            "(checkpoint.state_dict() where it is a whole module)"
        ) from None
    except Exception:  # readers that are fed arbitrary bytes raise errors of nearly every kind
        raise DamagedError(damaged) from None


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], *, prefix: str | None = None) -> Loaded:
    """Load the part of a file's weights that is this model, whatever stands before its names; or nothing.

    A prefix fits when all parameters and buffers of the model lie under it in equal shapes, and what else lies there
    belongs to layers that the model does not have. The first in the file's order is taken, of those that `prefix`
    allows (an empty string is the top level). A file that holds a deeper model of the same family is refused, although
    it has all the names of this one. The model's dtypes and devices stay.

    Raises:
        FullrankError: No prefix fits. The message names what is missing, of another shape, or left over.
    """
    found = _Search(model, weights)
    if prefix is not None:
        start = f"{prefix.removesuffix('.')}." if prefix.removesuffix(".") else ""
        if start not in found.places:
            there = [_plain(place) for place, _ in found.places.most_common()]
            where = few([repr(place) for place in there]) or "nothing in this file"
            what = f"the file has none of the model's weights under {prefix!r}{nearest(prefix, there)}"
            raise FullrankError(f"{what} (they may lie under {where})")
        found.places = Counter({start: found.places[start]})
    fitting = found.fitting()
    if not fitting:
        named = _by_name(model, weights)
        if named.keys() != weights.keys() and _Search(model, named).fitting():
            return load_weights(model, named, prefix=prefix)
        raise FullrankError(found.mismatch(given=prefix is not None))
    first, *others = fitting
    # those that may be missing keep the model's own values
    model.load_state_dict({key: weights.get(first + key, own) for key, own in found.state.items()})
    return Loaded(_plain(first), tuple(map(_plain, others)), found.leftover(first)[0])


def fill(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load weights that a checkpoint of ours, called `where`, says are this module's: all, under its own names."""
    try:
        module.load_state_dict(dict(weights))
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        what = f"its weights are not of the network that its configuration describes ({why})"
        other = "`fullrank inspect weights.pt --backbone NAME --images FOLDER`, saved alone as weights.pt"
        do = f"Give a checkpoint as `fullrank train` wrote it; measure weights of another network by {other}"
        raise FullrankError(f"{where}: {what}. {do}") from None


def _harmless() -> list[Any]:
    """Return what may be made beside tensors: it holds data, and making it runs nothing else."""
    scalar = np.float64(0).__reduce__()[0]  # under its name of numpy 2 and of numpy 1
    numbers = [type(np.dtype(kind)) for kind in ("bool", "int32", "int64", "float32", "float64")]
    names = ("numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar")
    return [argparse.Namespace, np.dtype, *numbers, *((scalar, name) for name in names)]


def _check_container(path: Path, start: bytes) -> None:
    """Look at what torch.load would not: checksums, and kinds of file for which its errors mislead."""
    if start == _ZIP:  # torch's format of today
        with zipfile.ZipFile(path) as archive:
            members = {name.split("/")[-1] for name in archive.namelist()}
            changed = archive.testzip()
        if changed is not None:
            what = f"the checksum of {changed} in it is wrong"
            raise DamagedError(f"{path} is damaged or was overwritten: {what}; copy or save it again")
        if "constants.pkl" in members:
            do = f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pt')"
            what = f"{path} is a TorchScript program, which was not run"
            raise ForeignError(f"{what}: where you trust it, save its weights alone, {do}")
        if "data.pkl" not in members:
            raise DamagedError(f"{path} is a zip file that torch.save did not write: give a file that it wrote")
    elif tarfile.is_tarfile(path):
        raise DamagedError(f"{path} is a tar archive: unpack it, and give the file of weights in it")


def _flat(value: object, name: str = "") -> Iterable[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value.detach()
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))


class _Search:
    """Where in a file's weights a model's lie."""

    def __init__(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        self.weights, self.state = weights, model.state_dict()
        self.needed = {key: own for key, own in self.state.items() if not key.endswith(_OPTIONAL)}
        self.parts = {name for name, _ in model.named_children()} | {key.split(".")[0] for key in self.state}
        # where a classifier was taken out timm leaves an Identity, others often `fc`
        classifier: Any = getattr(model, "get_classifier", lambda: None)()
        out = classifier if isinstance(classifier, tuple) else (classifier,)
        gone = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Identity)]
        usual = ("fc", "head", "classifier")
        self.heads = [name for name, module in gone if name in usual or any(module is one for one in out)]
        # how many of the model's names lie under each prefix (empty, or ending with a dot), in the order of the file
        self.places: Counter[str] = Counter()
        for key in weights:
            dots = (at + 1 for at, character in enumerate(key) if character == ".")
            self.places.update(key[:start] for start in (0, *dots) if key[start:] in self.state)

    def fitting(self) -> list[str]:
        """Return the prefixes under which all of the model lies, and nothing that its layers lack."""
        whole = [place for place in self.places if self.equal(place) == len(self.needed)]
        return [place for place in whole if not self.shapes(place) and not self.leftover(place)[1]]

    def equal(self, prefix: str) -> int:
        """Count the needed weights that lie under a prefix in equal shape."""
        found = ((self.weights.get(prefix + key), own) for key, own in self.needed.items())
        return sum(each is not None and each.shape == own.shape for each, own in found)

    def shapes(self, prefix: str) -> list[str]:
        """Name the weights under a prefix that are of another shape than the model's."""
        found = ((key, self.weights.get(prefix + key), own) for key, own in self.state.items())
        return [
            f"{key} is {tuple(each.shape)} in the file and {tuple(own.shape)} in the model"
            for key, each, own in found
            if each is not None and each.shape != own.shape
        ]

    def leftover(self, prefix: str) -> tuple[tuple[str, ...], list[str]]:
        """Sort the keys under a prefix that the model does not have.

        First the names of what may be left out, a classifier or a whole layer that the model has no place for; then the
        keys that may not, since they are part of a layer that it has, or a token that its layers lack.
        """
        ignored: dict[str, None] = {}
        wrong = []
        for key in self.weights:
            inner = key.removeprefix(prefix)
            if not key.startswith(prefix) or inner in self.state:
                continue
            top = inner.split(".")[0]
            head = next((head for head in self.heads if inner.startswith(f"{head}.")), None)
            # a token of the sequence, such as DINOv2's registers, is seen by all others; a mask's in training alone
            token = top == inner and "token" in top and "mask" not in top
            if head is not None or (top not in self.parts and not token):
                ignored[head or top] = None
            elif not inner.endswith(_OPTIONAL):
                wrong.append(inner)
        return tuple(ignored), wrong

    def mismatch(self, *, given: bool) -> str:
        """Say what is missing, of another shape or left over at the best place, and which model would fit."""
        # the file's order decides between equals
        prefix = max(self.places, key=lambda place: (self.equal(place), self.places[place]), default="")
        where = f"under {_plain(prefix)!r}" if prefix else "at the top level"
        missing = [key for key in self.needed if prefix + key not in self.weights]
        for number, key in enumerate(missing[:_SHOWN]):
            near = difflib.get_close_matches(prefix + key, self.weights, n=1)
            missing[number] = f"{key} (nearest in the file: {near[0]})" if near else key
        wrong = self.leftover(prefix)[1] if prefix in self.places else []
        kinds = {
            "missing": missing,
            "of another shape": self.shapes(prefix),
            "left over, and not to be left out": wrong,
        }
        found = f"{self.equal(prefix)} of its {len(self.needed)} parameters and buffers were found in equal shape"
        why = [f"{kind}: {few(names)}" for kind, names in kinds.items() if names]
        advice = _advice(self.weights, prefix if given else None)
        return "; ".join([f"the weights do not fit the model: {found} {where}", *why, advice])


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


def _advice(weights: Mapping[str, Tensor], prefix: str | None) -> str:
    """Try the models that most weights are of; on the meta device that takes no memory and little time."""
    stems: tuple[Stem, ...] = ("imagenet", "cifar")
    ours = [(name, stem) for name in RESNETS for stem in stems]
    for name, stem in (*ours, *((name, None) for name in _COMMON)):
        with torch.device("meta"):
            model = (
                backbone(BackboneConfig(name, stem=stem), image_size=SMALL_IMAGE)
                if stem
                else timm.create_model(name, num_classes=0)
            )
        search = _Search(model, weights)
        if prefix is not None:
            search.places = Counter([prefix])
        if search.fitting():
            sized = ""
            if hasattr(model, "pos_embed"):  # a table of positions is as long as images are large
                sized = f" --image-size {resolve_model_data_config(model)['input_size'][-1]}"
            return f"they fit --backbone {name}" + (f" --stem {stem}" if stem else sized)
    return (
        "name the backbone that they were trained with (--backbone), and the size of its images (--image-size); a "
        "network of your own is measured in Python, fullrank.inspect(model, loader)"
    )


def _plain(prefix: str) -> str:
    return prefix.removesuffix(".")
