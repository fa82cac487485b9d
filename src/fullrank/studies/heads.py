"""Encoder or projector? [Li22]'s comparisons widen both at once; here each is widened alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fullrank.documents import Part, Words
from fullrank.studies.bases import ACCURACY, PROBES, simsiam, where
from fullrank.studies.study import Cell, Result, Scale, Study
from fullrank.studies.views import against_number, overview, pivot, through_training

REPRESENTATION: dict[Scale, tuple[int, ...]] = {"lab": (32, 64, 128), "paper": (256, 512, 1024)}
"""Widths D: ResNet-18 with half, once and twice the channels it has in the other studies."""
HIDDEN: dict[Scale, tuple[int, int]] = {"lab": (64, 256), "paper": (512, 2048)}
"""Hidden widths of the projector; the first is that of the other studies."""
EMBEDDING: dict[Scale, tuple[int, int, int]] = {"lab": (128, 512, 2048), "paper": (512, 2048, 8192)}
"""Widths M; the second is that of the other studies."""


def cells(scale: Scale) -> list[Cell]:
    """Return every width of the encoder with every hidden width, and other embeddings behind the usual two."""
    _, usual, _ = EMBEDDING[scale]
    own, middle = HIDDEN[scale][0], REPRESENTATION[scale][1]
    grid = [_cell(scale, width, hidden, usual) for hidden in HIDDEN[scale] for width in REPRESENTATION[scale]]
    return [*grid, *(_cell(scale, middle, own, out) for out in EMBEDDING[scale] if out != usual)]


def _cell(scale: Scale, width: int, hidden: int, out: int) -> Cell:
    base = simsiam(scale)
    channels = base.backbone.width * width / REPRESENTATION[scale][1]
    return Cell(
        {"representation": f"D = {width}", "projector hidden": str(hidden), "embedding": f"M = {out}"},
        replace(
            base,
            backbone=replace(base.backbone, width=channels),
            heads=replace(base.heads, projector_hidden=hidden, projector_out=out),
        ),
        PROBES[scale],
    )


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return tables of both widths, and of the embedding's."""
    _, usual, _ = EMBEDDING[scale]
    grid = where(results, embedding=f"M = {usual}")
    embeddings = where(
        results, representation=f"D = {REPRESENTATION[scale][1]}", projector_hidden=str(HIDDEN[scale][0])
    )
    names = ("knn", "auc", "heldout_loss")
    return [
        Words(
            "In [Li22] the projector's hidden width is the representation's, so that a wider encoder has a wider "
            "projector too, and no comparison tells which of them prevents collapse. AUC compares within one width of "
            "the representation: down a column the projector alone differs. The loss is of embeddings of one width."
        ),
        *(pivot(grid, name, rows="projector hidden", columns="representation") for name in (ACCURACY[scale], *names)),
        *(
            against_number(
                grid,
                name,
                of=lambda cell: 512 * cell.config.backbone.width,  # ResNet-18's
                label="width D of the representation",
                logarithmic=True,
                colour="projector hidden",
            )
            for name in (ACCURACY[scale], "knn")
        ),
        *(through_training(grid, name, colour="projector hidden", panel="representation") for name in ("knn", "auc")),
        overview(embeddings, (ACCURACY[scale], "knn", "auc"), rows=("embedding",)),
    ]


STUDY = Study(
    name="heads",
    title="Width of the encoder and of the projector",
    source="ours",
    question="Which of them prevents collapse: a wider encoder, or the wider projector that [Li22] give it?",
    cells=cells,
    parts=parts,
)
