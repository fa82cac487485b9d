"""Runs as a report shows them beside each other: how each looks, its scores, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fullrank.documents.scores import Scored
from fullrank.documents.scores import comparison as compare
from fullrank.measure.scores import SCORES
from fullrank.text import grouped, listing, tails
from fullrank.training.runs import RunRecord
from fullrank.training.scores import latest, series

COSINE_METHODS = ("simsiam", "nnsiam")
"""Whose loss is the negative cosine similarity of embeddings, and has its minimum where all are one."""
NEAR_THE_MINIMUM = -0.95
POINT = 0.01  # a fall of k-NN accuracy from its peak that is worth a word
_COMPARED = ("auc", "knn", "heldout_loss")


@dataclass(frozen=True)
class Side(Scored):
    """A run, its latest scores, and how it looks in every figure and table."""

    run: RunRecord


def sides(runs: Sequence[RunRecord]) -> list[Side]:
    """Put runs side by side, named by their folder, with as many folders above it as it takes to tell them apart."""
    labels = tails([Path(run.path).resolve() for run in runs])
    named = zip(runs, labels, strict=True)
    return [Side(label, index, latest(run), run) for index, (run, label) in enumerate(named)]


def verdict(side: Side) -> tuple[str, str]:
    """Say how a run stands: in a few words, then in sentences on its progress, its spectrum and its k-NN."""
    said = [] if side.run.finished else [f"Unfinished, at step {side.run.reached:,} of {side.run.planned:,}."]
    if side.run.width is None:
        return "not measured" if side.run.finished else "unfinished", " ".join([*said, "No measurement yet."])
    if side.run.spectrum_steps[-1] == 0:
        untrained = f"Only the untrained encoder has been measured (AUC {side.run.spectrum().auc:.3f})"
        said.append(f"{untrained}; that says nothing about training yet.")
        return "not trained" if side.run.finished else "unfinished", " ".join(said)
    judged = side.run.verdict()
    said += judged.sentences
    steps, knn = series(side.run, "knn")
    if len(knn) > 1:
        write = SCORES["knn"].write
        first, last, start, (best, at) = knn[0], knn[-1], steps[0], max(zip(knn, steps, strict=True))
        peak = f", at best {write(best)} at step {at:,}" if best - max(first, last) > POINT else ""
        origin = "before training" if start == 0 else f"at step {start:,}"
        worse = ", and so worse than untrained" if start == 0 and last < first else ""
        said.append(f"k-NN accuracy {write(last)}; {write(first)} {origin}{worse}{peak}.")
    _, losses = series(side.run, "heldout_loss")
    if side.run.config.get("method") in COSINE_METHODS and len(losses) and losses[-1] <= NEAR_THE_MINIMUM:
        said.append(
            f"Held-out loss {SCORES['heldout_loss'].write(losses[-1])}, near its minimum of −1, which embeddings in "
            "one point have: `fullrank inspect` with this run's folder looks whether they are."
        )
    return ("" if side.run.finished else "unfinished · ") + judged.headline.lower(), " ".join(said)


def comparison(sides: Sequence[Side]) -> list[str]:
    """Compare runs in sentences; where a score cannot be compared, say why instead."""
    untrained = [side.label for side in sides if side.scores and not any(side.run.measured)]
    if untrained and len(sides) > 1:
        return [f"Scores cannot be compared: only the untrained encoder is measured in {listing(untrained)}."]
    said = compare(sides, _COMPARED)
    steps = grouped((max(side.run.measured, default=0) or side.run.reached, side.label) for side in sides)
    if said and len(steps) > 1:
        each = [f"{step:,} ({listing(own) if len(own) <= 3 else f'{len(own)} runs'})" for step, own in steps.items()]
        said.append(f"The scores are not from equal numbers of steps: {listing(each)}.")
    return said
