"""Does the order of the data prevent collapse? Four orders at equal steps, for a small, a deeper and a wide encoder."""

from dataclasses import replace

from fullrank.studies.bases import DEEPER, ORDERS, SMALL, WIDE, short
from fullrank.studies.study import ACCURACY, Cell, Published, Study
from fullrank.studies.views import against, pivot, through_training

PUBLISHED = Published(
    source="[Li22] Table 2",
    protocol="ImageNet top-1 of a linear probe, %, mean and deviation of 3 seeds where printed",
    columns=(SMALL, DEEPER, WIDE),
    rows={
        "multiple-pass": ("30.0 ± 1.8", "16.8 ± 3.2", "68.1"),
        "cumulative": ("33.0 ± 1.9", "22.2 ± 2.3", "67.7"),
        "single-pass": ("44.5 ± 0.8", "45.0 ± 1.1", "55.9"),
        "hybrid": ("48.3 ± 0.7", "50.3 ± 0.6", "67.6"),
    },
)
_NAMES = ("knn", "auc", "heldout_loss")

STUDY = Study(
    name="orders",
    title="Orders of the data",
    source="[Li22] Table 2, Figures 5 and 6",
    question="Does presenting the data in chunks prevent the collapse of small encoders, at equal steps?",
    cells=lambda scale: [
        Cell({"order": order, "encoder": encoder}, replace(short(scale, encoder), order=order))
        for encoder in (SMALL, DEEPER, WIDE)
        for order in ORDERS
    ],
    parts=lambda results, scale: [
        pivot(results, ACCURACY[scale], rows="order", columns="encoder", published=PUBLISHED),
        *(pivot(results, name, rows="order", columns="encoder") for name in _NAMES),
        *(through_training(results, name, color="order", panel="encoder") for name in _NAMES),
        against(results, "heldout_loss", "auc", color="order", panel="encoder"),
    ],
)
