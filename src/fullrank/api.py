"""fullrank from Python: what the commands do, on names, on modules in memory and on anybody's DataLoader.

    run = fullrank.train(images="cifar10", order="hybrid", steps=10_000, optim={"base_lr": 0.3})
    run.scores["knn"].value, run.verdict        # in a notebook, `run` alone shows its report

    found = fullrank.inspect(model, loader)     # any nn.Module, any DataLoader; or a run, a timm model's name, features
    found.verdict.headline, found.scores["auc"].value

    fullrank.evaluate(model, train_loader, test_loader).scores["knn"].value
    fullrank.rank(["runs/a", "runs/b"]).best

What they return shows itself in a notebook, and has `scores`, `plot()` and `to_dataframe()` where it makes sense.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from fullrank.config import Pixels, TrainConfig, from_dict
from fullrank.data.cache import view_size
from fullrank.data.images import SEEN, Images, open_images
from fullrank.documents import Document, Shown
from fullrank.encoders import CALLED, MEANT_FOR, kind_of, open_encoder
from fullrank.errors import FullrankError
from fullrank.evaluation.evaluate import evaluate as evaluate_runs
from fullrank.evaluation.evaluate import probe_features
from fullrank.evaluation.options import EvaluateOptions, KnnOptions, LogisticOptions
from fullrank.evaluation.result import Evaluation
from fullrank.inspection.inspect import encoder_options, inspect_encoder, inspect_features
from fullrank.inspection.inspect import inspect as inspect_named
from fullrank.inspection.options import InspectOptions
from fullrank.inspection.result import Inspection
from fullrank.measure.checks import as_tensor
from fullrank.measure.scores import SCORES, Score
from fullrank.models.encoder import Encoder, images_and_labels
from fullrank.ranking.options import RankOptions
from fullrank.ranking.rank import rank as rank_runs
from fullrank.ranking.result import Ranking
from fullrank.registry import METHODS, ORDERS
from fullrank.shapes import check_meant, fit
from fullrank.text import listing
from fullrank.training import presets
from fullrank.training.checkpoint import load
from fullrank.training.loop import resume
from fullrank.training.loop import train as train_run
from fullrank.training.machine import choose_device, float32_on
from fullrank.training.runs import RunRecord, read_run
from fullrank.training.scores import latest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fullrank.studies.study import Scale

_ONE_BY_ONE, _PIXELS, _INPUT = "images that are read one at a time", "uint8 batches", "floating point batches"
_SHOWN_BY = {
    **dict.fromkeys(("limit", "views"), (_ONE_BY_ONE,)),
    **dict.fromkeys(("image_size", "normalization"), (_ONE_BY_ONE, _PIXELS)),
}
"""What each option of how images are shown means something to: floating point batches are the encoder's input."""
Source = Union[str, Path, nn.Module, "Run"]
ImageSource = str | Path | Images | Dataset[Any] | Tensor | Iterable[Any]


