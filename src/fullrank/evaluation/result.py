"""What an evaluation found, and evaluation.json, which keeps it with the run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fullrank._version import __version__
from fullrank.errors import FullrankError
from fullrank.training.runs import write_text

EVALUATION = "evaluation.json"
WARNING = "warning"
"""What a score that is not to be trusted has among what was `chosen`: a sentence that says why."""


@dataclass(frozen=True)
class Score:
    """A score and how it was taken.

    Attributes:
        name: `knn`, `logistic` or `linear`.
        value: A share in [0, 1].
        protocol: How it was taken; equal for runs whose scores can be compared.
        better: Which values are.
        chosen: What the protocol chose for this run from its images, such as k, and what else it gives beside the
            value.
    """

    name: str
    value: float
    protocol: Mapping[str, Any]
    better: str = "higher"
    chosen: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return what evaluation.json keeps."""
        return {**vars(self), "protocol": dict(self.protocol), "chosen": dict(self.chosen)}


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
        forgotten: Scores that evaluation.json had of another step.
    """

    name: str
    run: Path | None
    step: int
    scores: tuple[Score, ...]
    missing: str = ""
    skipped: tuple[str, ...] = ()
    forgotten: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {
            **asdict(self),
            "run": None if self.run is None else str(self.run),
            "scores": [score.as_dict() for score in self.scores],
            "skipped": list(self.skipped),
        }


def read_evaluation(run: Path) -> dict[str, Any] | None:
    """Return what a run's evaluation.json says; None where there is none.

    Raises:
        FullrankError: It is damaged.
    """
    path = run / EVALUATION
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = all(
            isinstance(score["name"], str)
            and isinstance(score["value"], (int, float))
            and math.isfinite(score["value"])
            and isinstance(score["better"], str)
            and isinstance(score["protocol"], dict)
            for score in found["scores"]
        )
        if whole and isinstance(found["step"], int):
            return found
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        pass
    raise FullrankError(f"{path} is damaged or was not written by fullrank: delete it and evaluate again")


def keep(run: Path, step: int, scores: Sequence[Score]) -> int:
    """Write scores to a run's evaluation.json.

    A score of the same name and protocol is replaced. Those of another step are forgotten: the run was trained on.

    Returns:
        How many were forgotten.
    """
    # As they will be read back: what JSON turns into something else, such as a tuple, would never be equal.
    new = json.loads(json.dumps([score.as_dict() for score in scores], allow_nan=False))
    found = read_evaluation(run)
    old = found["scores"] if found is not None else []
    forgotten = len(old) if found is not None and found["step"] != step else 0
    replaced = [(score["name"], score["protocol"]) for score in new]
    stay = [] if forgotten else [score for score in old if (score["name"], score["protocol"]) not in replaced]
    document = {"fullrank": __version__, "step": step, "scores": [*stay, *new]}
    write_text(run / EVALUATION, json.dumps(document, indent=2) + "\n")
    return forgotten
