"""Figures of studies: scores and spectra as lines with a band of seeds, final scores as a point for each run.

Reference: [Li22] Fig. 2 (accuracy over the share of the data), 3 (singular values), 4 (accuracy over loss and AUC),
5 and 6 (accuracy and AUC through training).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from fullrank.documents import Look, Picture, Words, plots
from fullrank.documents.looks import DASHES
from fullrank.measure.scores import kind_of, title
from fullrank.measure.spectrum import Spectrum
from fullrank.report.words import better
from fullrank.studies.study import Result
from fullrank.studies.views.scores import (
    Measured,
    caveats,
    final,
    grouped,
    level,
    levels,
    monitored,
    protocols,
    sentences,
    unit,
)
from fullrank.text import capital

WIDE = 12.4  # inches of a figure with panels beside each other: the page shows it over both its columns
_NUMBER = re.compile(r"[-−+]?[\d.,]+(e[-+]?\d+)?(\s|$)")
_ACROSS = 3  # panels
_LETTER = 0.085  # inches at most of a letter in a legend
_HANDLE = 0.62  # inches of its line and the room around it
_LINE = 0.22  # inches of its lines
_TICKS = 10  # numbers under an axis that are the settings' own, at most
_EARLY = 0.25  # of the steps
_ENOUGH = 0.5  # of the height, for what comes later
_DOTS = {"linestyle": "none", "alpha": 0.85, "markersize": 7.0, **plots.EDGE}
Drawn = Sequence[tuple[Sequence[Result], Look]]
_BANDED = "Lines are means over seeds, bands reach from the lowest to the highest seed."


def through_training(results: Sequence[Result], score: str, *, color: str, panel: str | None = None) -> Picture | Words:
    """Return a figure of a monitored score over gradient steps; words where nobody has it."""
    having = [result for result in results if len(result.series(score)[0])]
    groups = grouped(having, panel, color).values()
    if not groups:
        return Words(f"{capital(title(score))} was not measured while these runs were trained.")
    limits = _late_limits([each.series(score) for each in having]) if score.endswith("loss") else None

    def lines(ax: Axes, group: Sequence[Result], look: Look, phase: float) -> None:
        steps, values = _common([result.series(score) for result in group])
        band(ax, steps, unit(score).scale * values, look, phase)

    def finish(ax: Axes, drawn: Drawn) -> None:
        plots.mark_switches(ax, [(_switch(group[0]), look.color) for group, look in drawn])
        plots.step_axis(ax)
        ax.margins(x=0.015)
        if limits is not None:
            ax.set_ylim(limits)

    early = "Early values, before training and soon after, lie outside: the others would be squeezed."
    return _picture(
        f"{score}-through-training",
        f"{title(score)} through training",
        monitored(having, score),
        _direction(score),
        _BANDED if any(len(group) > 1 for group in groups) else "One seed.",
        "Step 0 is before training." if limits is None else early,
        "Thin vertical lines mark where a hybrid order turns to multiple passes." * any(map(_switch, having)),
        draw=_paneled(results, having, color, panel, ("gradient step", unit(score).label), lines, finish),
    )


def against(results: Sequence[Result], x: str, y: str, *, color: str, panel: str | None = None) -> Picture | Words:
    """Return a figure of one final score against another, a point for each run; words where no run has both."""
    having = _having(results, (x, y), color, panel)
    if not having:
        return Words(f"No run has both {title(x)} and {title(y)}.")

    def points(ax: Axes, group: Sequence[Result], look: Look, _: float) -> None:
        at = [[unit(score).scale * each.scores[score].taken for each in group] for score in (x, y)]
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
        draw=_paneled(results, having, color, panel, (unit(x).label, unit(y).label), points, finish, lines=False),
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
    grouped(having, panel, color, factor)
    numbers = dict(sorted({own: _number(own) for own in levels(having, factor)}.items(), key=lambda item: item[1]))

    def points(ax: Axes, group: Sequence[Result], look: Look, _: float) -> None:
        found: dict[float, list[float]] = {number: [] for number in numbers.values()}
        for result in group:
            found[numbers[result.cell.factors[factor]]].append(unit(score).scale * result.scores[score].taken)
        means = {x: np.mean(values) for x, values in found.items() if values}
        ax.plot(list(means), list(means.values()), color=look.color, linestyle=look.dashes)
        at = [(x, value) for x, values in found.items() for value in values]
        ax.plot(*np.array(at).T, color=look.color, marker=look.marker, **_DOTS)

    def finish(ax: Axes, _: Drawn) -> None:
        if logarithmic:
            ax.set_xscale("log")
        if len(numbers) <= _TICKS:
            ax.xaxis.set_major_locator(FixedLocator(list(numbers.values())))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.3g}"))
            ax.xaxis.set_minor_locator(NullLocator())
        ax.margins(0.05, 0.08)

    what, _, _ = label.partition(" (")
    return _picture(
        f"{score}-against-{what}",
        f"{title(score)} against {what}",
        final(having, score),
        _direction(score),
        "Points are runs, the line joins their means.",
        draw=_paneled(results, having, color, panel, (label, unit(score).label), points, finish),
    )


def spectra(results: Sequence[Result], *, color: str, panel: str | None = None) -> Picture | Words:
    """Return a figure of final singular values relative to the largest, and of their cumulative sum.

    Each value of the factor `panel` has a row of two panels.
    """
    having = [result for result in results if result.width]
    groups = grouped(having, panel, color)
    if not groups:
        return Words("No spectrum was measured.")
    shown, rows = _shown(results, having, color, panel)

    @plots.style()
    def draw() -> Figure:
        both = ("singular values", "cumulative explained variance")
        titles = [f"{titled(panel, row)}: {what}" if len(rows) > 1 else capital(what) for row in rows for what in both]
        figure, axes = panels(titles, across=2, share=False)
        for row, relative, summed in zip(rows, axes[::2], axes[1::2], strict=True):
            for place, look in enumerate(shown):
                if group := groups.get((row, look.label)):
                    _spectra(relative, summed, group, look, place / len(shown))
            plots.relative_axes(relative, below=11)
            relative.set_ylim(min(relative.get_ylim()[0], plots.DEAD / 2), 1.5)
            relative.set_xlim(left=0)
            plots.explained_axes(summed)
        legend(figure, color, shown)
        return figure

    return _picture(
        "spectra",
        "spectra after training",
        {"spectrum": [(result, result.monitor_protocol("auc")) for result in having]},
        "Left, singular values relative to the largest; below 10⁻³ they count as dead, and below 10⁻⁷ "
        "they are drawn at that height. Right, the share of their sum in the leading directions: the area under a "
        "line is its AUC. As [Li22] Fig. 3.",
        _BANDED if any(len(group) > 1 for group in groups.values()) else "One seed.",
        draw=draw,
    )


def _paneled(
    results: Sequence[Result],
    having: Sequence[Result],
    color: str | None,
    panel: str | None,
    labels: tuple[str, str],
    draw_group: Callable[[Axes, Sequence[Result], Look, float], None],
    finish: Callable[[Axes, Drawn], None],
    *,
    lines: bool = True,
) -> Callable[[], Figure]:
    """Return what draws the runs that have a score: those of a color together, in the panel that they belong to."""
    shown, titles = _shown(results, having, color, panel)

    @plots.style()
    def draw() -> Figure:
        figure, axes = panels([titled(panel, name) for name in titles])
        for ax, name in zip(axes, titles, strict=True):
            drawn = []
            for place, look in enumerate(shown):
                if group := [each for each in having if (level(each, panel), level(each, color)) == (name, look.label)]:
                    draw_group(ax, group, look, place / len(shown))
                    drawn.append((group, look))
            finish(ax, drawn)
        outer_labels(axes, *labels)
        legend(figure, color or "", shown, lines=lines)
        return figure

    return draw


def _shown(
    results: Sequence[Result], having: Sequence[Result], color: str | None, panel: str | None
) -> tuple[list[Look], list[str]]:
    """Return how the values of `color` look, and the values of `panel`: those of the runs that have something."""
    own = {(level(each, color), level(each, panel)) for each in having}
    colors, panels = {color for color, _ in own}, {panel for _, panel in own}
    return looks(results, color, colors), [name for name in levels(results, panel) if name in panels]


def _picture(key: str, name: str, measured: Measured, *said: str, draw: Callable[[], Figure]) -> Picture:
    key = key.replace("_", "-").replace(" ", "-")
    return Picture(key, capital(name), sentences(*said, caveats(measured)), draw, protocols(measured))


def _direction(score: str) -> str:
    return f"{capital(said)}." if (said := better(score)) else ""


def _having(results: Sequence[Result], scores: Sequence[str], color: str | None, panel: str | None) -> list[Result]:
    factors = [factor for factor in (color, panel) if factor is not None]
    return [each for each in results if set(scores) <= set(each.scores) and set(factors) <= set(each.cell.factors)]


def _number(value: str) -> float:
    found = re.search(r"\d[\d.]*(e[-+]?\d+)?", value)
    if found is None:
        raise ValueError(f"no number in {value!r}")
    return float(found[0])


@dataclass(frozen=True)
class Shade(Look):
    """One of several values that have an order: the later, the darker."""

    count: int  # how many there are

    @property
    def color(self) -> str:
        """A hexadecimal color."""
        return to_hex(plots.late_is_dark()(self.index / max(1, self.count - 1)))

    @property
    def dashes(self) -> str:
        """A solid line: neighbors are told apart by their markers."""
        return DASHES[0]


def looks(results: Sequence[Result], factor: str | None, shown: Collection[str | None]) -> list[Look]:
    """Return how values of a factor look: shades where they are numbers, such as "5 %", else colors.

    How one looks does not depend on which of the others are finished.
    """
    every = levels(results, factor)
    ordered = len(every) > 2 and all(map(_NUMBER.match, every))
    found = (Shade(own, at, len(every)) if ordered else Look(own, at) for at, own in enumerate(every))
    return [look for look in found if look.label in shown]


def panels(titles: Sequence[str], *, across: int = _ACROSS, share: bool = True) -> tuple[Figure, list[Axes]]:
    """Make a panel for each title, in rows of `across` at most; one without a title has the usual size."""
    columns = len(titles) if len(titles) < across else 2 if len(titles) == 4 else across
    rows = math.ceil(len(titles) / columns)
    figure = Figure(figsize=(WIDE if columns > 1 else plots.SIZE[0], plots.SIZE[1] * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for ax in grid[len(titles) :]:
        ax.remove()
    for ax, name in zip(grid, titles, strict=False):
        ax.set_title(name, loc="left", fontsize=10.5, fontweight="bold", color="#333333", parse_math=False)
    return figure, list(grid[: len(titles)])


def titled(factor: str | None, value: str) -> str:
    """Name a panel: by the factor too where its value is a number.

    >>> titled("width", "16"), titled("encoder", "ResNet-18"), titled(None, "")
    ('width 16', 'ResNet-18', '')
    """
    return f"{factor} {value}" if factor is not None and _NUMBER.match(value) else value


def outer_labels(axes: Sequence[Axes], x: str, y: str) -> None:
    """Name the axes, once a row and column where panels share them."""
    grid = axes[0].get_gridspec()
    columns = grid.ncols if grid is not None else 1
    for place, ax in enumerate(axes):
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        ax.label_outer()
        if place + columns >= len(axes):  # none below it, even where the grid goes on
            ax.xaxis.set_tick_params(labelbottom=True)
            ax.set_xlabel(x)


def legend(figure: Figure, factor: str, shown: Sequence[Look], *, lines: bool = True) -> None:
    """Name colors and markers above the panels, in room of their own; nothing for a single one."""
    if len(shown) < 2:
        return
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle=look.dashes if lines else "none", **plots.EDGE)
        for look in shown
    ]
    room = _HANDLE + _LETTER * max(len(look.label) for look in shown)
    columns = max(1, int(figure.get_figwidth() / room))
    figure.set_figheight(figure.get_figheight() + _LINE * (1 + math.ceil(len(shown) / columns)))
    how = {
        "loc": "outside upper left",
        "alignment": "left",
        "frameon": False,
        "handlelength": 2.2,
        "columnspacing": 1.4,
    }
    box = figure.legend(handles, [look.label for look in shown], ncols=columns, title=factor, **how)
    for text in (*box.get_texts(), box.get_title()):
        text.set_parse_math(False)
    box.get_title().set(fontsize=10.5, color="#555555")


def band(ax: Axes, x: np.ndarray, seeds: np.ndarray, look: Look, phase: float) -> None:
    """Draw the mean of `seeds`, `(S, n)`, over `x`, `(n,)`, and from the lowest to the highest a band."""
    if len(seeds) > 1:
        ax.fill_between(x, seeds.min(axis=0), seeds.max(axis=0), color=look.color, alpha=0.16, linewidth=0)
    ax.plot(x, seeds.mean(axis=0), **plots.line(look, len(x), phase))


def _spectra(relative: Axes, summed: Axes, group: Sequence[Result], look: Look, phase: float) -> None:
    found = [Spectrum(result.run.singular_values[-1]) for result in group]
    values = np.stack([spectrum.singular_values.numpy() for spectrum in found])
    top = np.maximum(values[:, :1], np.finfo(values.dtype).tiny)  # constant features have no direction at all
    place = np.arange(1, values.shape[1] + 1)
    band(relative, place, np.maximum(values / top, plots.LOWEST), look, phase)
    explained = np.stack([spectrum.explained.numpy() for spectrum in found])
    band(summed, 100 * place / place[-1], 100 * explained, look, phase)


def _common(series: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps that all seeds were measured at, `(n,)`, and their values there, `(S, n)`."""
    steps = series[0][0]
    for other, _ in series[1:]:
        steps = np.intersect1d(steps, other)
    return steps, np.stack([values[np.isin(own, steps)] for own, values in series]).astype(np.float64)


def _late_limits(series: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float] | None:
    """Return limits that leave out the first quarter of the steps, where it would take most of the height."""
    late = np.concatenate([values[steps >= _EARLY * steps[-1]] for steps, values in series])
    every = np.concatenate([values for _, values in series])
    late, every = late[np.isfinite(late)], every[np.isfinite(every)]
    if not len(late) or np.ptp(late) == 0 or np.ptp(late) > _ENOUGH * np.ptp(every):
        return None
    return float(late.min() - 0.06 * np.ptp(late)), float(late.max() + 0.06 * np.ptp(late))


def _switch(result: Result) -> int | None:
    config = result.cell.config
    return round(config.switch * config.steps) if config.order == "hybrid" else None
