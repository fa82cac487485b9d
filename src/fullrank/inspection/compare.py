"""What can honestly be compared between several X, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fullrank.inspection.result import Inspection, Scored
from fullrank.measure.quality import SCORES
from fullrank.measure.verdict import ENOUGH
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
_NOT_COMPARED = ("view", "image_size", "interpolation", "crop_pct", "features", "floor", "method", "n", "d")


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
    if len(widths) > 1 and not across_widths(name):
        return f"it depends on the width D, and that is {listing([f'{width:,}' for width in widths])} here"
    protocols = [score.protocol for score in scores if score is not None]
    if different := _different(protocols):
        return f"measured in different ways ({listing(different)})"
    counts = {int(protocol.get("n", 0)) for protocol in protocols}
    if len(counts) > 1 and not all(_plenty(score) for score in scores if score is not None):
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
        if _value(best, name) != _value(worst, name):
            said.append(
                f"{title}: {'lowest' if lower else 'highest'} for {best.name} ({_value(best, name):.4g}), "
                f"{'highest' if lower else 'lowest'} for {worst.name} ({_value(worst, name):.4g})"
            )
    for why, names in refused.items():
        said.append(f"{listing(names)} cannot be compared: {why}")
    if len({each.spectrum.dim for each in found}) > 1:
        said.append("of the scores, only those marked with * can be compared between different widths D")
    unknown = [each.name for each in found if each.spectrum.protocol.get("images") == UNKNOWN]
    if unknown:
        said.append(
            f"a matrix does not say how it was made: whether {listing(unknown)} is of the same images and layer as "
            "the rest is for you to know"
        )
    return said


def across_widths(name: str) -> bool:
    """Whether a score's values at different widths D can be compared."""
    return name == "clid" or (name in SCORES and SCORES[name].across_widths)


def _different(protocols: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name what differs between protocols, where both state it."""
    keys = dict.fromkeys(key for protocol in protocols for key in protocol if key not in _NOT_COMPARED)
    return [key for key in keys if len({repr(value) for value in _stated(protocols, key)}) > 1]


def _stated(protocols: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    return [protocol[key] for protocol in protocols if protocol.get(key, UNKNOWN) != UNKNOWN]


def _plenty(score: Scored) -> bool:
    """Whether N is so far above D that a little more or less of it does not matter to the spectrum."""
    n, dim = score.protocol.get("n"), score.protocol.get("d")
    spectral = score.name in SCORES and SCORES[score.name].spectrum is not None
    return spectral and n is not None and dim is not None and n >= ENOUGH * dim


def _value(each: Inspection, name: str) -> float:
    value = each.scores[name].value
    assert value is not None
    return value
