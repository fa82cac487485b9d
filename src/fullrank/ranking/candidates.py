"""What is ranked: runs as they ended, or steps of a run, each with the scores that its folder holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fullrank.errors import FullrankError
from fullrank.evaluation.result import EVALUATION, WARNING, read_evaluation
from fullrank.measure.protocols import ACCURACIES
from fullrank.measure.scores import Score
from fullrank.text import listing, tails
from fullrank.training.checkpoint import list_checkpoints
from fullrank.training.runs import CONFIG, RunRecord, read_run
from fullrank.training.scores import recorded

_FIRST = ("heldout_loss", "auc")


@dataclass(frozen=True)
class Candidate:
    """A run at one step.

    Attributes:
        name: Unlike any other's.
        run: The run's folder.
        step: Finished gradient steps; 0 before the first measurement.
        width: The representation's width D; None where no spectrum was measured.
        checkpoint: The weights of this step; None where they were not kept.
        scores: Label-free scores by name.
        labelled: Accuracies by name; the same one may have been taken in several ways, the best documented first.
        missing: What its folder lacks, in clauses.
    """

    name: str
    run: Path
    step: int
    width: int | None
    checkpoint: Path | None
    scores: Mapping[str, Score]
    labelled: Mapping[str, Sequence[Score]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def open_candidates(paths: Sequence[str | Path]) -> list[Candidate]:
    """Read what there is to rank.

    Args:
        paths: Run folders, of which each is one candidate as it ended; or checkpoints within run folders, each one
            candidate; or a single run folder, of which every measured step after the first is one.

    Raises:
        FullrankError: There is nothing, or one of them cannot be read.
    """
    given = list(dict.fromkeys(Path(path).expanduser().resolve() for path in paths))
    if not given:
        raise FullrankError("give at least one run: fullrank rank RUN [RUN ...]")
    where = [_run_of(path) for path in given]
    folders = list(dict.fromkeys(folder for folder, _ in where))
    runs = {folder: read_run(folder) for folder in folders}
    labels = dict(zip(folders, tails(folders), strict=True))
    if len(given) == 1 and where[0][1] is None:
        steps = [step for step in _measured_steps(runs[folders[0]]) if step > 0]
        if len(steps) > 1:
            return [replace(_at(runs[folders[0]], step), name=f"step {step:,}") for step in steps]
    found = []
    for folder, step in where:
        run = runs[folder]
        own = f"{labels[folder]}, step {step:,}" if step is not None and len(folders) > 1 else labels[folder]
        if step is not None and len(folders) == 1:
            own = f"step {step:,}"
        end = max(_measured_steps(run), default=0)
        candidate = replace(_at(run, end if step is None else step), name=own)
        planned = int(run.config.get("steps") or end)
        if step is None and run.summary is None and end > 0:
            unfinished = f"unfinished, ranked as of step {end:,} of {planned:,}"
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


def _measured_steps(run: RunRecord) -> list[int]:
    return [int(record["step"]) for record in run.of_kind("measure")]


def _at(run: RunRecord, step: int) -> Candidate:
    """Return a run at one step, nameless."""
    missing: list[str] = []
    labeled: dict[str, list[Score]] = {}
    kept = {_step_of(path): path for path in list_checkpoints(run.path / "checkpoints")}
    scores = recorded(run, step) if step > 0 else None
    if scores is None:
        measured = [f"{step:,}" for step in _measured_steps(run) if step > 0]
        missing.append(
            f"nothing was measured at step {step:,} while it trained, but at {listing(measured)}"
            if measured
            else "nothing was measured after the untrained encoder"
        )
        scores = {}
    for score in (*_evaluated(run.path, step, missing), *scores.values()):
        if score.name in ACCURACIES:
            labeled.setdefault(score.name, []).append(score)
    own = {name: score for name, score in scores.items() if name not in ACCURACIES}
    width = run.singular_values.shape[1] if len(run.singular_values) else None
    first = {name: own[name] for name in _FIRST if name in own}
    return Candidate("", run.path, step, width, kept.get(step), first | own, labeled, tuple(missing))


def _evaluated(folder: Path, step: int, missing: list[str]) -> list[Score]:
    """Return the scores of evaluation.json, where they are of this step."""
    try:
        found = read_evaluation(folder)
    except FullrankError as error:  # a ranking needs no labels
        missing.append(str(error))
        return []
    if found is None:
        return []
    if found.step != step:
        missing.append(f"{EVALUATION} is of step {found.step:,}, not {step:,}, and was left out")
        return []
    kept = []
    for score in found.scores:
        warning = score.chosen.get(WARNING)
        if score.name in ACCURACIES and warning:
            missing.append(f"{score.name} of {EVALUATION} was left out, for it comes with a warning ({warning})")
        elif score.name in ACCURACIES:
            kept.append(score)
    return kept
