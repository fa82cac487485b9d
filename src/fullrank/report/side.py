"""One run as a report shows it beside others: its label, its color, how far it is, and its latest scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fullrank.documents import Look
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


def sides(runs: Sequence[RunRecord]) -> list[Side]:
    """Put runs side by side, named by their folder, with as many folders above it as it takes to tell them apart."""
    labels = tails([Path(run.path).resolve() for run in runs])
    return [Side(label, index, run) for index, (run, label) in enumerate(zip(runs, labels, strict=True))]


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn a nested mapping into one of dotted names.

    >>> flatten({"steps": 5, "optim": {"base_lr": 0.3}})
    {'steps': 5, 'optim.base_lr': 0.3}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
