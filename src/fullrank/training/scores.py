"""A run's scores, each with its protocol: what it recorded while it trained, and what was measured of it afterwards.

What `fullrank evaluate`, `inspect` and `rank --scores` measure is kept in the run's folder, in scores.json: one list,
each score with the step it is of and the command that took it. What versions before 0.2 wrote, evaluation.json and
inspection.json, is still read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from fullrank._version import __version__
from fullrank.errors import FullrankError
from fullrank.files import one_at_a_time, read_json, reading, write_text
from fullrank.measure.protocols import DIM, FINGERPRINT
from fullrank.measure.scores import Score, kind_of, read_score, renamed
from fullrank.shapes import ShapeError, Step, fit
from fullrank.training.runs import RunRecord, values_of

SCORES_FILE, EVALUATION, INSPECTION = KEPT = ("scores.json", "evaluation.json", "inspection.json")
WARNING = "warning"
"""What a score that is not to be trusted has among what was `chosen`: a sentence that says why."""
_REMEDY = "delete it and measure again"

By = Literal["evaluate", "inspect"]


class _Taken(TypedDict):
    step: Step
    by: By
    fullrank: str | None


class _Entry(_Taken, total=False):
    asked: dict[str, Any]


class _Inspected(TypedDict):
    scores: list[dict[str, object]]


@dataclass(frozen=True)
class Kept:
    """A score that was taken of a run after it was trained."""

    score: Score
    step: int  # gradient steps of the checkpoint that it is of
    by: By  # the command that took it
    version: str = __version__
    # on which `images`, None for the run's own, how many at most (`limit`), and of which checkpoint (`weights`), where
    # `rank --scores` may take the score instead of measuring it again
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def _key(self) -> tuple[Any, ...]:
        return self.by, self.step, self.score.name, json.dumps(self.score.protocol, sort_keys=True)


def kept(run: Path) -> list[Kept]:
    """Return the scores that were kept with a run; of two of one command, step, name and protocol, the newer."""
    found: dict[tuple[Any, ...], Kept] = {}
    for name in (EVALUATION, INSPECTION, SCORES_FILE):
        if (run / name).is_file():
            with reading(run / name, _REMEDY):
                for entry in fit(_entries(run / name), list[_Entry], "scores"):
                    score = read_score(entry)
                    if score.value is None and not score.why:
                        raise ShapeError(f"the value of {score.name} is missing")
                    version, asked = str(entry["fullrank"]), entry.get("asked", {})
                    each = Kept(score, entry["step"], entry["by"], version, asked)
                    found[each._key] = each
    return list(found.values())


def keep(run: Path, new: Sequence[Kept]) -> str:
    """Add scores to a run's scores.json; what was kept of one command, step, name and protocol is replaced.

    Other processes may do so at the same time. Returns why the scores could not be kept; empty where they were.
    """
    try:
        with one_at_a_time(run / ".scores.lock"):
            _add(run, new)
    except OSError as error:
        return f"scores could not be kept in {run / SCORES_FILE} ({error.strerror})"
    except FullrankError as error:
        return f"scores could not be kept: {error}"
    return ""


def _add(run: Path, new: Sequence[Kept]) -> None:
    scores = {each._key: each for each in [*kept(run), *new]}.values()
    entries = [
        {
            "step": each.step,
            "by": each.by,
            "fullrank": each.version,
            **({"asked": dict(each.asked)} if each.asked else {}),
            **each.score.as_dict(),
        }
        for each in scores
    ]
    write_text(run / SCORES_FILE, json.dumps({"scores": entries}, indent=2, allow_nan=False) + "\n")


def evaluated(run: Path, step: int) -> list[Score]:
    """Return what `fullrank evaluate` measured at a step."""
    return [each.score for each in kept(run) if each.by == "evaluate" and each.step == step]


def _entries(path: Path) -> list[dict[str, Any]]:
    """Return the scores of a file as scores.json has them; before 0.2 those of one measurement stood together."""
    found: Any = read_json(path, dict[str, object], _REMEDY)
    if path.name == SCORES_FILE:
        return found.get("scores")
    by = "evaluate" if path.name == EVALUATION else "inspect"
    taken = fit([found] if by == "evaluate" else found.get("inspections"), list[_Inspected], path.stem)
    about = ("step", "fullrank", "asked")
    return [
        {"fullrank": None, **{name: each[name] for name in about if name in each}, "by": by, **score}
        for each in taken
        for score in each["scores"]
    ]


# Versions before 0.2 called these scores of centered features by the names of uncentered ones.
CENTERED_NAMES = {"rankme": "rankme_centered", "stable_rank": "nesum"}


def name_of(name: str, protocol: Mapping[str, Any]) -> str:
    """Return what a recorded score is called today.

    >>> name_of("rankme", {"center": True}), name_of("rankme", {"center": False}), name_of("auc", {"center": True})
    ('rankme_centered', 'rankme', 'auc')
    """
    return CENTERED_NAMES.get(name, name) if protocol.get("center") else name


def recorded(run: RunRecord, step: int) -> dict[str, Score] | None:
    """Return the scores that a run measured at a step; None where it measured nothing then.

    What is not a finite number is left out.
    """
    record = next((each for each in reversed(run.of_kind("measure")) if each["step"] == step), None)
    if record is None:
        return None
    found = {}
    for name, value in values_of(record).items():
        if isinstance(value, (int, float)) and math.isfinite(value):
            protocol = protocol_of(run, name)
            name = name_of(name, protocol)
            found[name] = Score(name, float(value), protocol)
    return found


def latest(run: RunRecord, step: int | None = None) -> dict[str, Score]:
    """Return a run's last training loss and the scores of its last measurement, or those of one step."""
    found: dict[str, Score] = {}
    trained, measured = (
        [record for record in run.of_kind(kind) if step in (None, record["step"])] for kind in ("train", "measure")
    )
    protocols = {score["name"]: score.get("protocol") or {} for score in (run.summary or {}).get("scores") or []}
    for name in ("loss", "online_probe_train"):
        if trained and isinstance(trained[-1].get(name), (int, float)):
            stated = protocols.get(name) or run.protocols.get(name) or {"steps": "mean since the last record"}
            found[name] = Score(name, float(trained[-1][name]), renamed(stated))
    return {**found, **((recorded(run, int(measured[-1]["step"])) or {}) if measured else {})}


