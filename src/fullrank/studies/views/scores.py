"""How a score is written, and what must be said of how it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fullrank.score_names import SCORE_NAMES, is_share, title
from fullrank.studies.parts import Protocols
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
    if is_share(score):
        return Unit(f"{name(score)} (%)", 100.0, 1)
    digits = 3 if score == "auc" or is_loss(score) else 0 if score == "dead" else 1
    return Unit(name(score), 1.0, digits)


def is_loss(score: str) -> bool:
    """Whether a score is a loss, of training or held-out images."""
    return score.endswith("loss")


def name(score: str) -> str:
    """Return what a score is called."""
    return title(score, centered=True) if score in SCORE_NAMES else score.replace("_", " ")


def better(results: Sequence[Result], score: str) -> str:
    """Say which values of a score are better; an empty string where neither are."""
    said = next((str(result.scores[score].get("better", "")) for result in results if score in result.scores), "")
    word, comma, condition = said.partition(",")
    return f"{word} is better{comma}{condition}" if word in ("lower", "higher") else ""


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
