"""Inspect encoders and features: the walk from a name on the command line to spectrum, scores and verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fullrank.config import read_config
from fullrank.data import views
from fullrank.data.cache import view_size
from fullrank.data.eval_images import view_blocks
from fullrank.data.images import DEFAULT_ROOT, SAMPLED, Images, open_images, sample
from fullrank.data.matrices import open_matrix
from fullrank.data.order import subset
from fullrank.encoders import CALLED, DEFAULTS, MEANT_FOR, Kind, kind_of, open_encoder
from fullrank.errors import FullrankError
from fullrank.inspection.options import InspectOptions
from fullrank.inspection.result import Inspection
from fullrank.measure.metrics import SpectrumMetric
from fullrank.measure.protocols import FINGERPRINT, UNKNOWN, obstacle
from fullrank.measure.quality import clid, feature_std
from fullrank.measure.scores import SCORES, Score, take
from fullrank.measure.spectrum import Spectrum
from fullrank.measure.verdict import DISTINCT, ENOUGH, Verdict, judge
from fullrank.models.encoder import Encoder
from fullrank.registry import SOURCES
from fullrank.shapes import check_meant
from fullrank.text import Progress, expanded, no_progress, once, tails
from fullrank.training.checkpoint import digest
from fullrank.training.machine import choose_device, float32_on
from fullrank.training.runs import CONFIG
from fullrank.training.scores import Kept, keep

FEWEST_IMAGES = 5_000
SAMPLE, SAMPLE_SEED = 5_000, 0
"""Rows that the scores see which are no functions of the spectrum; most of them cost O(n^2 D)."""
VIEWED_IMAGES, VIEWS_EACH = 1_000, 10
"""Images and views of each for alignment and LiDAR; its authors took about 1,000 and 50, others 100 and 10."""
VIEW_SEED = 0
VIEW_STEP = 2**62 + 2**40
"""Place of the views in the stream of random numbers: no training step reaches it, nor do held-out views."""
OF_A_MATRIX = {"layer": UNKNOWN, "images": UNKNOWN}
"""What is known of how features were made, where there is nothing but their numbers."""
_ROWS = 1024  # that are looked at together for whether they differ
_CLID_POOL = 3  # standardized over two, every score is +1 or -1


def inspect(
    names: Sequence[str], options: InspectOptions | None = None, *, progress: Progress = no_progress
) -> list[Inspection]:
    """Inspect runs, checkpoints, exported encoders, timm models, weights files and feature matrices.

    The scores of a run are kept in its scores.json. What is named twice is inspected once.

    Raises:
        FullrankError: One of them cannot be read or measured; nothing is returned then.
    """
    options, names = options or InspectOptions(), once(names)
    if not names:
        raise FullrankError("give at least one thing to inspect: a run, a timm model, a weights file or a feature file")
    choose_device(options.device)  # whether it is there is said before weights are fetched
    kinds = dict(zip(names, kinds_of(names, options), strict=True))
    asked = None if options.images is None else open_images(options.images)  # before weights are fetched for them
    opened = {}
    for name, kind in kinds.items():
        if kind != "features":
            with _naming(name):
                opened[name] = open_encoder(name, **encoder_options(options, kind))
    # One number of images for all: scores that depend on it could not be compared otherwise.
    widest = max((encoder.width for encoder in opened.values()), default=0)
    options = replace(options, limit=options.limit or images_for(widest))
    found = []
    for (name, kind), label in zip(kinds.items(), tails([Path(name) for name in names]), strict=True):
        with _naming(name):
            if kind == "features":
                one = _inspect_matrix(name, progress, options.key)
            else:
                one = inspect_encoder(name, opened[name], asked, options, kind, progress)
        if kind == "run":
            one = replace(one, unkept=keep_scores(expanded(name), one, options))
        found.append(replace(one, name=label))
    return _with_clid(found)


def kinds_of(names: Sequence[str], options: InspectOptions) -> list[Kind]:
    """Say what each name stands for, and refuse flags that fit none: before the first one's work."""
    kinds = [kind_of(name, backbone=options.backbone) for name in names]
    for name, kind in zip(names, kinds, strict=True):
        if options.images is None and kind in ("exported encoder", "timm model", "weights"):
            raise FullrankError(
                f"{name} does not say which images to take features of: give some, such as --images photos/"
            )
    check_meant(vars(options), vars(InspectOptions()), MEANT_FOR, {CALLED[kind] for kind in kinds}, flags=True)
    return kinds


