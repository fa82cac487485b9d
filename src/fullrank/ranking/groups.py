"""Which candidates can be ranked against each other, what sets the groups apart, and which accuracy is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fullrank.measure.protocols import ACCURACIES, FINGERPRINT, WIDTH, comparable, differences, split
from fullrank.measure.scores import Score, title
from fullrank.ranking.candidates import FEATURES, Candidate


def groups_of(candidates: Sequence[Candidate]) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """Return groups whose held-out losses and AUCs can be compared, lone ones last, and what sets them apart."""
    able = [i for i, each in enumerate(candidates) if all(name in each.scores for name in FEATURES)]
    protocols = {name: [candidates[i].scores[name].protocol for i in able] for name in FEATURES}
    groups = comparable(protocols, [candidates[i].width for i in able])
    members = sorted(([able[place] for place in group] for group in groups), key=lambda group: len(group) == 1)
    return members, abouts(FEATURES, members, candidates)


def abouts(
    names: Sequence[str], groups: Sequence[Sequence[int]], candidates: Sequence[Candidate]
) -> list[dict[str, Any]]:
    """Say for each group in what its scores were measured unlike those of the others.

    Args:
        names: The scores.
        groups: Places of candidates; within each the scores can be compared.
        candidates: All of them.

    Returns:
        Fields and their values, no more of them than tell the groups apart: the width first, then the loss.
    """
    found: list[dict[str, Any]] = [{} for _ in groups]
    everyone = [candidates[i] for group in groups for i in group]
    firsts = [candidates[group[0]] for group in groups]
    fields: list[tuple[str, str]] = []
    for name in names:
        protocols = [each.scores[name].protocol for each in everyone]
        fields += [(name, field) for field in differences(name, protocols, [each.width for each in everyone])]
    told_apart = 1
    for name, field in sorted(fields, key=lambda pair: (pair[1] != WIDTH, pair[1] != "loss")):
        values = [
            each.width if field == WIDTH else each.scores[name].protocol.get(field, 1.0 if field == "subset" else None)
            for each in firsts
        ]
        if len({repr(value) for value in values}) == 1:  # two sets of images of one name
            values = [each.scores[name].protocol.get(FINGERPRINT) for each in firsts]
        key = field if not any(field in about for about in found) else f"{title(name)}: {field}"
        with_it = [{**about, key: value} for about, value in zip(found, values, strict=True)]
        if (apart := len({repr(about) for about in with_it})) > told_apart:
            found, told_apart = with_it, apart
    return found


def features_of(candidates: Sequence[Candidate], places: Sequence[int]) -> np.ndarray:
    """Return the held-out loss and AUC of some candidates, `(n, 2)`."""
    return np.array([[candidates[i].scores[name].taken for name in FEATURES] for i in places])


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
    chosen, best = Labels(None, {}, [None] * len(candidates), []), 0
    for name in ACCURACIES if asked is None else (asked,):
        taken = [(i, one) for i, each in enumerate(candidates) for one in each.labeled.get(name, ())]
        for group in split(name, [one.protocol for _, one in taken], [None] * len(taken)):
            first = dict(reversed([taken[place] for place in group]))
            if len(first) > best:
                best = len(first)
                protocol = first[min(first)].protocol
                otherwise = sorted({i for i, _ in taken if i not in first})
                chosen = Labels(name, protocol, [first.get(i) for i in range(len(candidates))], otherwise)
    return chosen
