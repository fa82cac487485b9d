"""What runs say, in sentences: a verdict on each, and what can honestly be compared between them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from fullrank.measure.protocols import ends, obstacle
from fullrank.measure.scores import SCORES, kind_of
from fullrank.measure.verdict import judge
from fullrank.report.side import Side, flatten
from fullrank.text import capital, listing

# These change where and how often a run is looked at or kept, not what is trained.
NOT_A_SETTING = (
    *("seed", "out", "data_dir", "checkpoint_every", "keep_checkpoints", "machine.", "monitor."),
    *("cache", "hold"),  # the latter's name in runs of before
)
COSINE_METHODS = ("simsiam", "nnsiam")
"""Whose loss is the negative cosine similarity of embeddings, and has its minimum where all are one."""
NEAR_THE_MINIMUM = -0.95
POINT = 0.01  # a fall of k-NN accuracy from its peak that is worth a word
_COMPARED = ("auc", "knn", "heldout_loss")


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


def better(score: str) -> str:
    """Say which values of a score are better; an empty string where neither are by themselves."""
    direction = kind_of(score).direction
    too = ", with a lower AUC" if score == "heldout_loss" else ""
    return "" if direction == "none" else f"{direction} is better{too}"


def verdict(side: Side) -> tuple[str, str]:
    """Say how a run stands: in a few words, then in sentences on its progress, its spectrum and its k-NN."""
    said = [] if side.finished else [f"Unfinished, at step {side.reached:,} of {side.planned:,}."]
    if side.width is None:
        return "not measured" if side.finished else "unfinished", " ".join([*said, "No measurement yet."])
    if side.run.spectrum_steps[-1] == 0:
        untrained = f"Only the untrained encoder has been measured (AUC {side.spectrum(-1).auc:.3f})"
        said.append(f"{untrained}; that says nothing about training yet.")
        return "not trained" if side.finished else "unfinished", " ".join(said)
    judged = judge(side.spectrum(-1), init=side.init)
    said.append(f"{capital('; '.join(judged.reasons))}.")
    knn = [(record["knn"], record["step"]) for record in side.run.of_kind("measure") if "knn" in record]
    if len(knn) > 1:
        write = SCORES["knn"].write
        (first, start), (last, _), (best, at) = knn[0], knn[-1], max(knn)
        peak = f", at best {write(best)} at step {at:,}" if best - max(first, last) > POINT else ""
        origin = "before training" if start == 0 else f"at step {start:,}"
        worse = ", and so worse than untrained" if start == 0 and last < first else ""
        said.append(f"k-NN accuracy {write(last)}; {write(first)} {origin}{worse}{peak}.")
    losses = [record["heldout_loss"] for record in side.run.of_kind("measure") if "heldout_loss" in record]
    if side.run.config.get("method") in COSINE_METHODS and losses and losses[-1] <= NEAR_THE_MINIMUM:
        said.append(
            f"Held-out loss {SCORES['heldout_loss'].write(losses[-1])}, near its minimum of −1, which embeddings in "
            "one point have: `fullrank inspect` with this run's folder looks whether they are."
        )
    return ("" if side.finished else "unfinished · ") + judged.headline.lower(), " ".join(said)


def comparison(sides: Sequence[Side]) -> list[str]:
    """Compare runs in sentences; where a score cannot be compared, say why instead."""
    if len(sides) < 2:
        return []
    said: list[str] = []
    best: dict[str, Side] = {}
    refused: dict[str, list[str]] = {}
    for name in _COMPARED:
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
    said += [f"{capital(listing(names))} cannot be compared: {why}." for why, names in refused.items()]
    return [*said, _steps(sides), _seeds(sides)] if compared else said


def incomparable(sides: Sequence[Side], name: str) -> str:
    """Say why a score cannot be compared between runs, by the rule of `rank`; an empty string when it can."""
    missing = [side.label for side in sides if name not in side.scores]
    if missing:
        return f"not measured in {listing(missing)}"
    untrained = [side.label for side in sides if not side.measured]
    if untrained:
        return f"only the untrained encoder is measured in {listing(untrained)}"
    return obstacle(name, [side.scores[name].protocol for side in sides], [side.width for side in sides])


def _grouped(sides: Sequence[Side], key: Callable[[Side], Any]) -> dict[Any, list[Side]]:
    groups: dict[Hashable, list[Side]] = {}
    for side in sides:
        groups.setdefault(key(side), []).append(side)
    return groups


def _steps(sides: Sequence[Side]) -> str:
    at = _grouped(sides, lambda side: side.measured or side.reached)
    if len(at) == 1:
        return f"All scores are from the same step, {next(iter(at)):,}."
    names = {step: [side.label for side in group] for step, group in at.items()}
    each = [f"{step:,} ({listing(own) if len(own) <= 3 else f'{len(own)} runs'})" for step, own in names.items()]
    return f"The scores are not from equal numbers of steps: {listing(each)}."


def _setting(side: Side) -> str:
    """Write what decides a run's result, but for its seed, and the step of its scores."""
    flat = flatten(side.run.config)
    return repr((side.measured, sorted((k, v) for k, v in flat.items() if not k.startswith(NOT_A_SETTING))))


def _seeds(sides: Sequence[Side]) -> str:
    """Say how far seeds of one setting lie apart, which is what chance does."""
    groups = list(_grouped(sides, _setting).values())
    repeated = [group for group in groups if len({repr(side.run.config.get("seed")) for side in group}) > 1]
    spreads = []
    for name in _COMPARED:
        compared = [group for group in repeated if not incomparable(group, name)]
        values = [[side.scores[name].taken for side in group] for group in compared]
        if spans := [max(own) - min(own) for own in values]:
            kind = SCORES[name]
            spread = f"{100 * max(spans):.1f} points" if kind.share else kind.write(max(spans))
            spreads.append(f"{spread} in {kind.title}")
    if not spreads:
        return "Each setting has one seed at one step: how much of a difference is chance, these runs cannot tell."
    if len(groups) == 1:
        return f"These runs differ in the seed alone and lie up to {listing(spreads)} apart."
    rest = "" if len(groups) == len(repeated) else "; the other settings have one seed"
    return f"Runs that differ in the seed alone lie up to {listing(spreads)} apart{rest}."
