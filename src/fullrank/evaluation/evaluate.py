"""Evaluate runs: from a name on the command line to scores, kept with the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from fullrank.encoders import open_checkpoint
from fullrank.errors import FullrankError
from fullrank.evaluation.linear import check_linear, linear
from fullrank.evaluation.options import EvaluateOptions
from fullrank.evaluation.probes import check_knn, check_logistic, knn, logistic
from fullrank.evaluation.result import Evaluation
from fullrank.evaluation.task import ImageSets, Progress, Task, UnlabeledError, open_task
from fullrank.measure.scores import Score
from fullrank.models.encoder import unchanged
from fullrank.text import once, tails
from fullrank.training.checkpoint import find_checkpoint
from fullrank.training.machine import choose_device
from fullrank.training.scores import Kept, keep


class Probe(NamedTuple):
    """A way to judge a frozen encoder.

    Attributes:
        take: Takes the score.
        quick: Whether it is taken where no probe is named.
        check: Raises where the images and the settings do not fit each other; called before any probe's work.
    """

    take: Callable[[Task, EvaluateOptions], Score]
    quick: bool
    check: Callable[[Task, EvaluateOptions], None] = lambda task, options: None


PROBES = {
    "knn": Probe(knn, quick=True, check=check_knn),
    "logistic": Probe(logistic, quick=False, check=check_logistic),
    "linear": Probe(linear, quick=False, check=check_linear),
}
"""By the name of the flag, the section of settings and the score."""


def evaluate(
    names: Sequence[str],
    options: EvaluateOptions | None = None,
    *,
    progress: Progress = lambda what, done, total: None,
) -> list[Evaluation]:
    """Evaluate runs and checkpoints; each score of a run is kept in its scores.json as soon as it is taken.

    Args:
        names: Folders of runs, or checkpoint files, in the order to show them; one that is named twice is taken once.
        options: How.
        progress: Told how far the work is.

    Raises:
        FullrankError: One of them cannot be read or measured; scores taken before are kept.
    """
    options, names = options or EvaluateOptions(), once(names)
    if not names:
        raise FullrankError("give at least one run: fullrank evaluate RUN [RUN ...]")
    asked = [name for name in PROBES if getattr(options, name)]
    asked = asked or [name for name, probe in PROBES.items() if probe.quick]
    for name in PROBES:
        section = f"{name}_options"
        if name not in asked and getattr(options, section) != getattr(EvaluateOptions(), section):
            raise FullrankError(f"--{name}.* are settings of a probe that is not asked for: add --{name}")
    device = choose_device(options.device)
    for name in names:  # a misspelt last one is found before the first one's work
        if not find_checkpoint(Path(name).expanduser()).is_file():
            raise FullrankError(f"there is no {name}: expected a run's folder or a checkpoint of `fullrank train`")
    labels = tails([Path(name) for name in names])
    sets = ImageSets(several=len(names) > 1)
    return [
        _evaluate(Path(name).expanduser(), label, asked, options, device, sets, progress)
        for name, label in zip(names, labels, strict=True)
    ]


def _evaluate(
    path: Path,
    label: str,
    asked: Sequence[str],
    options: EvaluateOptions,
    device: torch.device,
    sets: ImageSets,
    progress: Progress,
) -> Evaluation:
    run = path if path.is_dir() else None
    encoder = open_checkpoint(path)
    step = int(encoder.source["step"])
    try:
        task = open_task(label, encoder, run, options, device, sets, progress)
    except UnlabeledError as error:
        return Evaluation(label, run, step, (), missing=str(error))
    for probe in asked:
        PROBES[probe].check(task, options)
    scores: list[Score] = []
    for probe in asked:
        with unchanged(encoder.module):
            scores.append(PROBES[probe].take(task, options))
        if run is not None:  # at once: the next probe may take hours, and be stopped
            keep(run, [Kept(scores[-1], step, "evaluate")])
    return Evaluation(label, run, step, tuple(scores), skipped=tuple(task.skipped))
