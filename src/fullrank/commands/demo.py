"""`fullrank demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Demo:
    """Train on handwritten digits with two orders, multiple pass and hybrid, and compare them; needs no network."""

    out: Path | None = None
    """Folder for the two runs and their report; runs/demo, numbered if taken, when left out."""

    def run(self) -> int:
        """Run the demo."""
        from fullrank.demo import demo

        return demo(self.out)
