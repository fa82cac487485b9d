"""The studies by name."""

from __future__ import annotations

from fullrank.errors import FullrankError, nearest
from fullrank.studies import (
    boundaries,
    decay,
    distill,
    duality_dims,
    ema,
    forecast,
    heads,
    hybrid_switch,
    nnsiam,
    orders,
    places,
    subsets,
    vit,
    warmup,
    width_depth,
)
from fullrank.studies.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        orders.STUDY,
        subsets.STUDY,
        width_depth.STUDY,
        hybrid_switch.STUDY,
        ema.STUDY,
        places.STUDY,
        distill.STUDY,
        vit.STUDY,
        nnsiam.STUDY,
        warmup.STUDY,
        duality_dims.STUDY,
        decay.STUDY,
        heads.STUDY,
        boundaries.STUDY,
        forecast.STUDY,
    )
}


def find(name: str) -> Study:
    """Return a study.

    Raises:
        FullrankError: There is none of this name.
    """
    if name not in STUDIES:
        raise FullrankError(f"unknown study {name!r}{nearest(name, STUDIES)} (known: {', '.join(STUDIES)})")
    return STUDIES[name]
