"""`fullrank rank`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from fullrank.ranking.options import RankOptions


@dataclass(frozen=True, kw_only=True)
class Rank(RankOptions):
    """Rank runs without labels, by held-out loss and AUC together; forecast their accuracy where some have labels.

    Prints a table and what can and cannot be decided. Given one run, ranks the steps at which it was measured.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders made by `fullrank train`, or checkpoints in them (RUN/checkpoints/step_*.pt)."""
    out: Path | None = None
    """A page to write, such as rank.html: loss against AUC, forecast against measured accuracy, rank correlations."""
    json: bool = False
    """Print everything as JSON, for programs."""

    def run(self) -> int:
        """Rank, print and write."""
        from fullrank.commands.present import present
        from fullrank.ranking.rank import rank
        from fullrank.training.runs import only_runs

        notes = () if self.fit is None else (f"fit: {self.fit}",)
        runs = only_runs(self.runs)
        return present(
            lambda told: rank(runs, self, progress=told).document(), json=self.json, out=self.out, notes=notes
        )
