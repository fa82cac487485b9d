"""The scores that a run took while it trained, each with its protocol: one reading of its records for all commands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fullrank.measure.protocols import FINGERPRINT
from fullrank.measure.scores import Score, kind_of
from fullrank.training.runs import RunRecord

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
    for record in reversed(run.of_kind("measure")):
        if record["step"] == step:
            found = {}
            for name, value in record.items():
                if name in ("kind", "step") or not isinstance(value, (int, float)) or not math.isfinite(value):
                    continue
                protocol = protocol_of(run, name)
                name = name_of(name, protocol)
                found[name] = Score(name, float(value), protocol)
            return found
    return None


def latest(run: RunRecord) -> dict[str, Score]:
    """Return a run's last training loss and the scores of its last measurement."""
    found: dict[str, Score] = {}
    trained, measured = run.of_kind("train"), run.of_kind("measure")
    protocols = {score["name"]: score.get("protocol") or {} for score in (run.summary or {}).get("scores") or []}
    for name in ("loss", "online_probe_train"):
        if trained and isinstance(trained[-1].get(name), (int, float)):
            stated = protocols.get(name) or run.protocols.get(name) or {"steps": "mean since the last record"}
            found[name] = Score(name, float(trained[-1][name]), stated)
    return {**found, **((recorded(run, int(measured[-1]["step"])) or {}) if measured else {})}


def series(run: RunRecord, name: str) -> tuple[list[int], list[float]]:
    """Return the steps at which a score was recorded, and its values there."""
    names = {name, *(old for old, new in CENTERED_NAMES.items() if new == name)}
    points = [(r["step"], r[key]) for r in run.records for key in names if key in r and r["kind"] != "protocols"]
    return [int(step) for step, _ in points], [value for _, value in points]


def protocol_of(run: RunRecord, name: str) -> dict[str, Any]:
    """Return how a run's monitor takes a score, the share of the training images that it is of included."""
    labeled, trained = (kind_of(name).needs == need for need in ("labels", "training"))
    protocol = dict(run.protocols.get(name) or ({} if labeled or trained else run.protocols.get("spectrum")) or {})
    if name == "heldout_loss" and protocol:  # what old runs leave to their configuration
        protocol = {"loss": run.config.get("method"), **protocol}
    share = run.config.get("subset")
    if name != "heldout_loss" and isinstance(share, (int, float)) and share < 1:
        if protocol.get("subset", share) < 1:  # runs of before did not say it
            return {**protocol, "subset": share}  # other seeds draw other images, of the same kind
        protocol.pop("subset", None)  # measured on all images, as runs that were trained on them
    data = run.environment.get("data") or {}
    train = "measured" if "measured" in data else "train"
    parts = ("held_out",) if name == "heldout_loss" else (train, "held_out") if labeled else (train,)
    prints = [(data.get(part) or {}).get("fingerprint") for part in parts]
    if protocol and all(prints):
        protocol[FINGERPRINT] = " / ".join(map(str, prints))
    return protocol
