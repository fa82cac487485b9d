"""Do nearest neighbours as targets prevent collapse?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fullrank.documents import Part, Words
from fullrank.studies.bases import ACCURACY, PROBES, other, published, simsiam
from fullrank.studies.study import Cell, Published, Result, Scale, Study
from fullrank.studies.views import overview, pivot, through_training

PUBLISHED = Published(
    source="[Li22] appendix A.5",
    protocol="ImageNet top-1 of a linear probe, %, ResNet-18, multiple passes",
    values={("SimSiam",): (30.0, None), ("NNSiam",): (34.4, None)},
)


def cells(scale: Scale) -> list[Cell]:
    """Return SimSiam with and without nearest neighbours."""
    if scale == "lab":
        neighbours = replace(other("nnsiam"), heads=simsiam("lab").heads)
    else:
        neighbours = published("nnsiam-resnet18-imagenet")
    return [
        Cell({"method": "SimSiam"}, simsiam(scale), PROBES[scale]),
        Cell({"method": "NNSiam"}, neighbours, PROBES[scale]),
    ]


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return the comparison."""
    return [
        pivot(results, ACCURACY[scale], rows="method", published=PUBLISHED),
        overview(results, ("knn", "auc", "rankme", "heldout_loss"), rows=("method",)),
        Words(
            "Neighbours are found by cosine among embeddings of norm 1. [Li22]'s code takes the distance of embeddings "
            "as they are from a queue that begins as random vectors of norm 1, far shorter than embeddings."
        ),
        *(through_training(results, name, colour="method") for name in ("knn", "auc")),
    ]


STUDY = Study(
    name="nnsiam",
    title="Nearest neighbours as targets",
    source="[Li22] appendix A.5",
    question="Does it prevent collapse to predict an earlier image's embedding that lies near?",
    cells=cells,
    parts=parts,
)
