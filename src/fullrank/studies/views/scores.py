"""How a score is written, whose it is, and what must be said of how it was measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fullrank.documents import MISSING, Protocols, number, value_text
from fullrank.measure.protocols import FINGERPRINT, UNKNOWN, WIDTH, differences
from fullrank.measure.scores import title
from fullrank.studies.study import Cell, Result, Results
from fullrank.text import capital
from fullrank.training.scores import protocol_of

Measured = Mapping[str, Sequence[Mapping[str, Any]]]
"""By a score's name how each of the runs that have it measured it."""


def mean_and_deviation(values: Sequence[float], digits: int = 1) -> str:
    """Write a mean over seeds, with the sample standard deviation where there are two or more.

    >>> mean_and_deviation([50.0, 52.0]), mean_and_deviation([-0.01]), mean_and_deviation([])
    ('51.0 ± 1.4', '0.0', '–')
    """
    if not values:
        return MISSING
    mean = number(statistics.mean(values), digits)
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def counted(values: Sequence[str]) -> str:
    """Write the different values of some runs, with how many have each where there are several.

    >>> counted(["2.6.0", "2.6.0"]), counted(["2.6.0", "2.7.0", "2.6.0"])
    ('2.6.0', '2.6.0 (2 runs), 2.7.0 (1 run)')
    """
    counts = {value: values.count(value) for value in values}
    if len(counts) < 2:
        return "".join(counts)
    return ", ".join(f"{value} ({count} run{'s' * (count > 1)})" for value, count in counts.items())


def settings(results: Sequence[Result]) -> Sequence[Cell]:
    """Return the settings of runs, unfinished ones too where these are known."""
    return results.cells if isinstance(results, Results) else [result.cell for result in results]


def level(of: Result | Cell, factor: str | None) -> str | None:
    """Return the value of a factor; an empty string for no factor, None where it has no such factor."""
    cell = of.cell if isinstance(of, Result) else of
    return "" if factor is None else cell.factors.get(factor)


def levels(results: Sequence[Result], factor: str | None) -> list[str]:
    """Return a factor's values in the order of the study's settings, of unfinished ones too where these are known."""
    cells = settings(results)
    found = list(dict.fromkeys(own for cell in cells if (own := level(cell, factor)) is not None))
    if cells and not found:
        raise ValueError(f"no run has a factor {factor!r}: they have {', '.join(cells[0].factors)}")
    return found


def seeds_by(results: Sequence[Result], *factors: str | None) -> dict[tuple[str, ...], list[Result]]:
    """Group runs by the values of factors: every group holds the seeds of one setting, or it raises."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        own = tuple(found for factor in factors if (found := level(result, factor)) is not None)
        if len(own) == len(factors):
            group = groups.setdefault(own, [])
            group.append(result)
            if group[0].cell.factors != result.cell.factors:
                both = f"{dict(group[0].cell.factors)} and {dict(result.cell.factors)}"
                raise ValueError(f"a mean over seeds would mix settings: {both}")
    return groups


def final(results: Sequence[Result], *scores: str) -> Measured:
    """Return how final scores were measured."""
    return {score: [each.scores[score].protocol for each in results if score in each.scores] for score in scores}


def monitored(results: Sequence[Result], score: str) -> Measured:
    """Return how a score was measured through training."""
    return {score: [protocol_of(result.run, score) for result in results]}


def protocols(measured: Measured) -> Protocols:
    """Return the protocol of each score, of each field all its values; scores that share one stand together."""
    shared: dict[str, tuple[list[str], dict[str, str]]] = {}
    for score, taken in measured.items():
        names = dict.fromkeys(field for own in taken for field in own if field != FINGERPRINT)
        fields = {field: counted([value_text(own.get(field, UNKNOWN)) for own in taken]) for field in names}
        shared.setdefault(repr(fields), ([], fields))[0].append(title(score))
    return {capital(", ".join(names)): fields for names, fields in shared.values()}


def caveats(measured: Measured) -> str:
    """Say what keeps the values of a score from being compared without a second thought; else an empty string."""
    said = []
    for score, taken in measured.items():
        fields = differences(score, taken)
        if widths := fields.pop(WIDTH, None):
            every = ", ".join(map(str, widths))
            said.append(f"{capital(title(score))} depends on the width D, compare within one: {every}.")
        if fields:
            ways = [f"{field} {', '.join(map(value_text, values))}" for field, values in fields.items()]
            said.append(f"{capital(title(score))} was measured in different ways: {'; '.join(ways)}.")
    return sentences(*said)


def sentences(*said: str) -> str:
    """Join what there is to say."""
    return " ".join(filter(None, said))
