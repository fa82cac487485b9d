"""Runs by the values of their factors."""

from __future__ import annotations

from collections.abc import Sequence

from fullrank.studies.study import Cell, Result, Results


def levels(results: Sequence[Result], factor: str | None) -> list[str]:
    """Return a factor's values in the order of the study's settings, of unfinished ones too where these are known.

    None stands for no factor, and its value is an empty string.

    Raises:
        ValueError: No run has this factor.
    """
    if factor is None:
        return [""]
    cells = settings(results)
    found = list(dict.fromkeys(cell.factors[factor] for cell in cells if factor in cell.factors))
    if cells and not found:
        raise ValueError(f"no run has a factor {factor!r}: they have {', '.join(cells[0].factors)}")
    return found


def settings(results: Sequence[Result]) -> Sequence[Cell]:
    """Return the settings of runs, unfinished ones too where these are known."""
    return results.cells if isinstance(results, Results) else [result.cell for result in results]


def grouped(results: Sequence[Result], *factors: str | None) -> dict[tuple[str, ...], list[Result]]:
    """Group runs by the values of factors; None stands for no factor, and its value is an empty string.

    Every group holds the seeds of one setting.

    Raises:
        ValueError: Runs of a group differ in another factor, so that a mean would mix settings.
    """
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        own = result.cell.factors
        if all(factor is None or factor in own for factor in factors):
            groups.setdefault(tuple("" if factor is None else own[factor] for factor in factors), []).append(result)
    for group in groups.values():
        first, *rest = (result.cell.factors for result in group)
        for other in rest:
            if other != first:
                raise ValueError(f"a mean over seeds would mix settings: {dict(first)} and {dict(other)}")
    return groups