class Run(Shown):
    """A run: its records, scores, verdict and encoder, read from its folder once.

    Args:
        path: A folder made by `fullrank train`.

    Raises:
        FullrankError: There is no run, or it is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.record: RunRecord = read_run(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}): {', '.join(f'{s.kind.title} {s.text}' for s in self.scores.values())}"

    @cached_property
    def scores(self) -> dict[str, Score]:
        """The last training loss and the scores of the last measurement, by name."""
        return latest(self.record)

    @property
    def verdict(self) -> str:
        """What the spectrum says, such as "healthy spectrum" or "partial dimensional collapse"."""
        from fullrank.report.side import sides, verdict

        return verdict(sides([self.record])[0])[0]

    def document(self) -> Document:
        """Return its report."""
        from fullrank.report.document import document

        return document([self.record])

    def plot(self) -> Figure:
        """Draw the singular values through training."""
        from fullrank.report.document import spectra_through_training
        from fullrank.report.side import sides

        shown = sides([self.record])
        if not self.record.width:
            raise FullrankError(f"{self.path} has not measured a spectrum yet")
        return spectra_through_training(shown[0], shown)

    def rows(self) -> list[dict[str, Any]]:
        """Return the records, a row for each step and kind."""
        return [dict(record) for record in self.record.records if record["kind"] != "protocols"]

    def encoder(self) -> nn.Module:
        """Return the trained encoder in eval mode, images -> representation."""
        return load(self.path)


def train(
    images: str | Path | None = None,
    *,
    preset: str | TrainConfig | None = None,
    resume_from: str | Path | None = None,
    **settings: Any,
) -> Run:
    """Train a new run, or resume one.

    Args:
        images: As `fullrank train --images`: a name, a folder, parquet files, tar shards.
        preset: What to start from: a name of `list_presets()`, or a configuration.
        resume_from: The folder of a run to resume; give nothing else then.
        **settings: Fields of `TrainConfig`, groups of flags as mappings: `order="hybrid"`, `optim={"base_lr": 0.3}`.

    Raises:
        FullrankError: As `fullrank train`: a setting is unknown or out of its range, images cannot be read.
    """
    if resume_from is not None:
        if images is not None or preset is not None or settings:
            raise FullrankError("a run goes on as it was started: give resume_from alone")
        return Run(resume(Path(resume_from)).path)
    if images is not None and not isinstance(images, (str, Path)):
        raise FullrankError(
            f"a run opens its images by name whenever it goes on, got {type(images).__name__}: give a path, or a name "
            "that fullrank.registry.register_source gave to yours"
        )
    preset = fit(preset, str | TrainConfig | None, "preset")
    base = presets.preset(preset) if isinstance(preset, str) else preset or TrainConfig()
    if images is not None:
        # a path is a path, even of the name of a set
        settings["images"] = images if isinstance(images, str) else os.path.join(os.curdir, images)
    return Run(train_run(from_dict(settings, base, "fullrank.train")).path)


def inspect(
    source: Source | Tensor | np.ndarray,
    images: ImageSource | None = None,
    *,
    name: str | None = None,
    **options: Any,
) -> Inspection:
    """Measure an encoder: spectrum, label-free scores and a verdict on collapse.

    Args:
        source: A run (its folder, or what `train` returns), checkpoint, exported folder, timm model's name, weights
            file (with `backbone=`) or feature file; a module `(B, 3, S, S)` -> `(B, D)`; or features
            `(N, D)`, of torch or NumPy.
        images: The images to show it: a name, folder or parquet files; a `Dataset`; or batches, such as a DataLoader's.
            uint8 batches are resized and normalized for the encoder, floating point batches are its input as they are.
            A run's own images when omitted.
        name: What to call the encoder; found from `source` when omitted.
        **options: Fields of `fullrank.inspection.options.InspectOptions`, such as `limit` and `image_size`.

    Raises:
        FullrankError: The encoder cannot be read or measured, or an option has no effect on it or its images.
    """
    asked, source = from_dict(options, InspectOptions(), "fullrank.inspect"), _path(source, Tensor, np.ndarray)
    if isinstance(source, (Tensor, np.ndarray)):
        given = {**vars(asked), "images": None if images is None else type(images)}
        check_meant(given, vars(InspectOptions()), MEANT_FOR, ["features in memory"])
        return inspect_features(as_tensor(source, "a matrix of numbers (N, D)"), name or "features")
    if isinstance(source, (str, Path)) and (images is None or isinstance(images, (str, Path))):
        found = inspect_named([str(source)], replace(asked, images=None if images is None else str(images)))[0]
        return found if name is None else replace(found, name=name)
    if images is None:
        raise FullrankError("a module does not say which images to take features of: give them as a second argument")
    kind = kind_of(_path(source), backbone=asked.backbone)
    check_meant(vars(asked), vars(InspectOptions()), MEANT_FOR, [CALLED[kind]])
    encoder, opened = _opened(source, images, encoder_options(asked, kind), asked)
    called, asked = name or _name(source), replace(asked, device=_device(source, asked.device))
    if isinstance(opened, Images):
        return inspect_encoder(called, encoder, opened, asked)
    device = choose_device(asked.device)
    taken = encoder.features(opened, device=device)
    shown = {**taken.protocol, "arithmetic": float32_on(device), "images": "batches in memory"}
    return inspect_features(taken.matrix(), called, shown, kind="module", source=encoder.source)


def features(source: Source, images: ImageSource, **options: Any) -> Tensor:
    """Take the representations of images, in eval mode and without gradient.

    `source` and `images` are as for `inspect`. The options, such as `image_size`, are those of `open_encoder`.

    Returns:
        `(N, D)` float32 on the CPU; `(N, q, D)` where batches hold q views of each image.

    Raises:
        FullrankError: The encoder or the images cannot be read, or an option has no effect on them.
    """
    encoder, opened = _opened(_path(source), images, options)
    return encoder.features(opened).features


def evaluate(
    source: Source,
    train: ImageSource | None = None,
    test: ImageSource | None = None,
    *,
    logistic: bool = True,
    knn_options: KnnOptions | None = None,
    logistic_options: LogisticOptions | None = None,
    **how: Any,
) -> Evaluation:
    """Judge a frozen encoder with labels: k-NN and logistic regression.

    Args:
        source: As for `inspect`.
        train: Labeled images that the probes learn from, as for `inspect`; a run's own when omitted.
        test: Labeled images to classify; a run's own when omitted.
        logistic: Fit the logistic regression too.
        knn_options: How neighbors vote.
        logistic_options: How the logistic regression is fitted.
        **how: Arguments of `fullrank.encoders.open_encoder`, such as `image_size`, or `backbone` for a weights file.

    Raises:
        FullrankError: Labels are missing, images or the encoder cannot be read, or an argument has no effect.
    """
    source = _path(source)
    options = EvaluateOptions(
        device=_device(source, "auto"),
        knn=True,
        logistic=logistic,
        knn_options=knn_options or KnnOptions(),
        logistic_options=logistic_options or LogisticOptions(),
    )
    if train is None and test is None:
        if isinstance(source, nn.Module):
            raise FullrankError("a module does not say which images to judge it by: give train and test")
        if how:
            raise FullrankError(
                f"{source} is judged as it was trained, on images of its own: leave {listing([*how])} out"
            )
        return evaluate_runs([str(source)], options)[0]
    if train is None or test is None:
        raise FullrankError("give both train and test, or neither for a run's own images")
    encoder, bank = _opened(source, train, how)
    if train is test:
        raise FullrankError(f"the test images {SEEN}: give others")
    return probe_features(_name(source), encoder, bank, _images(test), options)


def rank(runs: str | Path | Run | Sequence[str | Path | Run], **options: Any) -> Ranking:
    """Rank runs, or the checkpoints of one, without labels.

    Give run folders, checkpoints in them, or one run folder to rank its measured steps. Options are the fields of
    `fullrank.ranking.options.RankOptions`.

    Raises:
        FullrankError: A run cannot be read.
    """
    several = [runs] if isinstance(runs, (str, Path, Run)) else runs
    return rank_runs([_path(run) for run in several], from_dict(options, RankOptions(), "fullrank.rank"))


def study(name: str, *, scale: Scale = "lab", seeds: int | None = None, results: str | Path | None = None) -> Document:
    """Return the page of a study from its results: tables, figures, published numbers.

    Args:
        name: One of `list_studies()`.
        scale: `lab` or `paper`.
        seeds: Seeds of each setting, from 0; as many as a third of the settings have results of when omitted.
        results: The folder of results; those that came with the package when omitted.

    Raises:
        FullrankError: There is no such study, or no result.
    """
    from fullrank.studies.show import finished
    from fullrank.studies.store import published

    return finished(name, scale, published() if results is None else Path(results), seeds).document()


def list_methods() -> list[str]:
    """Return the names that `train(method=...)` takes."""
    return list(METHODS)


def list_orders() -> list[str]:
    """Return the names that `train(order=...)` takes."""
    return list(ORDERS)


def list_scores() -> list[str]:
    """Return the names of all scores; `fullrank.measure.scores.SCORES` says what each is."""
    return list(SCORES)


def list_presets() -> list[str]:
    """Return the names that `train(preset=...)` takes."""
    return list(presets.PRESETS)


def list_studies() -> list[str]:
    """Return the names that `study` takes."""
    from fullrank.studies.registry import STUDIES

    return list(STUDIES)


def _path(source: Any, *others: type) -> Any:
    """Return a run's folder, and what else an encoder, or one of `others`, is given as; refuse the rest."""
    if isinstance(source, Run):
        return source.path
    if not isinstance(source, (str, Path, nn.Module, *others)):
        raise FullrankError(
            f"the first argument is the encoder: a module, or the name of one; a {type(source).__name__} is given. The "
            "images come second"
        )
    return source


