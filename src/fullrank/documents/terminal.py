"""Documents in a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from fullrank import documents as doc

_REMEDIES = 3
_PADDING = 1
_STYLES = {"hint": "dim", "warning": "yellow", "command": "bold"}


def show(document: doc.Document, console: Console) -> None:
    """Print a document; figures and what is folded are the page's."""
    for place, line in enumerate(_lines(document.parts)):
        if place and isinstance(line, Grid):
            console.print()
        if isinstance(line, Grid):
            least = sum((column.min_width or 0) + 2 * _PADDING for column in line.columns) - 2 * _PADDING
            if least > console.width:  # its last columns would be cut off
                line.width = least
        console.print(line, crop=False)


def _lines(parts: Iterable[doc.Part]) -> Iterable[Text | Grid]:
    for part in parts:
        match part:
            case doc.Heading():
                yield Text("")
                yield Text(part.text, style="bold")
            case doc.Words():
                about = f"{part.subject.label}: " if part.subject else ""
                yield Text.assemble((about, "bold"), (part.text, _STYLES.get(part.tone, "")))
            case doc.Points():
                yield from (Text(f"- {item}") for item in part.items)
            case doc.Fields():
                about = f"{part.heading}: " if part.heading else ""
                yield Text(f"{about}{doc.field_list(part.values)}", style="dim")
            case doc.Table():
                yield grid(part)
                yield from (Text(note, style="dim") for note in (part.note, *doc.in_words(part.protocols)) if note)
            case doc.Statement():
                yield Text("")
                yield Text.assemble((f"{part.subject.label}: ", "bold"), f"{part.headline}. {' '.join(part.sentences)}")
                if part.remedies:
                    yield Text(f"  {part.trying}:")
                yield from (Text(f"  - {text} ({source})") for text, source in part.remedies[:_REMEDIES])
            case doc.Only(where="terminal"):
                yield from _lines(part.parts)


def grid(part: doc.Table) -> Grid:
    """Return a table for a terminal: headings and names fold between words, numbers never."""
    made = Grid(box=None, padding=(0, _PADDING), header_style="bold", title_justify="left", pad_edge=False)
    for place, heading in enumerate(map(doc.plain, part.header)):
        column = [doc.plain(row[place]) for row in part.rows]
        # the longest word of a heading is the least a column may shrink to; those of sentences are not broken either
        words = [*heading.split(), *(word for text in column for word in text.split() if place in part.text)]
        least = max(map(len, words), default=0)
        if place < part.names or place in part.text:
            whole = place in part.whole
            # a name without a place to break, such as a file's, folds anywhere before the table outgrows the terminal
            most = least if whole else 12 if place < part.names else 24
            made.add_column(Text(heading), overflow="fold", no_wrap=whole, min_width=min(least, most))
        else:
            made.add_column(Text(heading), justify="right", min_width=max([least, *map(len, column)]))
    for number, cells in enumerate(part.rows):
        made.add_row(*(Text(doc.plain(cell)) for cell in cells), style="italic" if number in part.marked else None)
    return made
