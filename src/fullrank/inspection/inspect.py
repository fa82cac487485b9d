"""Inspect encoders and features: the walk from a name on the command line to spectrum, scores and verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fullrank.config import TrainConfig
from fullrank.data import views
from fullrank.data.images import NAMES, SAMPLED, Images, open_images, sample
from fullrank.data.matrices import open_matrix
from fullrank.data.order import subset
from fullrank.errors import FullrankError, check_words
from fullrank.inspection import encoders
from fullrank.inspection.compare import obstacle
from fullrank.inspection.encoders import Encoder
from fullrank.inspection.features import VIEW_SEED, features_of, features_of_views, to_device
from fullrank.inspection.kinds import kinds_of
from fullrank.inspection.options import Options
from fullrank.inspection.result import Inspection, Kind
from fullrank.inspection.scores import absorb, take_all
from fullrank.measure.quality import clid, feature_std
from fullrank.measure.scores import Score
from fullrank.measure.spectrum import Spectrum
from fullrank.measure.verdict import ENOUGH, judge
from fullrank.text import once, tails
from fullrank.training.machine import choose_device, float32_on

FEWEST_IMAGES = 5_000
VIEWED_IMAGES, VIEWS_EACH = 1_000, 10
"""Images and views of each for alignment and LiDAR; its authors took about 1,000 and 50, others 100 and 10."""
_CLID_POOL = 3  # standardised over two, every score is +1 or -1

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def inspect(
    names: Sequence[str], options: Options | None = None, *, progress: Progress = lambda what, done, total: None
) -> list[Inspection]:
    """Inspect runs, checkpoints, timm models, weights files and feature matrices.

    Args:
        names: What to inspect, in the order to show it; what is named twice is shown once.
        options: How.
        progress: Told how far the work is.

    Raises:
        FullrankError: One of them cannot be read or measured; nothing is returned then.
    """
    options, names = options or Options(), once(names)
    check_words(options)
    if not names:
        raise FullrankError("give at least one thing to inspect: a run, a timm model, a weights file or a feature file")
    if options.limit is not None and options.limit < 2:
        raise FullrankError(f"limit must be at least 2 images, got {options.limit}: a spectrum needs several")
    device = choose_device(options.device)
    kinds = kinds_of(names, options)
    asked = None if options.images is None else open_images(options.images)  # before weights are fetched for them
    opened = {
        name: _named(name, _open_encoder, name, kind, options)
        for name, kind in zip(names, kinds, strict=True)
        if kind != "features"
    }
    # One number of images for all: scores that depend on it could not be compared otherwise.
    widest = max((encoder.width for encoder in opened.values()), default=0)
    wanted = options.limit or max(FEWEST_IMAGES, ENOUGH * widest)
    found = []
    for name, kind in zip(names, kinds, strict=True):
        if kind == "features":
            found.append(_named(name, _inspect_matrix, name, options, progress))
        else:
            found.append(
                _named(name, _inspect_encoder, name, kind, opened[name], asked, options, wanted, device, progress)
            )
    labels = tails([Path(name) for name in names])
    return _with_clid([replace(each, name=label) for each, label in zip(found, labels, strict=True)])


def _named(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function; an error says of which X it is."""
    try:
        return function(*arguments)
    except FullrankError as error:
        raise FullrankError(str(error) if name in str(error) else f"{name}: {error}") from None


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
    return _result(name, "features", source, protocol, absorb(counted(), n, dim), progress=progress)


