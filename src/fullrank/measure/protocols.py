"""Which fields of their protocols keep scores from being compared.

Two values of a score compare only where they were taken the same way. A width D is part of that for every score whose
floor or ceiling depends on it: equal directions have an AUC of (D+1)/(2D), and a RankMe of D.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, get_args

from fullrank.config import Accuracy
from fullrank.data.images import in_common
from fullrank.measure.scores import kind_of
from fullrank.measure.verdict import AS_GOOD_AS_EQUAL, DISTINCT, isotropic_auc
from fullrank.text import listing

UNKNOWN = "not stated"
ACCURACIES: tuple[str, ...] = get_args(Accuracy)
"""Scores that need labels, the one that says most first."""
DIM, COUNT, FINGERPRINT = "d", "n", "fingerprint"
WIDTH = "D"
"""What the field `DIM` is called where widths are in the way."""
# A model's preprocessing is part of what it is; the rest are consequences of N and D, which are compared by themselves.
_NOT_COMPARED = (
    *("dtype", "image_size", "interpolation", "crop_pct", "mean", "std", "floor", "method"),
    *(DIM, COUNT, FINGERPRINT),
    DISTINCT,
)
_NAMED_IMAGES = ("images", "labels")


def differences(name: str, protocols: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Name what keeps values of one score from being compared.

    What a protocol does not state is not held against it, but for a loss: a coefficient that is not stated is the
    method's own. Returns for each field in the way its different values, as they come.
    """
    found: dict[str, list[Any]] = {}
    widths = list(dict.fromkeys(int(protocol[DIM]) for protocol in protocols if DIM in protocol))
    if len(widths) > 1 and not kind_of(name).across_widths:
        found[WIDTH] = widths
    for field in dict.fromkeys(field for protocol in protocols for field in protocol):
        if field in _NOT_COMPARED or (field == "view" and name != "heldout_loss"):
            continue
        values = [_stated(protocol, field, strict=name == "heldout_loss") for protocol in protocols]
        different = list({repr(value): value for value in values if value != UNKNOWN}.values())
        if field in _NAMED_IMAGES and all(FINGERPRINT in protocol for protocol in protocols):
            prints = list(dict.fromkeys(in_common([str(protocol[FINGERPRINT]) for protocol in protocols])))
            if len(prints) == 1 or len(different) == 1:
                different = prints  # one set under two names, or two sets under one
        if len(different) > 1:
            found[field] = different
    counts = list(dict.fromkeys(int(protocol[COUNT]) for protocol in protocols if COUNT in protocol))
    if len(counts) > 1 and not (widths and _as_good_as_equal(name, counts, max(widths))):
        found[COUNT] = counts
    return found


def obstacle(name: str, protocols: Sequence[Mapping[str, Any]]) -> str:
    """Say why values of one score cannot be compared; an empty string when they can."""
    different = differences(name, protocols)
    if of_width := different.pop(WIDTH, None):
        return f"it depends on the width D, and that is {listing([f'{width:,}' for width in sorted(of_width)])} here"
    counts = different.pop(COUNT, None)
    if different:
        return f"measured in different ways ({listing(list(different))})"
    return f"it depends on N, and that is {listing([f'{n:,}' for n in sorted(counts)])} here" if counts else ""


def ends(name: str, values: Mapping[str, float]) -> str:
    """Say who has the best and the worst value of a score, unless they lie no further apart than two seeds.

    >>> ends("auc", {"a": 0.61, "b": 0.86}), ends("auc", {"a": 0.85, "b": 0.86})
    ('AUC: lowest for a (0.610), highest for b (0.860)', 'AUC: 0.850 to 0.860, no further apart than two seeds (0.03)')
    """
    kind = kind_of(name)
    ranked = sorted(values, key=lambda who: values[who], reverse=kind.direction == "higher")
    first, last = values[ranked[0]], values[ranked[-1]]
    if kind.write(first) == kind.write(last):
        return f"{kind.title}: equal to the digits shown, {kind.write(first)}"
    if abs(last - first) < kind.noise:
        shown = [kind.write(value) for value in sorted((first, last))]
        return f"{kind.title}: {shown[0]} to {shown[1]}, no further apart than two seeds ({kind.noise:g})"
    words = ("highest", "lowest") if kind.direction == "higher" else ("lowest", "highest")
    who = [listing([one for one in ranked if kind.write(values[one]) == kind.write(value)]) for value in (first, last)]
    return f"{kind.title}: {words[0]} for {who[0]} ({kind.write(first)}), {words[1]} for {who[1]} ({kind.write(last)})"


def split(name: str, protocols: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Split values of one score into groups that compare: the places of each one's members, the first one's first."""
    groups: list[list[int]] = []
    for place in range(len(protocols)):
        joins = (group for group in groups if not differences(name, [protocols[i] for i in (*group, place)]))
        found = next(joins, None)
        if found is None:
            groups.append(found := [])
        found.append(place)
    return groups


def comparable(models: Sequence[Mapping[str, Mapping[str, Any]]]) -> list[list[int]]:
    """Split models into groups within which each of several scores compares, as `split` does for one.

    A model has how each score was taken of it, by the score's name; all have the same ones.
    """
    splits = [split(name, [model[name] for model in models]) for name in (models[0] if models else ())]
    groups: dict[tuple[int, ...], list[int]] = {}
    for place in range(len(models)):
        label = tuple(number for each in splits for number, group in enumerate(each) if place in group)
        groups.setdefault(label, []).append(place)
    return list(groups.values())


def _stated(protocol: Mapping[str, Any], field: str, *, strict: bool) -> Any:
    if field == "subset" and any(protocol.get(named, UNKNOWN) != UNKNOWN for named in _NAMED_IMAGES):
        return protocol.get(field, 1.0)  # all of the images, where no share is named
    return protocol.get(field, None if strict else UNKNOWN)


def _as_good_as_equal(name: str, counts: Collection[int], dim: int) -> bool:
    """Whether different numbers of images bend a spectrum of D directions alike; other scores want equal ones."""
    if kind_of(name).spectrum is None:
        return False
    bent = [isotropic_auc(n, dim) for n in counts]
    return min(counts) > dim and max(bent) - min(bent) < AS_GOOD_AS_EQUAL
