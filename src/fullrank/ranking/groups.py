"""Which candidates can be ranked against each other, and what sets the groups apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fullrank.measure.protocols import COUNT, WIDTH, differences, split
from fullrank.ranking.candidates import Candidate
from fullrank.ranking.names import FEATURES, title


def groups_of(candidates: Sequence[Candidate]) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """Return groups whose held-out losses and AUCs can be compared, lone ones last, and what sets them apart."""
    able = [i for i, each in enumerate(candidates) if all(name in each.scores for name in FEATURES)]
    widths = [candidates[i].width for i in able]
    label: dict[int, tuple[int, ...]] = dict.fromkeys(able, ())
    for name in FEATURES:
        protocols = [candidates[i].scores[name].protocol for i in able]
        for number, group in enumerate(split(name, protocols, widths)):
            for place in group:
                label[able[place]] += (number,)
    groups: dict[tuple[int, ...], list[int]] = {}
    for i in able:
        groups.setdefault(label[i], []).append(i)
    members = sorted(groups.values(), key=lambda group: len(group) == 1)
    return members, abouts(FEATURES, members, candidates)


def abouts(
    names: Sequence[str], groups: Sequence[Sequence[int]], candidates: Sequence[Candidate]
) -> list[dict[str, Any]]:
    """Say for each group in what its scores were measured unlike those of the others."""
    found: list[dict[str, Any]] = [{} for _ in groups]
    if len(groups) < 2:
        return found
    for name in names:
        for field, values in _fields(name, groups, candidates).items():
            key = field if field in (WIDTH, "loss") else f"{title(name)}: {field}"
            for about, value in zip(found, values, strict=True):
                about[key] = value
    return found


def _fields(name: str, groups: Sequence[Sequence[int]], candidates: Sequence[Candidate]) -> dict[str, list[Any]]:
    """Return the fields that keep a score of some groups from being compared, with each group's value."""
    firsts = [candidates[group[0]] for group in groups]
    everyone = [candidates[i] for group in groups for i in group]
    different = differences(name, [each.scores[name].protocol for each in everyone], [each.width for each in everyone])
    found = {
        field: [
            each.width if field == WIDTH else each.scores[name].protocol.get(field, 1.0 if field == "subset" else None)
            for each in firsts
        ]
        for field in different
    }
    widths, counts = found.get(WIDTH, []), found.get(COUNT, [])
    if widths and counts and len(set(zip(widths, counts, strict=True))) == len(set(widths)):
        found.pop(COUNT)  # the number of images follows the width
    if len(losses := found.get("loss", [])) > 1 and len(set(losses)) == len(losses):
        return {"loss": losses}  # each loss has settings of its own
    return found


def features_of(candidates: Sequence[Candidate], places: Sequence[int]) -> np.ndarray:
    """Return the held-out loss and AUC of some candidates, `(n, 2)`."""
    return np.array([[candidates[i].scores[name].value for name in FEATURES] for i in places])
