"""Do nearest neighbors as targets prevent collapse?"""

from dataclasses import replace

from fullrank.documents import Words
from fullrank.studies.bases import other, published, short
from fullrank.studies.study import ACCURACY, Cell, Published, Study
from fullrank.studies.views import overview, pivot, through_training

PUBLISHED = Published(
    source="[Li22] appendix A.5",
    protocol="ImageNet top-1 of a linear probe, %, ResNet-18, multiple passes",
    rows={"SimSiam": ("30.0",), "NNSiam": ("34.4",)},
)

STUDY = Study(
    name="nnsiam",
    title="Nearest neighbors as targets",
    source="[Li22] appendix A.5",
    question="Does it prevent collapse to predict an earlier image's embedding that lies near?",
    cells=lambda scale: [
        Cell({"method": "SimSiam"}, short(scale)),
        Cell(
            {"method": "NNSiam"},
            replace(other("nnsiam"), heads=short("lab").heads)
            if scale == "lab"
            else published("nnsiam-resnet18-imagenet"),
        ),
    ],
    parts=lambda results, scale: [
        pivot(results, ACCURACY[scale], rows="method", published=PUBLISHED),
        overview(results, ("knn", "auc", "rankme", "heldout_loss"), rows=("method",)),
        Words(
            "Neighbors are found by cosine among embeddings of norm 1. [Li22]'s code takes the distance of embeddings "
            "as they are from a queue that begins as random vectors of norm 1, far shorter than embeddings."
        ),
        *(through_training(results, name, color="method") for name in ("knn", "auc")),
    ],
)
