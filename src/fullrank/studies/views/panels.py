"""Panels side by side with one legend above them, and how the values of a factor look in all figures of a study."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fullrank.documents import Look
from fullrank.documents.looks import DASHES
from fullrank.report.figures import SIZE, late_is_dark

WIDE = 12.4  # inches of a figure with panels beside each other: the page shows it over both its columns
EDGE: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.5}
_NUMBER = re.compile(r"[-−+]?[\d.,]+(e[-+]?\d+)?(\s|$)")
_ACROSS = 3  # panels
_MARKERS = 8  # of a line
_LETTER = 0.085  # inches at most of a letter in a legend
_HANDLE = 0.62  # inches of its line and the room around it
_LINE = 0.22  # inches of its lines


@dataclass(frozen=True)
class Shade(Look):
    """One of several values that have an order: the later, the darker.

    Attributes:
        count: How many there are.
    """

    count: int

    @property
    def color(self) -> str:
        """A hexadecimal colour."""
        return to_hex(late_is_dark()(self.index / max(1, self.count - 1)))

    @property
    def dashes(self) -> str:
        """A solid line: neighbours are told apart by their markers."""
        return DASHES[0]


def looks(levels: Sequence[str], shown: Collection[str]) -> dict[str, Look]:
    """Return how the values of a factor look: shades where they are numbers, such as "5 %", else colours.

    Args:
        levels: All its values: how one looks does not depend on which of the others are finished.
        shown: Those to return.
    """
    ordered = len(levels) > 2 and all(_NUMBER.match(level) for level in levels)
    count = len(levels)
    return {
        level: Shade(level, index, count) if ordered else Look(level, index)
        for index, level in enumerate(levels)
        if level in shown
    }


def panels(titles: Sequence[str], *, across: int = _ACROSS, share: bool = True) -> tuple[Figure, list[Axes]]:
    """Make a panel for each title, in rows; the axes that they share are written once a row and column.

    Args:
        titles: What stands above each; one that is empty stands alone in a figure of the usual size.
        across: Panels in a row at most.
        share: Whether panels have the same axes.
    """
    if len(titles) == 1 and not titles[0]:
        figure = Figure(figsize=SIZE, layout="constrained")
        return figure, [figure.add_subplot()]
    columns = across if across < _ACROSS or len(titles) > 4 else min(len(titles), 2 if len(titles) == 4 else across)
    rows = math.ceil(len(titles) / columns)
    size = (WIDE if columns > 1 else SIZE[0], SIZE[1] * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for ax in grid[len(titles) :]:
        ax.remove()
    for ax, title in zip(grid, titles, strict=False):
        ax.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color="#333333", parse_math=False)
    return figure, list(grid[: len(titles)])


def legend(figure: Figure, factor: str, shown: Mapping[str, Look], *, lines: bool = True) -> None:
    """Name colours and markers above the panels, in room of their own; nothing for a single one."""
    if len(shown) < 2:
        return
    handles = [
        Line2D([], [], color=look.color, marker=look.marker, linestyle=look.dashes if lines else "none", **EDGE)
        for look in shown.values()
    ]
    room = _HANDLE + _LETTER * max(len(label) for label in shown)
    columns = max(1, int(figure.get_figwidth() / room))
    figure.set_figheight(figure.get_figheight() + _LINE * (1 + math.ceil(len(shown) / columns)))
    box = figure.legend(
        handles,
        list(shown),
        loc="outside upper left",
        ncols=columns,
        title=factor,
        alignment="left",
        frameon=False,
        handlelength=2.2,
        columnspacing=1.4,
    )
    for text in (*box.get_texts(), box.get_title()):
        text.set_parse_math(False)
    box.get_title().set(fontsize=10.5, color="#555555")


def titled(factor: str | None, level: str) -> str:
    """Name a panel: by the factor too where its value is a number.

    >>> titled("width", "16"), titled("encoder", "ResNet-18"), titled(None, "")
    ('width 16', 'ResNet-18', '')
    """
    return f"{factor} {level}" if factor is not None and _NUMBER.match(level) else level


def outer_labels(axes: Sequence[Axes], x: str, y: str) -> None:
    """Name the axes, once a row and column where panels share them."""
    grid = axes[0].get_gridspec()
    columns = grid.ncols if grid is not None else 1
    for place, ax in enumerate(axes):
        ax.set_xlabel(x)
        ax.set_ylabel(y)
        if len(axes) > 1:
            ax.label_outer()
        if place + columns >= len(axes):  # none below it, even where the grid goes on
            ax.xaxis.set_tick_params(labelbottom=True)
            ax.set_xlabel(x)


def band(ax: Axes, x: np.ndarray, seeds: np.ndarray, look: Look, phase: float) -> None:
    """Draw the mean of seeds as a line, and from the lowest to the highest a band.

    Args:
        ax: Where to draw.
        x: `(n,)`.
        seeds: `(S, n)`.
        look: The line's.
        phase: In [0, 1), where between two markers the first one is: those of lines beside each other are apart.
    """
    if len(seeds) > 1:
        ax.fill_between(x, seeds.min(axis=0), seeds.max(axis=0), color=look.color, alpha=0.16, linewidth=0)
    every = max(1, len(x) // _MARKERS)
    ax.plot(
        x,
        seeds.mean(axis=0),
        color=look.color,
        linestyle=look.dashes,
        marker=look.marker,
        markevery=(int(phase * every), every),
        **EDGE,
    )
