"""Named configurations, a YAML file each: recipes for laptops, and the published settings with their sources."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fullrank.config import TrainConfig, read_config
from fullrank.errors import FullrankError, nearest
from fullrank.registry import METHODS

_FOLDER = Path(__file__).parent

PRESETS = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))

LAB = {METHODS.canonical(name.removesuffix("-lab")): name for name in PRESETS if name.endswith("-lab")}
LAB["simsiam"] = "simsiam-lab-short"
"""The laptop recipe of each method, by the method's name: `benchmarks/methods.py` compares them."""

_read = cache(read_config)


def preset(name: str) -> TrainConfig:
    """Return a named configuration; a method in its name may be spelled with `_`, as methods are."""
    dashed = name.replace("_", "-")
    if dashed not in PRESETS:
        raise FullrankError(f"unknown preset {name!r}{nearest(dashed, PRESETS)} (known: {', '.join(PRESETS)})")
    return _read(_FOLDER / f"{dashed}.yaml")
