"""Is it the weight decay? Collapse against the clock of decay, the sum over steps of rate x decay."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fullrank.documents import Part, Words
from fullrank.studies.bases import MULTIPLE, clock, short
from fullrank.studies.study import ACCURACY, Cell, Results, Scale, Study
from fullrank.studies.views import against, against_number, overview, pivot, spectra, through_training

DECAYS: dict[Scale, tuple[float, ...]] = {
    "lab": (5e-4, 1e-3, 2e-3, 3e-3, 4e-3, 8e-3),
    "paper": (2.5e-5, 5e-5, 1e-4, 2.5e-4),
}
"""At the rate of the other studies; theirs is the third."""
OTHER_ORDERS: dict[Scale, dict[str, tuple[float, ...]]] = {
    "lab": dict.fromkeys(("single-pass", "hybrid"), (1e-3, 2e-3, 4e-3)),
    "paper": {"hybrid": (2.5e-5, 1e-4)},
}
"""Of these, where other orders than multiple passes are tried too."""
PRODUCT: dict[Scale, tuple[tuple[float, float], ...]] = {
    "lab": ((0.15, 4e-3), (0.6, 1e-3)),
    "paper": ((0.025, 2e-4), (0.1, 5e-5)),
}
"""Half and twice their rate, with a decay that leaves the clock as it is."""
PARTS: dict[str, dict[str, Any]] = {
    "not norms and biases": {"decay_all": False},
    "not the predictor": {"decay_heads": "projector"},
    "not the heads": {"decay_heads": "none"},
}
EVERYTHING = "everything"


def _cell(scale: Scale, order: str = MULTIPLE, decayed: str = EVERYTHING, **optim: Any) -> Cell:
    base = short(scale)
    config = replace(base, order=order, optim=replace(base.optim, **optim, **PARTS.get(decayed, {})))
    rate, decay = f"{config.optim.base_lr:g}", f"{config.optim.weight_decay:g}"
    factors = {"rate": rate, "decay": decay, "clock": f"{clock(config):.2g}", "decayed": decayed, "order": order}
    return Cell(factors, config)


def _parts(results: Results, scale: Scale) -> Sequence[Part]:
    base = _cell(scale).factors
    everything = results.where(decayed=EVERYTHING)
    clocks = everything.where(rate=base["rate"])
    multiple = clocks.where(order=MULTIPLE)
    product = everything.where(clock=base["clock"], order=MULTIPLE)
    on_parts = results.where(rate=base["rate"], decay=base["decay"], order=MULTIPLE)
    scores, label = (ACCURACY[scale], "knn", "auc", "heldout_loss"), "clock (sum over steps of rate x decay)"
    return [
        Words(
            "The clock is the sum over steps of learning rate x weight decay; the predictor's rate is constant and has "
            "a clock of its own, twice as long. In [Li22] it is 1.25. Decay sets the strength below which a direction "
            "of the representation dies (Tian et al. 2021), and the clock says how far the dying got."
        ),
        *(pivot(clocks, name, rows="clock", columns="order") for name in scores),
        *(against_number(clocks, name, "clock", label, color="order") for name in scores),
        overview(product, scores, rows=("rate", "decay")),
        overview(on_parts, scores, rows=("decayed",)),
        *(through_training(multiple, name, color="clock") for name in ("knn", "auc")),
        against(everything, "heldout_loss", "auc", color="clock"),
        spectra(multiple, color="clock"),
    ]


STUDY = Study(
    name="decay",
    title="The clock of weight decay",
    source="ours",
    question="Does the sum over steps of rate x decay decide whether SimSiam collapses, and when the order matters?",
    cells=lambda scale: [
        *(_cell(scale, weight_decay=decay) for decay in DECAYS[scale]),
        *(_cell(scale, order, weight_decay=decay) for order, own in OTHER_ORDERS[scale].items() for decay in own),
        *(_cell(scale, base_lr=rate, weight_decay=decay) for rate, decay in PRODUCT[scale]),
        *(_cell(scale, decayed=part) for part in PARTS),
    ],
    parts=_parts,
)
