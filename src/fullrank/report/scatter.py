"""The figures of a ranking, each an inline SVG element: loss against AUC, forecast against measured, correlations.

Points carry the numbers that the page's table gives the runs, placed so that none hides another.

Reference: [Li22] Fig. 4, accuracy against its forecast from held-out loss and AUC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from fullrank.ranking.names import FEATURES
from fullrank.ranking.result import Ranked, Standing
from fullrank.report.figures import REFERENCE, SIZE
from fullrank.report.look import COLOURS
from fullrank.report.svg import inline_svg, style

_POINT = 6.5  # points across
_NUMBER_SIZE = 8.0  # points
_DIGIT = (4.9, 7.6)  # width and height of a digit of that size, in points
_REACHES = (9.5, 14.0, 20.0, 27.0)  # how far a number may stand from its point, in points
_UNLABELLED = "#9a9a9a"
_ROW = 0.27  # inches
Box = tuple[float, float, float, float]


def loss_against_auc(standings: Sequence[Standing], *, key: str, accuracy: str | None) -> str:
    """Draw held-out loss against AUC, the first front as a staircase, the colour of each point its accuracy.

    Args:
        standings: Those of one group.
        key: Prefix of the figure's ids.
        accuracy: What the accuracy is called; None where no run has any.
    """
    x, y = (np.array([each.candidate.scores[name].value for each in standings]) for name in FEATURES)
    first = sorted((i for i, each in enumerate(standings) if each.front == 1), key=lambda i: (x[i], y[i]))
    known = [each.accuracy.value for each in standings if each.accuracy is not None]
    colours = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, 32)))
    span = (100 * min(known), 100 * max(known)) if known else (0.0, 0.0)
    norm = Normalize(*span)
    with style():
        figure = Figure(figsize=SIZE, layout="constrained")
        ax = figure.add_subplot()
        for i, each in enumerate(standings):
            colour: Any = _UNLABELLED
            if each.accuracy is not None:
                colour = colours(norm(100 * each.accuracy.value))
            face = "white" if each.accuracy is None and known else colour
            ax.plot(x[i], y[i], "o", markersize=_POINT, color=colour, markerfacecolor=face, zorder=3)
        ax.margins(0.1)
        low, high = ax.get_xlim(), ax.get_ylim()
        stairs_x, stairs_y = [x[i] for i in first], [y[i] for i in first]
        ax.step([stairs_x[0], *stairs_x, low[1]], [high[1], *stairs_y, stairs_y[-1]], where="post", **REFERENCE)
        ax.set_xlim(low)
        ax.set_ylim(high)
        ax.set_xlabel("held-out loss, lower is better")
        ax.set_ylabel("AUC, lower is better")
        if span[0] < span[1]:
            bar = figure.colorbar(ScalarMappable(norm, colours), ax=ax, aspect=28, pad=0.02)
            bar.set_label(f"{accuracy} (%)")
            bar.outline.set_visible(False)
        _number(figure, ax, standings, x, y)
        said = [f"{each.number}: {x[i]:.4g}, {y[i]:.4g}, front {each.front}." for i, each in enumerate(standings)]
        return inline_svg(figure, key, f"Held-out loss and AUC of each run, by its number. {' '.join(said)}")


def forecast_against_measured(standings: Sequence[Standing], *, key: str, accuracy: str) -> str:
    """Draw forecasts with their intervals against measured accuracies; empty where no run has both.

    Args:
        standings: Those of one group.
        key: Prefix of the figure's ids.
        accuracy: What the accuracy is called.
    """
    both = [
        (each, each.forecast, each.accuracy.value)
        for each in standings
        if each.forecast is not None and each.accuracy is not None
    ]
    if not both:
        return ""
    x = np.array([100 * found.value for _, found, _ in both])
    y = np.array([100 * value for _, _, value in both])
    reach = np.array([[x[i] - 100 * f.lower, 100 * f.upper - x[i]] for i, (_, f, _) in enumerate(both)]).T
    with style():
        figure = Figure(figsize=SIZE, layout="constrained")
        ax = figure.add_subplot()
        ax.errorbar(x, y, xerr=reach, fmt="none", ecolor="#c4c4c4", elinewidth=1.0, zorder=2)
        ax.plot(x, y, "o", markersize=_POINT, color=COLOURS[0], zorder=3)
        ax.margins(0.06)
        ends = min(x.min(), y.min()), max(x.max(), y.max())
        low, high = ax.get_xlim(), ax.get_ylim()
        ax.axline((ends[0], ends[0]), (ends[1], ends[1] + 1e-9), **REFERENCE)
        ax.set_xlim(low)
        ax.set_ylim(min(high[0], ends[0]), max(high[1], ends[1]))
        ax.set_xlabel(f"forecast {accuracy} (%), 95 % interval")
        ax.set_ylabel("measured (%)")
        _number(figure, ax, [each for each, _, _ in both], x, y)
        said = [f"{each.number}: {x[i]:.1f}, {y[i]:.1f}." for i, (each, _, _) in enumerate(both)]
        return inline_svg(figure, key, f"Forecast and measured {accuracy} of each run, per cent. {' '.join(said)}")


def correlations(rows: Sequence[Ranked], names: Sequence[str], *, key: str) -> str:
    """Draw each score's Kendall tau-b with its interval, in the order given; empty where none has one.

    Args:
        rows: The scores.
        names: What to call them.
        key: Prefix of the figure's ids.
    """
    shown = [(name, row.agreement) for name, row in zip(names, rows, strict=True) if row.agreement is not None]
    if not shown:
        return ""
    with style():
        figure = Figure(figsize=(SIZE[0], 0.75 + _ROW * len(shown)), layout="constrained")
        ax = figure.add_subplot()
        for at, (_, found) in enumerate(shown):
            colour = COLOURS[0] if found.directed else _UNLABELLED
            if found.kendall_interval is not None:
                ax.plot(found.kendall_interval, [at, at], color=colour, linewidth=1.4, alpha=0.6)
            ax.plot(found.kendall, at, "o", color=colour)
        ax.axvline(0, **REFERENCE)
        ax.set_yticks(range(len(shown)), [_plain(name) for name, _ in shown])
        ax.set_ylim(len(shown) - 0.4, -0.6)
        ax.set_xlim(-1.04, 1.04)
        ax.set_xlabel("Kendall tau-b with the accuracy, 95 % interval")
        said = [f"{name}: {found.kendall:+.2f}." for name, found in shown]
        return inline_svg(figure, key, f"Rank correlation of each score with the accuracy. {' '.join(said)}")


def _plain(name: str) -> str:
    return name.replace("$", r"\$")  # never a formula


def _number(figure: Figure, ax: Axes, standings: Sequence[Standing], x: np.ndarray, y: np.ndarray) -> None:
    """Write each run's number beside its point, where it hides neither a point nor another number."""
    figure.draw_without_rendering()  # the layout decides where points are
    scale = 72 / figure.dpi
    points = [(scale * px, scale * py) for px, py in ax.transData.transform(np.column_stack([x, y]))]
    frame = ax.get_window_extent()
    inside = (scale * frame.x0, scale * frame.y0, scale * frame.x1, scale * frame.y1)
    half = _POINT / 2 + 0.5
    taken: list[Box] = [(px - half, py - half, px + half, py + half) for px, py in points]
    for each, (px, py), at_x, at_y in zip(standings, points, x, y, strict=True):
        text = str(each.number)
        dx, dy = _offset((px, py), len(text), taken, inside)
        width, height = _DIGIT[0] * len(text) / 2, _DIGIT[1] / 2
        taken.append((px + dx - width, py + dy - height, px + dx + width, py + dy + height))
        far = (dx**2 + dy**2) ** 0.5 > _REACHES[0] + 4
        ax.annotate(
            text,
            (at_x, at_y),
            (dx, dy),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=_NUMBER_SIZE,
            color="#333333",
            zorder=4,
            arrowprops={"arrowstyle": "-", "color": "#9a9a9a", "linewidth": 0.6, "shrinkB": 3} if far else None,
        )


def _offset(point: tuple[float, float], digits: int, taken: Sequence[Box], inside: Box) -> tuple[float, float]:
    """Return how far from its point a number stands: the nearest place that is free, else the least crowded one."""
    width, height = _DIGIT[0] * digits / 2 + 0.5, _DIGIT[1] / 2 + 0.5
    best, least = (0.0, _REACHES[0]), float("inf")
    for reach in _REACHES:
        for angle in (45, 135, -45, -135, 0, 180, 90, -90, 22, 158, -22, -158, 68, 112, -68, -112):
            dx = float(np.cos(np.radians(angle))) * (reach + width - 2)
            dy = float(np.sin(np.radians(angle))) * reach
            box = (point[0] + dx - width, point[1] + dy - height, point[0] + dx + width, point[1] + dy + height)
            hidden = sum(_overlap(box, other) for other in taken) + _beyond(box, inside)
            if hidden == 0:
                return dx, dy
            if hidden < least:
                best, least = (dx, dy), hidden
    return best


def _overlap(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return wide * high if wide > 0 and high > 0 else 0.0


def _beyond(box: Box, inside: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, inside)