def fingerprint_of(images: str, root: str) -> str | None:
    """Return the fingerprint of images; None where they are not to be had any more."""
    try:
        return open_images(images, root=root).fingerprint()
    except FullrankError:
        return None


def kept_of(
    run: Path,
    checkpoint: Path,
    images: str | None,
    limit: int | None,
    fingerprint: Callable[[str, str], str | None] = fingerprint_of,
) -> dict[str, Any]:
    """Return what a score that is kept with a run is of: while that is equal it need not be taken again."""
    own = read_config(run / CONFIG)
    seen = fingerprint(*(own.images, own.data_dir) if images is None else (images, DEFAULT_ROOT))
    return {"images": images, "limit": limit, "weights": digest(checkpoint), FINGERPRINT: seen}


def keep_scores(run: Path, found: Inspection, options: InspectOptions) -> str:
    """Keep the scores of a run or its checkpoint in the run's folder; where that cannot be done, return why."""
    usual = options.layer == "representation" and options.views in ("auto", "none")
    step = int(found.source["step"])
    try:
        asked = kept_of(run, Path(found.source["checkpoint"]), options.images, options.limit) if usual else {}
    except FullrankError as error:
        return f"scores could not be kept: {error}"
    return keep(run, [Kept(score, step, "inspect", asked=asked) for score in found.scores.values()])


