"""Is collapse a matter of too large a rate at the start? Multiple passes with and without warm-up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fullrank.documents import Part
from fullrank.studies.bases import ACCURACY, DEEPER, PROBES, SMALL, simsiam
from fullrank.studies.study import Cell, Published, Result, Scale, Study
from fullrank.studies.views import pivot, through_training

NONE, TENTH = "none", "10 % of the steps"

PUBLISHED = Published(
    source="[Li22] Tables 2 and 5",
    protocol="ImageNet top-1 of a linear probe, %, multiple passes, the warm-up of 10 of 100 epochs",
    values={
        (NONE, SMALL): (30.0, 1.8),
        (NONE, DEEPER): (16.8, 3.2),
        (TENTH, SMALL): (28.4, None),
        (TENTH, DEEPER): (35.8, None),
    },
)


def cells(scale: Scale) -> list[Cell]:
    """Return two encoders with and without warm-up: 10 epochs, by epochs, at the paper's scale."""
    found = []
    for encoder in (SMALL, DEEPER):
        base = simsiam(scale, encoder)
        warm = replace(base, optim=replace(base.optim, warmup_steps=base.steps // 10))
        found += [
            Cell({"warm-up": NONE, "encoder": encoder}, base, PROBES[scale]),
            Cell({"warm-up": TENTH, "encoder": encoder}, warm, PROBES[scale]),
        ]
    return found


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return Table 5."""
    return [
        pivot(results, ACCURACY[scale], rows="warm-up", columns="encoder", published=PUBLISHED),
        *(pivot(results, name, rows="warm-up", columns="encoder") for name in ("knn", "auc")),
        *(through_training(results, name, colour="warm-up", panel="encoder") for name in ("knn", "auc")),
    ]


STUDY = Study(
    name="warmup",
    title="Warm-up of the learning rate",
    source="[Li22] appendix A.5, Table 5",
    question="Does a learning rate that rises slowly prevent collapse?",
    cells=cells,
    parts=parts,
)
