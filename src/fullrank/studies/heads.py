"""Encoder or projector? [Li22]'s comparisons widen both at once; here each is widened alone."""

from collections.abc import Sequence
from dataclasses import replace

from fullrank.documents import Part, Words
from fullrank.studies.bases import short
from fullrank.studies.study import ACCURACY, Cell, Results, Scale, Study
from fullrank.studies.views import against_number, overview, pivot, through_training

REPRESENTATION: dict[Scale, tuple[int, int, int]] = {"lab": (32, 64, 128), "paper": (256, 512, 1024)}
"""Widths D: ResNet-18 with half, once and twice the channels it has in the other studies."""
HIDDEN: dict[Scale, tuple[int, int]] = {"lab": (128, 512), "paper": (512, 2048)}
"""Hidden widths of the projector; the first is that of the other studies."""
EMBEDDING: dict[Scale, tuple[int, int, int]] = {"lab": (128, 512, 2048), "paper": (512, 2048, 8192)}
"""Widths M; the second is that of the other studies."""


def _cells(scale: Scale) -> list[Cell]:
    """Return every width of the encoder with every hidden width, and other embeddings behind the usual two."""
    (_, middle, _), (narrow, usual, wide) = REPRESENTATION[scale], EMBEDDING[scale]
    grid = [_cell(scale, width, hidden, usual) for hidden in HIDDEN[scale] for width in REPRESENTATION[scale]]
    return [*grid, *(_cell(scale, middle, HIDDEN[scale][0], out) for out in (narrow, wide))]


def _cell(scale: Scale, width: int, hidden: int, out: int) -> Cell:
    base = short(scale)
    encoder = replace(base.backbone, width=base.backbone.width * width / REPRESENTATION[scale][1])
    heads = replace(base.heads, projector_hidden=hidden, projector_out=out)
    factors = {"representation": f"D = {width}", "projector hidden": str(hidden), "embedding": f"M = {out}"}
    return Cell(factors, replace(base, backbone=encoder, heads=heads))


def _parts(results: Results, scale: Scale) -> Sequence[Part]:
    accuracy, middle, own = ACCURACY[scale], REPRESENTATION[scale][1], HIDDEN[scale][0]
    grid = results.where(embedding=f"M = {EMBEDDING[scale][1]}")
    embeddings = results.where(representation=f"D = {middle}", projector_hidden=str(own))
    rows, label = "projector hidden", "width D of the representation"
    return [
        Words(
            "In [Li22] the projector's hidden width is the representation's, so that a wider encoder has a wider "
            "projector too, and no comparison tells which of them prevents collapse. AUC compares within one width of "
            "the representation: down a column the projector alone differs. The loss is of embeddings of one width."
        ),
        *(pivot(grid, n, rows=rows, columns="representation") for n in (accuracy, "knn", "auc", "heldout_loss")),
        *(against_number(grid, name, "representation", label, color=rows) for name in (accuracy, "knn")),
        *(through_training(grid, name, color=rows, panel="representation") for name in ("knn", "auc")),
        overview(embeddings, (accuracy, "knn", "auc"), rows=("embedding",)),
    ]


STUDY = Study(
    name="heads",
    title="Width of the encoder and of the projector",
    source="ours",
    question="Which of them prevents collapse: a wider encoder, or the wider projector that [Li22] give it?",
    cells=_cells,
    parts=_parts,
)
