"""How one of several things that are shown beside each other looks, the same in every figure and table."""

from __future__ import annotations

from dataclasses import dataclass

# Okabe and Ito's colour-blind safe palette, without its yellow, which is too faint for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":")


@dataclass(frozen=True)
class Look:
    """A label, and what tells it from the others.

    Attributes:
        label: Its name, unlike any other's on the page.
        index: Its place, from 0; decides colour, marker and dashes.
    """

    label: str
    index: int

    @property
    def colour(self) -> str:
        """A hexadecimal colour."""
        return COLOURS[self.index % len(COLOURS)]

    @property
    def marker(self) -> str:
        """A matplotlib marker: colour is never the only difference."""
        return MARKERS[self.index % len(MARKERS)]

    @property
    def dashes(self) -> str:
        """A matplotlib line style, which tells things apart whose colours come round again."""
        return DASHES[self.index // len(COLOURS) % len(DASHES)]