def _inspect_encoder(
    name: str,
    kind: Kind,
    encoder: Encoder,
    asked: Images | None,
    options: Options,
    wanted: int,
    device: torch.device,
    progress: Progress,
) -> Inspection:
    images, of_images = _open_images(encoder, asked, options)
    if len(images) < 2:
        raise FullrankError(
            f"{images.name} holds {len(images)} image: a spectrum needs several times D={encoder.width}"
        )
    indices = sample(torch.arange(len(images)), wanted)
    if len(indices) < len(images):
        of_images = {**of_images, "sample": SAMPLED}
    skipped: dict[str, None] = {}
    protocol = {**encoder.protocol, "arithmetic": float32_on(device), **of_images}
    modules = [to_device(encoder.module, device)]
    if options.untrained and encoder.untrained is not None:
        modules.append(to_device(encoder.untrained(), device))
    (own, *twins), _ = features_of(
        encoder,
        modules,
        images,
        indices,
        device,
        unreadable=lambda key: skipped.update({key: None}),
        advance=_counter(progress, f"{name}: images", len(indices)),
    )
    untrained = None
    for features in twins:
        untrained = absorb([features], *features.shape)[0]
        untrained = Spectrum(untrained.singular_values, {**protocol, **untrained.protocol})
    recipe = _recipe(options, encoder.config)
    view_features, view_protocol = None, {}
    if recipe is not None:
        pair = views.recipe(recipe[0], crop_min=recipe[1])
        chosen = sample(torch.arange(len(images)), min(VIEWED_IMAGES, wanted))
        view_features = features_of_views(
            encoder,
            images,
            chosen,
            pair,
            VIEWS_EACH,
            device,
            unreadable=lambda key: skipped.update({key: None}),
            advance=_counter(progress, f"{name}: views", VIEWS_EACH * len(chosen)),
        )
        shown = {key: value for key, value in protocol.items() if key not in ("view", "interpolation", "crop_pct")}
        view_protocol = {**shown, "recipe": recipe[0], "crop_scale": pair[0].crop_scale, "seed": VIEW_SEED}
    source, spread_of_embeddings = dict(encoder.source), None
    if encoder.projector is not None:
        spread_of_embeddings = _spread(encoder.projector, own)
        source["embeddings' deviation"] = f"{spread_of_embeddings:.3f} of 1/sqrt(M)"
    return _result(
        name,
        kind,
        source,
        protocol,
        absorb([own], *own.shape),
        of_views=(view_features, view_protocol),
        untrained=untrained,
        random=encoder.untrained is None,
        embedding_spread=spread_of_embeddings,
        skipped=tuple(skipped),
        progress=progress,
    )


@torch.no_grad()
def _spread(projector: nn.Module, features: Tensor) -> float:
    """Return the deviation of embeddings, of what it is when they point everywhere: 1/sqrt(M)."""
    embeddings = projector(features)
    return feature_std(embeddings) * math.sqrt(embeddings.shape[1])


def _open_images(encoder: Encoder, asked: Images | None, options: Options) -> tuple[Images, dict[str, Any]]:
    """Open the images to take features of, and say which they are: those that were asked for, or a run's own."""
    config = encoder.config
    if asked is not None:
        split = "train" if options.images in NAMES else "all there is"
        return asked, {"images": options.images, "split": split}
    assert config is not None
    images = open_images(config.images, root=config.data_dir)
    if config.subset < 1:
        chosen = subset(len(images), config.subset, config.seed)
        return images.select(chosen), {"images": config.images, "split": "train", "subset": config.subset}
    return images, {"images": config.images, "split": "train"}


def _open_encoder(name: str, kind: Kind, options: Options) -> Encoder:
    path = Path(name).expanduser()
    if kind in ("run", "checkpoint"):
        return encoders.from_run(path, options.layer)
    if kind == "timm model":
        return encoders.from_timm(name, pretrained=options.pretrained, image_size=options.image_size)
    assert options.backbone is not None
    return encoders.from_weights(
        path, options.backbone, prefix=options.prefix, image_size=options.image_size, stem=options.stem
    )


def _recipe(options: Options, config: TrainConfig | None) -> tuple[str, float | None] | None:
    if options.views == "auto":
        return None if config is None else (config.views, config.crop_min)
    return None if options.views == "none" else (options.views, None)


def _result(
    name: str,
    kind: Kind,
    source: Mapping[str, Any],
    protocol: Mapping[str, Any],
    absorbed: tuple[Spectrum, Spectrum, Tensor],
    *,
    of_views: tuple[Tensor | None, Mapping[str, Any]] = (None, {}),
    untrained: Spectrum | None = None,
    random: bool = False,
    embedding_spread: float | None = None,
    skipped: tuple[str, ...] = (),
    progress: Progress,
) -> Inspection:
    """Score and judge what `absorb` returned."""
    *both, sample = absorbed
    centred, uncentred = (Spectrum(each.singular_values, {**protocol, **each.protocol}) for each in both)
    scores = take_all(
        {"centered": centred, "uncentered": uncentred},
        sample,
        of_views[0],
        protocol,
        of_views[1],
        lambda done, total: progress(f"{name}: scores", done, total),
    )
    verdict = judge(centred, uncentered=uncentred, init=untrained, embedding_spread=embedding_spread, untrained=random)
    return Inspection(name, kind, source, centred, untrained, scores, verdict, skipped)


def _with_clid(found: list[Inspection]) -> list[Inspection]:
    """Add CLID, which is relative to a pool, where there is one whose parts can be compared."""
    if len(found) < _CLID_POOL or obstacle(found, "cluster_learnability") or obstacle(found, "two_nn"):
        return found
    parts = [[each.scores[name].value for each in found] for name in ("cluster_learnability", "two_nn")]
    pool = {"pool": f"the {len(found)} inspected together"}
    return [
        replace(
            each,
            scores={**each.scores, "clid": Score("clid", value, pool)},
        )
        for each, value in zip(found, clid(*parts), strict=True)  # type: ignore[arg-type]
    ]


def _counter(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(what, done, total)

    return advance
