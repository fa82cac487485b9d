"""Which run is which: a run of a study is found by its configuration, wherever it was made and whatever it is for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from fullrank.config import MachineConfig, TrainConfig, to_dict
from fullrank.report.side import flatten

_NO_RESULT = ("data_dir", "cache", "out", "checkpoint_every", "keep_checkpoints", "monitor.tensorboard")
"""Fields that decide where and how a run is made, not what it computes; all of `machine` is left out too."""


def settings(config: TrainConfig) -> dict[str, Any]:
    """Return what decides the result of a run, by dotted name: the fields that differ from their defaults.

    Fields at their defaults are left out, so that a later version's new field does not make every old run another one.
    """
    defaults = flatten(to_dict(TrainConfig()))
    own = flatten(to_dict(replace(config, machine=MachineConfig())))
    return {name: value for name, value in own.items() if name not in _NO_RESULT and value != defaults.get(name)}


def run_name(config: TrainConfig) -> str:
    """Return a name for people, that ends with eight digits which follow from the settings.

    >>> run_name(TrainConfig(order="hybrid", seed=2))
    'simsiam-resnet18_w16-hybrid-s2-803bb4fc'
    """
    digest = hashlib.sha256(json.dumps(settings(config), sort_keys=True).encode()).hexdigest()[:8]
    return f"{config.method}-{config.backbone.name}-{config.order}-s{config.seed}-{digest}"


def mismatch(config: TrainConfig, resolved: dict[str, Any]) -> str | None:
    """Return the first setting that a finished run, by its `resolved` configuration, does not share, or None."""
    has = flatten(resolved)
    for name, value in flatten(to_dict(config)).items():
        if name in (*_NO_RESULT, "images", "eval_images", "target.teacher") or name.startswith("machine."):
            continue
        if value is not None and name in has and has[name] != value:
            return f"{name}={has[name]}, not {value}"
    return None
