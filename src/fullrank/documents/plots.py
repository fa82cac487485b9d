"""How all figures look, what several of them have in common, and how they become SVG.

Lines are told apart by color and marker, the same in every figure. Names are text, and no formulas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from io import BytesIO, StringIO
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from fullrank.documents import Look

SIZE = (6.0, 3.7)  # inches of 72 SVG units; a page scales it to its column
DEAD = 1e-3  # of the largest singular value
LOWEST = 1e-7  # of the largest singular value: float32's noise lies there, and smaller values say nothing more
REFERENCE: dict[str, Any] = {"color": "#444444", "linewidth": 1.0, "linestyle": (0, (1, 2))}
EDGE: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.5}
_MARKERS = 8  # of a line
_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be selected, found, and takes the page's font
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": "#333333",
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.7,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
}
_FILE_STYLE = (
    "* { stroke-linejoin: round; stroke-linecap: butt } "
    'text { font-family: system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif !important }'
)


@contextmanager
def style() -> Iterator[None]:
    """Set the look of figures, on matplotlib's defaults whatever the reader's own settings are; a decorator too."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


class Drawing(Figure):
    """A figure that a notebook shows, whether or not pyplot was ever used in it."""

    def _repr_png_(self) -> bytes:
        self.savefig(out := BytesIO(), format="png", dpi=100)
        return out.getvalue()


def single() -> tuple[Figure, Axes]:
    """Return a figure of the usual size, and its axes."""
    figure = Drawing(figsize=SIZE, layout="constrained")
    return figure, figure.add_subplot()


def line(look: Look, points: int, phase: float) -> dict[str, Any]:
    """Tell a line of so many points from others beside it by color, dashes and markers that do not hide one another.

    `phase`, in [0, 1), says where between two markers the first one is.
    """
    every = max(1, points // _MARKERS)
    how = {"color": look.color, "linestyle": look.dashes, "marker": look.marker}
    return {**how, "markevery": (int(phase * every), every), **EDGE}


def band(ax: Axes, x: np.ndarray, seeds: np.ndarray, how: Mapping[str, Any]) -> None:
    """Draw the mean of `seeds`, `(S, n)`, over `x`, `(n,)`, and from the lowest to the highest a band."""
    if len(seeds) > 1:
        ax.fill_between(x, seeds.min(axis=0), seeds.max(axis=0), color=how["color"], alpha=0.16, linewidth=0)
    ax.plot(x, seeds.mean(axis=0), **how)


def aside(ax: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], **place: Any) -> None:
    """Write small beside a point, `offset` points away."""
    ax.annotate(text, at, offset, textcoords="offset points", **place).set(fontsize=9, color="#444444")


def relative_axes(ax: Axes, below: float) -> None:
    """Set the axes of singular values relative to the largest, and mark where they are dead, its name so far below."""
    ax.axhline(DEAD, **REFERENCE)
    aside(ax, "dead below 10⁻³", (0, DEAD), (4, -below), xycoords=ax.get_yaxis_transform())
    ax.set_yscale("log")
    ax.set_xlabel("direction, largest first")
    ax.set_ylabel("singular value / the largest")


def explained_axes(ax: Axes) -> None:
    """Set the axes of cumulative explained variances, in percent, and draw that of equal singular values."""
    ax.plot([0, 100], [0, 100], **REFERENCE, zorder=1.5)  # below the others
    aside(ax, "all equal", (72, 72), (4, -4), va="top")
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 102)
    ax.set_xlabel("share of the directions, largest first (%)")
    ax.set_ylabel("share of the sum of singular values (%)", fontsize=9.5)


def step_axis(ax: Axes) -> None:
    """Write gradient steps below."""
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_xlabel("gradient step")


def tick_at(axis: Axis, values: Iterable[float]) -> None:
    """Write these numbers along an axis, and no others."""
    axis.set_major_locator(FixedLocator(sorted(set(values))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axis.set_minor_locator(NullLocator())


def color_bar(ax: Axes, colors: Colormap, norm: Normalize, label: str, **how: Any) -> Colorbar:
    """Draw beside some axes what a color says."""
    bar = ax.figure.colorbar(ScalarMappable(norm, colors), ax=ax, aspect=28, pad=0.02, **how)
    bar.set_label(label)
    bar.outline.set_visible(False)
    return bar


def mark_switches(ax: Axes, switches: Iterable[tuple[int | None, str]]) -> None:
    """Draw a line where a hybrid order turns, in the color of its runs, gray where several turn there."""
    found: dict[int, list[str]] = {}
    for step, color in switches:
        if step is not None:
            found.setdefault(step, []).append(color)
    for step, colors in found.items():
        ax.axvline(step, color=colors[0] if len(colors) == 1 else "#666666", linewidth=0.8, alpha=0.8)


def late_is_dark() -> Colormap:
    """Viridis reversed, without the yellow that white swallows; few colors keep the scale's SVG small."""
    return ListedColormap(matplotlib.colormaps["viridis_r"](np.linspace(0.12, 1.0, 32)))


@style()
def inline_svg(figure: Figure, key: str, label: str) -> str:
    """Render a figure, made within `style()`, as an `<svg>` element, the same bytes each time.

    Args:
        figure: The figure.
        key: Prefix of all its ids, so that figures in one page do not share any: letters, digits, hyphens.
        label: What the figure shows, for those who cannot see it; plain text.
    """
    buffer = StringIO()
    matplotlib.rcParams["svg.hashsalt"] = "fullrank"
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    box = re.search(r'viewBox="0 0 ([\d.]+ [\d.]+)"', text)
    assert box is not None
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    # Its rule names every element of the page: style.css has it for figures alone.
    body = re.sub(r"<style\b.*?</style>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\1{key}-", body)
    body = re.sub(r"\n\s*", "\n", body)
    return f'<svg viewBox="0 0 {box[1]}" role="img" aria-label="{escape(label)}">{body.strip()}'


def svg_file(figure: Figure, key: str, label: str) -> str:
    """Render a figure as an SVG file that stands alone, the same bytes each time; arguments as of `inline_svg`."""
    width, height = 72 * figure.get_size_inches()
    drawn = inline_svg(figure, key, label)
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {namespaces} width="{width:g}" height="{height:g}" '
    return drawn.replace("<svg ", head, 1).replace(">", f">\n<style>{_FILE_STYLE}</style>", 1) + "\n"
