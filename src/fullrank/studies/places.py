"""Is it the same on another, larger set? Orders and shares of Places365; at lab scale Tiny ImageNet stands in."""

from collections.abc import Sequence
from dataclasses import replace

from fullrank.documents import Part, Words
from fullrank.studies.bases import MULTIPLE, percent, published, short
from fullrank.studies.study import ACCURACY, Cell, Published, Results, Scale, Study
from fullrank.studies.views import against_number, overview, pivot, through_training

SHARES: dict[Scale, tuple[float, ...]] = {"lab": (0.1,), "paper": (0.01, 0.05, 0.1, 0.5)}
LARGER = 1.4
"""Times the steps, images and chunks of the other studies at lab scale, as Places365 has times ImageNet's steps."""

PUBLISHED = Published(
    source="[Li22] Table 3",
    protocol="Places365 top-1 of a linear probe, %, ResNet-18",
    rows={"multiple-pass": ("30.0",), "single-pass": ("33.6",), "hybrid": ("35.0",)},
)
_NAMES = ("knn", "auc", "heldout_loss")
_STAND_IN = (
    "At lab scale this is not Places365: 2,800 images of Tiny ImageNet at 32 x 32 pixels stand in, of 200 classes, "
    "where the other studies have 2,000 images of 10. "
)


def _cells(scale: Scale) -> list[Cell]:
    train, held_out = (f"tiny-imagenet-32/{split}.parquet" for split in ("train", "validation"))
    if scale == "paper":
        base = published("simsiam-resnet18-places365")
    else:
        other = short("lab")
        size = {name: round(LARGER * getattr(other, name)) for name in ("steps", "chunks")}
        subset = LARGER * other.subset * 50_000 / 100_000  # of the larger set
        base = replace(other, images=train, eval_images=held_out, subset=subset, switch=0.6, **size)
    return [
        *(Cell({"order": order, "images": percent(1.0)}, replace(base, order=order)) for order in PUBLISHED.rows),
        *(
            Cell({"order": MULTIPLE, "images": percent(s)}, replace(base, subset=s * base.subset))
            for s in SHARES[scale]
        ),
    ]


def _parts(results: Results, scale: Scale) -> Sequence[Part]:
    ordered, shares = results.where(images=percent(1.0)), results.where(order=MULTIPLE)
    return [
        Words(
            f"{_STAND_IN if scale == 'lab' else ''}The hybrid order switches at 60 % of the steps, as in [Li22], so "
            "that about as many steps are of multiple passes as on the smaller set with its switch at 40 %."
        ),
        pivot(ordered, ACCURACY[scale], rows="order", published=PUBLISHED),
        overview(ordered, _NAMES, rows=("order",)),
        *(through_training(ordered, name, color="order") for name in _NAMES),
        overview(shares, ("knn", ACCURACY[scale], "auc", "heldout_loss"), rows=("images",)),
        *(against_number(shares, name, "images", "share of the training images (%)") for name in _NAMES),
    ]


STUDY = Study(
    name="places",
    title="Another set: Places365",
    source="[Li22] Table 3, Figures 10 and 11",
    question="Do orders and shares of the data do the same on a larger set of another kind?",
    cells=_cells,
    parts=_parts,
)
