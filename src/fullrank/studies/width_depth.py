"""Which encoders collapse? Six ResNets that differ in block, depth and width, with multiple passes."""

from fullrank.documents import Words
from fullrank.studies.bases import ENCODERS, short
from fullrank.studies.study import ACCURACY, Cell, Published, Study
from fullrank.studies.views import overview, pivot, through_training

PUBLISHED = Published(
    source="[Li22] Table 1",
    protocol="ImageNet top-1 of a linear probe, %",
    rows={
        encoder: (top1,)
        for encoder, top1 in zip(ENCODERS, ("30.0", "16.8", "68.1", "61.7", "62.6", "17.5"), strict=True)
    },
)

STUDY = Study(
    name="width-depth",
    title="Width and depth of the encoder",
    source="[Li22] Table 1",
    question="Which encoders collapse with multiple passes: is it depth, block or the width of the representation?",
    cells=lambda scale: [Cell({"encoder": encoder}, short(scale, encoder)) for encoder in ENCODERS],
    parts=lambda results, scale: [
        pivot(results, ACCURACY[scale], rows="encoder", published=PUBLISHED),
        overview(results, ("knn", "auc", "rankme", "heldout_loss"), rows=("encoder",)),
        Words(
            "Basic-50 has 4, 6, 10 and 4 blocks in its stages, which give the 31.9 M parameters of Table 1; the "
            "authors' code has 5, 6, 9 and 4, which give 30.8 M. The projector's hidden width is the representation's, "
            "so it changes with the encoder: the study `heads` varies the two separately."
        ),
        *(through_training(results, name, color="encoder") for name in ("knn", "auc")),
    ],
)