def _name(source: Source) -> str:
    return type(source).__name__ if isinstance(source, nn.Module) else str(source)


def _device(source: Source, asked: str) -> str:
    """Return where to compute: a module of somebody's stays where it is."""
    if asked != "auto" or not isinstance(source, nn.Module):
        return asked
    return str(next((p.device for p in source.parameters()), "cpu"))


def _images(images: ImageSource) -> Any:
    """Open what is named, and leave batches as they are."""
    if isinstance(images, Tensor):
        if images.ndim != 4:
            raise FullrankError(f"images must be (N, 3, H, W), got a tensor of shape {tuple(images.shape)}")
        return [images]
    if isinstance(images, (str, Path)):
        return open_images(str(images))
    if isinstance(images, Dataset) or hasattr(images, "column_names"):  # Hugging Face's sets are no `Dataset`
        return open_images(images)
    return images


def _opened(
    source: Any, images: ImageSource, how: dict[str, Any], asked: InspectOptions | None = None
) -> tuple[Encoder, Any]:
    """Open an encoder as `open_encoder` does, and images; a module that has no size of its own is shown them in theirs.

    `asked` is what else is asked for: all that says how images are shown must have an effect on these.
    """
    opened, own = _images(images), None
    if isinstance(opened, Images):
        kind = _ONE_BY_ONE
    else:
        batches = iter(opened)
        first = list(islice(batches, 1))
        if not first:
            raise FullrankError("there are no images to take features of")
        view, opened = images_and_labels(first[0])[0][0], chain(first, batches)
        kind, own = _PIXELS if view.dtype == torch.uint8 else _INPUT, view.shape[2:]
    size = fit(how.get("image_size"), Pixels | None, "image_size")
    given = {**how, **({} if asked is None else vars(asked))}
    if own == (size, size):
        given["image_size"] = None
    check_meant(given, vars(InspectOptions()), _SHOWN_BY, [kind])
    if size is None and isinstance(source, nn.Module) and not getattr(source, "pretrained_cfg", None):
        size = view_size(opened) if own is None else own[0] if own[0] == own[1] else None
    return open_encoder(source, **{**how, "image_size": size}), opened
