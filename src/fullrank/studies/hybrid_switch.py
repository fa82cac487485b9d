"""When should a hybrid order switch from single to multiple passes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fullrank.documents import Part
from fullrank.studies.bases import ACCURACY, PROBES, percent, simsiam, with_order
from fullrank.studies.study import Cell, Published, Result, Scale, Study
from fullrank.studies.views import against_number, overview, pivot, through_training

SWITCHES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

PUBLISHED = Published(
    source="[Li22] Table 2",
    protocol="ImageNet top-1 of a linear probe, %, ResNet-18, mean and deviation of 3 seeds; Figure 8 prints no number",
    values={("0 %",): (30.0, 1.8), ("40 %",): (48.3, 0.7), ("100 %",): (44.5, 0.8)},
)


def cells(scale: Scale) -> list[Cell]:
    """Return every switch; at 0 and 100 % of the steps the order is multiple pass and single pass."""
    base = simsiam(scale)
    ends = {0.0: "multiple-pass", 1.0: "single-pass"}
    return [
        Cell(
            {"switch": percent(switch)},
            with_order(base, ends[switch]) if switch in ends else replace(base, order="hybrid", switch=switch),
            PROBES[scale],
        )
        for switch in SWITCHES
    ]


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return Figure 8."""
    return [
        pivot(results, ACCURACY[scale], rows="switch", published=PUBLISHED),
        overview(results, ("knn", "auc", "heldout_loss"), rows=("switch",)),
        *(through_training(results, name, colour="switch") for name in ("knn", "auc", "heldout_loss")),
        *(
            against_number(
                results,
                name,
                of=lambda cell: float(cell.factors["switch"].removesuffix(" %")),
                label="share of the steps before the switch (%)",
            )
            for name in ("knn", "auc")
        ),
    ]


STUDY = Study(
    name="hybrid-switch",
    title="The switch of the hybrid order",
    source="[Li22] Figure 8; Figure 11 is part of `places`",
    question="After how many steps of single pass is it best to go on with multiple passes?",
    cells=cells,
    parts=parts,
)
