"""Documents as pages: one self-contained file, no script, nothing loaded from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from itertools import groupby
from pathlib import Path

from fullrank import documents as doc
from fullrank._version import __version__
from fullrank.documents.plots import SIZE, inline_svg
from fullrank.errors import FullrankError
from fullrank.files import check_output, write_text

_GLYPHS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖"}
_DASHES = {"-": "―", "--": "╌", ":": "┄"}


def page(document: doc.Document) -> str:
    """Return a document as a page; the same document gives the same text."""
    css = resources.files("fullrank.documents").joinpath("style.css").read_text(encoding="utf-8")
    parts = list(seen(document.parts))
    starts = [at for at, part in enumerate(parts) if isinstance(part, doc.Heading)] or [len(parts)]
    writer = _Writer(document.looks)
    header, *others = (
        writer.blocks(parts[start:stop]) for start, stop in zip([0, *starts], [*starts, len(parts)], strict=True)
    )
    sections = "".join(f"<section>\n{section}</section>\n" for section in others if section)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(document.title)} · fullrank {document.kind}</title>
<link rel="icon" href="data:,">
<style>
{css}</style>
</head>
<body>
<header>
<p class="over">fullrank {document.kind}</p>
<h1>{escape(document.title)}</h1>
{header}</header>
<main>
{sections}</main>
<footer>
<p>Written by fullrank {__version__}. [Li22]: Li, Efros, Pathak, <cite>Understanding Collapse in
Non-Contrastive Siamese Representation Learning</cite>, ECCV 2022, arXiv 2209.15007.</p>
</footer>
</body>
</html>
"""


def seen(parts: Iterable[doc.Part]) -> Iterable[doc.Part]:
    """Give the parts that a page shows."""
    for part in parts:
        if not isinstance(part, doc.Only):
            yield part
        elif part.where == "page":
            yield from seen(part.parts)


