"""Documents as pages: one self-contained file, no script, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path

from fullrank._version import __version__
from fullrank.documents.looks import Look
from fullrank.documents.parts import (
    Cell,
    Document,
    Fields,
    Fold,
    Heading,
    Hinted,
    Only,
    Part,
    Photo,
    Picture,
    Points,
    Protocols,
    Statement,
    Table,
    Words,
    value_text,
)
from fullrank.documents.svg import SIZE, inline_svg
from fullrank.errors import FullrankError
from fullrank.training.runs import write_text

_SHAPES = {
    "o": '<circle cx="15" cy="6" r="3.6"/>',
    "s": '<rect x="11.8" y="2.8" width="6.4" height="6.4"/>',
    "^": '<path d="M15 1.8 19 9.2H11Z"/>',
    "D": '<path d="M15 1.2 19.8 6 15 10.8 10.2 6Z"/>',
    "v": '<path d="M15 10.2 19 2.8H11Z"/>',
    "P": '<path d="M13.4 2h3.2v2.4H19v3.2h-2.4V10h-3.2V7.6H11V4.4h2.4Z"/>',
    "X": '<path d="M12.4 1.6 15 4.2 17.6 1.6 19.4 3.4 16.8 6 19.4 8.6 17.6 10.4 15 7.8 12.4 10.4 10.6 8.6 '
    '13.2 6 10.6 3.4Z"/>',
}
_DASHES = {"-": "", "--": ' stroke-dasharray="5 3"', ":": ' stroke-dasharray="1.5 2.5"'}


def page(document: Document) -> str:
    """Return a document as a page; the same document gives the same text."""
    css = resources.files("fullrank.documents").joinpath("style.css").read_text(encoding="utf-8")
    parts = list(seen(document.parts))
    cut = next((place for place, part in enumerate(parts) if _is_section(part)), len(parts))
    writer = _Writer(document.looks)
    starts = [place for place in range(cut, len(parts)) if _is_section(parts[place])]
    sections = [
        f"<section>\n{writer.blocks(parts[start:stop])}</section>\n"
        for start, stop in zip(starts, [*starts[1:], len(parts)], strict=False)
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(document.title)} · fullrank {document.kind}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
</head>
<body>
<header>
<p class="over">fullrank {document.kind}</p>
<h1>{escape(document.title)}</h1>
{writer.blocks(parts[:cut])}</header>
<main>
{"".join(sections)}</main>
<footer>
<p>Written by fullrank {__version__}. [Li22]: Li, Efros, Pathak, <cite>Understanding Collapse in
Non-Contrastive Siamese Representation Learning</cite>, ECCV 2022, arXiv 2209.15007.</p>
</footer>
</body>
</html>
"""


def seen(parts: Iterable[Part]) -> Iterable[Part]:
    """Give the parts that a page shows."""
    for part in parts:
        if isinstance(part, Only):
            if part.where == "page":
                yield from seen(part.parts)
        else:
            yield part


def _is_section(part: Part) -> bool:
    return isinstance(part, Heading) and part.depth == 2


