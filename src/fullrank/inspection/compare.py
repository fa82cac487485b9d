"""What can honestly be compared between several X, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from fullrank.inspection.result import Inspection
from fullrank.measure.protocols import UNKNOWN, ends
from fullrank.measure.protocols import obstacle as differ
from fullrank.measure.scores import title
from fullrank.text import grouped, listing

RANKED = ("auc", "rankme", "participation_ratio", "lidar", "cluster_learnability")
"""Scores whose best is said."""


def obstacle(found: Sequence[Inspection], name: str) -> str:
    """Say why a score cannot be compared between these; an empty string when it can."""
    scores = [each.scores.get(name) for each in found]
    missing = [each.name for each, score in zip(found, scores, strict=True) if score is None or score.value is None]
    if missing:
        return f"not measured for {listing(missing)}"
    return differ(name, [score.protocol for score in scores if score], [each.spectrum.dim for each in found])


def comparison(found: Sequence[Inspection]) -> list[str]:
    """Compare in sentences: what is best by which score, and what cannot be compared and why."""
    if len(found) < 2:
        return []
    why = {name: obstacle(found, name) for name in RANKED if any(name in each.scores for each in found)}
    able = [name for name in why if not why[name]]
    said = [ends(name, {each.name: each.scores[name].taken for each in found}) for name in able]
    refused = grouped((why[name], title(name)) for name in why if why[name])
    said += [f"{listing(names)} cannot be compared: {reason}" for reason, names in refused.items()]
    if len({each.spectrum.dim for each in found}) > 1:
        able = [
            title(name) for name in dict.fromkeys(n for each in found for n in each.scores) if not obstacle(found, name)
        ]
        said.append(f"between different widths D, what can be compared here is {listing(able) if able else 'nothing'}")
    unknown = [each.name for each in found if each.spectrum.protocol.get("images") == UNKNOWN]
    if unknown:
        said.append(
            "a matrix does not say how it was made: whether all are of the same images and layer is for you to know "
            f"({listing(unknown)})"
        )
    return said
