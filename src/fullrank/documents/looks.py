"""How one of several things that are shown beside each other looks, the same in every figure and table."""

from __future__ import annotations

from dataclasses import dataclass, field

# Okabe and Ito's color-blind safe palette, without its yellow, which is too faint for lines on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", ":")


@dataclass(frozen=True)
class Look:
    """A label, and what tells it from the others."""

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
