"""Inspect encoders and features: the walk from a name on the command line to spectrum, scores and verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from fullrank.data import views
from fullrank.data.images import open_images
from fullrank.data.matrices import open_matrix
from fullrank.errors import FullrankError, nearest
from fullrank.inspection import encoders
from fullrank.inspection.encoders import Encoder
from fullrank.inspection.features import VIEW_SEED, features_of, features_of_views
from fullrank.inspection.options import Options
from fullrank.inspection.result import Inspection, Kind, Scored
from fullrank.inspection.scores import absorb, score
from fullrank.measure.quality import clid
from fullrank.measure.spectrum import Spectrum
from fullrank.measure.verdict import ENOUGH, judge
from fullrank.models.weights import PICKLES
from fullrank.text import tails
from fullrank.training.checkpoint import is_checkpoint
from fullrank.training.machine import choose_device

FEWEST_IMAGES = 5_000
VIEWED_IMAGES, VIEWS_EACH = 1_000, 10
"""Images and views of each for alignment and LiDAR; its authors took about 1,000 and 50, others 100 and 10."""
MATRICES = (".npy", ".parquet", ".safetensors")
_CLID_POOL = 3  # standardised over two, every score is +1 or -1


Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def inspect(
    names: Sequence[str], options: Options | None = None, *, progress: Progress = lambda what, done, total: None
) -> list[Inspection]:
    """Inspect runs, checkpoints, timm models, weights files and feature matrices.

    Args:
        names: What to inspect, in the order to show it.
        options: How.
        progress: Told how far the work is.

    Raises:
        FullrankError: One of them cannot be read or measured; nothing is returned then.
    """
    options = options or Options()
    if not names:
        raise FullrankError("give at least one thing to inspect: a run, a timm model, a weights file or a feature file")
    if options.limit is not None and options.limit < 2:
        raise FullrankError(f"limit must be at least 2 images, got {options.limit}: a spectrum needs several")
    device = choose_device(options.device)
    kinds = [kind_of(name, options) for name in names]  # a misspelt last name is found before the first hour's work
    found = []
    for name, kind in zip(names, kinds, strict=True):
        try:
            if kind == "features":
                found.append(_inspect_matrix(name, options, progress))
            else:
                found.append(_inspect_encoder(name, kind, options, device, progress))
        except FullrankError as error:
            raise FullrankError(str(error) if name in str(error) else f"{name}: {error}") from None
    labels = tails([Path(name) for name in names])
    return _with_clid([replace(each, name=label) for each, label in zip(found, labels, strict=True)])


def kind_of(name: str, options: Options) -> Kind:
    """Say what a name stands for, without reading more of it than that takes.

    Raises:
        FullrankError: It is nothing that can be inspected, or a flag that it needs is missing.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return "run"
    if path.is_file():
        if path.suffix == ".pt" and is_checkpoint(path):
            return "checkpoint"
        if path.suffix in PICKLES or (path.suffix == ".safetensors" and options.backbone is not None):
            if options.backbone is None:
                raise FullrankError(
                    f"{name} is not a checkpoint of ours: if it holds weights, say whose, as in --backbone resnet50"
                )
            kind: Kind = "weights"
        else:
            return "features"
    elif timm.is_model(name):
        kind = "timm model"
    else:
        known = nearest(name, timm.list_models())
        raise FullrankError(
            f"there is no {name}: expected a run's folder, a checkpoint, a weights file, a feature file "
            f"({', '.join(MATRICES)}) or the name of a timm model{known}"
        )
    if options.images is None:
        raise FullrankError(
            f"{name} does not say which images to take features of: give some, such as --images photos/"
        )
    return kind


def _inspect_matrix(name: str, options: Options, progress: Progress) -> Inspection:
    matrix = open_matrix(Path(name).expanduser(), key=options.key)
    n, dim = matrix.shape

    def counted() -> Any:
        done = 0
        for block in matrix.blocks():
            yield block
            done += len(block)
            progress(f"{name}: rows", done, n)

    protocol = {"layer": "not stated", "images": "not stated"}
    source: dict[str, Any] = {"file": name, "shape": f"{n:,} x {dim}"}
    if matrix.key is not None:
        source["key"] = matrix.key
    if matrix.ignored:
        source["left out"] = ", ".join(matrix.ignored)
    return _result(name, "features", source, protocol, absorb(counted(), n, dim))


