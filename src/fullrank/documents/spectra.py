"""Spectra side by side, as pages of runs and of inspections show them.

Reference: [Li22] Fig. 3 (singular values) and Fig. 6 (cumulative explained variance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fullrank.documents import Look, plots
from fullrank.measure.spectrum import Spectrum

Shown = tuple[Look, Spectrum]
_THIN = {"linewidth": 1.0, "linestyle": (0, (1, 2)), "alpha": 0.9}


@plots.style()
def relative_spectra(shown: Sequence[Shown], beside: Sequence[Shown] = ()) -> Figure:
    """Draw spectra, each relative to its largest singular value; thin and dotted those `beside` them."""
    figure, ax = plots.single()
    lowest = min(draw_relative(ax, [spectrum], _line(look, spectrum, len(shown))) for look, spectrum in shown)
    for look, spectrum in beside:
        draw_relative(ax, [spectrum], {"color": look.color, **_THIN})
    plots.relative_axes(ax, below=-3)
    ax.set_ylim(min(lowest * 0.7, plots.DEAD / 2), 1.5)
    ax.set_xlim(0, max(spectrum.dim for _, spectrum in shown) * 1.01 + 1)
    return figure


def draw_relative(ax: Axes, seeds: Sequence[Spectrum], how: Mapping[str, Any]) -> float:
    """Draw singular values relative to the largest, of one encoder or several seeds; return the lowest."""
    values = np.stack([spectrum.singular_values.numpy() for spectrum in seeds])
    top = np.maximum(values[:, :1], np.finfo(values.dtype).tiny)  # constant features have no direction at all
    relative = np.maximum(values / top, plots.LOWEST)
    plots.band(ax, np.arange(1, values.shape[1] + 1), relative, how)
    return float(relative.min())


def say_dead(shown: Sequence[Shown]) -> str:
    """Say in words what `relative_spectra` draws."""
    dead = [f"{look.label}: {spectrum.dead()} of {spectrum.dim} below 1e-3." for look, spectrum in shown]
    return f"Singular values, relative to the largest. {' '.join(dead)}"


@plots.style()
def explained(shown: Sequence[Shown], beside: Sequence[Shown] = ()) -> Figure:
    """Draw cumulative explained variances over the share of directions; thin and dotted those `beside` them."""
    figure, ax = plots.single()
    for look, spectrum in shown:
        draw_explained(ax, [spectrum], _line(look, spectrum, len(shown)))
    for look, spectrum in beside:
        draw_explained(ax, [spectrum], {"color": look.color, **_THIN})
    plots.explained_axes(ax)
    return figure


def draw_explained(ax: Axes, seeds: Sequence[Spectrum], how: Mapping[str, Any]) -> None:
    """Draw cumulative explained variances over the share of directions, of one encoder or several seeds."""
    explained = np.stack([spectrum.explained.numpy() for spectrum in seeds])
    plots.band(ax, 100 * np.arange(1, explained.shape[1] + 1) / explained.shape[1], 100 * explained, how)


def say_areas(shown: Sequence[Shown]) -> str:
    """Say in words what `explained` draws."""
    areas = [f"{look.label}: {spectrum.auc:.3f}." for look, spectrum in shown]
    return f"Cumulative explained variance. The area under each line: {' '.join(areas)}"


def _line(look: Look, spectrum: Spectrum, shown: int) -> dict[str, Any]:
    return plots.line(look, spectrum.dim, look.index / shown)
