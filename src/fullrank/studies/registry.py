"""The studies by name."""

from __future__ import annotations

from fullrank.errors import FullrankError, nearest
from fullrank.studies import orders, subsets
from fullrank.studies.study import Study

STUDIES: dict[str, Study] = {study.name: study for study in (orders.STUDY, subsets.STUDY)}


def find(name: str) -> Study:
    """Return a study.

    Raises:
        FullrankError: There is none of this name.
    """
    if name not in STUDIES:
        raise FullrankError(f"unknown study {name!r}{nearest(name, STUDIES)} (known: {', '.join(STUDIES)})")
    return STUDIES[name]
