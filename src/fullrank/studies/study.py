"""What a study is: settings to train, what to draw from them, and the published numbers to stand beside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, overload

import numpy as np

from fullrank.config import TrainConfig
from fullrank.documents import Part
from fullrank.measure.protocols import FINGERPRINT
from fullrank.measure.scores import Score, kind_of
from fullrank.training.runs import RunRecord
from fullrank.training.scores import latest, protocol_of, series

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
        label_free: Whether every label-free score is taken of it, as `fullrank inspect` does.
    """

    factors: Factors
    config: TrainConfig
    probes: tuple[str, ...] = ("knn", "logistic")
    teacher: Factors | None = None
    label_free: bool = False

    @property
    def words(self) -> str:
        """Name the setting in a line: its factors' values, a bare number with what it is a number of.

        >>> Cell({"rate": "0.3", "order": "hybrid"}, TrainConfig()).words
        'rate 0.3, hybrid'
        """
        said = (value if any(map(str.isalpha, value)) else f"{name} {value}" for name, value in self.factors.items())
        return ", ".join(said)


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
        evaluation: Scores of `fullrank evaluate`.
        label_free: Scores of `fullrank inspect`; none where its cell does not ask for them.
    """

    cell: Cell
    seed: int
    run: RunRecord
    evaluation: Sequence[Score] = field(default=())
    label_free: Sequence[Score] = field(default=())

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Final scores by name: an evaluation's where there is one, else the monitor's."""
        return {**latest(self.run), **{score.name: score for score in self.evaluation}}

    def score(self, name: str) -> float | None:
        """Return a final score's value; None where it was not taken."""
        score = self.scores.get(name)
        return None if score is None else score.value

    def protocol(self, name: str) -> Mapping[str, Any]:
        """Return how `score` was measured; the width D is part of it where the score depends on it."""
        return self._completed(name, self.scores[name].protocol) if name in self.scores else {}

    def initial(self, name: str) -> float | None:
        """Return a monitored score of the untrained encoder."""
        steps, values = series(self.run, name)
        return values[0] if steps and steps[0] == 0 else None

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return a score through training, as it was monitored: steps and values."""
        steps, values = series(self.run, name)
        return np.array(steps), np.array(values)

    def monitor_protocol(self, name: str) -> Mapping[str, Any]:
        """Return how `initial` and `series` were measured."""
        return self._completed(name, protocol_of(self.run, name))

    @property
    def width(self) -> int:
        """The width D of the representation."""
        return self.run.singular_values.shape[1]

    def _completed(self, name: str, protocol: Mapping[str, Any]) -> Mapping[str, Any]:
        # runs on a share of the images that are measured on all of them say so; runs on all of them need not
        said = {k: value for k, value in protocol.items() if (k, value) != ("subset", 1.0) and k != FINGERPRINT}
        return {**said, "D": self.width} if kind_of(name).spectrum is not None else said


class Results(Sequence[Result]):
    """The finished runs of a study in the order of its settings, and these settings, finished or not.

    Args:
        cells: The settings.
        found: Finished runs of theirs, and of no others.
    """

    def __init__(self, cells: Sequence[Cell], found: Iterable[Result]) -> None:
        self.cells = cells
        places = [cell.factors for cell in cells]
        self._found = sorted(found, key=lambda result: (places.index(result.cell.factors), result.seed))

    @overload
    def __getitem__(self, place: int) -> Result: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Result]: ...
    def __getitem__(self, place: int | slice) -> Result | Sequence[Result]:
        return self._found[place]

    def __len__(self) -> int:
        return len(self._found)


@dataclass(frozen=True)
class Study:
    """A table or figure of a paper, or a question of ours, as runs.

    Attributes:
        name: What the command line calls it.
        title: A line for people.
        source: The paper's tables and figures, or "ours".
        question: What it asks.
        cells: Its settings at a scale.
        parts: Its tables and figures, from what is finished (a `Results`, where a page is made).
    """

    name: str
    title: str
    source: str
    question: str
    cells: Callable[[Scale], Sequence[Cell]]
    parts: Callable[[Sequence[Result], Scale], Sequence[Part]]
