"""Figures of final scores, a point for each run.

Reference: [Li22] Fig. 2 (accuracy over the share of the data) and 4 (accuracy over loss and AUC).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from fullrank.documents import Picture, Words
from fullrank.documents.svg import style
from fullrank.studies.study import Cell, Result
from fullrank.studies.views.groups import levels
from fullrank.studies.views.panels import EDGE, legend, looks, outer_labels, panels, titled
from fullrank.studies.views.scores import better, caveats, final, name, protocols, sentences, unit
from fullrank.text import capital

_TICKS = 10  # numbers under an axis that are the settings' own, at most


def against(results: Sequence[Result], x: str, y: str, *, colour: str, panel: str | None = None) -> Picture | Words:
    """Return a figure of one final score against another, a point for each run; words where no run has both.

    Args:
        results: Finished runs.
        x: The score across.
        y: The score upwards.
        colour: The factor whose values are told apart by colour and marker.
        panel: The factor whose values have a panel each.
    """
    having = [
        result
        for result in results
        if x in result.scores and y in result.scores and {colour, panel or colour} <= set(result.cell.factors)
    ]
    if not having:
        return Words(f"No run has both {name(x)} and {name(y)}.")
    shown = looks(levels(results, colour), {result.cell.factors[colour] for result in having})
    titles = _titles(results, having, panel)

    def draw() -> Figure:
        with style():
            figure, axes = panels([titled(panel, title) for title in titles])
            for ax, title in zip(axes, titles, strict=True):
                for level, look in shown.items():
                    points = [
                        (unit(x).scale * result.scores[x].taken, unit(y).scale * result.scores[y].taken)
                        for result in having
                        if result.cell.factors[colour] == level and (not panel or result.cell.factors[panel] == title)
                    ]
                    ax.plot(*np.array(points).reshape(-1, 2).T, color=look.color, marker=look.marker, **_DOTS)
                ax.margins(0.08)
                ax.xaxis.set_major_locator(MaxNLocator(4))
            outer_labels(axes, unit(x).label, unit(y).label)
            legend(figure, colour, shown, lines=False)
            return figure

    measured = final(having, x, y)
    return Picture(
        f"{x}-against-{y}".replace("_", "-"),
        capital(f"{name(y)} against {name(x)}"),
        sentences(
            "A point is a run after training.",
            _corner(better(x), better(y)),
            caveats(measured),
        ),
        draw,
        protocols(measured),
    )


def against_number(
    results: Sequence[Result],
    score: str,
    *,
    of: Callable[[Cell], float],
    label: str,
    logarithmic: bool = False,
    colour: str | None = None,
    panel: str | None = None,
) -> Picture | Words:
    """Return a figure of a final score against a number of the setting: runs as points, their means as a line.

    Args:
        results: Finished runs.
        score: The score's name.
        of: The number.
        label: What it is called, with its unit.
        logarithmic: Whether its axis is.
        colour: The factor whose values are told apart by colour and marker.
        panel: The factor whose values have a panel each.

    Raises:
        ValueError: Two settings share a number, a colour and a panel, so that a mean would mix them.
    """
    factors = {factor for factor in (colour, panel) if factor is not None}
    having = [result for result in results if score in result.scores and factors <= set(result.cell.factors)]
    if not having:
        return Words(f"{capital(name(score))} was not measured.")
    how = unit(score)
    shown = looks(levels(results, colour), {result.cell.factors[colour] if colour else "" for result in having})
    titles = _titles(results, having, panel)
    numbers = sorted({of(result.cell) for result in having})
    lines: dict[tuple[str, str], list[Result]] = {}
    for result in having:
        own = result.cell.factors
        lines.setdefault((own[colour] if colour else "", own[panel] if panel else ""), []).append(result)
    for line in lines.values():
        _refuse_mixed(line, of)

    def draw() -> Figure:
        with style():
            figure, axes = panels([titled(panel, title) for title in titles])
            for ax, title in zip(axes, titles, strict=True):
                for level, look in shown.items():
                    found: dict[float, list[float]] = {}
                    for result in lines.get((level, title), ()):
                        found.setdefault(of(result.cell), []).append(how.scale * result.scores[score].taken)
                    at = sorted(found)
                    ax.plot(at, [np.mean(found[x]) for x in at], color=look.color, linestyle=look.dashes)
                    points = [(x, value) for x in at for value in found[x]]
                    ax.plot(*np.array(points).reshape(-1, 2).T, color=look.color, marker=look.marker, **_DOTS)
                if logarithmic:
                    ax.set_xscale("log")
                if len(numbers) <= _TICKS:
                    ax.xaxis.set_major_locator(FixedLocator(numbers))
                    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.3g}"))
                    ax.xaxis.set_minor_locator(NullLocator())
                ax.margins(0.05, 0.08)
            outer_labels(axes, label, how.label)
            legend(figure, colour or "", shown)
            return figure

    measured = final(having, score)
    what, _, _ = label.partition(" (")
    return Picture(
        f"{score}-against-{what}".replace("_", "-").replace(" ", "-"),
        capital(f"{name(score)} against {what}"),
        sentences(
            capital(f"{said}.") if (said := better(score)) else "",
            "Points are runs, the line joins their means.",
            caveats(measured),
        ),
        draw,
        protocols(measured),
    )


def _refuse_mixed(line: Sequence[Result], of: Callable[[Cell], float]) -> None:
    settings: dict[float, Cell] = {}
    for result in line:
        first = settings.setdefault(of(result.cell), result.cell)
        if first.factors != result.cell.factors:
            raise ValueError(f"a mean would mix settings: {dict(first.factors)} and {dict(result.cell.factors)}")


def _corner(across: str, upwards: str) -> str:
    """Say where in a figure the better runs are; an empty string where they are nowhere by these scores alone."""
    sides = {"lower": ("left", "lower"), "higher": ("right", "upper")}
    x, y = sides.get(across.partition(" ")[0]), sides.get(upwards.partition(" ")[0])
    return f"Better by both is the {y[1]} {x[0]}." if x and y else ""


_DOTS = {"linestyle": "none", "alpha": 0.85, "markersize": 7.0, **EDGE}


def _titles(results: Sequence[Result], having: Sequence[Result], panel: str | None) -> list[str]:
    own = {result.cell.factors[panel] if panel else "" for result in having}
    return [title for title in levels(results, panel) if title in own]
