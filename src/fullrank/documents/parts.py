"""What a document is made of. All text is plain; each renderer escapes it for itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fullrank._version import __version__
from fullrank.documents.looks import Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

Protocols = Mapping[str, Mapping[str, Any]]
"""How some scores were measured: by their names, the fields of their protocol."""


@dataclass(frozen=True)
class Hinted:
    """A cell with a hint below it on a page; elsewhere the text alone.

    Attributes:
        text: What it says.
        hint: What helps to read it.
    """

    text: str
    hint: str


Cell = str | Look | Hinted
"""A cell of a table: text, text with a hint, or one of the things compared, with its line and marker."""


def plain(cell: Cell) -> str:
    """Return the text of a cell."""
    return cell.label if isinstance(cell, Look) else cell.text if isinstance(cell, Hinted) else cell


@dataclass(frozen=True)
class Heading:
    """The heading of a section (depth 2), or of a part of one (depth 3)."""

    text: str
    depth: Literal[2, 3] = 2


@dataclass(frozen=True)
class Words:
    """A paragraph.

    Attributes:
        text: What it says.
        tone: How it looks: of the body, a lead, a hint, a warning, or a command to copy.
        subject: Which of the things compared it is about, named before the text.
    """

    text: str
    tone: Literal["body", "lead", "hint", "warning", "command"] = "body"
    subject: Look | None = None


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Fields:
    """Names with their values.

    Attributes:
        values: By name.
        title: What they are of.
        subject: Which of the things compared they are of.
    """

    values: Mapping[str, Any]
    title: str = ""
    subject: Look | None = None


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: What it shows.
        header: A heading for each column.
        rows: Their cells.
        note: What a reader must know: seeds, source of published numbers.
        protocols: How its scores were measured.
        names: How many columns, the first ones, name the rows.
        beside: Places of the columns whose numbers are published ones.
        text: Places of the columns that hold words, not numbers.
        marked: Places of the rows that stand out.
        captioned: Whether the title stands above it; for those who cannot see the table it is always named.
    """

    title: str
    header: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    protocols: Protocols = field(default_factory=dict)
    names: int = 1
    beside: Sequence[int] = ()
    text: Sequence[int] = ()
    marked: Sequence[int] = ()
    captioned: bool = True

    def markdown(self) -> str:
        """Return it as Markdown."""
        from fullrank.documents.markdown import table

        return table(self)


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        key: A short name, for its file and its marks.
        title: What it shows.
        caption: How to read it.
        draw: Makes it, in the style of `fullrank.documents.svg`.
        protocols: How its scores were measured.
        label: What it shows in numbers, for those who cannot see it; title and caption where it is empty.
        subject: Which of the things compared it is of.
    """

    key: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    protocols: Protocols = field(default_factory=dict)
    label: str = ""
    subject: Look | None = None


@dataclass(frozen=True)
class Photo:
    """A picture that exists as a PNG file.

    Attributes:
        png: The file's bytes.
        caption: What it shows.
        label: The same for those who cannot see it.
        subject: Which of the things compared it is of.
    """

    png: bytes
    caption: str
    label: str
    subject: Look | None = None


@dataclass(frozen=True)
class Statement:
    """What is said of one of the things compared.

    Attributes:
        subject: Which.
        headline: In a few words.
        sentences: In full.
        remedies: What to try, each with its source.
        trying: What stands above them.
    """

    subject: Look
    headline: str
    sentences: Sequence[str]
    remedies: Sequence[tuple[str, str]] = ()
    trying: str = ""


@dataclass(frozen=True)
class Fold:
    """Parts that a page shows when asked to, Markdown in full, and a terminal not at all.

    Attributes:
        summary: What is in it.
        parts: The parts.
        opened: Whether a page shows them at first.
    """

    summary: str
    parts: Sequence[Part]
    opened: bool = False


@dataclass(frozen=True)
class Only:
    """Parts that only one kind of reader sees: a terminal has less room than a page."""

    where: Literal["terminal", "page"]
    parts: Sequence[Part]


Part = Heading | Words | Points | Fields | Table | Picture | Photo | Statement | Fold | Only


@dataclass(frozen=True)
class Document:
    """What a command has to say.

    Attributes:
        kind: What sort of document, in a word or two.
        title: Its title.
        parts: What it is made of, in order. Those before the first heading stand in the page's header.
        data: The same for programs, as JSON has it.
        looks: The things compared, where figures tell them apart.
    """

    kind: str
    title: str
    parts: Sequence[Part]
    data: Mapping[str, Any] = field(default_factory=dict)
    looks: Sequence[Look] = ()

    def print(self, console: Console) -> None:
        """Print it in a terminal."""
        from fullrank.documents.terminal import show

        show(self, console)

    def html(self) -> str:
        """Return it as one self-contained page: no script, nothing loaded from anywhere."""
        from fullrank.documents.html import page

        return page(self)

    def markdown(self) -> str:
        """Return it as Markdown, without its figures."""
        from fullrank.documents.markdown import render

        return render(self)

    def json(self) -> str:
        """Return what programs read."""
        return json.dumps({"fullrank": __version__, **self.data}, indent=2, allow_nan=False)

    def _repr_html_(self) -> str:
        """Show it in a notebook, in a frame of its own, so that its style stays its own."""
        from html import escape

        return f'<iframe srcdoc="{escape(self.html())}" style="width: 100%; height: 640px; border: 0"></iframe>'


def value_text(value: Any) -> str:
    """Write a value of a configuration or a protocol.

    >>> value_text(None), value_text(True), value_text(10_000), value_text(1e-05), value_text((0.2, 1.0))
    ('none', 'yes', '10,000', '1e-05', '0.2, 1')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(value_text, value)) if isinstance(value, (list, tuple)) else str(value)


def in_words(protocols: Protocols) -> list[str]:
    """Write protocols as sentences, one for each score."""
    return [
        f"{name}: {', '.join(f'{key} {value_text(value)}' for key, value in fields.items())}."
        for name, fields in protocols.items()
        if fields
    ]
