"""The figures of runs and spectra.

No run's name is drawn: the page's key and captions carry them, so that long names cost no room and none is
read as a formula.

Reference: [Li22] Fig. 3 (singular values) and Fig. 6 (cumulative explained variance).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fullrank.documents import plots
from fullrank.measure.scores import kind_of
from fullrank.report.side import Side
from fullrank.training.scores import series

POINTS = 300  # of a line over steps; more cannot be seen and make the page heavy
MEASUREMENTS = 40  # lines in a figure through training
DIRECTIONS = 256  # points of a line in a figure through training


@plots.style()
def over_steps(sides: Sequence[Side], name: str, title: str) -> Figure:
    """Draw a quantity of the records over gradient steps, a line for each run; dotted what equal directions give."""
    figure, ax = plots.single()
    scale, references = kind_of(name).scale, {}
    for side in sides:
        steps, values = _thin(*_series(side, name))
        ax.plot(steps, values * scale, **plots.line(side, len(steps), side.index / len(sides)))
        out = (side.run.config.get("heads") or {}).get("projector_out")
        if name == "auc" and side.run.width and len(steps):
            references[(side.run.width + 1) / (2 * side.run.width)] = f"floor, D = {side.run.width}"
        elif name == "std" and out and len(steps):
            references[out**-0.5] = f"1/√M, M = {out}"
    for place, (value, text) in enumerate(references.items()):
        ax.axhline(value, **plots.REFERENCE)
        plots.aside(ax, text, (1 - 0.25 * place, value), (-2, 3), xycoords=ax.get_yaxis_transform(), ha="right")
    last = max(1, *(max(side.run.planned, side.run.reached) for side in sides))
    ax.set_xlim(-0.015 * last, 1.015 * last)
    plots.step_axis(ax)
    plots.mark_switches(ax, [(side.run.switch, side.color) for side in sides])
    ax.set_ylabel(title)
    return figure


def say_ends(sides: Sequence[Side], name: str, title: str) -> str:
    """Say in words what `over_steps` draws; empty where no run has it."""
    said = []
    for side in sides:
        steps, values = _series(side, name)
        if len(steps):
            first, last = (kind_of(name).write(v) if np.isfinite(v) else "no number" for v in values[[0, -1]])
            said.append(f"{side.label}: {first} at step {steps[0]:,.0f}, {last} at step {steps[-1]:,.0f}.")
    return f"{title} over gradient steps. {' '.join(said)}" if said else ""


@plots.style()
def spectra_through_training(side: Side, beside: Sequence[Side]) -> Figure:
    """Draw a run's singular values at each measured step, on axes that hold those of all runs beside it."""
    every = [other.run.singular_values for other in beside if other.run.width]
    top = max(float(values.max()) for values in every)
    low = min((float(values[values > 0].min()) for values in every if (values > 0).any()), default=math.inf)
    low = max(low, plots.LOWEST * top) if top > 0 else plots.LOWEST
    shown = np.maximum(side.run.singular_values, low)
    figure, ax = plots.single()
    _through_training(figure, ax, side, beside, np.arange(1, shown.shape[1] + 1), shown)
    ax.set_yscale("log")
    ax.set_ylim(low * 0.7, max(top, low) * 1.5)
    ax.set_xlim(0, max(other.run.width or 0 for other in beside) * 1.01 + 1)
    ax.set_xlabel("direction, largest first")
    ax.set_ylabel("singular value")
    return figure


@plots.style()
def explained_through_training(side: Side, beside: Sequence[Side]) -> Figure:
    """Draw a run's cumulative explained variance at each measured step; the area under a line is its AUC."""
    shown = np.stack([side.run.spectrum(row).explained.numpy() for row in range(len(side.run.singular_values))])
    share = np.arange(1, shown.shape[1] + 1) / shown.shape[1]
    figure, ax = plots.single()
    _through_training(figure, ax, side, beside, 100 * share, 100 * shown)
    plots.explained_axes(ax)
    return figure


def _through_training(
    figure: Figure, ax: Axes, side: Side, beside: Sequence[Side], x: np.ndarray, lines: np.ndarray
) -> None:
    """Draw one line a measured step, early ones light, late ones dark, on a scale common to all runs."""
    colors, norm = plots.late_is_dark(), Normalize(0, max(1, *(other.run.planned for other in beside)))
    points = np.unique(np.linspace(0, len(x) - 1, DIRECTIONS).round().astype(int))
    for row in np.unique(np.linspace(0, len(lines) - 1, MEASUREMENTS).round().astype(int)):
        step = int(side.run.spectrum_steps[row])
        look: dict[str, Any] = {"color": colors(norm(step)), "linewidth": 1.1}
        if step == 0:
            look = {"color": "#D55E00", "linewidth": 1.3, "linestyle": "--", "zorder": 3}
        ax.plot(x[points], lines[row][points], **look)
    bar = figure.colorbar(ScalarMappable(norm, colors), ax=ax, aspect=28, pad=0.02, format=FuncFormatter(plots.short))
    bar.set_label("gradient step")
    bar.locator = MaxNLocator(4, integer=True)
    bar.outline.set_visible(False)
    bar.update_ticks()


def _series(side: Side, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values, with a gap where a value is not a number."""
    steps, values = (np.array(each, dtype=np.float64) for each in series(side.run, name))
    return steps, np.where(np.isfinite(values), values, np.nan)


def _thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbors until a line has few enough points; its first and last step stay in place."""
    size = math.ceil(len(steps) / POINTS)
    if size <= 1:
        return steps, values
    starts = np.arange(0, len(steps), size)
    counts = np.diff(np.append(starts, len(steps)))
    middles = np.add.reduceat(steps, starts) / counts
    middles[0], middles[-1] = steps[0], steps[-1]
    return middles, np.add.reduceat(values, starts) / counts
