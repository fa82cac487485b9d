"""A matplotlib figure as an SVG element that can stand beside others in one page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

import matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (6.0, 3.7)  # inches of 72 SVG units; a page scales it to its column

STYLE = {
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


@contextmanager
def style() -> Iterator[None]:
    """Set the report's look, on matplotlib's defaults whatever the reader's own settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def inline_svg(figure: Figure, key: str, label: str) -> str:
    """Render a figure as an `<svg>` element, the same bytes each time.

    Args:
        figure: Made within `style()`.
        key: Prefix of all its ids, so that figures in one page do not share any: letters, digits, hyphens.
        label: What the figure shows, for those who cannot see it; plain text.
    """
    buffer = io.StringIO()
    with style():
        matplotlib.rcParams["svg.hashsalt"] = "fullrank"
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    assert box is not None
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", body, flags=re.DOTALL)
    # Its rule names every element of the page: style.css has it for figures alone.
    body = re.sub(r"<style\b.*?</style>", "", body, count=1, flags=re.DOTALL)
    body = re.sub(r'\bid="([^"]+)"', rf'id="{key}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{key}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{key}-\1)", body)
    body = re.sub(r"\n\s*", "\n", body)
    return f'<svg viewBox="{box[0][9:-1]}" role="img" aria-label="{escape(label)}">{body.strip()}'


def svg_file(figure: Figure, key: str, label: str) -> str:
    """Render a figure as an SVG file that stands alone, the same bytes each time; arguments as of `inline_svg`."""
    width, height = 72 * figure.get_size_inches()
    drawn = inline_svg(figure, key, label)
    namespaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = f'<svg {namespaces} width="{width:g}" height="{height:g}" '
    return drawn.replace("<svg ", head, 1).replace(">", f">\n<style>{FILE_STYLE}</style>", 1) + "\n"


FILE_STYLE = (
    "* { stroke-linejoin: round; stroke-linecap: butt } "
    'text { font-family: system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif !important }'
)
