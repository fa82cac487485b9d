"""What an evaluation found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fullrank.measure.scores import Score


@dataclass(frozen=True)
class Evaluation:
    """What was found out about one run.

    Attributes:
        name: What it was given as, or so much of its end as tells it from the others.
        run: The run's folder; None for a checkpoint file.
        step: Gradient steps of its checkpoint.
        scores: One for each probe; empty where labels are missing.
        missing: What keeps it from being scored; empty where nothing does.
        skipped: Names of the images that could not be read.
    """

    name: str
    run: Path | None
    step: int
    scores: tuple[Score, ...]
    missing: str = ""
    skipped: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        run, scores = self.run and str(self.run), [score.as_dict() for score in self.scores]
        return {**asdict(self), "run": run, "scores": scores, "skipped": list(self.skipped)}
