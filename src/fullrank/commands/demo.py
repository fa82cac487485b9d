"""`fullrank demo`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Demo:
    """Train on handwritten digits with two orders, multiple pass and hybrid, and compare them; needs no network."""

    full: bool = False
    """Train where the order matters: CIFAR-10, which is downloaded, half an hour on a CPU core. Digits take three
    minutes, and their orders do not differ."""

    out: Path | None = None
    """Folder for the two runs and their report; runs/demo, numbered if taken, when left out."""

    def run(self) -> int:
        """Run the demo."""
        from fullrank.demo import demo

        return demo(self.out, full=self.full)
