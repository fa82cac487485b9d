"""A matplotlib figure as an SVG element that can stand beside others in one page, or as a file."""

from __future__ import annotations

import io
import re
from html import escape

import matplotlib
from matplotlib.figure import Figure

from fullrank.documents.plots import style

_FILE_STYLE = (
    "* { stroke-linejoin: round; stroke-linecap: butt } "
    'text { font-family: system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif !important }'
)


@style()
def inline_svg(figure: Figure, key: str, label: str) -> str:
    """Render a figure as an `<svg>` element, the same bytes each time.

    Args:
        figure: Made within `style()`.
        key: Prefix of all its ids, so that figures in one page do not share any: letters, digits, hyphens.
        label: What the figure shows, for those who cannot see it; plain text.
    """
    buffer = io.StringIO()
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
