"""The report's figures.

No run's name is drawn: the page's key and captions carry them, so that long names cost no room and none is
read as a formula. Lines are told apart by color and marker, the same in every figure.

Reference: [Li22] Fig. 3 (singular values) and Fig. 6 (cumulative explained variance).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fullrank.documents import Look
from fullrank.documents.svg import SIZE, style
from fullrank.measure.scores import kind_of
from fullrank.measure.spectrum import Spectrum
from fullrank.report.side import Side
from fullrank.training.scores import series

POINTS = 300  # of a line over steps; more cannot be seen and make the page heavy
MEASUREMENTS = 40  # lines in a figure through training
DIRECTIONS = 256  # points of a line in a figure through training
LOWEST = 1e-7  # of the largest singular value: float32's noise lies there, and smaller values say nothing more
DEAD = 1e-3
Shown = tuple[Look, Spectrum]
REFERENCE: dict[str, Any] = {"color": "#444444", "linewidth": 1.0, "linestyle": (0, (1, 2))}


def over_steps(
    sides: Sequence[Side],
    name: str,
    *,
    title: str,
    scale: float = 1.0,
    references: Callable[[Side], tuple[float, str] | None] = lambda side: None,
) -> Figure:
    """Draw one quantity of the records over gradient steps, a line for each run.

    Args:
        sides: The runs.
        name: The quantity's name in the records.
        title: The label of the vertical axis, with its unit.
        scale: Factor from the record's unit to the axis'.
        references: Gives a run's reference value, on the axis' scale, and its name.
    """
    lines = {side.index: _series(side, name) for side in sides}
    with style():
        figure, ax = _axes()
        for side in sides:
            steps, values = _thin(*lines[side.index])
            ax.plot(steps, values * scale, **_line(side, len(steps), max(1, len(sides))))
        drawn = [reference for side in sides if len(lines[side.index][0]) and (reference := references(side))]
        for place, (value, text) in enumerate(dict.fromkeys(drawn)):
            ax.axhline(value, **REFERENCE)
            ax.annotate(
                text,
                (1 - 0.25 * place, value),
                (-2, 3),
                xycoords=ax.get_yaxis_transform(),
                textcoords="offset points",
                ha="right",
            ).set(fontsize=9, color="#444444")
        _step_axis(ax, sides)
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


def spectra_through_training(side: Side, beside: Sequence[Side]) -> Figure:
    """Draw a run's singular values at each measured step, on axes that hold those of all runs beside it."""
    top = max(float(other.run.singular_values.max()) for other in beside if other.width)
    low = min(_lowest(other) for other in beside if other.width)
    low = max(low, LOWEST * top) if top > 0 else LOWEST
    shown = np.maximum(side.run.singular_values, low)
    k = np.arange(1, shown.shape[1] + 1)
    with style():
        figure, ax = _axes()
        _through_training(figure, ax, side, beside, k, shown)
        ax.set_yscale("log")
        ax.set_ylim(low * 0.7, max(top, low) * 1.5)
        ax.set_xlim(0, max(other.width or 0 for other in beside) * 1.01 + 1)
        ax.set_xlabel("direction, largest first")
        ax.set_ylabel("singular value")
        return figure


def explained_through_training(side: Side, beside: Sequence[Side]) -> Figure:
    """Draw a run's cumulative explained variance at each measured step; the area under a line is its AUC."""
    spectra = [side.spectrum(row) for row in range(len(side.run.singular_values))]
    shown = np.stack([spectrum.explained.numpy() for spectrum in spectra])
    share = np.arange(1, shown.shape[1] + 1) / shown.shape[1]
    with style():
        figure, ax = _axes()
        all_equal(ax)
        _through_training(figure, ax, side, beside, 100 * share, 100 * shown)
        explained_axes(ax)
        return figure


def relative_spectra(shown: Sequence[Shown], beside: Sequence[Shown] = ()) -> Figure:
    """Draw spectra, each relative to its largest singular value; thin and dotted those `beside` them."""
    with style():
        figure, ax = _axes()
        lowest = 1.0
        for look, spectrum in shown:
            relative = _relative(spectrum)
            lowest = min(lowest, float(relative[-1]))
            ax.plot(np.arange(1, spectrum.dim + 1), relative, **_line(look, spectrum.dim, len(shown)))
        for look, spectrum in beside:
            ax.plot(np.arange(1, spectrum.dim + 1), _relative(spectrum), **_thin_line(look))
        ax.axhline(DEAD, **REFERENCE)
        ax.annotate(
            "dead below 10⁻³",
            (0, DEAD),
            (4, 3),
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
        ).set(fontsize=9, color="#444444")
        ax.set_yscale("log")
        ax.set_ylim(min(lowest * 0.7, DEAD / 2), 1.5)
        ax.set_xlim(0, max(spectrum.dim for _, spectrum in shown) * 1.01 + 1)
        ax.set_xlabel("direction, largest first")
        ax.set_ylabel("singular value / the largest")
        return figure


def say_dead(shown: Sequence[Shown]) -> str:
    """Say in words what `relative_spectra` draws."""
    dead = [f"{look.label}: {spectrum.dead()} of {spectrum.dim} below 1e-3." for look, spectrum in shown]
    return f"Singular values, relative to the largest. {' '.join(dead)}"


