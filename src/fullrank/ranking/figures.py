"""The figures of a ranking: loss against AUC, and forecast against measured accuracy.

Points carry the numbers that the page's table gives the runs.

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

from fullrank.documents import COLORS
from fullrank.documents.plots import REFERENCE, single, style
from fullrank.ranking.candidates import FEATURES
from fullrank.ranking.result import Standing

_POINT = 6.5  # points across
_UNLABELED = "#9a9a9a"


@style()
def loss_against_auc(standings: Sequence[Standing], accuracy: str | None) -> Figure:
    """Draw held-out loss against AUC, the first front as a staircase, the color of each point its accuracy."""
    x, y = (np.array([each.scores[name].taken for each in standings]) for name in FEATURES)
    first = sorted((i for i, each in enumerate(standings) if each.front == 1), key=lambda i: (x[i], y[i]))
    known = [each.accuracy.taken for each in standings if each.accuracy is not None]
    colors = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, 32)))
    span = (100 * min(known), 100 * max(known)) if known else (0.0, 0.0)
    norm = Normalize(*span)
    figure, ax = single()
    for i, each in enumerate(standings):
        color: Any = _UNLABELED if each.accuracy is None else colors(norm(100 * each.accuracy.taken))
        face = "white" if each.accuracy is None and known else color
        ax.plot(x[i], y[i], "o", markersize=_POINT, color=color, markerfacecolor=face, zorder=3)
    ax.margins(0.1)
    low, high = ax.get_xlim(), ax.get_ylim()
    stairs_x, stairs_y = [x[i] for i in first], [y[i] for i in first]
    ax.step([stairs_x[0], *stairs_x, low[1]], [high[1], *stairs_y, stairs_y[-1]], where="post", **REFERENCE)
    ax.set_xlim(low)
    ax.set_ylim(high)
    ax.set_xlabel("held-out loss, lower is better")
    ax.set_ylabel("AUC, lower is better")
    if span[0] < span[1]:
        bar = figure.colorbar(ScalarMappable(norm, colors), ax=ax, aspect=28, pad=0.02)
        bar.set_label(f"{accuracy} (%)")
        bar.outline.set_visible(False)
    _number(ax, standings, x, y)
    return figure


@style()
def forecast_against_measured(standings: Sequence[Standing], accuracy: str) -> Figure:
    """Draw forecasts with their intervals against measured accuracies, of standings that have both."""
    found = [each.forecast for each in standings if each.forecast is not None]
    x = np.array([100 * each.value for each in found])
    y = np.array([100 * each.accuracy.taken for each in standings if each.accuracy is not None])
    reach = np.array([[x[i] - 100 * each.lower, 100 * each.upper - x[i]] for i, each in enumerate(found)]).T
    figure, ax = single()
    ax.errorbar(x, y, xerr=reach, fmt="none", ecolor="#c4c4c4", elinewidth=1.0, zorder=2)
    ax.plot(x, y, "o", markersize=_POINT, color=COLORS[0], zorder=3)
    ax.margins(0.06)
    ends = min(x.min(), y.min()), max(x.max(), y.max())
    low, high = ax.get_xlim(), ax.get_ylim()
    ax.axline((ends[0], ends[0]), (ends[1], ends[1] + 1e-9), **REFERENCE)
    ax.set_xlim(low)
    ax.set_ylim(min(high[0], ends[0]), max(high[1], ends[1]))
    ax.set_xlabel(f"forecast {accuracy} (%), 95 % interval")
    ax.set_ylabel("measured (%)")
    _number(ax, standings, x, y)
    return figure


def _number(ax: Axes, standings: Sequence[Standing], x: np.ndarray, y: np.ndarray) -> None:
    for each, at_x, at_y in zip(standings, x, y, strict=True):
        ax.annotate(str(each.number), (at_x, at_y), (5, 4), textcoords="offset points", fontsize=8, color="#333333")
