"""What an evaluation found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fullrank.documents import Document
from fullrank.documents.shown import Shown
from fullrank.measure.scores import Score


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """What was found out about one run.

    Attributes:
        name: What it was given as, or so much of its end as tells it from the others.
        run: The run's folder; None for a checkpoint file.
        step: Gradient steps of its checkpoint; None of what is no run.
        scores: One for each probe, by its name; empty where labels are missing.
        missing: What keeps it from being scored; empty where nothing does.
        skipped: Names of the images that could not be read.
    """

    name: str
    run: Path | None
    step: int | None
    scores: Mapping[str, Score]
    missing: str = ""
    skipped: tuple[str, ...] = ()

    def __repr__(self) -> str:
        scores = ", ".join(f"{s.kind.title} {s.text}" for s in self.scores.values())
        return f"Evaluation({self.name!r}): {scores or self.missing}"

    def document(self) -> Document:
        """Return what `fullrank evaluate` says of it."""
        from fullrank.evaluation.document import document

        return document([self])

    def rows(self) -> list[dict[str, Any]]:
        """Return the scores, a row each, with what was chosen on the way."""
        return [{"score": score.name, "value": score.value, **score.chosen} for score in self.scores.values()]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        run, scores = self.run and str(self.run), [score.as_dict() for score in self.scores.values()]
        return {**asdict(self), "run": run, "scores": scores, "skipped": list(self.skipped)}
