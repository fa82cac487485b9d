"""The pieces that every page is made of: the document, tables, figures, names with their line and marker."""

from __future__ import annotations

import os
from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from fullrank._version import __version__
from fullrank.errors import FullrankError
from fullrank.report.look import Look

MARKER_SHAPES = {
    "o": '<circle cx="15" cy="6" r="3.6"/>',
    "s": '<rect x="11.8" y="2.8" width="6.4" height="6.4"/>',
    "^": '<path d="M15 1.8 19 9.2H11Z"/>',
    "D": '<path d="M15 1.2 19.8 6 15 10.8 10.2 6Z"/>',
    "v": '<path d="M15 10.2 19 2.8H11Z"/>',
    "P": '<path d="M13.4 2h3.2v2.4H19v3.2h-2.4V10h-3.2V7.6H11V4.4h2.4Z"/>',
    "X": '<path d="M12.4 1.6 15 4.2 17.6 1.6 19.4 3.4 16.8 6 19.4 8.6 17.6 10.4 15 7.8 12.4 10.4 10.6 8.6 '
    '13.2 6 10.6 3.4Z"/>',
}
DASH_ARRAYS = {"-": "", "--": ' stroke-dasharray="5 3"', ":": ' stroke-dasharray="1.5 2.5"'}


def document(kind: str, title: str, header: str, sections: Sequence[str]) -> str:
    """Return a self-contained page: no script, nothing loaded from anywhere.

    Args:
        kind: What sort of page, in a word or two; plain text.
        title: Its title; plain text.
        header: What stands below the title, as HTML.
        sections: The rest, each a `<section>` or empty.
    """
    css = resources.files("fullrank.report").joinpath("style.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · fullrank {kind}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
</head>
<body>
<header>
<p class="over">fullrank {kind}</p>
<h1>{escape(title)}</h1>
{header}
</header>
<main>
{"".join(section for section in sections if section)}</main>
<footer>
<p>Written by fullrank {__version__}. [Li22]: Li, Efros, Pathak, <cite>Understanding Collapse in
Non-Contrastive Siamese Representation Learning</cite>, ECCV 2022, arXiv 2209.15007.</p>
</footer>
</body>
</html>
"""


def figure(svg: str, caption: str, *, wide: bool = False) -> str:
    """A figure with its caption, both HTML; empty without a figure; a wide one takes a grid's whole row."""
    look = ' class="wide"' if wide else ""
    return f"<figure{look}>\n{svg}\n<figcaption>{caption}</figcaption>\n</figure>\n" if svg else ""


def legend(shown: Sequence[Look]) -> str:
    """The names that the figures below tell apart; empty for a single one."""
    if len(shown) == 1:
        return ""
    return f'<ul class="key">{"".join(f"<li>{named(one, shown)}</li>" for one in shown)}</ul>\n'


def named(one: Look, shown: Sequence[Look]) -> str:
    """A name, after its line and marker where there are several to tell apart."""
    swatch = (
        f'<svg class="swatch" viewBox="0 0 30 12" aria-hidden="true" fill="{one.colour}">'
        f'<path d="M0 6H30" stroke="{one.colour}" stroke-width="2"{DASH_ARRAYS[one.dashes]}/>'
        f"{MARKER_SHAPES[one.marker]}</svg>"
    )
    return f'{swatch if len(shown) > 1 else ""}<span class="name">{escape(one.label)}</span>'


def table(shown: Sequence[Look], rows: Sequence[str], label: str) -> str:
    """A table of `row`s with a column for each of `shown`; `label` names it for those who cannot see it."""
    head = "".join(f'<th scope="col">{named(one, shown)}</th>' for one in shown) if len(shown) > 1 else ""
    return grid(f"<td></td>{head}" if head else "", rows, label)


def grid(head: str, rows: Sequence[str], label: str, *, look: str = "") -> str:
    """A table that scrolls where it is too wide.

    Args:
        head: The cells of its first row, as HTML; no such row where it is empty.
        rows: The others, each a `<tr>`.
        label: What it is, for those who cannot see it; plain text.
        look: A class of the style sheet.
    """
    head = f"<thead><tr>{head}</tr></thead>\n" if head else ""
    kind = f' class="{look}"' if look else ""
    return (
        f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0"><table{kind}>\n{head}'
        f"<tbody>\n{''.join(rows)}</tbody></table></div>"
    )


def row(name: str, cells: Sequence[str], hint: str = "", *, look: str = "", field: bool = False, span: int = 1) -> str:
    """A row of a table.

    Args:
        name: What it is about; plain text.
        cells: A cell for each column; plain text, or HTML for a `field`.
        hint: A word below the name.
        look: A class of the style sheet.
        field: Whether it is a field of a configuration.
        span: Columns that a single cell spans.
    """
    look = f' class="{look}"' if look else ""
    width = f' colspan="{span}"' if len(cells) == 1 and span > 1 else ""
    note = f'<br><span class="hint">{escape(hint)}</span>' if hint else ""
    body = "".join(f"<td{width}>{cell if field else escape(cell)}</td>" for cell in cells)
    kind = ' class="field"' if field else ""
    return f'<tr{look}><th scope="row"{kind}>{escape(name)}{note}</th>{body}</tr>\n'


def scalar(value: Any) -> str:
    """Write a value of a configuration, escaped, the numbers as they are."""
    if value is None:
        return '<span class="hint">none</span>'
    if isinstance(value, bool):
        return "yes" if value else "no"
    return escape(", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))


def check_page(out: Path) -> None:
    """Make the page's folder, and raise `FullrankError` where it cannot be written: before any long work begins."""
    if out.is_dir():
        raise FullrankError(f"{out} is a folder: name the page to write, such as {out / 'page.html'}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FullrankError(f"cannot make {out.parent} for the page ({error.strerror}): choose another --out") from None
    if not os.access(out.parent, os.W_OK):
        raise FullrankError(f"{out.parent} cannot be written to: choose another --out for the page")
