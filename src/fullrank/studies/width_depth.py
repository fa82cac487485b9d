"""Which encoders collapse? Six ResNets that differ in block, depth and width, with multiple passes."""

from __future__ import annotations

from collections.abc import Sequence

from fullrank.documents import Part, Words
from fullrank.studies.bases import ACCURACY, ENCODERS, PROBES, simsiam
from fullrank.studies.study import Cell, Published, Result, Scale, Study
from fullrank.studies.views import overview, pivot, through_training

PUBLISHED = Published(
    source="[Li22] Table 1",
    protocol="ImageNet top-1 of a linear probe, %",
    values={
        ("ResNet-18",): (30.0, None),
        ("ResNet-34",): (16.8, None),
        ("ResNet-50",): (68.1, None),
        ("Bottleneck-26",): (61.7, None),
        ("Bottleneck-26 x2",): (62.6, None),
        ("Basic-50",): (17.5, None),
    },
)


def cells(scale: Scale) -> list[Cell]:
    """Return every encoder; Basic-50 has the depths 4, 6, 10, 4."""
    return [Cell({"encoder": encoder}, simsiam(scale, encoder), PROBES[scale]) for encoder in ENCODERS]


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return Table 1."""
    return [
        pivot(results, ACCURACY[scale], rows="encoder", published=PUBLISHED),
        overview(results, ("knn", "auc", "rankme", "heldout_loss"), rows=("encoder",)),
        Words(
            "Basic-50 has 4, 6, 10 and 4 blocks in its stages, which give the 31.9 M parameters of Table 1; the "
            "authors' code has 5, 6, 9 and 4, which give 30.8 M. The projector's hidden width is the representation's, "
            "so it changes with the encoder: the study `heads` varies the two separately."
        ),
        *(through_training(results, name, colour="encoder") for name in ("knn", "auc")),
    ]


STUDY = Study(
    name="width-depth",
    title="Width and depth of the encoder",
    source="[Li22] Table 1",
    question="Which encoders collapse with multiple passes: is it depth, block or the width of the representation?",
    cells=cells,
    parts=parts,
)
