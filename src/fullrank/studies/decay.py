"""Is it the weight decay? Collapse against the clock of decay, the sum over steps of rate x decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fullrank.documents import Part, Words
from fullrank.studies.bases import ACCURACY, MULTIPLE, PROBES, clock, simsiam, where, with_order
from fullrank.studies.study import Cell, Result, Scale, Study
from fullrank.studies.views import against, against_number, overview, pivot, spectra, through_training

DECAYS: dict[Scale, tuple[float, ...]] = {
    "lab": (9e-4, 1.8e-3, 3.6e-3, 4.5e-3, 5.4e-3, 9e-3),
    "paper": (2.5e-5, 5e-5, 1e-4, 2.5e-4),
}
"""At the rate of the other studies; theirs is the third."""
OTHER_ORDERS: dict[Scale, dict[str, tuple[float, ...]]] = {
    "lab": {"single-pass": (3.6e-3, 4.5e-3, 5.4e-3), "hybrid": (9e-4, 3.6e-3, 4.5e-3, 5.4e-3)},
    "paper": {"hybrid": (2.5e-5, 1e-4)},
}
"""Of these, where other orders than multiple passes are tried too: more of them where collapse completes."""
PRODUCT: dict[Scale, tuple[tuple[float, float], ...]] = {
    "lab": ((0.15, 7.2e-3), (0.6, 1.8e-3)),
    "paper": ((0.025, 2e-4), (0.1, 5e-5)),
}
"""Half and twice their rate, with a decay that leaves the clock as it is."""
PARTS: dict[str, dict[str, Any]] = {
    "not norms and biases": {"decay_all": False},
    "not the predictor": {"decay_heads": "projector"},
    "not the heads": {"decay_heads": "none"},
}
EVERYTHING = "everything"


def cells(scale: Scale) -> list[Cell]:
    """Return clocks at one rate, rates at one clock, decay on parts, and other orders at some clocks."""
    return [
        *(_cell(scale, weight_decay=decay) for decay in DECAYS[scale]),
        *(_cell(scale, order, weight_decay=decay) for order, decays in OTHER_ORDERS[scale].items() for decay in decays),
        *(_cell(scale, base_lr=rate, weight_decay=decay) for rate, decay in PRODUCT[scale]),
        *(_cell(scale, decayed=part) for part in PARTS),
    ]


def _cell(scale: Scale, order: str = MULTIPLE, decayed: str = EVERYTHING, **optim: Any) -> Cell:
    base = simsiam(scale)
    config = with_order(replace(base, optim=replace(base.optim, **optim, **PARTS.get(decayed, {}))), order)
    factors = {
        "rate": f"{config.optim.base_lr:g}",
        "decay": f"{config.optim.weight_decay:g}",
        "clock": f"{clock(config):.2g}",
        "decayed": decayed,
        "order": order,
    }
    return Cell(factors, config, PROBES[scale])


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return scores against the clock, at one clock, and by what is decayed."""
    base = _cell(scale).factors
    everything = where(results, decayed=EVERYTHING)
    clocks = where(everything, rate=base["rate"])
    product = where(everything, clock=base["clock"], order=MULTIPLE)
    on_parts = where(results, rate=base["rate"], decay=base["decay"], order=MULTIPLE)
    names = ("knn", "auc", "heldout_loss")
    scores = (ACCURACY[scale], *names)
    return [
        Words(
            "The clock is the sum over steps of learning rate x weight decay; the predictor's rate is constant and has "
            "a clock of its own, twice as long. In [Li22] it is 1.25. Decay sets the strength below which a direction "
            "of the representation dies (Tian et al. 2021), and the clock says how far the dying got."
        ),
        *(pivot(clocks, name, rows="clock", columns="order") for name in scores),
        *(
            against_number(
                clocks,
                name,
                of=lambda cell: float(cell.factors["clock"]),
                label="clock (sum over steps of rate x decay)",
                logarithmic=True,
                colour="order",
            )
            for name in scores
        ),
        overview(product, scores, rows=("rate", "decay")),
        overview(on_parts, scores, rows=("decayed",)),
        *(through_training(where(clocks, order=MULTIPLE), name, colour="clock") for name in ("knn", "auc")),
        against(everything, "heldout_loss", "auc", colour="clock"),
        spectra(where(clocks, order=MULTIPLE), colour="clock"),
    ]


STUDY = Study(
    name="decay",
    title="The clock of weight decay",
    source="ours",
    question="Does the sum over steps of rate x decay decide whether SimSiam collapses, and when the order matters?",
    cells=cells,
    parts=parts,
)