def _inspect_encoder(name: str, kind: Kind, options: Options, device: torch.device, progress: Progress) -> Inspection:
    encoder = _open_encoder(name, kind, options)
    spec = options.images or encoder.images
    assert spec is not None
    images = open_images(spec, root=encoder.data_dir)
    if len(images) < 2:
        raise FullrankError(f"{spec} holds {len(images)} image: a spectrum needs several times D={encoder.width}")
    wanted = options.limit or max(FEWEST_IMAGES, ENOUGH * encoder.width)
    indices = _spread(len(images), wanted)
    skipped: dict[str, None] = {}
    protocol = {**encoder.protocol, "images": spec, "split": "train" if options.images is None else "as given"}

    def run(module: nn.Module, what: str) -> tuple[Spectrum, Spectrum, Tensor]:
        features = features_of(
            encoder,
            module,
            images,
            indices,
            device,
            unreadable=lambda key: skipped.update({key: None}),
            advance=_counter(progress, f"{name}: {what}", len(indices)),
        )
        return absorb([features], len(features), features.shape[1])

    spectra = run(encoder.module, "images")
    known: dict[str, Any] = {"random": encoder.untrained is None}
    recipe = _recipe(options, encoder)
    if recipe is not None:
        chosen = _spread(len(images), min(VIEWED_IMAGES, wanted))
        features = features_of_views(
            encoder,
            images,
            chosen,
            views.recipe(recipe[0], crop_min=recipe[1]),
            VIEWS_EACH,
            device,
            unreadable=lambda key: skipped.update({key: None}),
            advance=_counter(progress, f"{name}: views", VIEWS_EACH * len(chosen)),
        )
        crop = {} if recipe[1] is None else {"crop_min": recipe[1]}
        known["views"] = features, {**protocol, "view": recipe[0], "seed": VIEW_SEED, **crop}
    if options.untrained and encoder.untrained is not None:
        twin = run(encoder.untrained(), "untrained twin")[0]
        known["untrained"] = replace(twin, protocol={**protocol, **twin.protocol})
    return _result(name, kind, encoder.source, protocol, spectra, skipped=tuple(skipped), **known)


def _open_encoder(name: str, kind: Kind, options: Options) -> Encoder:
    path = Path(name).expanduser()
    if kind in ("run", "checkpoint"):
        if options.image_size is not None:
            raise FullrankError(f"{name} knows the size of its images: leave out --image-size")
        return encoders.from_run(path, options.layer)
    if options.layer != "representation":
        raise FullrankError(f"{name} has no projector of ours: --layer {options.layer} is for runs and checkpoints")
    if kind == "timm model":
        return encoders.from_timm(name, pretrained=options.pretrained, image_size=options.image_size)
    assert options.backbone is not None
    return encoders.from_weights(path, options.backbone, prefix=options.prefix, image_size=options.image_size)


def _recipe(options: Options, encoder: Encoder) -> tuple[str, float | None] | None:
    if options.views == "auto":
        return encoder.recipe
    return None if options.views == "none" else (options.views, None)


def _result(
    name: str,
    kind: Kind,
    source: Mapping[str, Any],
    protocol: Mapping[str, Any],
    spectra: tuple[Spectrum, Spectrum, Tensor],
    **known: Any,
) -> Inspection:
    """Score and judge what `absorb` returned; `known` are further fields of the inspection."""
    *found, sample = spectra
    centred, uncentred = (replace(each, protocol={**protocol, **each.protocol}) for each in found)
    views, view_protocol = known.pop("views", (None, {}))
    untrained = known.get("untrained")
    scores = score(centred, uncentred, sample, views, protocol, view_protocol)
    verdict = judge(centred, init=untrained, untrained=known.pop("random", False))
    return Inspection(name, kind, source, centred, scores=scores, verdict=verdict, **{"untrained": None, **known})


def _with_clid(found: list[Inspection]) -> list[Inspection]:
    """Add CLID, which is relative to a pool, where there is one."""
    parts = [(each.scores["cluster_learnability"].value, each.scores["two_nn"].value) for each in found]
    able = [i for i, part in enumerate(parts) if None not in part]
    if len(able) < _CLID_POOL:
        return found
    values = clid([parts[i][0] for i in able], [parts[i][1] for i in able])  # type: ignore[misc]
    result = list(found)
    for i, value in zip(able, values, strict=True):
        pool = {"pool": f"the {len(able)} inspected together"}
        added = Scored("clid", value, "higher", "relative to the others here", pool)
        result[i] = replace(found[i], scores={**found[i].scores, "clid": added})
    return result


def _spread(size: int, wanted: int) -> Tensor:
    """Return `wanted` of `size` indices, spread evenly, or all."""
    count = min(size, wanted)
    return torch.arange(count) * size // count


def _counter(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(what, done, total)

    return advance
