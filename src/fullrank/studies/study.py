"""What a study is: settings to train, what to draw from them, and the published numbers to stand beside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import starmap

from fullrank.config import Scale, TrainConfig
from fullrank.documents import MISSING, Part
from fullrank.measure.scores import Score
from fullrank.training.runs import RunRecord
from fullrank.training.scores import latest

Factors = Mapping[str, str]
ACCURACY: Mapping[Scale, str] = {"lab": "logistic", "paper": "linear"}
"""The linear evaluation: quick at lab scale, and [Li22]'s own at the paper's."""
PROBES = {scale: ("knn", accuracy) for scale, accuracy in ACCURACY.items()}
"""What `fullrank evaluate` takes of every run."""


@dataclass(frozen=True)
class Cell:
    """One setting of a study, which every seed is run with."""

    factors: Factors  # what the tables call it, such as {"encoder": "ResNet-18", "order": "hybrid"}
    config: TrainConfig  # the run, with the seed left at 0; images are named, and found where the user says
    teacher: Factors | None = None  # the factors of the cell whose run, of the same seed, it distills
    label_free: bool = False  # whether every label-free score is taken of it, as `fullrank inspect` does

    @property
    def words(self) -> str:
        """Name the setting in a line: its factors' values, a bare number with what it is a number of.

        >>> Cell({"rate": "0.3", "order": "hybrid"}, TrainConfig()).words
        'rate 0.3, hybrid'
        """
        return ", ".join(starmap(named, self.factors.items()))


def named(factor: str | None, value: str) -> str:
    """Name a factor's value, a bare number with what it is a number of.

    >>> named("width", "16"), named("encoder", "ResNet-18"), named(None, "")
    ('width 16', 'ResNet-18', '')
    """
    return value if factor is None or any(map(str.isalpha, value)) else f"{factor} {value}"


@dataclass(frozen=True)
class Published:
    """Numbers of a paper that stand beside ours, as they are printed."""

    source: str  # where
    protocol: str  # how they were measured
    rows: Mapping[str, Sequence[str]]  # by the value of the rows' factor
    columns: Sequence[str] = ("",)  # the values of the columns' factor, where there is one

    def number(self, row: str, column: str) -> str:
        """Return what is printed of two factors' values."""
        return (
            dict(zip(self.columns, self.rows[row], strict=True)).get(column, MISSING) if row in self.rows else MISSING
        )


@dataclass(frozen=True)
class Result:
    """A finished run of a study."""

    cell: Cell
    seed: int
    run: RunRecord
    evaluation: Sequence[Score] = field(default=())  # of `fullrank evaluate`
    label_free: Sequence[Score] = field(default=())  # of `fullrank inspect`; none where its cell does not ask for them

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Final scores by name: an evaluation's where there is one, else the monitor's."""
        return {**latest(self.run), **{score.name: score for score in self.evaluation}}

    def score(self, name: str) -> float | None:
        """Return a final score's value; None where it was not taken."""
        return self.scores[name].value if name in self.scores else None


class Results(list[Result]):
    """The finished runs of a study in the order of its settings, and these settings, finished or not."""

    def __init__(self, cells: Sequence[Cell], found: Iterable[Result]) -> None:
        places = [cell.factors for cell in cells]
        super().__init__(sorted(found, key=lambda result: (places.index(result.cell.factors), result.seed)))
        self.cells = cells

    def where(self, **factors: str | Sequence[str]) -> Results:
        """Return the runs of the settings whose factors have these values, or one of several.

        Args:
            factors: Values by the factor's name, in which `_` stands for a space.
        """

        def fits(cell: Cell) -> bool:
            own = {name: cell.factors.get(name.replace("_", " ")) for name in factors}
            return all(
                own[n] == wanted if isinstance(wanted, str) else own[n] in wanted for n, wanted in factors.items()
            )

        return Results(list(filter(fits, self.cells)), [result for result in self if fits(result.cell)])


@dataclass(frozen=True)
class Study:
    """A table or figure of a paper, or a question of ours, as runs."""

    name: str  # what the command line calls it
    title: str
    source: str  # the paper's tables and figures, or "ours"
    question: str
    cells: Callable[[Scale], Sequence[Cell]]  # its settings
    parts: Callable[[Results, Scale], Sequence[Part]]  # its tables and figures, of what is finished
