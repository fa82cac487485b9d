"""What runs say, in sentences: a verdict on each, and what can honestly be compared between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fullrank.measure.protocols import ends, obstacle
from fullrank.measure.scores import SCORES
from fullrank.measure.verdict import judge
from fullrank.report.side import Side, flatten
from fullrank.text import capital, listing

# These change where and how often a run is looked at or kept, not what is trained.
NOT_A_SETTING = (
    "seed",
    "out",
    "data_dir",
    "hold",
    "checkpoint_every",
    "keep_checkpoints",
    "machine.",
    "monitor.",
)
COSINE_METHODS = ("simsiam", "nnsiam")
"""Whose loss is the negative cosine similarity of embeddings, and has its minimum where all are one."""
NEAR_THE_MINIMUM = -0.95
POINT = 0.01  # a fall of k-NN accuracy from its peak that is worth a word


def duration(seconds: float) -> str:
    """Write a duration with two units at most.

    >>> duration(61.2), duration(7261), duration(8.25)
    ('1 min 1 s', '2 h 1 min', '8.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def verdict(side: Side) -> tuple[str, str]:
    """Say how a run stands: in a few words, then in sentences on its progress, its spectrum and its k-NN."""
    said = [] if side.finished else [f"Unfinished, at step {side.reached:,} of {side.planned:,}."]
    if side.width is None:
        return "unfinished" if not side.finished else "not measured", " ".join([*said, "No measurement yet."])
    if side.run.spectrum_steps[-1] == 0:
        untrained = f"Only the untrained encoder has been measured (AUC {side.spectrum(-1).auc:.3f})"
        return "unfinished" if not side.finished else "not trained", " ".join(
            [*said, f"{untrained}; that says nothing about training yet."]
        )
    judged = judge(side.spectrum(-1), init=side.init)
    reasons = "; ".join(judged.reasons)
    said.append(f"{capital(reasons)}.")
    knn = [(record["knn"], record["step"]) for record in side.run.of_kind("measure") if "knn" in record]
    if len(knn) > 1:
        (first, start), (last, _) = knn[0], knn[-1]
        best, at = max(knn)
        peak = f", at best {SCORES['knn'].write(best)} at step {at:,}" if best - max(first, last) > POINT else ""
        origin = "before training" if start == 0 else f"at step {start:,}"
        worse = ", and so worse than untrained" if start == 0 and last < first else ""
        said.append(f"k-NN accuracy {SCORES['knn'].write(last)}; {SCORES['knn'].write(first)} {origin}{worse}{peak}.")
    said += _near_the_minimum(side)
    return ("" if side.finished else "unfinished · ") + judged.headline.lower(), " ".join(said)


def _near_the_minimum(side: Side) -> list[str]:
    """Say where the loss is about as low as it gets, which is no good sign: embeddings in one point have that loss."""
    losses = [record["heldout_loss"] for record in side.run.of_kind("measure") if "heldout_loss" in record]
    if side.run.config.get("method") not in COSINE_METHODS or not losses or losses[-1] > NEAR_THE_MINIMUM:
        return []
    return [
        f"Held-out loss {SCORES['heldout_loss'].write(losses[-1])}, near its minimum of −1, which embeddings in one "
        "point have: `fullrank inspect` with this run's folder looks whether they are."
    ]


def comparison(sides: Sequence[Side]) -> list[str]:
    """Compare runs in sentences; where a score cannot be compared, say why instead."""
    if len(sides) < 2:
        return []
    said: list[str] = []
    best: dict[str, Side] = {}
    refused: dict[str, list[str]] = {}
    for name in ("auc", "knn", "heldout_loss"):
        kind = SCORES[name]
        if not any(name in side.scores for side in sides):
            continue
        if why := incomparable(sides, name):
            refused.setdefault(why, []).append(kind.title)
            continue
        values = {side.label: side.scores[name].taken for side in sides}
        said.append(f"{capital(ends(name, values))}.")
        first, second, *_ = sorted(sides, key=lambda side: values[side.label], reverse=kind.direction == "higher")
        if kind.write(values[first.label]) != kind.write(values[second.label]):
            best[name] = first
    compared = bool(said)
    if "auc" in best and best["auc"] is best.get("heldout_loss"):
        agree = best["auc"] is best.get("knn")
        also = ", and by k-NN" if agree else ", though not by k-NN" if "knn" in best else ""
        said.append(f"{best['auc'].label} is ahead by both label-free scores of [Li22], loss and AUC{also}.")
    for why, names in refused.items():
        said.append(f"{capital(listing(names))} cannot be compared: {why}.")
    if compared:
        said += [_steps(sides), _seeds(sides)]
    return said


def incomparable(sides: Sequence[Side], name: str) -> str:
    """Say why a score cannot be compared between runs; an empty string when it can.

    The rule is that of `fullrank rank`, `fullrank.measure.protocols`.
    """
    missing = [side.label for side in sides if name not in side.scores]
    if missing:
        return f"not measured in {listing(missing)}"
    untrained = [side.label for side in sides if not side.measured]
    if untrained:
        return f"only the untrained encoder is measured in {listing(untrained)}"
    return obstacle(name, [side.scores[name].protocol for side in sides], [side.width for side in sides])


def settings(side: Side) -> dict[str, Any]:
    """Return what decides a run's result, but for its seed."""
    return {key: value for key, value in flatten(side.run.config).items() if not key.startswith(NOT_A_SETTING)}


def _steps(sides: Sequence[Side]) -> str:
    at: dict[int, list[Side]] = {}
    for side in sides:
        at.setdefault(side.measured or side.reached, []).append(side)
    if len(at) == 1:
        return f"All scores are from the same step, {next(iter(at)):,}."
    each = listing([f"{step:,} ({_names(group)})" for step, group in at.items()])
    return f"The scores are not from equal numbers of steps: {each}."


def _seeds(sides: Sequence[Side]) -> str:
    groups: dict[str, list[Side]] = {}
    for side in sides:
        groups.setdefault(repr((side.measured, sorted(settings(side).items()))), []).append(side)
    repeated = [group for group in groups.values() if len({repr(side.run.config.get("seed")) for side in group}) > 1]
    if not repeated and len({repr(sorted(settings(side).items())) for side in sides}) < len(sides):
        return "No two seeds of one setting are at the same step: how much is chance, these runs cannot tell."
    if not repeated:
        return "Each setting has one seed: how much of a difference is chance, these runs cannot tell."
    spreads = []
    for name in ("auc", "knn", "heldout_loss"):
        spans = [
            max(values) - min(values)
            for group in repeated
            if len(values := [side.scores[name].taken for side in group if name in side.scores]) > 1
            and not incomparable(group, name)
        ]
        if spans:
            kind = SCORES[name]
            spread = f"{100 * max(spans):.1f} points" if kind.share else kind.write(max(spans))
            spreads.append(f"{spread} in {kind.title}")
    only = "These runs differ in the seed alone" if len(groups) == 1 else "Runs that differ in the seed alone lie"
    verb = " and lie" if len(groups) == 1 else ""
    if not spreads:
        return f"{only}." if len(groups) == 1 else "Some settings have several seeds."
    rest = "" if len(groups) in (1, len(repeated)) else "; the other settings have one seed"
    return f"{only}{verb} up to {listing(spreads)} apart{rest}."


def _names(sides: Sequence[Side]) -> str:
    return listing([side.label for side in sides]) if len(sides) <= 3 else f"{len(sides)} runs"
