"""Tables of final scores: means over seeds, beside published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from statistics import mean

from fullrank.documents import MISSING, Table
from fullrank.documents.scores import better
from fullrank.measure.scores import kind_of, title
from fullrank.studies.study import Published, Result
from fullrank.studies.views.scores import (
    caveats,
    final,
    level,
    levels,
    mean_and_deviation,
    monitored,
    protocols,
    seeds_by,
    sentences,
    settings,
)
from fullrank.text import capital, listing
from fullrank.training.scores import series

UNTRAINED = "random weights"
_PUBLISHED = "published"
Groups = dict[tuple[str, ...], list[Result]]


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
    """
    down, across = levels(results, rows), levels(results, columns)
    groups = seeds_by(results, rows, columns)
    seeds = max(map(len, groups.values()), default=0)
    header, cells = [rows], [[value] for value in down]
    for column in across:
        header += [column or title(score), *([_PUBLISHED] if published else [])]
        for value, cell in zip(down, cells, strict=True):
            cell.append(_over_seeds(groups.get((value, column), []), score, seeds))
            if published is not None:
                cell.append(published.number(value, column))
    measured = final(results, score)
    how_measured = dict(protocols(measured))
    if by_column := _initial(groups, score, axis=1):
        every = [[by_column.get(column, MISSING), *([MISSING] if published else [])] for column in across]
        cells.append([UNTRAINED, *(cell for own in every for cell in own)])
    elif by_row := _initial(groups, score, axis=0):
        header.append(UNTRAINED)
        for cell in cells:
            cell.append(by_row.get(cell[0], MISSING))
    untrained = protocols(monitored([result for result in results if score in result.scores], score))
    otherwise = UNTRAINED in (header[-1], cells[-1][0] if cells else "") and untrained != how_measured
    if otherwise:
        how_measured |= {f"{name} of {UNTRAINED}": fields for name, fields in untrained.items()}
    return Table(
        capital(": ".join(filter(None, (kind_of(score).axis, better(score))))),
        header,
        cells,
        sentences(
            _over(seeds, cells),
            caveats(measured),
            f"{capital(UNTRAINED)} were scored by the monitor, in another way." if otherwise else "",
            f"Published: {published.source}; {published.protocol}." if published else "",
        ),
        how_measured,
        beside=[place for place, name in enumerate(header) if name == _PUBLISHED],
    )


def overview(results: Sequence[Result], scores: Sequence[str], *, rows: Sequence[str]) -> Table:
    """Return a table of several final scores, a row for each setting; a factor that has a single value is left out."""
    taken = [score for score in scores if any(score in result.scores for result in results)]
    shown = [factor for factor in rows if len(levels(results, factor)) > 1] or list(rows[:1])
    places = [levels(results, factor) for factor in shown]
    keys = {tuple(own for factor in shown if (own := level(cell, factor)) is not None) for cell in settings(results)}
    groups = seeds_by(results, *shown)
    seeds = max(map(len, groups.values()), default=0)
    cells = [
        [*key, *(_over_seeds(groups.get(key, []), score, seeds) for score in taken)]
        for key in product(*places)
        if key in keys
    ]
    measured = final(results, *taken)
    ways = {way: [title(score) for score in taken if kind_of(score).direction == way] for way in ("higher", "lower")}
    return Table(
        f"Final scores by {listing(shown)}",
        [*shown, *(kind_of(score).axis for score in taken)],
        cells,
        sentences(
            _over(seeds, cells),
            *(f"{capital(way)} is better: {', '.join(names)}." for way, names in ways.items() if names),
            caveats(measured),
        ),
        protocols(measured),
        names=len(shown),
    )


def _over_seeds(group: Sequence[Result], score: str, seeds: int) -> str:
    scale = kind_of(score).scale
    values = [scale * value for result in group if (value := result.score(score)) is not None]
    text = mean_and_deviation(values, _digits(score))
    return f"{text} (of {len(values)})" if values and len(values) < seeds else text


def _digits(score: str) -> int:
    """Return the decimals that mean something over seeds."""
    digits = kind_of(score).digits
    return 1 if digits is None else digits


def _initial(groups: Groups, score: str, axis: int) -> dict[str, str] | None:
    """Return untrained scores along an axis of a table; None where they do not follow from it and the seed."""
    scale, digits = kind_of(score).scale, _digits(score)
    found: dict[str, dict[int, list[float]]] = {}
    for key, group in groups.items():
        for result in group:
            steps, values = series(result.run, score)
            if not len(steps) or steps[0] != 0:
                return None
            found.setdefault(key[axis], {}).setdefault(result.seed, []).append(scale * float(values[0]))
    if any(max(own) - min(own) >= 10**-digits for seeds in found.values() for own in seeds.values()):
        return None
    return {place: mean_and_deviation(list(map(mean, seeds.values())), digits) for place, seeds in found.items()}


def _over(seeds: int, cells: Sequence[Sequence[str]]) -> str:
    every = [cell for row in cells for cell in row]
    spread = f"Mean and sample standard deviation over {seeds} seeds" if seeds > 1 else "One seed"
    fewer = "; (of N): over N of them" if any("(of " in cell for cell in every) else ""
    missing = f"; {MISSING}: not finished, or not measured" if MISSING in every else ""
    return f"{spread}{fewer}{missing}."
