"""What a study's page is made of: tables and figures, and the sums they share."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: What it shows.
        header: A heading for each column; the first column names the rows.
        rows: Their cells.
        note: What a reader must know: protocol, seeds, source of published numbers.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """Return it as a table of Markdown, its title above and its note below."""
        lines = [
            "| " + " | ".join(self.header) + " |",
            "|---|" + "---:|" * (len(self.header) - 1),
            *("| " + " | ".join(row) + " |" for row in self.rows),
        ]
        return "\n".join([f"**{self.title}**", "", *lines, *(["", self.note] if self.note else [])])


@dataclass(frozen=True)
class Picture:
    """A figure.

    Attributes:
        key: A short name, for its file and its marks.
        title: What it shows.
        caption: How to read it.
        draw: Makes it.
    """

    key: str
    title: str
    caption: str
    draw: Callable[[], Figure]


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str


Part = Table | Picture | Words


def mean_and_deviation(values: Iterable[float | None], digits: int = 1, scale: float = 1.0) -> str:
    """Write a mean over seeds, with the sample standard deviation where there are two or more.

    >>> mean_and_deviation([0.5, 0.52], scale=100), mean_and_deviation([0.5]), mean_and_deviation([None])
    ('51.0 ± 1.4', '0.5', '–')
    """
    known = [scale * value for value in values if value is not None]
    if not known:
        return "–"
    mean = f"{statistics.mean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"
