"""One run as a report shows it beside others: its label, its color, how far it is, and its latest scores."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fullrank.documents import Look
from fullrank.documents.scores import Scored
from fullrank.measure.scores import Score
from fullrank.measure.spectrum import Spectrum
from fullrank.text import tails
from fullrank.training.runs import RunRecord
from fullrank.training.scores import latest


@dataclass(frozen=True)
class Side(Look):
    """A run, and how it looks in every figure and table."""

    run: RunRecord

    @property
    def finished(self) -> bool:
        """Whether the run has a summary."""
        return self.run.summary is not None

    @property
    def planned(self) -> int:
        """The steps of the configuration; those reached, where it names none."""
        return int(self.run.config.get("steps") or self.reached)

    @property
    def reached(self) -> int:
        """The last step that left a trace."""
        traces = (*self.run.records, *self.run.timing, {"step": (self.run.summary or {}).get("steps", 0)})
        return max(int(record.get("step", 0)) for record in traces)

    @property
    def measured(self) -> int | None:
        """The step of the last measurement; None before the first."""
        measures = self.run.of_kind("measure")
        return int(measures[-1]["step"]) if measures else None

    @property
    def width(self) -> int | None:
        """The representation's width D; None before the first spectrum."""
        return self.run.singular_values.shape[1] if len(self.run.singular_values) else None

    @property
    def switch(self) -> int | None:
        """The step at which a hybrid order turns to multiple passes; None for other orders."""
        share = self.run.config.get("switch")
        if self.run.config.get("order") != "hybrid" or not isinstance(share, (int, float)):
            return None
        return round(share * self.planned)

    @property
    def order(self) -> str:
        """The order of its images in words."""
        name = str(self.run.config.get("order", "–"))
        return name if self.switch is None else f"{name}, multiple pass from step {self.switch:,}"

    @property
    def images_per_second(self) -> str | None:
        """The median of its speed; None where it was not recorded."""
        rates = [record["images_per_second"] for record in self.run.timing if "images_per_second" in record]
        return f"{statistics.median(rates):,.0f} (median)" if rates else None

    @property
    def skipped(self) -> list[str]:
        """The images that could not be read."""
        return [str(name) for name in (self.run.summary or {}).get("skipped") or []]

    def spectrum(self, row: int) -> Spectrum:
        """Return a measured spectrum with its protocol; row -1 is the last."""
        return Spectrum(self.run.singular_values[row], self.run.protocols.get("spectrum") or {})

    @property
    def init(self) -> Spectrum | None:
        """The spectrum before training; None when it was not measured."""
        steps = self.run.spectrum_steps
        return self.spectrum(0) if len(steps) and steps[0] == 0 else None

    @cached_property
    def scores(self) -> dict[str, Score]:
        """The latest scores by name."""
        return latest(self.run)

    @property
    def scored(self) -> Scored:
        """It among others, for tables and comparisons."""
        return Scored(self, self.scores, self.width)


def sides(runs: Sequence[RunRecord]) -> list[Side]:
    """Put runs side by side, named by their folder, with as many folders above it as it takes to tell them apart."""
    labels = tails([Path(run.path).resolve() for run in runs])
    return [Side(label, index, run) for index, (run, label) in enumerate(zip(runs, labels, strict=True))]