def images_for(width: int) -> int:
    """Return how many images are looked at of representations of a width, where nobody says."""
    return max(FEWEST_IMAGES, ENOUGH * width)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say in an error what it is of."""
    try:
        yield
    except FullrankError as error:
        raise FullrankError(str(error) if name in str(error) else f"{name}: {error}") from None


def encoder_options(options: InspectOptions, kind: Kind) -> dict[str, Any]:
    """Return those of the options that `open_encoder` takes and that mean something to this kind."""
    names = DEFAULTS.keys() & vars(options).keys()
    return {each: getattr(options, each) for each in names if CALLED[kind] in MEANT_FOR[each]}


class Absorbed(NamedTuple):
    """Features of one walk."""

    centered: Spectrum  # the spectrum of all rows about their mean
    uncentered: Spectrum  # the same about zero
    sample: Tensor  # at most `SAMPLE` rows, in order, drawn without replacement
    protocol: Mapping[str, Any]  # how the features were made


def absorb(blocks: Iterable[Tensor], protocol: Mapping[str, Any], n: int, dim: int) -> Absorbed:
    """Walk once over features, blocks `(n_i, D)` of N rows in all.

    Rows that repeat others span no direction: where fewer differ than a verdict wants, the protocol says how many.
    """
    if n < 2:
        raise FullrankError(f"{n} row has no spectrum: centering leaves nothing of it; give features of more images")
    chosen = np.arange(n)
    if n > SAMPLE:
        chosen = np.sort(np.random.default_rng(SAMPLE_SEED).choice(n, SAMPLE, replace=False))
    metric, sample, start = SpectrumMetric(dim), [], 0
    different: set[int] = set()
    enough = ENOUGH * dim
    for block in blocks:
        try:
            metric.update(block)
        except FullrankError as error:
            at = f" (block of rows {start} to {start + len(block) - 1})" if start else ""
            raise FullrankError(f"{error}{at}") from None
        for rows in block.split(_ROWS):
            if len(different) < enough:
                bits = (rows + 0).contiguous().view(torch.uint8).numpy()  # of -0.0, which equals 0.0, those of 0.0
                different.update(hash(row.tobytes()) for row in bits)
        first, last = np.searchsorted(chosen, (start, start + len(block)))
        sample.append(block[torch.from_numpy(chosen[first:last] - start)].clone())
        start += len(block)
    if len(different) < min(n, enough):
        protocol = {**protocol, DISTINCT: len(different)}
    both = metric.compute(), metric.compute_uncentered()
    centered, uncentered = (Spectrum(each.singular_values, {**protocol, **each.protocol}) for each in both)
    return Absorbed(centered, uncentered, torch.cat(sample), protocol)


def _inspect_matrix(name: str, progress: Progress, key: str | None) -> Inspection:
    matrix = open_matrix(expanded(name), key=key)
    n, dim = matrix.shape

    def counted() -> Iterator[Tensor]:
        done = 0
        for block in matrix.blocks():
            yield block
            done += len(block)
            progress(f"{name}: rows", done, n)

    about = {"file": name, "shape": f"{n:,} x {dim}", "key": matrix.key, "left out": ", ".join(matrix.ignored)}
    source = {what: value for what, value in about.items() if value}
    return _result(name, "features", source, absorb(counted(), OF_A_MATRIX, n, dim), progress=progress)


def inspect_features(
    features: Tensor,
    name: str,
    protocol: Mapping[str, Any] = OF_A_MATRIX,
    *,
    kind: str = "features",
    source: Mapping[str, Any] | None = None,
) -> Inspection:
    """Inspect features in memory, `(N, D)` with N >= 2, of what `kind` and `source` say; `protocol` is how."""
    if features.ndim != 2:
        raise FullrankError(f"{name}: features must be (N, D), a row an image; got {tuple(features.shape)}")
    absorbed = absorb([features.detach().cpu()], protocol, *features.shape)
    return _result(name, kind, source or {}, absorbed)


class _Pair(nn.Module):
    """A network and its untrained twin, which see each image once: `(B, 3, S, S)` -> `(B, 2, D)`."""

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.both = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([module(x) for module in self.both], dim=1)


def inspect_encoder(
    name: str,
    encoder: Encoder,
    asked: Images | None,
    options: InspectOptions,
    kind: str = "module",
    progress: Progress = no_progress,
) -> Inspection:
    """Inspect an encoder that is open, on the images that are asked for or else those of its own run."""
    images, of_images = _images(encoder, asked, options)
    wanted, device = options.limit or images_for(encoder.width), choose_device(options.device)
    if len(images) < 2:
        what = f"{images.name} holds {len(images)} image"
        raise FullrankError(f"{what}: a spectrum needs several times D={encoder.width}")
    indices = sample(torch.arange(len(images)), wanted)
    if len(indices) < len(images):
        of_images = {**of_images, "sample": SAMPLED}
    skipped: dict[str, None] = {}
    protocol = {**encoder.protocol, "arithmetic": float32_on(device), **of_images}
    twin = encoder.untrained() if options.untrained and encoder.untrained is not None else None
    seeing = encoder if twin is None else replace(encoder, module=_Pair(encoder.module, twin))
    features = seeing.features(
        images,
        indices=indices,
        device=device,
        unreadable=skipped.setdefault,
        progress=lambda done: progress(f"{name}: images", done, len(indices)),
    ).features
    untrained = None
    if twin is not None:
        features, of_twin = (each.contiguous() for each in features.unbind(dim=1))
        untrained = absorb([of_twin], protocol, *of_twin.shape).centered
    of_views, config = None, encoder.config
    auto = (None, None) if config is None else (config.views, config.crop_min)
    recipe, crop_min = auto if options.views == "auto" else (options.views, None)
    if recipe not in (None, "none"):
        pair = views.recipe(recipe, crop_min=crop_min)
        chosen = sample(torch.arange(len(images)), min(VIEWED_IMAGES, wanted))
        size, place = encoder.preprocessing.size, {"seed": VIEW_SEED, "step": VIEW_STEP}
        seen = encoder.features(
            view_blocks(images, chosen, pair, size, **place, count=VIEWS_EACH, unreadable=skipped.setdefault),
            progress=lambda done: progress(f"{name}: views", done, len(chosen)),
        ).features
        shown = {key: value for key, value in protocol.items() if key not in ("view", "interpolation", "crop_pct")}
        n, q, d = seen.shape
        shown |= {"recipe": recipe, "crop_scale": pair[0].crop_scale, "seed": VIEW_SEED, "n": n, "views": q, "d": d}
        of_views = seen, shown
    source, spread = dict(encoder.source), None
    if twin is None:
        source.pop("untrained", None)
    if encoder.projector is not None:
        spread = _spread(encoder.projector(), features)
        source["embeddings' deviation"] = f"{spread:.3f} of 1/sqrt(M)"
    absorbed = absorb([features], protocol, *features.shape)
    judged = {"init": untrained, "embedding_spread": spread, "untrained": encoder.random}
    found = _result(name, kind, source, absorbed, of_views, progress, **judged)
    if kind == "weights" and options.image_size is None:
        found = replace(found, verdict=_of_guessed_size(found.verdict, encoder, images))
    return replace(found, untrained=untrained, skipped=tuple(skipped))


def _of_guessed_size(verdict: Verdict, encoder: Encoder, images: Images) -> Verdict:
    """Believe little of a verdict on small images that a ResNet was shown enlarged, for its weights do not tell."""
    size, own = encoder.preprocessing.size, view_size(images)
    if encoder.preprocessing.transform is not None or own >= size:
        return verdict
    shown = f"images of {own} x {own} were enlarged to {size} x {size}, which can change all of this"
    do = f"say which size it was trained with, --image-size {own} or --image-size {size}"
    return replace(verdict, confidence="low", certainty=f"{shown}; weights do not tell, so {do}", remedies=())


@torch.no_grad()
def _spread(projector: nn.Module, features: Tensor) -> float:
    """Return the deviation of embeddings, of what it is when they point everywhere: 1/sqrt(M)."""
    embeddings = projector(features)
    return feature_std(embeddings) * math.sqrt(embeddings.shape[1])


def _images(encoder: Encoder, asked: Images | None, options: InspectOptions) -> tuple[Images, dict[str, Any]]:
    """Return the images to take features of, those that were asked for or a run's own, and which they are."""
    config = encoder.config
    if asked is not None:
        split = "train" if options.images in SOURCES else "all there is"
        return asked, {"images": options.images or asked.name, "split": split, FINGERPRINT: asked.fingerprint()}
    assert config is not None
    images, said = open_images(config.images, root=config.data_dir), {"images": config.images, "split": "train"}
    if config.subset == 1:
        return images, {**said, FINGERPRINT: images.fingerprint()}
    # shares of other seeds are of the same kind of images
    return images.select(subset(len(images), config.subset, config.seed)), {**said, "subset": config.subset}


