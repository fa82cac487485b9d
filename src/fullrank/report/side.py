"""One run as a report shows it beside others: its label, its colour, how far it is, and its latest scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fullrank.measure.spectrum import Spectrum
from fullrank.report.look import Look
from fullrank.text import tails
from fullrank.training.runs import RunRecord

SPECTRUM_SCORES = ("auc", "rankme", "participation_ratio", "stable_rank", "alpha", "dead")
LOWER_IS_BETTER = ("heldout_loss", "auc", "dead")


@dataclass(frozen=True)
class Score:
    """A score of a run.

    Attributes:
        value: As measured; shares are in [0, 1].
        better: "lower" or "higher", with or without a condition after a comma, or something else, such as "context".
        protocol: How it was measured.
    """

    value: float
    better: str
    protocol: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Side(Look):
    """A run, and how it looks in every figure and table.

    Attributes:
        run: What its folder holds.
    """

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
        steps = [int(record.get("step", 0)) for record in (*self.run.records, *self.run.timing)]
        if self.run.summary is not None:
            steps.append(int(self.run.summary.get("steps", 0)))
        return max(steps, default=0)

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
        return list((self.run.summary or {}).get("skipped") or [])

    def spectrum(self, row: int) -> Spectrum:
        """Return a measured spectrum with its protocol; row -1 is the last."""
        return Spectrum(self.run.singular_values[row], self.run.protocols.get("spectrum") or {})

    @property
    def init(self) -> Spectrum | None:
        """The spectrum before training; None when it was not measured."""
        steps = self.run.spectrum_steps
        return self.spectrum(0) if len(steps) and steps[0] == 0 else None

    @property
    def scores(self) -> dict[str, Score]:
        """The latest scores by name: those of the summary, else of the last measurement."""
        found = {}
        train, measures, protocols = (
            self.run.of_kind("train"),
            self.run.of_kind("measure"),
            self.run.protocols,
        )
        if train and "loss" in train[-1]:
            found["train_loss"] = Score(train[-1]["loss"], "context", {"steps": "mean since the last record"})
        for name, value in (measures[-1] if measures else {}).items():
            if name not in ("kind", "step") and isinstance(value, (int, float)):
                protocol = protocols.get("spectrum" if name in SPECTRUM_SCORES else name) or {}
                found[name] = Score(value, "lower" if name in LOWER_IS_BETTER else "higher", protocol)
        for score in (self.run.summary or {}).get("scores") or []:
            better = score.get("better") or ("lower" if score["name"] in LOWER_IS_BETTER else "higher")
            name = "train_loss" if score["name"] == "loss" else score["name"]
            found[name] = Score(score["value"], better, score.get("protocol") or {})
        return found


def sides(runs: Sequence[RunRecord]) -> list[Side]:
    """Put runs side by side, in the order given, each with a label of its own."""
    return [Side(label, index, run) for index, (run, label) in enumerate(zip(runs, labels(runs), strict=True))]


def labels(runs: Sequence[RunRecord]) -> list[str]:
    """Name runs by their folder, with as many folders above it as it takes to tell them apart."""
    return tails([Path(run.path).resolve() for run in runs])


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn a nested mapping into one of dotted names.

    >>> flatten({"steps": 5, "optim": {"base_lr": 0.3}})
    {'steps': 5, 'optim.base_lr': 0.3}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
