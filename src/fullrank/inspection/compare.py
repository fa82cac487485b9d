"""What can honestly be compared between several X, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from fullrank.inspection.result import Inspection
from fullrank.measure.protocols import COUNT, UNKNOWN, WIDTH, differences
from fullrank.measure.verdict import MARGIN
from fullrank.score_names import title
from fullrank.text import listing

RANKED = ("auc", "rankme", "participation_ratio", "lidar", "cluster_learnability")
"""Scores whose best is said."""


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
    protocols = [score.protocol for score in scores if score is not None]
    different = differences(name, protocols, [each.spectrum.dim for each in found])
    if widths := different.pop(WIDTH, None):
        return f"it depends on the width D, and that is {listing([f'{width:,}' for width in sorted(widths)])} here"
    counts = different.pop(COUNT, None)
    if different:
        return f"measured in different ways ({listing(list(different))})"
    if counts:
        return f"it depends on N, and that is {listing([f'{n:,}' for n in sorted(counts)])} here"
    return ""


def comparison(found: Sequence[Inspection]) -> list[str]:
    """Compare in sentences: what is best by which score, and what cannot be compared and why."""
    if len(found) < 2:
        return []
    said: list[str] = []
    refused: dict[str, list[str]] = {}
    for name in RANKED:
        if not any(name in each.scores for each in found):
            continue
        if why := obstacle(found, name):
            refused.setdefault(why, []).append(title(name))
            continue
        lower = found[0].scores[name].better == "lower"
        ranked = sorted(found, key=lambda each: _value(each, name), reverse=not lower)
        best, worst = ranked[0], ranked[-1]
        if name == "auc" and _value(worst, name) - _value(best, name) < MARGIN:
            values = f"{_value(best, name):.3f} to {_value(worst, name):.3f}"
            said.append(f"AUC: {values}, no further apart than seeds of one recipe ({MARGIN})")
        elif _value(best, name) != _value(worst, name):
            said.append(
                f"{title(name)}: {'lowest' if lower else 'highest'} for {best.name} ({_value(best, name):.4g}), "
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


def _value(each: Inspection, name: str) -> float:
    value = each.scores[name].value
    assert value is not None
    return value
