"""How scores that stand beside each other were measured: what is shared is said once, what differs with its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fullrank.documents import value_text
from fullrank.studies.study import Result

Taken = Sequence[tuple[Result, Mapping[str, Any]]]
"""Runs, and how a score of theirs was measured."""


def protocol(taken: Taken) -> dict[str, str]:
    """Return the fields of the protocols of one score, those that differ with whom they belong to.

    A field whose values follow from a factor names that factor's values, another the number of runs:
    `{"k": "20", "D": "128 (ResNet-18), 512 (ResNet-50)", "n": "10,000 (5 runs), 9,000 (1 run)"}`.
    """
    found = {}
    for field, values in _fields(taken).items():
        factor = _deciding(values)
        whose: dict[str, dict[str, None]] = {}
        for result, value in values:
            whose.setdefault(value_text(value), {})[_level(result, factor)] = None
        if len(whose) < 2 or factor is None:
            found[field] = counted([value_text(value) for _, value in values])
        else:
            found[field] = ", ".join(f"{text} ({', '.join(levels)})" for text, levels in whose.items())
    return found


def differing(taken: Taken) -> dict[str, str]:
    """Return those fields of `protocol` that are not the same in all runs."""
    fields = _fields(taken)
    return {field: text for field, text in protocol(taken).items() if _differ(fields[field])}


def unexplained(taken: Taken) -> list[str]:
    """Name the fields that differ between runs, and follow from no factor of their settings."""
    return [field for field, values in _fields(taken).items() if _differ(values) and _deciding(values) is None]


def counted(values: Sequence[str]) -> str:
    """Write the different values of some runs, with how many have each where there are several.

    >>> counted(["2.6.0", "2.6.0"]), counted(["2.6.0", "2.7.0", "2.6.0"])
    ('2.6.0', '2.6.0 (2 runs), 2.7.0 (1 run)')
    """
    counts = {value: values.count(value) for value in values}
    if len(counts) < 2:
        return "".join(counts)
    return ", ".join(f"{value} ({count} run{'s' * (count > 1)})" for value, count in counts.items())


_Values = Sequence[tuple[Result, Any]]


def _fields(taken: Taken) -> dict[str, _Values]:
    fields = dict.fromkeys(field for _, own in taken for field in own)
    return {field: [(result, own.get(field, "not stated")) for result, own in taken] for field in fields}


def _differ(values: _Values) -> bool:
    return len({repr(value) for _, value in values}) > 1


def _deciding(values: _Values) -> str | None:
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


def _level(result: Result, factor: str | None) -> str:
    return result.cell.factors.get(factor or "", "the others")