def series(run: RunRecord, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps at which a score was recorded, `(n,)` int64, and its values, float64; NaN for infinities too."""
    names = {name, *(old for old, new in CENTERED_NAMES.items() if new == name)}
    points = [(r["step"], r[key]) for r in run.records for key in names if key in r and r["kind"] != "protocols"]
    values = np.array([value for _, value in points], dtype=np.float64)
    return np.array([step for step, _ in points], dtype=np.int64), np.where(np.isfinite(values), values, np.nan)


def protocol_of(run: RunRecord, name: str) -> dict[str, Any]:
    """Return how a run's monitor takes a score, the share of the training images that it is of included."""
    labeled, trained = (kind_of(name).needs == need for need in ("labels", "training"))
    protocol = dict(run.protocols.get(name) or ({} if labeled or trained else run.protocols.get("spectrum")) or {})
    if name == "heldout_loss" and protocol:  # what old runs leave to their configuration
        protocol = {"loss": run.config.get("method"), **protocol}
    protocol = renamed(protocol)
    if run.width is not None and not kind_of(name).across_widths:
        protocol.setdefault(DIM, run.width)  # which runs of before did not say
    share = run.config.get("subset")
    if name != "heldout_loss" and isinstance(share, (int, float)) and share < 1:
        if protocol.get("subset", share) < 1:  # runs of before did not say it
            return {**protocol, "subset": share}  # other seeds draw other images, of the same kind
        protocol.pop("subset", None)  # measured on all images, as runs that were trained on them
    train, held_out = run.images("measured") or run.images("train"), run.images("held_out")
    seen = [held_out] if name == "heldout_loss" else [train, held_out] if labeled else [train]
    prints = [images.get("fingerprint") for images in seen]
    if protocol and all(prints):
        protocol[FINGERPRINT] = " / ".join(map(str, prints))
    return protocol
