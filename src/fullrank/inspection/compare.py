"""What can honestly be compared between several X, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fullrank.inspection.result import Inspection
from fullrank.measure.quality import SCORES
from fullrank.measure.verdict import AS_GOOD_AS_EQUAL, MARGIN, isotropic_auc
from fullrank.text import listing

UNKNOWN = "not stated"
RANKED = {
    "auc": "AUC",
    "rankme": "RankMe",
    "participation_ratio": "participation ratio",
    "lidar": "LiDAR",
    "cluster_learnability": "cluster learnability",
}
"""Scores whose best is said, and how they are called in a sentence."""
# A model's preprocessing is part of what it is; the rest are consequences of N and D, which are compared by themselves.
_NOT_COMPARED = ("dtype", "view", "image_size", "interpolation", "crop_pct", "mean", "std", "floor", "method", "n", "d")


def obstacle(found: Sequence[Inspection], name: str) -> str:
    """Say why a score cannot be compared between these; an empty string when it can.

    Args:
        found: What was inspected.
        name: The score's name.
    """
    scores = [each.scores.get(name) for each in found]
    missing = [each.name for each, score in zip(found, scores, strict=True) if score is None or score.value is None]
    if missing:
        return f"not measured for {listing(missing)}"
    widths = sorted({each.spectrum.dim for each in found})
    if len(widths) > 1 and not _across_widths(name):
        return f"it depends on the width D, and that is {listing([f'{width:,}' for width in widths])} here"
    protocols = [score.protocol for score in scores if score is not None]
    if different := _different(protocols):
        return f"measured in different ways ({listing(different)})"
    counts = {int(protocol.get("n", 0)) for protocol in protocols}
    if len(counts) > 1 and not _as_good_as_equal(name, counts, found[0].spectrum.dim):
        return f"it depends on N, and that is {listing([f'{n:,}' for n in sorted(counts)])} here"
    return ""


def comparison(found: Sequence[Inspection]) -> list[str]:
    """Compare in sentences: what is best by which score, and what cannot be compared and why."""
    if len(found) < 2:
        return []
    said: list[str] = []
    refused: dict[str, list[str]] = {}
    for name, title in RANKED.items():
        if not any(name in each.scores for each in found):
            continue
        if why := obstacle(found, name):
            refused.setdefault(why, []).append(title)
            continue
        lower = found[0].scores[name].better == "lower"
        ranked = sorted(found, key=lambda each: _value(each, name), reverse=not lower)
        best, worst = ranked[0], ranked[-1]
        if name == "auc" and _value(worst, name) - _value(best, name) < MARGIN:
            values = f"{_value(best, name):.3f} to {_value(worst, name):.3f}"
            said.append(f"AUC: {values}, no further apart than seeds of one recipe ({MARGIN})")
        elif _value(best, name) != _value(worst, name):
            said.append(
                f"{title}: {'lowest' if lower else 'highest'} for {best.name} ({_value(best, name):.4g}), "
                f"{'highest' if lower else 'lowest'} for {worst.name} ({_value(worst, name):.4g})"
            )
    for why, names in refused.items():
        said.append(f"{listing(names)} cannot be compared: {why}")
    if len({each.spectrum.dim for each in found}) > 1:
        able = [name for name in dict.fromkeys(n for each in found for n in each.scores) if not obstacle(found, name)]
        said.append(f"between different widths D, what can be compared here is {listing(able) if able else 'nothing'}")
    unknown = [each.name for each in found if each.spectrum.protocol.get("images") == UNKNOWN]
    if unknown:
        said.append(
            "a matrix does not say how it was made: whether all are of the same images and layer is for you to know "
            f"({listing(unknown)})"
        )
    return said


def _different(protocols: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name what differs between protocols, where both state it."""
    keys = dict.fromkeys(key for protocol in protocols for key in protocol if key not in _NOT_COMPARED)
    return [key for key in keys if len({repr(value) for value in _stated(protocols, key)}) > 1]


def _stated(protocols: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    return [protocol[key] for protocol in protocols if protocol.get(key, UNKNOWN) != UNKNOWN]


def _as_good_as_equal(name: str, counts: set[int], dim: int) -> bool:
    """Whether different numbers of images bend a spectrum of D directions alike; other scores want equal ones."""
    if name != "dead" and (name not in SCORES or SCORES[name].spectrum is None):
        return False
    bent = [isotropic_auc(n, dim) for n in counts]
    return min(counts) > dim and max(bent) - min(bent) < AS_GOOD_AS_EQUAL


def _value(each: Inspection, name: str) -> float:
    value = each.scores[name].value
    assert value is not None
    return value


def _across_widths(name: str) -> bool:
    return name == "clid" or (name in SCORES and SCORES[name].across_widths)
