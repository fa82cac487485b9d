"""What is ranked: runs as they ended, or steps of a run, each with the scores that its folder holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fullrank.errors import FullrankError
from fullrank.measure.protocols import ACCURACIES
from fullrank.measure.scores import Score, title
from fullrank.text import listing, tails
from fullrank.training.checkpoint import list_checkpoints
from fullrank.training.runs import CONFIG, RunRecord, read_run
from fullrank.training.scores import WARNING, Kept, kept, recorded

FEATURES = ("heldout_loss", "auc")
"""Scores that decide dominance, and that the accuracy is forecast from ([Li22] section 3.5)."""
FRONT, FORECAST = "front", "forecast"
"""What `fullrank rank` itself says, beside the scores."""


@dataclass(frozen=True)
class Candidate:
    """A run at one step."""

    name: str  # unlike any other's
    run: Path  # the run's folder
    step: int  # finished gradient steps; 0 before the first measurement
    width: int | None  # the representation's width D; None where no spectrum was measured
    checkpoint: Path | None  # the weights of this step; None where they were not kept
    scores: Mapping[str, Score]  # label-free scores by name
    # accuracies by name; the same one may have been taken in several ways, the best documented first
    labeled: Mapping[str, Sequence[Score]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()  # what its folder lacks, in clauses


def open_candidates(paths: Sequence[str | Path]) -> list[Candidate]:
    """Read what there is to rank: runs as they ended, checkpoints in their folders, or the measured steps of one run.

    Raises:
        FullrankError: There is nothing, or one of them cannot be read.
    """
    given = list(dict.fromkeys(Path(path).expanduser().resolve() for path in paths))
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
            name = f"{name}, step {step:,}" if len(folders) > 1 else f"step {step:,}"
            found.append(run.at(step, name))
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
    return folder, _step_of(path)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.split("_")[1])


class _Run:
    """A run's folder, read once for all its steps."""

    def __init__(self, path: Path) -> None:
        self.record: RunRecord = read_run(path)
        self.checkpoints = {_step_of(each): each for each in list_checkpoints(path / "checkpoints")}
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
            measured = [f"{step:,}" for step in self.record.measured if step > 0]
            missing.append(
                "the untrained encoder is not ranked"
                if step == 0 and measured
                else f"nothing was measured at step {step:,} while it trained, but at {listing(measured)}"
                if measured
                else "nothing was measured after the untrained encoder"
            )
            scores = {}
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
