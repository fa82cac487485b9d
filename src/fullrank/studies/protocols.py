"""How scores that stand beside each other were measured: what is shared is said once, what differs with its runs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from fullrank.studies.study import Result

Taken = Sequence[tuple[Result, Mapping[str, Any]]]
"""Runs, and how a score of theirs was measured."""

UNKNOWN = "not stated"


def protocol(taken: Taken) -> dict[str, str]:
    """Return the fields of the protocols of one score, those that differ with whom they belong to.

    A field whose values follow from a factor names that factor's values, another the number of runs:
    `{"k": "20", "D": "128 (ResNet-18), 512 (ResNet-50)", "n": "10,000 (5 runs), 9,000 (1 run)"}`.
    """
    return {field: _text([(result, own.get(field, UNKNOWN)) for result, own in taken]) for field in _fields(taken)}


def differing(taken: Taken) -> dict[str, str]:
    """Return those fields of `protocol` that are not the same in all runs."""
    said = protocol(taken)
    return {field: said[field] for field in _fields(taken) if len(_values(taken, field)) > 1}


def unexplained(taken: Taken) -> list[str]:
    """Name the fields that differ between runs, and follow from no factor of their settings."""
    found = []
    for field in _fields(taken):
        values = [(result, own.get(field, UNKNOWN)) for result, own in taken]
        if len(_values(taken, field)) > 1 and _deciding(values) is None:
            found.append(field)
    return found


def counted(values: Sequence[str]) -> str:
    """Write the different values of some runs, with how many have each where there are several.

    >>> counted(["2.6.0", "2.6.0"]), counted(["2.6.0", "2.7.0", "2.6.0"])
    ('2.6.0', '2.6.0 (2 runs), 2.7.0 (1 run)')
    """
    counts = {value: values.count(value) for value in values}
    if len(counts) < 2:
        return "".join(counts)
    return ", ".join(f"{value} ({count} run{'s' * (count > 1)})" for value, count in counts.items())


def _fields(taken: Taken) -> list[str]:
    return list(dict.fromkeys(field for _, own in taken for field in own))


def _values(taken: Taken, field: str) -> set[str]:
    return {repr(own.get(field, UNKNOWN)) for _, own in taken}


def _text(values: Sequence[tuple[Result, Any]]) -> str:
    texts = [_value(value) for _, value in values]
    factor = _deciding(values)
    if len(set(texts)) < 2 or factor is None:
        return counted(texts)
    whose: dict[str, dict[Hashable, None]] = {}
    for (result, _), text in zip(values, texts, strict=True):
        whose.setdefault(text, {})[_level(result, factor)] = None
    return ", ".join(f"{text} ({', '.join(map(str, who))})" for text, who in whose.items())


def _deciding(values: Sequence[tuple[Result, Any]]) -> str | None:
    """Return the first factor that a field's values follow from; None where there is no such factor.

    Settings that do not have it, such as those of other studies, count as one level of it.
    """
    cells = [result.cell for result, _ in values]
    names = dict.fromkeys(name for cell in cells for name in cell.factors)
    for name in sorted(names, key=lambda name: any(name not in cell.factors for cell in cells)):
        by_level: dict[str, set[str]] = {}
        for result, value in values:
            by_level.setdefault(_level(result, name), set()).add(repr(value))
        if all(len(found) == 1 for found in by_level.values()):
            return name
    return None


def _level(result: Result, factor: str) -> str:
    return result.cell.factors.get(factor, "the others")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "none" if value is None else str(value)
