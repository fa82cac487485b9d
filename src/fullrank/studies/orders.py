"""Does the order of the data prevent collapse? Four orders at equal steps, for a small, a deeper and a wide encoder."""

from __future__ import annotations

from collections.abc import Sequence

from fullrank.documents import Part
from fullrank.studies.bases import ACCURACY, DEEPER, ORDERS, PROBES, SMALL, WIDE, simsiam, with_order
from fullrank.studies.study import Cell, Published, Result, Scale, Study
from fullrank.studies.views import against, pivot, through_training

PUBLISHED = Published(
    source="[Li22] Table 2",
    protocol="ImageNet top-1 of a linear probe, %, mean and deviation of 3 seeds where printed",
    values={
        ("multiple-pass", "ResNet-18"): (30.0, 1.8),
        ("multiple-pass", "ResNet-34"): (16.8, 3.2),
        ("multiple-pass", "ResNet-50"): (68.1, None),
        ("cumulative", "ResNet-18"): (33.0, 1.9),
        ("cumulative", "ResNet-34"): (22.2, 2.3),
        ("cumulative", "ResNet-50"): (67.7, None),
        ("single-pass", "ResNet-18"): (44.5, 0.8),
        ("single-pass", "ResNet-34"): (45.0, 1.1),
        ("single-pass", "ResNet-50"): (55.9, None),
        ("hybrid", "ResNet-18"): (48.3, 0.7),
        ("hybrid", "ResNet-34"): (50.3, 0.6),
        ("hybrid", "ResNet-50"): (67.6, None),
    },
)


def cells(scale: Scale) -> list[Cell]:
    """Return every order with every encoder."""
    return [
        Cell({"order": order, "encoder": encoder}, with_order(simsiam(scale, encoder), order), PROBES[scale])
        for encoder in (SMALL, DEEPER, WIDE)
        for order in ORDERS
    ]


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return Table 2, and Figures 5 and 6."""
    return [
        pivot(results, ACCURACY[scale], rows="order", columns="encoder", published=PUBLISHED),
        *(pivot(results, name, rows="order", columns="encoder") for name in ("knn", "auc", "heldout_loss")),
        *(through_training(results, name, colour="order", panel="encoder") for name in ("knn", "auc", "heldout_loss")),
        against(results, "heldout_loss", "auc", colour="order", panel="encoder"),
    ]


STUDY = Study(
    name="orders",
    title="Orders of the data",
    source="[Li22] Table 2, Figures 5 and 6",
    question="Does presenting the data in chunks prevent the collapse of small encoders, at equal steps?",
    cells=cells,
    parts=parts,
)
