"""The studies by name: a new one is a file with a `STUDY`, and its name here."""

from __future__ import annotations

from importlib import import_module

from fullrank.errors import FullrankError, nearest
from fullrank.studies.study import Study

_FILES = (
    *("orders", "subsets", "width_depth", "hybrid_switch", "ema", "places", "distill", "vit", "nnsiam", "warmup"),
    *("duality_dims", "decay", "regime", "heads", "boundaries", "forecast", "collapse"),
)
STUDIES: dict[str, Study] = {
    study.name: study for study in (import_module(f"fullrank.studies.{file}").STUDY for file in _FILES)
}


def find(name: str) -> Study:
    """Return a study.

    Raises:
        FullrankError: There is none of this name.
    """
    if name not in STUDIES:
        raise FullrankError(f"unknown study {name!r}{nearest(name, STUDIES)} (known: {', '.join(STUDIES)})")
    return STUDIES[name]
