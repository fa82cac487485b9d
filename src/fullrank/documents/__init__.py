"""Documents: what a command has to say, once, and how it looks in a terminal, on a page, in Markdown and to programs.

    found = Document("inspection", "resnet18", [Heading("Scores"), Table(...), Picture(...)], data={...})
    found.print(console)
    write_page(found, Path("inspect.html"))

`inspect`, `evaluate`, `rank`, `report` and `study show` each make one. `html`, `markdown` and `terminal` show each kind
of part in one place. All text is plain; each of them escapes it for itself.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fullrank._version import __version__
from fullrank.errors import FullrankError
from fullrank.text import listing

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.console import Console

Protocols = Mapping[str, Mapping[str, Any]]
"""How some scores were measured: by their names, the fields of their protocol."""


MISSING = "–"
"""What stands in a table where there is no value."""

# Okabe and Ito's color-blind safe palette, without its yellow, which is too faint for lines on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":")
_MOST_NAMED = 3  # images that could not be read, in a terminal


@dataclass(frozen=True)
class Look:
    """One of several things that are shown beside each other, the same in every figure and table."""

    label: str  # unlike any other's on the page
    index: int  # its place, from 0; decides color, marker and dashes
    shades: int = field(default=0, kw_only=True)  # how many there are, where they have an order: the later, the darker

    @property
    def color(self) -> str:
        """A hexadecimal color."""
        if self.shades:
            from matplotlib.colors import to_hex

            from fullrank.documents.plots import late_is_dark

            return to_hex(late_is_dark()(self.index / (self.shades - 1)))
        return COLORS[self.index % len(COLORS)]

    @property
    def marker(self) -> str:
        """A matplotlib marker: color is never the only difference."""
        return MARKERS[self.index % len(MARKERS)]

    @property
    def dashes(self) -> str:
        """A matplotlib line style, which tells things apart whose colors come round again."""
        return DASHES[self.index // len(COLORS) % len(DASHES)]


@dataclass(frozen=True)
class Hinted:
    """A cell with a hint below it on a page; elsewhere the text alone."""

    text: str
    hint: str


Cell = str | Look | Hinted
"""A cell of a table: text, text with a hint, or one of the things compared, with its line and marker."""


@dataclass(frozen=True)
class Heading:
    """The heading of a section."""

    text: str


@dataclass(frozen=True)
class Words:
    """A paragraph; a command, or lines of Python, are to be copied."""

    text: str
    tone: Literal["body", "lead", "hint", "warning", "command"] = "body"
    subject: Look | None = None  # which of the things compared it is about, named before the text


@dataclass(frozen=True)
class Points:
    """A list of sentences."""

    items: Sequence[str]


@dataclass(frozen=True)
class Fields:
    """Names with their values."""

    values: Mapping[str, Any]
    title: str = ""
    subject: Look | None = None  # which of the things compared they are of

    @property
    def heading(self) -> str:
        """What stands above them."""
        return self.title or (self.subject.label if self.subject else "")


@dataclass(frozen=True)
class Table:
    """A table."""

    title: str
    header: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    note: str = ""  # what a reader must know: seeds, source of published numbers
    protocols: Protocols = field(default_factory=dict)  # how its scores were measured
    names: int = 1  # how many columns, the first ones, name the rows
    beside: Sequence[int] = ()  # places of the columns whose numbers are published ones
    text: Sequence[int] = ()  # places of the columns that hold words, not numbers
    whole: Sequence[int] = ()  # places of those that are not broken in a terminal, however long
    marked: Sequence[int] = ()  # places of the rows that stand out
    captioned: bool = True  # whether the title is shown; for those who cannot see the table it is always there


@dataclass(frozen=True)
class Picture:
    """A figure, drawn in the style of `fullrank.documents.plots`."""

    key: str  # a short name, for its file and its marks; each of a document has its own
    title: str
    caption: str  # how to read it
    draw: Callable[[], Figure]
    protocols: Protocols = field(default_factory=dict)  # how its scores were measured
    label: str = ""  # what it shows in numbers, for those who cannot see it; title and caption where it is empty
    subject: Look | None = None  # which of the things compared it is of


@dataclass(frozen=True)
class Photo:
    """A picture that exists as a PNG file."""

    png: bytes
    caption: str
    label: str  # what it shows, for those who cannot see it
    subject: Look | None = None  # which of the things compared it is of


@dataclass(frozen=True)
class Statement:
    """What is said of one of the things compared."""

    subject: Look
    headline: str
    sentences: Sequence[str]
    remedies: Sequence[tuple[str, str]] = ()  # what to try, each with its source
    trying: str = ""  # what stands above them


@dataclass(frozen=True)
class Fold:
    """Parts that a page shows when asked to, Markdown in full, and a terminal not at all."""

    summary: str
    parts: Sequence[Part]
    opened: bool = False  # whether a page shows them at first


@dataclass(frozen=True)
class Only:
    """Parts that only one kind of reader sees: a terminal has less room than a page."""

    where: Literal["terminal", "page"]
    parts: Sequence[Part]


Part = Heading | Words | Points | Fields | Table | Picture | Photo | Statement | Fold | Only


@dataclass(frozen=True)
class Document:
    """What a command has to say."""

    kind: str  # what sort of document, in a word or two
    title: str
    parts: Sequence[Part]  # in order; those before the first heading stand in the page's header
    data: Mapping[str, Any] = field(default_factory=dict)  # the same for programs, as JSON has it
    looks: Sequence[Look] = ()  # the things compared, where figures tell them apart

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


class Shown(ABC):
    """A result with a document of its own."""

    @abstractmethod
    def document(self) -> Document:
        """Return what the command line would print of it, or write as a page."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """Return its numbers, a dictionary a row."""

    def _repr_html_(self) -> str:
        return self.document()._repr_html_()

    def to_dataframe(self) -> pandas.DataFrame:
        """Return `rows` as a pandas DataFrame.

        Raises:
            FullrankError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise FullrankError("to_dataframe needs pandas: pip install pandas, or take rows()") from None
        return pandas.DataFrame(self.rows())


