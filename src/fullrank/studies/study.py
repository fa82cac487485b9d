"""What a study is: settings to train, what to draw from them, and the published numbers to stand beside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fullrank.config import TrainConfig
from fullrank.studies.parts import Part
from fullrank.training.runs import RunRecord

Scale = Literal["lab", "paper"]
Factors = Mapping[str, str]


@dataclass(frozen=True)
class Cell:
    """One setting of a study, which every seed is run with.

    Attributes:
        factors: What the tables call it, such as `{"encoder": "ResNet-18", "order": "hybrid"}`.
        config: The run, with the seed left at 0; images are named, and found where the user says.
        probes: Evaluations of `fullrank evaluate` once it is trained.
        teacher: The factors of the cell whose run, of the same seed, it distils.
    """

    factors: Factors
    config: TrainConfig
    probes: tuple[str, ...] = ("knn", "logistic")
    teacher: Factors | None = None


@dataclass(frozen=True)
class Published:
    """Numbers of a paper that stand beside ours.

    Attributes:
        source: Where they are printed.
        protocol: How they were measured.
        values: Mean, and standard deviation where one is printed, by the values of the factors.
    """

    source: str
    protocol: str
    values: Mapping[tuple[str, ...], tuple[float, float | None]]


@dataclass(frozen=True)
class Result:
    """A finished run of a study.

    Attributes:
        cell: Its setting.
        seed: Its seed.
        run: Its records.
        evaluation: Scores of `fullrank evaluate`, as in evaluation.json.
    """

    cell: Cell
    seed: int
    run: RunRecord
    evaluation: Sequence[Mapping[str, Any]] = field(default=())

    def score(self, name: str) -> float | None:
        """Return a final score: an evaluation's where there is one, else the monitor's; None where there is neither."""
        found = [*self.evaluation, *((self.run.summary or {}).get("scores", ()))]
        return next((float(score["value"]) for score in found if score["name"] == name), None)

    def protocol(self, name: str) -> Mapping[str, Any]:
        """Return how `score` was measured."""
        found = [*self.evaluation, *((self.run.summary or {}).get("scores", ()))]
        return next((score["protocol"] for score in found if score["name"] == name), {})

    def initial(self, name: str) -> float | None:
        """Return a score of the untrained encoder."""
        return self.run.of_kind("measure")[0].get(name)

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return a score through training: steps and values."""
        records = [record for record in self.run.of_kind("measure") if name in record]
        return np.array([record["step"] for record in records]), np.array([record[name] for record in records])


@dataclass(frozen=True)
class Study:
    """A table or figure of a paper, or a question of ours, as runs.

    Attributes:
        name: What the command line calls it.
        title: A line for people.
        source: The paper's tables and figures, or "ours".
        question: What it asks.
        cells: Its settings at a scale.
        parts: Its tables and figures, from what is finished.
    """

    name: str
    title: str
    source: str
    question: str
    cells: Callable[[Scale], Sequence[Cell]]
    parts: Callable[[Sequence[Result], Scale], Sequence[Part]]
