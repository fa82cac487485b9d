"""Named configurations: recipes for laptops, and the papers' published settings."""

from __future__ import annotations

from fullrank.config import TrainConfig
from fullrank.errors import FullrankError, nearest
from fullrank.training.presets.imagenet import IMAGENET
from fullrank.training.presets.lab import LAB, SMALL

__all__ = ["LAB", "PRESETS", "preset"]

PRESETS: dict[str, TrainConfig] = {**SMALL, **IMAGENET}


def preset(name: str) -> TrainConfig:
    """Return a named configuration.

    Raises:
        FullrankError: There is none of this name.
    """
    if name not in PRESETS:
        raise FullrankError(f"unknown preset {name!r}{nearest(name, PRESETS)} (known: {', '.join(PRESETS)})")
    return PRESETS[name]
