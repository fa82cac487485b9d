"""Label-free scores beyond a run's own records, measured as `fullrank inspect` does, and kept in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypedDict

from fullrank._version import __version__
from fullrank.errors import FullrankError, nearest
from fullrank.files import AtLeast, Step, read_json, said, write_text
from fullrank.inspection.inspect import FEWEST_IMAGES, Progress, inspect
from fullrank.inspection.options import Options as InspectionOptions
from fullrank.measure.scores import SCORES, read_score
from fullrank.measure.verdict import ENOUGH
from fullrank.ranking.candidates import Candidate
from fullrank.ranking.options import Options

INSPECTION = "inspection.json"


def score_names(asked: str) -> list[str]:
    """Read the names of scores, `all` or separated by commas.

    Raises:
        FullrankError: One is no label-free score.
    """
    known = [name for name, kind in SCORES.items() if kind.function is not None]
    if asked.strip() == "all":
        return known
    names = [name.strip() for name in asked.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise FullrankError(f"there is no score {name!r}{nearest(name, known)} (there are: {', '.join(known)})")
    if not names:
        raise FullrankError("--scores names no score: give some, such as rankme,lidar, or all")
    return names


def with_scores(candidates: Sequence[Candidate], options: Options, progress: Progress) -> list[Candidate]:
    """Add the scores that `options.scores` names, of candidates whose weights were kept.

    Raises:
        FullrankError: One of the names is no score, or an encoder cannot be measured.
    """
    assert options.scores is not None
    names = score_names(options.scores)
    widest = max((each.width or 0 for each in candidates), default=0)
    asked = {
        "images": options.images,
        "limit": options.limit or max(FEWEST_IMAGES, ENOUGH * widest),
        "views": any(SCORES[name].needs == "views" for name in names),
    }
    found = []
    for each in candidates:
        if each.checkpoint is None:
            gone = f"the weights of step {each.step:,} were not kept, so --scores could not be measured"
            found.append(replace(each, missing=(*each.missing, gone)))
            continue
        kept = read_inspections(each.run)
        own = next((one for one in kept if _answers(one, each.step, asked)), None)
        missing = each.missing
        if own is None:
            own = _measure(each, asked, options.device, progress)
            missing += _keep(each.run, [one for one in kept if not _replaces(own, one)], own)
        taken = {score.name: score for score in map(read_score, own["scores"])}
        new = {}
        for name in names:
            score = taken.get(name)
            if score is not None and score.value is not None:
                new[name] = score
            elif score is not None:
                missing += (f"{name} could not be taken: {score.why}",)
        found.append(replace(each, width=own["width"], scores={**each.scores, **new}, missing=missing))
    return found


def _measure(each: Candidate, asked: dict[str, Any], device: str, progress: Progress) -> dict[str, Any]:
    options = InspectionOptions(
        images=asked["images"],
        limit=asked["limit"],
        views="auto" if asked["views"] else "none",
        untrained=False,
        device=device,
    )
    (inspection,) = inspect(
        [str(each.checkpoint)], options, progress=lambda what, *rest: progress(f"{each.name}: {_last(what)}", *rest)
    )
    document = {
        "fullrank": __version__,
        "step": each.step,
        "asked": asked,
        "width": inspection.spectrum.dim,
        "scores": inspection.as_dict()["scores"],
    }
    # As it will be read back: what JSON turns into something else, such as a tuple, would not be equal.
    return json.loads(json.dumps(document, allow_nan=False))


def _last(what: str) -> str:
    return what.rpartition(": ")[2]


def _answers(kept: dict[str, Any], step: int, asked: dict[str, Any]) -> bool:
    same = all(kept["asked"].get(key) == asked[key] for key in ("images", "limit"))
    enough = kept["asked"].get("views") or not asked["views"]
    return bool(same and enough and kept["step"] == step and kept["fullrank"] == __version__)


def _replaces(new: dict[str, Any], old: dict[str, Any]) -> bool:
    same = all(new["asked"][key] == old["asked"].get(key) for key in ("images", "limit"))
    return same and new["step"] == old["step"]


class _Inspection(TypedDict):
    """A measurement of inspection.json, each score as `Score.as_dict` has it."""

    fullrank: str
    step: Step
    asked: dict[str, Any]
    width: Annotated[int, AtLeast(1)]
    scores: list[dict[str, Any]]


class _Document(TypedDict):
    """What inspection.json holds."""

    inspections: list[_Inspection]


def read_inspections(run: Path) -> list[dict[str, Any]]:
    """Return the measurements that a run's inspection.json holds; none where there is none.

    Raises:
        FullrankError: It is damaged.
    """
    path = run / INSPECTION
    if not path.is_file():
        return []
    remedy = "delete it and rank again"
    found = read_json(path, _Document, remedy)["inspections"]
    with said(path, remedy):
        for one in found:
            for score in one["scores"]:
                read_score(score)
    return [dict(one) for one in found]


def _keep(run: Path, others: list[dict[str, Any]], own: dict[str, Any]) -> tuple[str, ...]:
    """Write a measurement to the run's folder; where that cannot be done, say so and go on."""
    try:
        write_text(run / INSPECTION, json.dumps({"inspections": [*others, own]}, indent=2) + "\n")
    except OSError as error:
        return (f"scores could not be kept in {run / INSPECTION} ({error.strerror})",)
    return ()
