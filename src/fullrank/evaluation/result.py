"""What an evaluation found, and evaluation.json, which keeps it with the run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from fullrank._version import __version__
from fullrank.files import ShapeError, Step, read_json, said, write_text
from fullrank.measure.scores import Score, read_score

EVALUATION = "evaluation.json"
WARNING = "warning"
"""What a score that is not to be trusted has among what was `chosen`: a sentence that says why."""


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


@dataclass(frozen=True)
class Kept:
    """What a run's evaluation.json says.

    Attributes:
        step: Gradient steps of the checkpoint that was evaluated.
        scores: Its scores; a name may come twice, with two protocols.
    """

    step: int
    scores: tuple[Score, ...]


class _Document(TypedDict):
    """What evaluation.json holds, each score as `Score.as_dict` has it."""

    step: Step
    scores: list[dict[str, Any]]


def read_evaluation(run: Path) -> Kept | None:
    """Return what a run's evaluation.json says; None where there is none.

    Raises:
        FullrankError: It is damaged.
    """
    path = run / EVALUATION
    if not path.is_file():
        return None
    remedy = "delete it and evaluate again"
    found = read_json(path, _Document, remedy)
    with said(path, remedy):
        scores = tuple(map(read_score, found["scores"]))
        for score in scores:
            if score.value is None:
                raise ShapeError(f"the value of {score.name} is missing")
    return Kept(found["step"], scores)


def keep(run: Path, step: int, scores: Sequence[Score]) -> int:
    """Write scores to a run's evaluation.json.

    A score of the same name and protocol is replaced. Those of another step are forgotten: the run was trained on.

    Returns:
        How many were forgotten.
    """
    # As they will be read back: what JSON turns into something else, such as a tuple, would never be equal.
    new = [read_score(json.loads(json.dumps(score.as_dict(), allow_nan=False))) for score in scores]
    found = read_evaluation(run)
    old = found.scores if found is not None else ()
    forgotten = len(old) if found is not None and found.step != step else 0
    replaced = [(score.name, score.protocol) for score in new]
    stay = [] if forgotten else [score for score in old if (score.name, score.protocol) not in replaced]
    document = {"fullrank": __version__, "step": step, "scores": [score.as_dict() for score in (*stay, *new)]}
    write_text(run / EVALUATION, json.dumps(document, indent=2) + "\n")
    return forgotten
