"""One run as a report shows it beside others: its label, its color and its latest scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fullrank.documents import Look
from fullrank.documents.scores import Scored
from fullrank.measure.scores import Score
from fullrank.text import tails
from fullrank.training.runs import RunRecord
from fullrank.training.scores import latest


@dataclass(frozen=True)
class Side(Look):
    """A run, and how it looks in every figure and table."""

    run: RunRecord

    @cached_property
    def scores(self) -> dict[str, Score]:
        """The latest scores by name."""
        return latest(self.run)

    @property
    def scored(self) -> Scored:
        """It among others, for tables and comparisons."""
        return Scored(self, self.scores, self.run.width)


def sides(runs: Sequence[RunRecord]) -> list[Side]:
    """Put runs side by side, named by their folder, with as many folders above it as it takes to tell them apart."""
    labels = tails([Path(run.path).resolve() for run in runs])
    return [Side(label, index, run) for index, (run, label) in enumerate(zip(runs, labels, strict=True))]
