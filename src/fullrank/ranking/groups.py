"""Which candidates can be ranked against each other, and what sets the groups apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fullrank.measure.protocols import FINGERPRINT, WIDTH, comparable, differences
from fullrank.measure.scores import title
from fullrank.ranking.candidates import Candidate
from fullrank.ranking.names import FEATURES


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
