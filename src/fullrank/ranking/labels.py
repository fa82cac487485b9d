"""Which accuracy is meant, where runs have labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fullrank.measure.protocols import ACCURACIES, split
from fullrank.measure.scores import Score
from fullrank.ranking.candidates import Candidate


class Labels(NamedTuple):
    """The accuracy that is meant.

    Attributes:
        name: `linear`, `logistic` or `knn`; None where no candidate has any.
        protocol: How it was measured.
        values: One for each candidate; None where it has none, or one that was measured otherwise.
        left_out: Candidates whose accuracy of that name was measured otherwise.
    """

    name: str | None
    protocol: Mapping[str, Any]
    values: list[Score | None]
    left_out: list[int]


def choose_labels(candidates: Sequence[Candidate], asked: str | None) -> Labels:
    """Choose the accuracy that most candidates have, measured in one way; of equally many the one that says most.

    Args:
        candidates: Runs, of which any may have labels.
        asked: The accuracy that is meant; None for any.
    """
    chosen = Labels(None, {}, [None] * len(candidates), [])
    best = 0
    for name in ACCURACIES if asked is None else (asked,):
        taken = [(i, one) for i, each in enumerate(candidates) for one in each.labelled.get(name, ())]
        for group in split(name, [one.protocol for _, one in taken], [None] * len(taken)):
            values: list[Score | None] = [None] * len(candidates)
            for i, one in reversed([taken[place] for place in group]):
                values[i] = one
            found = [one for one in values if one is not None]
            if len(found) > best:
                best = len(found)
                otherwise = sorted({i for i, _ in taken if values[i] is None})
                chosen = Labels(name, found[0].protocol, values, otherwise)
    return chosen
