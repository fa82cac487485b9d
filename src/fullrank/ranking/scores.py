"""Label-free scores beyond a run's own records, measured as `fullrank inspect` does, and kept in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from fullrank._version import __version__
from fullrank.data.images import same_images
from fullrank.errors import FullrankError, choose
from fullrank.inspection.inspect import fingerprint_of, images_for, inspect, keep_scores, kept_of
from fullrank.inspection.options import InspectOptions
from fullrank.measure.protocols import FINGERPRINT
from fullrank.measure.scores import SCORES, Score, read_score
from fullrank.ranking.candidates import Candidate
from fullrank.ranking.options import RankOptions
from fullrank.text import Progress
from fullrank.training.scores import kept


def score_names(asked: str) -> list[str]:
    """Read the names of scores, `all` or separated by commas."""
    known = [name for name, kind in SCORES.items() if kind.function is not None]
    if asked.strip() == "all":
        return known
    names = [name.strip() for name in asked.split(",") if name.strip()]
    for name in names:
        choose("a score of --scores", name, known)
    if not names:
        raise FullrankError("--scores names no score: give some, such as rankme,lidar, or all")
    return names


def with_scores(
    candidates: Sequence[Candidate], names: Sequence[str], options: RankOptions, progress: Progress
) -> list[Candidate]:
    """Add scores, of candidates whose weights were kept: those in the run's scores.json, or measured now."""
    widest = max((each.width or 0 for each in candidates), default=0)
    limit = options.limit or images_for(widest)
    fingerprint = cache(fingerprint_of)
    found = []
    for each in candidates:
        missing = each.missing
        if each.checkpoint is None:
            gone = f"the weights of step {each.step:,} were not kept, so --scores could not be measured"
            found.append(replace(each, missing=(*missing, gone)))
            continue
        taken = _kept(each, kept_of(each.run, each.checkpoint, options.images, limit, fingerprint))
        if not taken.keys() >= set(names):
            taken, why = _measure(each, names, options, limit, progress)
            missing += (why,) if why else ()
        new = {name: taken[name] for name in names if taken[name].value is not None}
        missing += tuple(f"{name} could not be taken: {taken[name].why}" for name in names if name not in new)
        width = next((score.protocol["d"] for score in taken.values() if "d" in score.protocol), each.width)
        found.append(replace(each, width=width, scores={**each.scores, **new}, missing=missing))
    return found


def _kept(each: Candidate, of: Mapping[str, Any]) -> dict[str, Score]:
    return {
        one.score.name: one.score
        for one in kept(each.run)
        if one.by == "inspect"
        and (one.step, one.version) == (each.step, __version__)
        and of.keys() == one.asked.keys()
        and all(of[what] == value for what, value in one.asked.items() if what != FINGERPRINT)
        and (None in (seen := (of[FINGERPRINT], one.asked[FINGERPRINT])) or same_images(*seen))
    }


def _measure(
    each: Candidate, names: Sequence[str], options: RankOptions, limit: int, progress: Progress
) -> tuple[dict[str, Score], str]:
    """Measure a checkpoint and keep its scores; return them, and why they could not be kept."""
    how = InspectOptions(
        images=options.images,
        limit=limit,
        views="auto" if any(SCORES[name].needs == "views" for name in names) else "none",
        untrained=False,
        device=options.device,
    )

    (inspection,) = inspect([str(each.checkpoint)], how, progress=progress)
    # As they will be read back: what JSON turns into something else, such as a tuple, would not be equal.
    taken = [read_score(json.loads(json.dumps(score.as_dict()))) for score in inspection.scores.values()]
    return {score.name: score for score in taken}, keep_scores(each.run, inspection, how)
