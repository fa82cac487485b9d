"""How a score is written, and what must be said of how it was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fullrank.documents import Protocols
from fullrank.measure.scores import kind_of, title
from fullrank.studies.protocols import Taken, differing, protocol
from fullrank.studies.study import Result
from fullrank.text import capital, listing

Measured = Mapping[str, Taken]
"""By a score's name the runs that have it, and how each measured it."""


@dataclass(frozen=True)
class Unit:
    """How a score is written.

    Attributes:
        label: Its name and unit.
        scale: Factor from the value kept to the value shown.
        digits: Decimals that mean something over seeds.
    """

    label: str
    scale: float
    digits: int


def unit(score: str) -> Unit:
    """Return how a score is written.

    >>> unit("knn"), unit("heldout_loss").label, unit("auc").digits
    (Unit(label='k-NN accuracy (%)', scale=100.0, digits=1), 'held-out loss', 3)
    """
    kind = kind_of(score)
    if kind.share:
        return Unit(f"{kind.title} (%)", 100.0, 1)
    return Unit(kind.title, 1.0, 1 if kind.digits is None else kind.digits)


def is_loss(score: str) -> bool:
    """Whether a score is a loss, of training or held-out images."""
    return score.endswith("loss")


def name(score: str) -> str:
    """Return what a score is called."""
    return title(score)


def better(score: str) -> str:
    """Say which values of a score are better; an empty string where neither are."""
    direction = kind_of(score).direction
    if direction == "none":
        return ""
    return f"{direction} is better{', with a lower AUC' if score == 'heldout_loss' else ''}"


def mean_and_deviation(values: Iterable[float | None], digits: int = 1, scale: float = 1.0) -> str:
    """Write a mean over seeds, with the sample standard deviation where there are two or more.

    >>> mean_and_deviation([0.5, 0.52], scale=100), mean_and_deviation([0.5]), mean_and_deviation([None])
    ('51.0 ± 1.4', '0.5', '–')
    """
    known = [scale * value for value in values if value is not None]
    if not known:
        return "–"
    mean = f"{statistics.mean(known):.{digits}f}".replace("-", "−")
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"


def final(results: Sequence[Result], *scores: str) -> Measured:
    """Return how final scores were measured."""
    return {score: [(each, each.protocol(score)) for each in results if score in each.scores] for score in scores}


def monitored(results: Sequence[Result], score: str) -> Measured:
    """Return how a score was measured through training."""
    return {score: [(result, result.monitor_protocol(score)) for result in results]}


def protocols(measured: Measured) -> Protocols:
    """Return the protocol of each score; scores that share one stand together."""
    shared: dict[str, tuple[list[str], dict[str, str]]] = {}
    for score, taken in measured.items():
        fields = protocol(taken)
        shared.setdefault(repr(fields), ([], fields))[0].append(name(score))
    return {capital(", ".join(names)): fields for names, fields in shared.values()}


def caveats(measured: Measured) -> str:
    """Say what keeps the values of a score from being compared without a second thought; else an empty string."""
    said = []
    for score, taken in measured.items():
        fields = differing(taken)
        if widths := fields.pop("D", None):
            said.append(f"{capital(name(score))} depends on the width D, compare within one: {widths}.")
        if fields:
            ways = " ".join(next(iter(fields.items()))) if len(fields) == 1 else f"{listing(list(fields))} differ"
            said.append(f"{capital(name(score))} was measured in different ways: {ways}.")
    return sentences(*said)


def sentences(*said: str) -> str:
    """Join what there is to say."""
    return " ".join(sentence for sentence in said if sentence)