def unreadable(names: Sequence[str], subject: Look) -> list[Part]:
    """Name images that could not be read: a few of them in a terminal, all on a page; no parts where there are none."""
    if not names:
        return []
    few = f"left out, it could not be read: {listing(names, _MOST_NAMED)}"
    every = Words(", ".join(names), subject=subject)
    return [Only("terminal", [Words(few, "hint", subject)]), Fold("Images that could not be read", [every])]


def plain(cell: Cell) -> str:
    """Return the text of a cell."""
    return cell.label if isinstance(cell, Look) else cell.text if isinstance(cell, Hinted) else cell


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


def number(value: float, digits: int = 2) -> str:
    """Write a number with a minus sign, and none before a zero; NaN is in words.

    >>> number(-0.5), number(-0.001), number(float("nan"))
    ('−0.50', '0.00', 'not defined')
    """
    if math.isnan(value):
        return "not defined"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def coefficient(value: float, interval: Sequence[float] | None, digits: int = 2) -> str:
    """Write a coefficient with its interval.

    >>> coefficient(0.5, (-0.25, 1.0)), coefficient(-1, None)
    ('0.50 [−0.25, 1.00]', '−1.00')
    """
    ends = f" [{number(interval[0], digits)}, {number(interval[1], digits)}]" if interval else ""
    return number(value, digits) + ends


def field_list(values: Mapping[str, Any]) -> str:
    """Write names with their values in a line."""
    return ", ".join(f"{key} {value_text(value)}" for key, value in values.items())


def in_words(protocols: Protocols) -> list[str]:
    """Write protocols as sentences, one for each score."""
    return [f"{name}: {field_list(fields)}." for name, fields in protocols.items() if fields]
