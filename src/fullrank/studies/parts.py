"""What a study's page is made of: tables and figures, and the sums they share."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Protocols = Mapping[str, Mapping[str, str]]
"""How each of some scores was measured: by its name, the fields of its protocol."""


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: What it shows.
        header: A heading for each column.
        rows: Their cells.
        note: What a reader must know: seeds, source of published numbers.
        protocols: How its scores were measured.
        names: How many columns, the first ones, name the rows.
        beside: Places of the columns whose numbers are published ones.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    protocols: Protocols = field(default_factory=dict)
    names: int = 1
    beside: Sequence[int] = ()

    def markdown(self) -> str:
        """Return it as a table of Markdown, its title above, its note and its protocols below.

        >>> print(Table("k-NN", ["order", "ours"], [["hybrid", "48.3"]], "One seed.", {"k-NN": {"k": "20"}}).markdown())
        **k-NN**
        <BLANKLINE>
        | order | ours |
        |---|---:|
        | hybrid | 48.3 |
        <BLANKLINE>
        One seed.
        <BLANKLINE>
        k-NN: k 20.
        """
        lines = [
            _row(self.header),
            "|" + "---|" * self.names + "---:|" * (len(self.header) - self.names),
            *map(_row, self.rows),
        ]
        below = [text for note in (self.note, *in_words(self.protocols)) if note for text in ("", note)]
        return "\n".join([f"**{self.title}**", "", *lines, *below])


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        key: A short name, for its file and its marks.
        title: What it shows.
        caption: How to read it.
        draw: Makes it, in the style of `fullrank.report.svg`.
        protocols: How its scores were measured.
    """

    key: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    protocols: Protocols = field(default_factory=dict)


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


Part = Table | Picture | Words


def in_words(protocols: Protocols) -> list[str]:
    """Write protocols as sentences, one for each score."""
    return [
        f"{name}: {', '.join(f'{key} {value}' for key, value in fields.items())}."
        for name, fields in protocols.items()
        if fields
    ]


def mean_and_deviation(values: Iterable[float | None], digits: int = 1, scale: float = 1.0) -> str:
    """Write a mean over seeds, with the sample standard deviation where there are two or more.

    >>> mean_and_deviation([0.5, 0.52], scale=100), mean_and_deviation([0.5]), mean_and_deviation([None])
    ('51.0 ± 1.4', '0.5', '–')
    """
    known = [scale * value for value in values if value is not None]
    if not known:
        return "–"
    mean = f"{statistics.mean(known):.{digits}f}".replace("-", "−")
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
