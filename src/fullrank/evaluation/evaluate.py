"""Evaluate runs: from a name on the command line to scores, kept in the run's evaluation.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from fullrank.errors import FullrankError
from fullrank.evaluation.frozen import Frozen, ImageSets, Progress, UnlabelledError, freeze
from fullrank.evaluation.knn import check_knn, knn
from fullrank.evaluation.linear import check_linear, linear
from fullrank.evaluation.logistic import check_logistic, logistic
from fullrank.evaluation.options import Options
from fullrank.evaluation.result import Evaluation, keep
from fullrank.evaluation.unchanged import unchanged
from fullrank.inspection.encoders import from_run
from fullrank.measure.scores import Score
from fullrank.text import once, tails
from fullrank.training.checkpoint import find_checkpoint
from fullrank.training.machine import choose_device


class Probe(NamedTuple):
    """A way to judge a frozen encoder.

    Attributes:
        take: Takes the score.
        quick: Whether it is taken where no probe is named.
        check: Raises where the images and the settings do not fit each other; called before any probe's work.
    """

    take: Callable[[Frozen, Options], Score]
    quick: bool
    check: Callable[[Frozen, Options], None] = lambda frozen, options: None


PROBES = {
    "knn": Probe(knn, quick=True, check=check_knn),
    "logistic": Probe(logistic, quick=False, check=check_logistic),
    "linear": Probe(linear, quick=False, check=check_linear),
}
"""By the name of the flag, the section of settings and the score."""


def evaluate(
    names: Sequence[str], options: Options | None = None, *, progress: Progress = lambda what, done, total: None
) -> list[Evaluation]:
    """Evaluate runs and checkpoints; each score of a run is kept in its evaluation.json as soon as it is taken.

    Args:
        names: Folders of runs, or checkpoint files, in the order to show them; one that is named twice is taken once.
        options: How.
        progress: Told how far the work is.

    Raises:
        FullrankError: One of them cannot be read or measured; scores taken before are kept.
    """
    options, names = options or Options(), once(names)
    if not names:
        raise FullrankError("give at least one run: fullrank evaluate RUN [RUN ...]")
    asked = _asked(options)
    device = choose_device(options.device)
    for name in names:  # a misspelt last one is found before the first one's work
        if not find_checkpoint(Path(name).expanduser()).is_file():
            raise FullrankError(f"there is no {name}: expected a run's folder or a checkpoint of `fullrank train`")
    labels = tails([Path(name) for name in names])
    sets = ImageSets(several=len(names) > 1)
    return [
        _evaluate(name, label, asked, options, device, sets, progress)
        for name, label in zip(names, labels, strict=True)
    ]


def _asked(options: Options) -> list[str]:
    """Return the names of the probes to take."""
    asked = [name for name in PROBES if getattr(options, name)]
    asked = asked or [name for name, probe in PROBES.items() if probe.quick]
    for name in PROBES:
        section = f"{name}_options"
        if name not in asked and getattr(options, section) != getattr(Options(), section):
            raise FullrankError(f"--{name}.* are settings of a probe that is not asked for: add --{name}")
    return asked


def _evaluate(
    name: str,
    label: str,
    asked: Sequence[str],
    options: Options,
    device: torch.device,
    sets: ImageSets,
    progress: Progress,
) -> Evaluation:
    path = Path(name).expanduser()
    run = path if path.is_dir() else None
    encoder = from_run(path, "representation")
    step = int(encoder.source["step"])
    try:
        frozen = freeze(label, encoder, run, options, device, sets, progress)
    except UnlabelledError as error:
        return Evaluation(label, run, step, (), missing=str(error))
    for probe in asked:
        PROBES[probe].check(frozen, options)
    scores: list[Score] = []
    forgotten = 0
    for probe in asked:
        with unchanged(encoder.module):
            scores.append(PROBES[probe].take(frozen, options))
        if run is not None:  # at once: the next probe may take hours, and be stopped
            forgotten += keep(run, step, scores[-1:])
    return Evaluation(label, run, step, tuple(scores), skipped=tuple(frozen.skipped), forgotten=forgotten)