class _Writer:
    """Writes parts, and gives each figure of the page a key of its own.

    Args:
        looks: The things compared on the page.
    """

    def __init__(self, looks: Sequence[Look]) -> None:
        self.looks = looks
        self._keys: set[str] = set()

    def blocks(self, parts: Sequence[Part]) -> str:
        """Return parts as HTML; figures that follow each other share a grid, statements a list."""
        found = []
        for kind, group in groupby(seen(parts), type):
            if kind is Picture:
                drawn = "".join(self.picture(part) for part in group if isinstance(part, Picture))
                found.append(f'{self.legend()}<div class="plots">\n{drawn}</div>\n')
            elif kind is Statement:
                said = "".join(self.statement(part) for part in group if isinstance(part, Statement))
                found.append(f'<ul class="verdicts">{said}</ul>\n')
            else:
                found += [self.block(part) for part in group]
        return "".join(found)

    def block(self, part: Part) -> str:
        """Return a part that stands by itself."""
        if isinstance(part, Heading):
            return f"<h{part.depth}>{escape(part.text)}</h{part.depth}>\n"
        if isinstance(part, Words):
            if part.tone == "command":
                return f'<p class="scroll command"><code>{escape(part.text)}</code></p>\n'
            kind = "" if part.tone == "body" else f' class="{part.tone}"'
            about = f"{self.named(part.subject)} " if part.subject else ""
            warning = "<b>Warning.</b> " if part.tone == "warning" else ""
            return f"<p{kind}>{about}{warning}{escape(part.text)}</p>\n"
        if isinstance(part, Points):
            return f'<ul class="compare">{"".join(f"<li>{escape(item)}</li>" for item in part.items)}</ul>\n'
        if isinstance(part, Fields):
            above = self.named(part.subject) if part.subject else escape(part.title)
            body = _fields(part.values) if part.values else '<p class="hint">Not recorded.</p>'
            return f"{f'<h3>{above}</h3>' if above else ''}{body}\n"
        if isinstance(part, Table):
            return self.table(part)
        if isinstance(part, Photo):
            data = base64.b64encode(part.png).decode("ascii")
            about = f"{self.named(part.subject)} · " if part.subject else ""
            return (
                f'<figure class="photo">\n<img src="data:image/png;base64,{data}" alt="{escape(part.label)}">\n'
                f"<figcaption>{about}{escape(part.caption)}</figcaption>\n</figure>\n"
            )
        assert isinstance(part, Fold)
        opened = " open" if part.opened else ""
        return f"<details{opened}><summary>{escape(part.summary)}</summary>{self.blocks(part.parts)}</details>\n"

    def legend(self) -> str:
        """Return the names that figures tell apart; empty for a single one."""
        if len(self.looks) < 2:
            return ""
        return f'<ul class="key">{"".join(f"<li>{self.named(look)}</li>" for look in self.looks)}</ul>\n'

    def named(self, look: Look) -> str:
        """Return a name, after its line and marker where there are several to tell apart."""
        swatch = (
            f'<svg class="swatch" viewBox="0 0 30 12" aria-hidden="true" fill="{look.color}">'
            f'<path d="M0 6H30" stroke="{look.color}" stroke-width="2"{_DASHES[look.dashes]}/>'
            f"{_SHAPES[look.marker]}</svg>"
        )
        return f'{swatch if len(self.looks) > 1 else ""}<span class="name">{escape(look.label)}</span>'

    def cell(self, cell: Cell) -> str:
        """Return what a cell of a table says."""
        if isinstance(cell, Look):
            return self.named(cell)
        if isinstance(cell, Hinted):
            hint = f'<br><span class="hint">{escape(cell.hint)}</span>' if cell.hint else ""
            return f"{escape(cell.text)}{hint}"
        return escape(cell)

    def table(self, part: Table) -> str:
        """Return a table, which scrolls where it is too wide."""

        def look(place: int) -> str:
            return "beside" if place in part.beside else "text" if place in part.text else "own"

        head = "".join(
            f'<th scope="col" class="{"name" if place < part.names else look(place)}">{self.cell(cell)}</th>'
            for place, cell in enumerate(part.header)
        )
        rows = []
        for number, cells in enumerate(part.rows):
            names = "".join(f'<th scope="row">{self.cell(cell)}</th>' for cell in cells[: part.names])
            others = "".join(
                f'<td class="{look(place)}">{self.cell(cell)}</td>'
                for place, cell in enumerate(cells[part.names :], start=part.names)
            )
            marked = ' class="marked"' if number in part.marked else ""
            rows.append(f"<tr{marked}>{names}{others}</tr>\n")
        above = f"<h3>{escape(part.title)}</h3>\n" if part.captioned else ""
        note = f'<p class="hint">{escape(part.note)}</p>\n' if part.note else ""
        return (
            f'{above}<div class="scroll" role="region" aria-label="{escape(part.title)}" tabindex="0">'
            f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table></div>\n"
            f"{note}{_protocols(part.protocols)}"
        )

    def picture(self, part: Picture) -> str:
        """Return a figure with its caption; a wide one takes a whole row."""
        key, number = part.key, 2
        while key in self._keys:
            key, number = f"{part.key}-{number}", number + 1
        self._keys.add(key)
        drawn = part.draw()
        svg = inline_svg(drawn, key, part.label or f"{part.title}. {part.caption}")
        wide = ' class="wide"' if drawn.get_figwidth() > SIZE[0] else ""
        about = f"{self.named(part.subject)} · " if part.subject else ""
        caption = f"{about}<b>{escape(part.title)}.</b> {escape(part.caption)}{_protocols(part.protocols)}"
        return f"<figure{wide}>\n{svg}\n<figcaption>{caption}</figcaption>\n</figure>\n"

    def statement(self, part: Statement) -> str:
        """Return what is said of one of the things compared, with its color at the side."""
        tries = "".join(
            f'<li>{escape(text)} <span class="hint">({escape(source)})</span></li>' for text, source in part.remedies
        )
        remedies = f"<details><summary>{escape(part.trying)}</summary><ul>{tries}</ul></details>" if tries else ""
        said = "".join(f"<p>{escape(sentence)}</p>" for sentence in part.sentences)
        return (
            f'<li style="border-color:{part.subject.color}"><p>{self.named(part.subject)} '
            f'<span class="level">{escape(part.headline)}</span></p>{said}{remedies}</li>'
        )


def _fields(values: Mapping[str, object]) -> str:
    items = (f"<dt>{escape(str(key))}</dt><dd>{escape(value_text(value))}</dd>" for key, value in values.items())
    return f"<dl>{''.join(items)}</dl>"


def _protocols(protocols: Protocols) -> str:
    said = "".join(f"<h4>{escape(title)}</h4>{_fields(fields)}" for title, fields in protocols.items())
    return f'<details class="how"><summary>How it was measured</summary>{said}</details>\n' if said else ""


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


def write_page(document: Document, out: Path) -> Path:
    """Write a document as a page, and return where.

    Raises:
        FullrankError: `out` is a folder, or cannot be written.
    """
    check_page(out)
    write_text(out, page(document))
    return out
