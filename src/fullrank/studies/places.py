"""Is it the same on another, larger set? Orders and shares of Places365; at lab scale Tiny ImageNet stands in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fullrank.config import TrainConfig
from fullrank.documents import Part, Words
from fullrank.studies.bases import ACCURACY, MULTIPLE, PROBES, percent, published, simsiam, where, with_order
from fullrank.studies.study import Cell, Published, Result, Scale, Study
from fullrank.studies.views import against_number, overview, pivot, through_training

ORDERS = ("multiple-pass", "single-pass", "hybrid")
SHARES: dict[Scale, tuple[float, ...]] = {"lab": (0.01, 0.1, 1.0), "paper": (0.01, 0.05, 0.1, 0.5, 1.0)}
LAB_STEPS = 3500
"""1.4 times the 2,500 of the other studies, as Places365's 704,400 steps are 1.4 times ImageNet's."""

PUBLISHED = Published(
    source="[Li22] Table 3",
    protocol="Places365 top-1 of a linear probe, %, ResNet-18",
    values={("multiple-pass",): (30.0, None), ("single-pass",): (33.6, None), ("hybrid",): (35.0, None)},
)


def cells(scale: Scale) -> list[Cell]:
    """Return orders on all images, and multiple passes over shares of them."""
    base = _base(scale)
    ordered = [({"order": order, "images": percent(1.0)}, with_order(base, order)) for order in ORDERS]
    shares = [
        ({"order": MULTIPLE, "images": percent(share)}, replace(base, subset=share))
        for share in SHARES[scale]
        if share < 1
    ]
    return [Cell(factors, config, PROBES[scale]) for factors, config in (*ordered, *shares)]


def _base(scale: Scale) -> TrainConfig:
    if scale == "paper":
        return published("simsiam-resnet18-places365")
    return replace(
        simsiam("lab"),
        images="tiny-imagenet-32/train.parquet",
        eval_images="tiny-imagenet-32/validation.parquet",
        steps=LAB_STEPS,
        switch=0.6,
    )


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return Table 3, and Figures 10 and 11."""
    ordered, shares = where(results, images=percent(1.0)), where(results, order=MULTIPLE)
    stand_in = (
        "At lab scale this is not Places365: Tiny ImageNet at 32 x 32 pixels stands in, a set of 100,000 images of 200 "
        "classes where the other studies have 50,000 of 10. "
    )
    return [
        Words(
            f"{stand_in if scale == 'lab' else ''}The hybrid order switches at 60 % of the steps, as in [Li22], so "
            "that about as many steps are of multiple passes as on the smaller set with its switch at 40 %."
        ),
        pivot(ordered, ACCURACY[scale], rows="order", published=PUBLISHED),
        overview(ordered, ("knn", "auc", "heldout_loss"), rows=("order",)),
        *(through_training(ordered, name, colour="order") for name in ("knn", "auc", "heldout_loss")),
        overview(shares, ("knn", ACCURACY[scale], "auc", "heldout_loss"), rows=("images",)),
        *(
            against_number(
                shares,
                name,
                of=lambda cell: 100 * cell.config.subset,
                label="share of the training images (%)",
                logarithmic=True,
            )
            for name in ("knn", "auc", "heldout_loss")
        ),
    ]


STUDY = Study(
    name="places",
    title="Another set: Places365",
    source="[Li22] Table 3, Figures 10 and 11",
    question="Do orders and shares of the data do the same on a larger set of another kind?",
    cells=cells,
    parts=parts,
)