def _result(
    name: str,
    kind: str,
    source: Mapping[str, Any],
    absorbed: Absorbed,
    of_views: tuple[Tensor, Mapping[str, Any]] | None = None,
    progress: Progress = no_progress,
    **judged: Any,
) -> Inspection:
    """Take every label-free score that the features allow, and judge them; `judged` is what `judge` is told besides.

    `of_views` are features of views, `(n, q, D)`, and how they were made. A score that cannot be taken says why.
    """
    n, d = absorbed.sample.shape
    dtype = str(absorbed.sample.dtype).removeprefix("torch.")
    of_sample = {**absorbed.protocol, "n": n, "d": d, "dtype": dtype, "sample_seed": SAMPLE_SEED}
    wanted = [kind for kind in SCORES.values() if kind.function is not None]
    scores = {}
    for done, each in enumerate(wanted):
        progress(f"{name}: scores", done, len(wanted))
        if each.spectrum is not None:
            spectrum = absorbed.centered if each.spectrum == "centered" else absorbed.uncentered
            scores[each.name] = take(each, spectrum, spectrum.protocol)
        elif each.needs == "features":
            scores[each.name] = take(each, absorbed.sample, of_sample)
        elif of_views is not None:
            scores[each.name] = take(each, *of_views)
    verdict = judge(absorbed.centered, uncentered=absorbed.uncentered, **judged)
    return Inspection(name, kind, source, absorbed.centered, None, scores, verdict)


def _with_clid(found: list[Inspection]) -> list[Inspection]:
    """Add CLID, which is relative to a pool, where there is one whose parts can be compared."""
    names = ("cluster_learnability", "two_nn")
    if len(found) < _CLID_POOL or any(each.scores[name].value is None for each in found for name in names):
        return found
    for name in names:
        if obstacle(name, [each.scores[name].protocol for each in found]):
            return found
    parts = [[each.scores[name].taken for each in found] for name in names]
    pool = {"pool": f"the {len(found)} inspected together"}
    return [
        replace(each, scores={**each.scores, "clid": Score("clid", value, pool)})
        for each, value in zip(found, clid(*parts), strict=True)
    ]
