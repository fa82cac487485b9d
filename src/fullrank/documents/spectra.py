"""Spectra side by side, as pages of runs and of inspections show them.

Reference: [Li22] Fig. 3 (singular values) and Fig. 6 (cumulative explained variance).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fullrank.documents import Look, plots
from fullrank.measure.spectrum import Spectrum

Shown = tuple[Look, Spectrum]
_THIN = {"linewidth": 1.0, "linestyle": (0, (1, 2)), "alpha": 0.9}


@plots.style()
def relative_spectra(shown: Sequence[Shown], beside: Sequence[Shown] = ()) -> Figure:
    """Draw spectra, each relative to its largest singular value; thin and dotted those `beside` them."""
    figure, ax = plots.single()
    lowest = 1.0
    for place, (look, spectrum) in enumerate((*shown, *beside)):
        values = spectrum.singular_values.numpy()
        relative = np.maximum(values / values[0] if values[0] > 0 else values, plots.LOWEST)
        ax.plot(np.arange(1, spectrum.dim + 1), relative, **_line(look, spectrum, place, len(shown)))
        lowest = min(lowest, float(relative[-1])) if place < len(shown) else lowest
    plots.relative_axes(ax, below=-3)
    ax.set_ylim(min(lowest * 0.7, plots.DEAD / 2), 1.5)
    ax.set_xlim(0, max(spectrum.dim for _, spectrum in shown) * 1.01 + 1)
    return figure


def say_dead(shown: Sequence[Shown]) -> str:
    """Say in words what `relative_spectra` draws."""
    dead = [f"{look.label}: {spectrum.dead()} of {spectrum.dim} below 1e-3." for look, spectrum in shown]
    return f"Singular values, relative to the largest. {' '.join(dead)}"


@plots.style()
def explained(shown: Sequence[Shown], beside: Sequence[Shown] = ()) -> Figure:
    """Draw cumulative explained variances over the share of directions; thin and dotted those `beside` them."""
    figure, ax = plots.single()
    for place, (look, spectrum) in enumerate((*shown, *beside)):
        share = 100 * np.arange(1, spectrum.dim + 1) / spectrum.dim
        ax.plot(share, 100 * spectrum.explained.numpy(), **_line(look, spectrum, place, len(shown)))
    plots.explained_axes(ax)
    return figure


def say_areas(shown: Sequence[Shown]) -> str:
    """Say in words what `explained` draws."""
    areas = [f"{look.label}: {spectrum.auc:.3f}." for look, spectrum in shown]
    return f"Cumulative explained variance. The area under each line: {' '.join(areas)}"


def _line(look: Look, spectrum: Spectrum, place: int, shown: int) -> dict[str, Any]:
    """Return how a spectrum is drawn: one of those shown, or thin and dotted beside them."""
    return plots.line(look, spectrum.dim, look.index / shown) if place < shown else {"color": look.color, **_THIN}
