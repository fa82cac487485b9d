"""What is ranked: runs as they ended, or steps of a run, each with the scores that its folder holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fullrank.errors import FullrankError
from fullrank.measure.protocols import ACCURACIES
from fullrank.measure.scores import Score, title
from fullrank.text import expanded, listing, tails
from fullrank.training.checkpoint import list_checkpoints, step_of
from fullrank.training.runs import CONFIG, RunRecord, read_run
from fullrank.training.scores import WARNING, Kept, kept, recorded

FEATURES = ("heldout_loss", "auc")
"""Scores that decide dominance, and that the accuracy is forecast from ([Li22] section 3.5)."""
FRONT, FORECAST = "front", "forecast"
"""What `fullrank rank` itself says, beside the scores."""


class Forecasted(NamedTuple):
    """A forecast accuracy."""

    value: float  # in the accuracy's unit, a share; a linear model may leave [0, 1]
    lower: float  # the 95 % interval's lower end
    upper: float  # its upper end
    left_out: bool  # whether the run has labels, and this is what a fit without it says
    outside: tuple[str, ...]  # features in which it lies outside what was fitted


class Labels(NamedTuple):
    """One accuracy, of the candidates that have it."""

    name: str  # `linear`, `logistic` or `knn`
    protocol: Mapping[str, Any]  # how it was measured
    values: Mapping[str, Score]  # by the candidate's name
    left_out: tuple[str, ...]  # candidates whose accuracy of that name was measured otherwise


@dataclass(frozen=True)
class Candidate:
    """A run at one step, and its place, which `rank` gives it."""

    name: str  # unlike any other's
    run: Path  # the run's folder
    step: int  # finished gradient steps; 0 before the first measurement
    width: int | None  # the representation's width D; None where no spectrum was measured
    checkpoint: Path | None  # the weights of this step; None where they were not kept
    scores: Mapping[str, Score]  # label-free scores by name
    # accuracies by name; the same one may have been taken in several ways, the best documented first
    labeled: Mapping[str, Sequence[Score]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()  # what its folder lacks, in clauses
    number: int = 0  # from 1, in the order shown; names it in figures
    group: int | None = None  # the group it is ranked in, from 0; None where its held-out loss or its AUC is missing
    front: int | None = None  # its Pareto front in the group, from 1; None where it is not ranked
    rank: int | None = None  # from 1; equal where nothing decides. None where there is nobody to rank it against
    forecast: Forecasted | None = None
    accuracy: Score | None = None  # the one that is meant
    accuracies: Mapping[str, Score] = field(default_factory=dict)  # that and the others, by name

    def value(self, name: str) -> float | None:
        """Return a score's value, that of the forecast and the front too; None where there is none."""
        if name in (FORECAST, FRONT):
            return self.front if name == FRONT else self.forecast and self.forecast.value
        return self.scores[name].value if name in self.scores else None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        own = ("name", "run", "step", "checkpoint", "width", "group", "front", "rank", "forecast", "accuracy")
        return {
            **{name: getattr(self, name) for name in own},
            "run": str(self.run),
            "checkpoint": self.checkpoint and str(self.checkpoint),
            "forecast": self.forecast and self.forecast._asdict(),
            "accuracy": self.accuracy and self.accuracy.value,
            "accuracies": [score.as_dict() for score in self.accuracies.values()],
            "scores": [score.as_dict() for score in self.scores.values()],
            "missing": list(self.missing),
        }


def features_of(candidates: Sequence[Candidate]) -> np.ndarray:
    """Return the held-out loss and AUC of candidates that have both, `(n, 2)`."""
    return np.array([[each.scores[name].taken for name in FEATURES] for each in candidates])


def open_candidates(paths: Sequence[str | Path]) -> list[Candidate]:
    """Read what there is to rank: runs as they ended, checkpoints in their folders, or measured steps of one run."""
    given = list(dict.fromkeys(expanded(path).resolve() for path in paths))
    if not given:
        raise FullrankError("give at least one run: fullrank rank RUN [RUN ...]")
    where = [_run_of(path) for path in given]
    folders = list(dict.fromkeys(folder for folder, _ in where))
    runs = {folder: _Run(folder) for folder in folders}
    labels = dict(zip(folders, tails(folders), strict=True))
    if len(given) == 1 and where[0][1] is None:
        run = runs[folders[0]]
        steps = [step for step in run.record.measured if step > 0]
        if len(steps) > 1:
            return [run.at(step, f"step {step:,}") for step in steps]
    found = []
    for folder, step in where:
        run, name = runs[folder], labels[folder]
        if step is not None:
            found.append(run.at(step, f"{name}, step {step:,}" if len(folders) > 1 else f"step {step:,}"))
            continue
        end = max(run.record.measured, default=0)
        candidate = run.at(end, name)
        if not run.record.finished and end > 0:
            unfinished = f"unfinished, ranked as of step {end:,} of {run.record.planned:,}"
            candidate = replace(candidate, missing=(*candidate.missing, unfinished))
        found.append(candidate)
    return found


def _run_of(path: Path) -> tuple[Path, int | None]:
    """Return the run's folder, and the step where `path` is one of its checkpoints."""
    if path.is_dir() or not path.exists():
        return path, None
    folder = path.parent.parent
    if path not in list_checkpoints(path.parent) or not (folder / CONFIG).is_file():
        raise FullrankError(
            f"{path} is neither a run's folder nor a checkpoint in one (RUN/checkpoints/step_*.pt): what was measured "
            "is kept with the run. `fullrank inspect` sets the scores of other checkpoints side by side"
        )
    return folder, step_of(path)


class _Run:
    """A run's folder, read once for all its steps."""

    def __init__(self, path: Path) -> None:
        self.record: RunRecord = read_run(path)
        self.checkpoints = {step_of(each): each for each in list_checkpoints(path / "checkpoints")}
        self.kept: list[Kept] = []
        self.damaged = ""
        try:
            self.kept = [each for each in kept(path) if each.by == "evaluate" and each.score.name in ACCURACIES]
        except FullrankError as error:  # a ranking needs no labels
            self.damaged = str(error)

    def at(self, step: int, name: str) -> Candidate:
        missing = [self.damaged] if self.damaged else []
        scores = recorded(self.record, step) if step > 0 else None
        if scores is None:
            scores, measured = {}, [f"{step:,}" for step in self.record.measured if step > 0]
            why = "nothing was measured after the untrained encoder"
            if measured:
                why = f"nothing was measured at step {step:,} while it trained, but at {listing(measured)}"
            missing.append("the untrained encoder is not ranked" if step == 0 and measured else why)
        labeled: dict[str, list[Score]] = {}
        taken = [each.score for each in self.kept if each.step == step]
        if self.kept and not taken and step == max(self.record.measured, default=0):
            steps = listing([f"{step:,}" for step in sorted({each.step for each in self.kept})])
            missing.append(f"it was evaluated at step {steps}, not {step:,}, which was left out")
        for score in (*taken, *scores.values()):
            if warning := score.chosen.get(WARNING):
                missing.append(f"its {title(score.name)} was left out, for it comes with a warning ({warning})")
            elif score.name in ACCURACIES:
                labeled.setdefault(score.name, []).append(score)
        own = {name: score for name, score in scores.items() if name not in ACCURACIES}
        first = {name: own[name] for name in FEATURES if name in own}
        run, weights = self.record, self.checkpoints.get(step)
        return Candidate(name, run.path, step, run.width, weights, first | own, labeled, tuple(missing))