class _Writer:
    def __init__(self, looks: Sequence[doc.Look]) -> None:
        self.looks = looks

    def blocks(self, parts: Sequence[doc.Part]) -> str:
        """Return parts as HTML; figures that follow each other share a grid, statements a list."""
        found = []
        for kind, group in groupby(seen(parts), type):
            written = "".join(map(self.block, group))
            if kind is doc.Picture:
                written = f'{self.legend()}<div class="plots">\n{written}</div>\n'
            found.append(f'<ul class="verdicts">{written}</ul>\n' if kind is doc.Statement else written)
        return "".join(found)

    def block(self, part: doc.Part) -> str:
        match part:
            case doc.Heading():
                return f"<h2>{escape(part.text)}</h2>\n"
            case doc.Words(tone="command"):
                return f'<pre class="scroll command"><code>{escape(part.text)}</code></pre>\n'
            case doc.Words():
                kind = "" if part.tone == "body" else f' class="{part.tone}"'
                about = f"{self.named(part.subject)} " if part.subject else ""
                warning = "<b>Warning.</b> " if part.tone == "warning" else ""
                return f"<p{kind}>{about}{warning}{escape(part.text)}</p>\n"
            case doc.Points():
                return f'<ul class="compare">{"".join(f"<li>{escape(item)}</li>" for item in part.items)}</ul>\n'
            case doc.Fields():
                above = self.named(part.subject) if part.subject else escape(part.title)
                body = _fields(part.values) if part.values else '<p class="hint">Not recorded.</p>'
                return f"{f'<h3>{above}</h3>' if above else ''}{body}\n"
            case doc.Table():
                return self.table(part)
            case doc.Picture():
                drawn = part.draw()
                svg = inline_svg(drawn, part.key, part.label or f"{part.title}. {part.caption}")
                wide = ' class="wide"' if drawn.get_figwidth() > SIZE[0] else ""
                caption = f"<b>{escape(part.title)}.</b> {escape(part.caption)}{_protocols(part.protocols)}"
                return self.figure(wide, f'<div class="scroll">{svg}</div>', part.subject, caption)
            case doc.Photo():
                data = base64.b64encode(part.png).decode("ascii")
                image = f'<img src="data:image/png;base64,{data}" alt="{escape(part.label)}">'
                return self.figure(' class="photo"', image, part.subject, escape(part.caption))
            case doc.Statement():
                return self.statement(part)
            case doc.Fold():
                opened, inner = " open" if part.opened else "", self.blocks(part.parts)
                return f"<details{opened}><summary>{escape(part.summary)}</summary>{inner}</details>\n"
        raise TypeError(f"no part of a document: {part!r}")

    def legend(self) -> str:
        """Return the names that figures tell apart; empty for a single one."""
        if len(self.looks) < 2:
            return ""
        return f'<ul class="key">{"".join(f"<li>{self.named(look)}</li>" for look in self.looks)}</ul>\n'

    def named(self, look: doc.Look) -> str:
        """Return a name, after its line and marker where there are several to tell apart."""
        mark = f"{_DASHES[look.dashes]}{_GLYPHS[look.marker]}"
        swatch = f'<span class="swatch" aria-hidden="true" style="color:{look.color}">{mark}</span> '
        return f'{swatch if len(self.looks) > 1 else ""}<span class="name">{escape(look.label)}</span>'

    def figure(self, kind: str, drawn: str, subject: doc.Look | None, caption: str) -> str:
        about = f"{self.named(subject)} · " if subject else ""
        return f"<figure{kind}>\n{drawn}\n<figcaption>{about}{caption}</figcaption>\n</figure>\n"

    def cell(self, cell: doc.Cell) -> str:
        if isinstance(cell, doc.Look):
            return self.named(cell)
        hint = cell.hint if isinstance(cell, doc.Hinted) else ""
        return escape(doc.plain(cell)) + (f'<br><span class="hint">{escape(hint)}</span>' if hint else "")

    def table(self, part: doc.Table) -> str:
        kinds = ["name"] * part.names
        for place in range(part.names, len(part.header)):
            kinds.append("beside" if place in part.beside else "text" if place in part.text else "own")
        columns = zip(kinds, map(self.cell, part.header), strict=True)
        head = "".join(f'<th scope="col" class="{kind}">{cell}</th>' for kind, cell in columns)
        rows = []
        for number, row in enumerate(part.rows):
            cells = zip(kinds, map(self.cell, row), strict=True)
            marked = ' class="marked"' if number in part.marked else ""
            written = "".join(
                f'<th scope="row">{cell}</th>' if kind == "name" else f'<td class="{kind}">{cell}</td>'
                for kind, cell in cells
            )
            rows.append(f"<tr{marked}>{written}</tr>\n")
        above = f"<h3>{escape(part.title)}</h3>\n" if part.captioned else ""
        note = f'<p class="hint">{escape(part.note)}</p>\n' if part.note else ""
        return (
            f'{above}<div class="scroll" role="region" aria-label="{escape(part.title)}" tabindex="0">'
            f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{''.join(rows)}</tbody></table></div>\n"
            f"{note}{_protocols(part.protocols)}"
        )

    def statement(self, part: doc.Statement) -> str:
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
    items = (f"<dt>{escape(str(key))}</dt><dd>{escape(doc.value_text(value))}</dd>" for key, value in values.items())
    return f"<dl>{''.join(items)}</dl>"


def _protocols(protocols: doc.Protocols) -> str:
    said = "".join(f"<h4>{escape(title)}</h4>{_fields(fields)}" for title, fields in protocols.items())
    return f'<details class="how"><summary>How it was measured</summary>{said}</details>\n' if said else ""


def check_page(out: Path) -> None:
    """Raise `FullrankError` where a page cannot be written: before any long work begins."""
    if out.is_dir():
        raise FullrankError(f"{out} is a folder: name the page to write, such as {out / 'page.html'}")
    check_output(out)


def write_page(document: doc.Document, out: Path) -> Path:
    """Write a document as a page, and return where."""
    check_page(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page(document))
    return out