def explained(shown: Sequence[Shown], beside: Sequence[Shown] = ()) -> Figure:
    """Draw cumulative explained variances over the share of directions; thin and dotted those `beside` them."""
    with style():
        figure, ax = _axes()
        all_equal(ax)
        for look, spectrum in shown:
            ax.plot(*_cumulative(spectrum), **_line(look, spectrum.dim, len(shown)))
        for look, spectrum in beside:
            ax.plot(*_cumulative(spectrum), **_thin_line(look))
        explained_axes(ax)
        return figure


def say_areas(shown: Sequence[Shown]) -> str:
    """Say in words what `explained` draws."""
    areas = [f"{look.label}: {spectrum.auc:.3f}." for look, spectrum in shown]
    return f"Cumulative explained variance. The area under each line: {' '.join(areas)}"


def _relative(spectrum: Spectrum) -> np.ndarray:
    values = spectrum.singular_values.numpy()
    return np.maximum(values / values[0] if values[0] > 0 else values, LOWEST)


def _cumulative(spectrum: Spectrum) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of directions and their share of the sum, in per cent."""
    return 100 * np.arange(1, spectrum.dim + 1) / spectrum.dim, 100 * spectrum.explained.numpy()


def _thin_line(look: Look) -> dict[str, Any]:
    return {"color": look.color, "linewidth": 1.0, "linestyle": (0, (1, 2)), "alpha": 0.9}


def _line(look: Look, points: int, lines: int) -> dict[str, Any]:
    """Tell a line from others beside it by color, dashes and markers that do not hide one another."""
    every = max(1, points // 8)
    return {
        "color": look.color,
        "linestyle": look.dashes,
        "marker": look.marker,
        "markevery": (look.index * every // lines, every),
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
    }


def all_equal(ax: Axes) -> None:
    """Draw the cumulative explained variance of equal singular values."""
    ax.plot([0, 100], [0, 100], **REFERENCE)
    ax.annotate("all equal", (72, 72), (4, -4), textcoords="offset points", va="top").set(fontsize=9, color="#444444")


def explained_axes(ax: Axes) -> None:
    """Set the axes of cumulative explained variances, in per cent."""
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 102)
    ax.set_xlabel("share of the directions, largest first (%)")
    ax.set_ylabel("share of the sum of singular values (%)", fontsize=9.5)


def _axes() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, layout="constrained")
    return figure, figure.add_subplot()


def _through_training(
    figure: Figure, ax: Axes, side: Side, beside: Sequence[Side], x: np.ndarray, lines: np.ndarray
) -> None:
    """Draw one line a measured step, early ones light, late ones dark, on a scale common to all runs."""
    colors, norm = late_is_dark(), Normalize(0, max(1, *(other.planned for other in beside)))
    points = np.unique(np.linspace(0, len(x) - 1, DIRECTIONS).round().astype(int))
    for row in np.unique(np.linspace(0, len(lines) - 1, MEASUREMENTS).round().astype(int)):
        step = int(side.run.spectrum_steps[row])
        look: dict[str, Any] = {"color": colors(norm(step)), "linewidth": 1.1}
        if step == 0:
            look = {"color": "#D55E00", "linewidth": 1.3, "linestyle": "--", "zorder": 3}
        ax.plot(x[points], lines[row][points], **look)
    bar = figure.colorbar(ScalarMappable(norm, colors), ax=ax, aspect=28, pad=0.02, format=FuncFormatter(short))
    bar.set_label("gradient step")
    bar.locator = MaxNLocator(4, integer=True)
    bar.outline.set_visible(False)
    bar.update_ticks()


def late_is_dark() -> Colormap:
    """Viridis reversed, without the yellow that white swallows; few colors keep the scale's SVG small."""
    return ListedColormap(matplotlib.colormaps["viridis_r"](np.linspace(0.12, 1.0, 32)))


def _step_axis(ax: Axes, sides: Sequence[Side]) -> None:
    last = max(1, *(max(side.planned, side.reached) for side in sides))
    ax.set_xlim(-0.015 * last, 1.015 * last)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(short))
    ax.set_xlabel("gradient step")
    switches: dict[int, list[str]] = {}
    for side in sides:
        if side.switch is not None:
            switches.setdefault(side.switch, []).append(side.color)
    for step, colors in switches.items():
        ax.axvline(step, color=colors[0] if len(colors) == 1 else "#666666", linewidth=0.8, alpha=0.8)


def short(step: float, _: Any = None) -> str:
    """Write a step so that 500,400 of them fit under an axis.

    >>> short(1500), short(50000), short(1.5e6)
    ('1500', '50k', '1.5M')
    """
    if abs(step) >= 1e6:
        return f"{step / 1e6:g}M"
    return f"{step / 1e3:g}k" if abs(step) >= 1e4 else f"{step:g}"


def _series(side: Side, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values, with a gap where a value is not a number."""
    steps, values = (np.array(each, dtype=np.float64) for each in series(side.run, name))
    return steps, np.where(np.isfinite(values), values, np.nan)


def _thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbours until a line has few enough points; its first and last step stay in place."""
    size = math.ceil(len(steps) / POINTS)
    if size <= 1:
        return steps, values
    starts = np.arange(0, len(steps), size)
    counts = np.diff(np.append(starts, len(steps)))
    middles = np.add.reduceat(steps, starts) / counts
    middles[0], middles[-1] = steps[0], steps[-1]
    return middles, np.add.reduceat(values, starts) / counts


def _lowest(side: Side) -> float:
    values = side.run.singular_values
    return float(values[values > 0].min()) if (values > 0).any() else math.inf
