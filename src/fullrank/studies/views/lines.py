"""Figures of lines with a band of seeds: scores through training, and final spectra.

Reference: [Li22] Fig. 3 (singular values), 5 and 6 (accuracy and AUC through training).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from fullrank.documents import Look, Picture, Words
from fullrank.documents.svg import style
from fullrank.measure.spectrum import Spectrum
from fullrank.report.figures import DEAD, LOWEST, REFERENCE, all_equal, explained_axes, short
from fullrank.studies.study import Result
from fullrank.studies.views.groups import grouped, levels
from fullrank.studies.views.panels import band, legend, looks, outer_labels, panels, titled
from fullrank.studies.views.scores import better, caveats, is_loss, monitored, name, protocols, sentences, unit
from fullrank.text import capital

_EARLY = 0.25  # of the steps
_ENOUGH = 0.5  # of the height, for what comes later
_BANDED = "Lines are means over seeds, bands reach from the lowest to the highest seed."


def through_training(
    results: Sequence[Result], score: str, *, colour: str, panel: str | None = None
) -> Picture | Words:
    """Return a figure of a monitored score over gradient steps; words where nobody has it.

    Args:
        results: Finished runs.
        score: The score's name.
        colour: The factor whose values are told apart by colour.
        panel: The factor whose values have a panel each.
    """
    how = unit(score)
    having = [result for result in results if len(result.series(score)[0])]
    groups = grouped(having, panel, colour)
    if not groups:
        return Words(f"{capital(name(score))} was not measured while these runs were trained.")
    shown = looks(levels(results, colour), {level for _, level in groups})
    titles = [title for title in levels(results, panel) if any(title == own for own, _ in groups)]
    limits = _late_limits([each.series(score) for each in having]) if is_loss(score) else None

    def draw() -> Figure:
        with style():
            figure, axes = panels([titled(panel, title) for title in titles])
            for ax, title in zip(axes, titles, strict=True):
                first = {}
                for place, (level, look) in enumerate(shown.items()):
                    if group := groups.get((title, level)):
                        first[look.color] = group[0]
                        steps, values = _common([result.series(score) for result in group])
                        band(ax, steps, how.scale * values, look, place / len(shown))
                _mark_switches(ax, first)
                _step_axis(ax)
            if limits is not None:
                for ax in axes:
                    ax.set_ylim(limits)
            outer_labels(axes, "gradient step", how.label)
            legend(figure, colour, shown)
            return figure

    measured = monitored(having, score)
    switches = any(_switch(result) is not None for result in having)
    return Picture(
        f"{score.replace('_', '-')}-through-training",
        f"{capital(name(score))} through training",
        sentences(
            capital(f"{said}.") if (said := better(score)) else "",
            _BANDED if any(len(group) > 1 for group in groups.values()) else "One seed.",
            "Step 0 is before training."
            if limits is None
            else "Early values, before training and soon after, lie outside: the others would be squeezed.",
            "Thin vertical lines mark where a hybrid order turns to multiple passes." if switches else "",
            caveats(measured),
        ),
        draw,
        protocols(measured),
    )


def spectra(results: Sequence[Result], *, colour: str, panel: str | None = None) -> Picture | Words:
    """Return a figure of final singular values relative to the largest, and of their cumulative sum.

    Args:
        results: Finished runs.
        colour: The factor whose values are told apart by colour.
        panel: The factor whose values have a row of panels each.
    """
    having = [result for result in results if result.width]
    groups = grouped(having, panel, colour)
    if not groups:
        return Words("No spectrum was measured.")
    shown = looks(levels(results, colour), {level for _, level in groups})
    rows = [row for row in levels(results, panel) if any(row == own for own, _ in groups)]

    def draw() -> Figure:
        with style():
            titles = [
                f"{titled(panel, row)}: {what}" if len(rows) > 1 else capital(what) for row in rows for what in _SPECTRA
            ]
            figure, axes = panels(titles, across=2, share=False)
            for row, (relative, summed) in zip(rows, zip(axes[::2], axes[1::2], strict=True), strict=True):
                all_equal(summed)
                for place, (level, look) in enumerate(shown.items()):
                    if group := groups.get((row, level)):
                        _spectra(relative, summed, group, look, place / len(shown))
                _relative_axes(relative)
                explained_axes(summed)
            legend(figure, colour, shown)
            return figure

    measured = {"spectrum": [(result, result.monitor_protocol("auc")) for result in having]}
    return Picture(
        "spectra",
        "Spectra after training",
        sentences(
            "Left, singular values relative to the largest; below 10⁻³ they count as dead, and below 10⁻⁷ "
            "they are drawn at that height. Right, the share of their sum in the leading directions: the area under a "
            "line is its AUC. As [Li22] Fig. 3.",
            _BANDED if any(len(group) > 1 for group in groups.values()) else "One seed.",
            caveats(measured),
        ),
        draw,
        protocols(measured),
    )


_SPECTRA = ("singular values", "cumulative explained variance")


def _spectra(relative: Axes, summed: Axes, group: Sequence[Result], look: Look, phase: float) -> None:
    found = [Spectrum(result.run.singular_values[-1]) for result in group]
    values = np.stack([spectrum.singular_values.numpy() for spectrum in found])
    top = np.maximum(values[:, :1], np.finfo(values.dtype).tiny)  # constant features have no direction at all
    place = np.arange(1, values.shape[1] + 1)
    band(relative, place, np.maximum(values / top, LOWEST), look, phase)
    explained = np.stack([spectrum.explained.numpy() for spectrum in found])
    band(summed, 100 * place / place[-1], 100 * explained, look, phase)


def _relative_axes(ax: Axes) -> None:
    ax.axhline(DEAD, **REFERENCE)
    ax.set_yscale("log")
    lowest, _ = ax.get_ylim()
    ax.set_ylim(min(lowest, DEAD / 2), 1.5)
    ax.set_xlim(left=0)
    place: dict[str, Any] = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    ax.annotate("dead below 10⁻³", (0, DEAD), (4, -11), **place).set(fontsize=9, color="#444444")
    ax.set_xlabel("direction, largest first")
    ax.set_ylabel("singular value / the largest")


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


def _mark_switches(ax: Axes, shown: Mapping[str, Result]) -> None:
    """Draw a line where a hybrid order turns, in the colour of its runs, grey where several turn there."""
    found: dict[int, list[str]] = {}
    for colour, result in shown.items():
        step = _switch(result)
        if step is not None:
            found.setdefault(step, []).append(colour)
    for step, colours in found.items():
        ax.axvline(step, color=colours[0] if len(colours) == 1 else "#666666", linewidth=0.8, alpha=0.8)


def _step_axis(ax: Axes) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(short))
    ax.margins(x=0.015)
