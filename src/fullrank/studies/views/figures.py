"""Figures of studies: scores and spectra as lines with a band of seeds, final scores as a point for each run.

Reference: [Li22] Fig. 2 (accuracy over the share of the data), 3 (singular values), 4 (accuracy over loss and AUC),
5 and 6 (accuracy and AUC through training).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fullrank.documents import Look, Picture, Words, plots
from fullrank.documents.scores import better
from fullrank.documents.spectra import draw_explained, draw_relative
from fullrank.measure.scores import kind_of, title
from fullrank.studies.study import Result, named
from fullrank.studies.views.scores import (
    Measured,
    caveats,
    final,
    level,
    levels,
    monitored,
    protocols,
    seeds_by,
    sentences,
)
from fullrank.text import capital
from fullrank.training.scores import series

WIDE = 12.4  # inches of a figure with panels beside each other: the page shows it over both its columns
_ACROSS = 3  # panels
_TICKS = 10  # numbers under an axis that are the settings' own, at most
_EARLY = 0.25  # of the steps, which a loss falls in from far above
_DOTS = {"linestyle": "none", "alpha": 0.85, "markersize": 7.0, **plots.EDGE}
Drawn = Sequence[tuple[Sequence[Result], Look]]
Draw = Callable[[Axes, Sequence[Result], Look, float], None]


def through_training(results: Sequence[Result], score: str, *, color: str, panel: str | None = None) -> Picture | Words:
    """Return a figure of a monitored score over gradient steps; words where nobody has it."""
    having = [result for result in results if len(series(result.run, score)[0])]
    groups = seeds_by(having, panel, color).values()
    if not groups:
        return Words(f"{capital(title(score))} was not measured while these runs were trained.")
    late, switched = score.endswith("loss"), any(each.run.switch is not None for each in having)

    def lines(ax: Axes, group: Sequence[Result], look: Look, phase: float) -> None:
        steps, values = _common([series(result.run, score) for result in group])
        plots.band(ax, steps, kind_of(score).scale * values, plots.line(look, len(steps), phase))

    def finish(ax: Axes, drawn: Drawn) -> None:
        plots.mark_switches(ax, [(group[0].run.switch, look.color) for group, look in drawn])
        plots.step_axis(ax)
        ax.margins(x=0.015)
        if late:
            every = [series(each.run, score) for each in having]
            values = np.concatenate([values[steps >= _EARLY * steps[-1]] for steps, values in every])
            reach = 0.06 * np.ptp(values[np.isfinite(values)]) or 0.01
            ax.set_ylim(np.nanmin(values) - reach, np.nanmax(values) + reach)

    return _picture(
        f"{score}-through-training",
        f"{title(score)} through training",
        monitored(having, score),
        _direction(score),
        _seeds(groups),
        "The first quarter of the steps, where it falls from far above, may lie outside." if late else "",
        "Step 0 is before training." if not late else "",
        "Thin vertical lines mark where a hybrid order turns to multiple passes." if switched else "",
        draw=_paneled(results, having, color, panel, ("gradient step", kind_of(score).axis), lines, finish),
    )


def against(results: Sequence[Result], x: str, y: str, *, color: str, panel: str | None = None) -> Picture | Words:
    """Return a figure of one final score against another, a point for each run; words where no run has both."""
    having = _having(results, (x, y), color, panel)
    if not having:
        return Words(f"No run has both {title(x)} and {title(y)}.")

    def points(ax: Axes, group: Sequence[Result], look: Look, _: float) -> None:
        at = [[kind_of(score).scale * each.scores[score].taken for each in group] for score in (x, y)]
        ax.plot(*at, color=look.color, marker=look.marker, **_DOTS)

    def finish(ax: Axes, _: Drawn) -> None:
        ax.margins(0.08)
        ax.xaxis.set_major_locator(MaxNLocator(4))

    across = {"lower": "left", "higher": "right"}.get(kind_of(x).direction)
    upwards = {"lower": "lower", "higher": "upper"}.get(kind_of(y).direction)
    return _picture(
        f"{x}-against-{y}",
        f"{title(y)} against {title(x)}",
        final(having, x, y),
        "A point is a run after training.",
        f"Better by both is the {upwards} {across}." if across and upwards else "",
        draw=_paneled(results, having, color, panel, (kind_of(x).axis, kind_of(y).axis), points, finish),
    )


def against_number(
    results: Sequence[Result],
    score: str,
    factor: str,
    label: str,
    *,
    logarithmic: bool = True,
    color: str | None = None,
    panel: str | None = None,
) -> Picture | Words:
    """Return a figure of a final score against a number of the setting: runs as points, their means as a line.

    The values of `factor` have the number in them, as "5 %" and "D = 512" do; `label` is its name and unit.

    Raises:
        ValueError: Two settings share a number, a color and a panel, so that a mean would mix them.
    """
    having = _having(results, (score,), color, panel)
    if not having:
        return Words(f"{capital(title(score))} was not measured.")
    seeds_by(having, panel, color, factor)
    numbers = dict(sorted({own: _number(own) for own in levels(having, factor)}.items(), key=lambda item: item[1]))

    def points(ax: Axes, group: Sequence[Result], look: Look, _: float) -> None:
        at = np.array([[numbers[r.cell.factors[factor]], kind_of(score).scale * r.scores[score].taken] for r in group])
        places = np.unique(at[:, 0])
        ax.plot(places, [at[at[:, 0] == x, 1].mean() for x in places], color=look.color, linestyle=look.dashes)
        ax.plot(*at.T, color=look.color, marker=look.marker, **_DOTS)

    def finish(ax: Axes, _: Drawn) -> None:
        if logarithmic:
            ax.set_xscale("log")
        if len(numbers) <= _TICKS:
            plots.tick_at(ax.xaxis, numbers.values())
        ax.margins(0.05, 0.08)

    what, _, _ = label.partition(" (")
    return _picture(
        f"{score}-against-{what}",
        f"{title(score)} against {what}",
        final(having, score),
        _direction(score),
        "Points are runs, the line joins their means.",
        draw=_paneled(results, having, color, panel, (label, kind_of(score).axis), points, finish),
    )


def spectra(results: Sequence[Result], *, color: str, panel: str | None = None) -> Picture | Words:
    """Return a figure of final singular values relative to the largest, and of their cumulative sum.

    Each value of the factor `panel` has a row of two panels.
    """
    having = [result for result in results if result.run.width]
    groups = seeds_by(having, panel, color)
    if not groups:
        return Words("No spectrum was measured.")
    shown, rows = _looks(results, having, color), _panels(results, having, panel)

    @plots.style()
    def draw() -> Figure:
        both = ("singular values", "cumulative explained variance")
        titles = [f"{named(panel, row)}: {what}" if len(rows) > 1 else capital(what) for row in rows for what in both]
        figure, axes = _grid(titles, across=2, share=False)
        for row, relative, summed in zip(rows, axes[::2], axes[1::2], strict=True):
            for place, look in enumerate(shown):
                if group := groups.get((row, look.label)):
                    seeds = [result.run.spectrum() for result in group]
                    how = plots.line(look, seeds[0].dim, place / len(shown))
                    draw_relative(relative, seeds, how)
                    draw_explained(summed, seeds, how)
            plots.relative_axes(relative, below=11)
            relative.set_ylim(min(relative.get_ylim()[0], plots.DEAD / 2), 1.5)
            relative.set_xlim(left=0)
            plots.explained_axes(summed)
        _legend(figure, color, shown)
        return figure

    return _picture(
        "spectra",
        "spectra after training",
        {"spectrum": monitored(having, "auc")["auc"]},
        "Left, singular values relative to the largest; below 10⁻³ they count as dead, and below 10⁻⁷ "
        "they are drawn at that height. Right, the share of their sum in the leading directions: the area under a "
        "line is its AUC. As [Li22] Fig. 3.",
        _seeds(groups.values()),
        draw=draw,
    )


def _paneled(
    results: Sequence[Result],
    having: Sequence[Result],
    color: str | None,
    panel: str | None,
    labels: tuple[str, str],
    draw_group: Draw,
    finish: Callable[[Axes, Drawn], None],
) -> Callable[[], Figure]:
    """Return what draws the runs that have a score: those of a color together, in the panel that they belong to."""
    shown, titles = _looks(results, having, color), _panels(results, having, panel)

    @plots.style()
    def draw() -> Figure:
        figure, axes = _grid([named(panel, name) for name in titles])
        for ax, name in zip(axes, titles, strict=True):
            drawn = []
            for place, look in enumerate(shown):
                if group := [each for each in having if (level(each, panel), level(each, color)) == (name, look.label)]:
                    draw_group(ax, group, look, place / len(shown))
                    drawn.append((group, look))
            finish(ax, drawn)
            ax.set(xlabel="", ylabel="")
        figure.supxlabel(labels[0], fontsize=10.5, color="#333333")
        figure.supylabel(labels[1], fontsize=10.5, color="#333333")
        _legend(figure, color or "", shown)
        return figure

    return draw


def _picture(key: str, name: str, measured: Measured, *said: str, draw: Callable[[], Figure]) -> Picture:
    key = key.replace("_", "-").replace(" ", "-")
    return Picture(key, capital(name), sentences(*said, caveats(measured)), draw, protocols(measured))


def _direction(score: str) -> str:
    return f"{capital(said)}." if (said := better(score)) else ""


def _seeds(groups: Iterable[Sequence[Result]]) -> str:
    several = any(len(group) > 1 for group in groups)
    return "Lines are means over seeds, bands reach from the lowest to the highest seed." if several else "One seed."


def _having(results: Sequence[Result], scores: Sequence[str], color: str | None, panel: str | None) -> list[Result]:
    factors = {factor for factor in (color, panel) if factor is not None}
    return [each for each in results if set(scores) <= set(each.scores) and factors <= set(each.cell.factors)]


def _number(value: str) -> float:
    found = re.search(r"\d[\d.]*(e[-+]?\d+)?", value)
    if found is None:
        raise ValueError(f"no number in {value!r}")
    return float(found[0])


def _looks(results: Sequence[Result], having: Sequence[Result], factor: str | None) -> list[Look]:
    """Return how the values of a factor look that some runs have: shades where they are three numbers or more.

    How one looks does not depend on which of the others are finished.
    """
    every, own = levels(results, factor), {level(each, factor) for each in having}
    shades = len(every) if len(every) > 2 and not any(map(str.isalpha, "".join(every).replace("e-", ""))) else 0
    return [look for at, value in enumerate(every) if (look := Look(value, at, shades=shades)).label in own]


def _panels(results: Sequence[Result], having: Sequence[Result], panel: str | None) -> list[str]:
    own = {level(each, panel) for each in having}
    return [name for name in levels(results, panel) if name in own]


def _grid(titles: Sequence[str], *, across: int = _ACROSS, share: bool = True) -> tuple[Figure, list[Axes]]:
    """Make a panel for each title, in rows of `across` at most; one without a title has the usual size."""
    columns = min(len(titles), 2 if len(titles) == 4 else across)
    rows = math.ceil(len(titles) / columns)
    figure = Figure(figsize=(WIDE if columns > 1 else plots.SIZE[0], plots.SIZE[1] * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for ax in grid[len(titles) :]:
        ax.remove()
    for ax, name in zip(grid, titles, strict=False):
        ax.set_title(name, loc="left", fontsize=10.5, fontweight="bold", color="#333333", parse_math=False)
        ax.tick_params(labelbottom=True)
    return figure, list(grid[: len(titles)])


def _legend(figure: Figure, factor: str, shown: Sequence[Look]) -> None:
    """Name colors and markers above the panels, in room of their own; nothing for a single one."""
    if len(shown) < 2:
        return
    handles = [Line2D([], [], color=each.color, marker=each.marker, ls=each.dashes, **plots.EDGE) for each in shown]
    room = 0.62 + 0.085 * max(len(look.label) for look in shown)  # inches of a line, and of letters at most
    columns = max(1, int(figure.get_figwidth() / room))
    figure.set_figheight(figure.get_figheight() + 0.22 * (1 + math.ceil(len(shown) / columns)))
    names = [look.label for look in shown]
    box = figure.legend(handles, names, ncols=columns, title=factor, loc="outside upper left", frameon=False)
    for text in (*box.get_texts(), box.get_title()):
        text.set_parse_math(False)


def _common(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps that all seeds were measured at, `(n,)`, and their values there, `(S, n)`."""
    steps = curves[0][0]
    for other, _ in curves[1:]:
        steps = np.intersect1d(steps, other)
    return steps, np.stack([values[np.isin(own, steps)] for own, values in curves]).astype(np.float64)
