"""Documents in a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from fullrank.documents.parts import (
    Document,
    Fields,
    Heading,
    Only,
    Part,
    Points,
    Statement,
    Table,
    Words,
    in_words,
    plain,
    value_text,
)

_REMEDIES = 3


def show(document: Document, console: Console) -> None:
    """Print a document; figures and what is folded are the page's."""
    first = True
    for line in _lines(document.parts):
        if not first and isinstance(line, Grid):
            console.print()
        console.print(line)
        first = False


def _lines(parts: Iterable[Part]) -> Iterable[Text | Grid]:
    for part in parts:
        if isinstance(part, Heading):
            yield Text("")
            yield Text(part.text, style="bold")
        elif isinstance(part, Words):
            style = {"hint": "dim", "warning": "yellow", "lead": "", "command": "bold", "body": ""}[part.tone]
            about = f"{part.subject.label}: " if part.subject else ""
            yield Text.assemble((about, "bold"), (part.text, style))
        elif isinstance(part, Points):
            for item in part.items:
                yield Text(f"- {item}")
        elif isinstance(part, Fields):
            about = part.title or (part.subject.label if part.subject else "")
            values = ", ".join(f"{key} {value_text(value)}" for key, value in part.values.items())
            yield Text(f"{about}: {values}" if about else values, style="dim")
        elif isinstance(part, Table):
            yield grid(part)
            for note in (part.note, *in_words(part.protocols)):
                if note:
                    yield Text(note, style="dim")
        elif isinstance(part, Statement):
            yield Text("")
            yield Text.assemble((f"{part.subject.label}: ", "bold"), f"{part.headline}. {' '.join(part.sentences)}")
            if part.remedies:
                yield Text(f"  {part.trying}:")
            for text, source in part.remedies[:_REMEDIES]:
                yield Text(f"  - {text} ({source})")
        elif isinstance(part, Only) and part.where == "terminal":
            yield from _lines(part.parts)


def grid(part: Table) -> Grid:
    """Return a table for a terminal: headings and names fold between words, numbers never."""
    made = Grid(box=None, padding=(0, 1), header_style="bold", title_justify="left", pad_edge=False)
    words = {*range(part.names), *part.text}
    for place, heading in enumerate(part.header):
        # the longest word of a heading is the least a column may shrink to
        least = max((len(word) for word in plain(heading).split()), default=0)
        if place in part.text:  # sentences: their words are not broken either
            least = max([least, *(len(word) for row in part.rows for word in plain(row[place]).split())])
        if place in words:
            made.add_column(Text(plain(heading)), overflow="fold", min_width=min(least, 24))
        else:
            widest = max((len(plain(row[place])) for row in part.rows), default=0)
            made.add_column(Text(plain(heading)), justify="right", min_width=max(least, widest))
    for place, cells in enumerate(part.rows):
        made.add_row(*(Text(plain(cell)) for cell in cells), style="italic" if place in part.marked else None)
    return made
