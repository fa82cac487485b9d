"""Tables of final scores: means over seeds, beside published numbers."""

from __future__ import annotations

from collections.abc import Sequence

from fullrank.documents import Protocols, Table
from fullrank.studies.study import Published, Result
from fullrank.studies.views.groups import grouped, levels, settings
from fullrank.studies.views.scores import (
    Unit,
    better,
    caveats,
    final,
    mean_and_deviation,
    monitored,
    name,
    protocols,
    sentences,
    unit,
)
from fullrank.text import capital, listing

MISSING = "–"
UNTRAINED = "random weights"


def pivot(
    results: Sequence[Result],
    score: str,
    *,
    rows: str,
    columns: str | None = None,
    published: Published | None = None,
) -> Table:
    """Return a table of a final score: a factor's values down, another's across.

    The score of untrained encoders, where it was monitored, is a last row or a last column: whichever way it is one
    number for a seed.

    Args:
        results: Finished runs.
        score: The score's name.
        rows: The factor whose values name the rows.
        columns: The factor whose values name the columns; a single column of the score where there is none.
        published: Numbers to stand beside ours, by the values of `rows` and `columns`.
    """
    how = unit(score)
    down, across = levels(results, rows), levels(results, columns)
    groups = grouped(results, rows, columns)
    seeds = max((len(group) for group in groups.values()), default=0)
    header, beside, cells = [rows], [], [[value] for value in down]
    for column in across:
        header.append(column or name(score))
        for value, cell in zip(down, cells, strict=True):
            cell.append(_over_seeds(groups.get((value, column), []), score, how, seeds))
        if published is not None:
            beside.append(len(header))
            header.append("published")
            for value, cell in zip(down, cells, strict=True):
                cell.append(_published(published, (value, column) if columns else (value,), how))
    measured = final(results, score)
    how_measured = protocols(measured)
    by_column, by_row = (_initial(groups, score, how, place) for place in (1, 0))
    if by_column is not None:
        row = [UNTRAINED]
        for column in across:
            row += [by_column.get(column, MISSING), *([MISSING] if published is not None else [])]
        cells.append(row)
    elif by_row is not None:
        header.append(UNTRAINED)
        for cell in cells:
            cell.append(by_row.get(cell[0], MISSING))
    if by_column is not None or by_row is not None:
        how_measured = {**how_measured, **_of_untrained(results, score, how_measured)}
    return Table(
        _title(results, score),
        header,
        cells,
        sentences(
            _over(seeds, cells),
            caveats(measured),
            f"{capital(UNTRAINED)} were scored by the monitor, in another way." if len(how_measured) > 1 else "",
            f"Published: {published.source}; {published.protocol}." if published else "",
        ),
        how_measured,
        beside=beside,
    )


def overview(results: Sequence[Result], scores: Sequence[str], *, rows: Sequence[str]) -> Table:
    """Return a table of several final scores, a row for each setting.

    Args:
        results: Finished runs.
        scores: The scores' names, a column each.
        rows: The factors whose values name the rows; one that has a single value is left out.
    """
    taken = [score for score in scores if any(score in result.scores for result in results)]
    shown = [factor for factor in rows if len(levels(results, factor)) > 1] or list(rows[:1])
    groups = grouped(results, *shown)
    seeds = max((len(group) for group in groups.values()), default=0)
    cells = [
        [*key, *(_over_seeds(groups.get(key, []), score, unit(score), seeds) for score in taken)]
        for key in _keys(results, shown)
    ]
    measured = final(results, *taken)
    lower, higher = ([name(score) for score in taken if better(score).startswith(way)] for way in _WAYS)
    return Table(
        f"Final scores by {listing(shown)}",
        [*shown, *(unit(score).label for score in taken)],
        cells,
        sentences(
            _over(seeds, cells),
            f"Higher is better: {', '.join(higher)}." if higher else "",
            f"Lower is better: {', '.join(lower)}." if lower else "",
            caveats(measured),
        ),
        protocols(measured),
        names=len(shown),
    )


_WAYS = ("lower", "higher")


def _keys(results: Sequence[Result], factors: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the combinations of factors' values that some setting has, the first factor slowest."""
    places = [levels(results, factor) for factor in factors]
    found = {
        tuple(cell.factors[factor] for factor in factors)
        for cell in settings(results)
        if all(factor in cell.factors for factor in factors)
    }
    return sorted(found, key=lambda key: [own.index(value) for own, value in zip(places, key, strict=True)])


def _over_seeds(group: Sequence[Result], score: str, how: Unit, seeds: int) -> str:
    values = [value for result in group if (value := result.score(score)) is not None]
    text = mean_and_deviation(values, how.digits, how.scale)
    return f"{text} (of {len(values)})" if values and len(values) < seeds else text


def _published(published: Published, key: tuple[str, ...], how: Unit) -> str:
    if key not in published.values:
        return MISSING
    mean, deviation = published.values[key]
    text = f"{mean:.{how.digits}f}".replace("-", "−")
    return text if deviation is None else f"{text} ± {deviation:.{how.digits}f}"


def _initial(groups: dict[tuple[str, ...], list[Result]], score: str, how: Unit, axis: int) -> dict[str, str] | None:
    """Return untrained scores along an axis of a table; None where they do not follow from it and the seed."""
    found: dict[str, dict[int, list[float]]] = {}
    for key, group in groups.items():
        for result in group:
            value = result.initial(score)
            if value is None:
                return None
            found.setdefault(key[axis], {}).setdefault(result.seed, []).append(how.scale * value)
    last_digit = 10**-how.digits
    if not found or any(max(v) - min(v) >= last_digit for by_seed in found.values() for v in by_seed.values()):
        return None
    return {
        place: mean_and_deviation([sum(v) / len(v) for v in by_seed.values()], how.digits)
        for place, by_seed in found.items()
    }


def _of_untrained(results: Sequence[Result], score: str, trained: Protocols) -> Protocols:
    """Return how untrained encoders were scored, where that is not how the others were."""
    own = protocols(monitored([result for result in results if score in result.scores], score))
    return {} if own == trained else {f"{title} of {UNTRAINED}": fields for title, fields in own.items()}


def _title(results: Sequence[Result], score: str) -> str:
    label, said = unit(score).label, better(score)
    return capital(f"{label}: {said}" if said else label)


def _over(seeds: int, cells: Sequence[Sequence[str]]) -> str:
    spread = f"Mean and sample standard deviation over {seeds} seeds" if seeds > 1 else "One seed"
    fewer = "; (of N): over N of them" if any("(of " in cell for row in cells for cell in row) else ""
    missing = f"; {MISSING}: not finished, or not measured" if any(MISSING in row for row in cells) else ""
    return f"{spread}{fewer}{missing}."
