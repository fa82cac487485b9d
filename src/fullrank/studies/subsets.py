"""Does more data make it worse? The same steps on 1 to 100 % of the images, measured on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fullrank.documents import Part, Words
from fullrank.studies.bases import ACCURACY, DEEPER, PROBES, SMALL, percent, simsiam
from fullrank.studies.study import Cell, Published, Result, Scale, Study
from fullrank.studies.views import against_number, overview, pivot, spectra

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5, 1.0)

PUBLISHED = Published(
    source="computed from the spectra that [Li22] published (Figure 3)",
    protocol="AUC of the cumulative singular values, ResNet-18, centred, all ImageNet training images, one seed; "
    "D = 512, so that it does not compare with an AUC of another D",
    values={
        ("1 %", SMALL): (0.6098, None),
        ("5 %", SMALL): (0.7480, None),
        ("10 %", SMALL): (0.8449, None),
        ("20 %", SMALL): (0.8787, None),
        ("50 %", SMALL): (0.8714, None),
        ("100 %", SMALL): (0.8578, None),
    },
)


def cells(scale: Scale) -> list[Cell]:
    """Return every share; at the paper's scale for the deeper encoder too."""
    return [
        Cell(
            {"images": percent(share), "encoder": encoder},
            replace(simsiam(scale, encoder), subset=share),
            PROBES[scale],
        )
        for encoder in ((SMALL,) if scale == "lab" else (SMALL, DEEPER))
        for share in SHARES
    ]


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return Figures 2, 3 and 9."""
    names = ("knn", ACCURACY[scale], "heldout_loss", "auc")
    return [
        overview(results, names, rows=("encoder", "images")),
        pivot(results, "auc", rows="images", columns="encoder", published=PUBLISHED),
        Words(
            "[Li22] print no table of Figure 2: its k-NN accuracy is highest at 5 % of ImageNet for ResNet-18 and at "
            "10 % for ResNet-34, while the held-out loss goes on falling with more images. Their AUC is taken on all "
            "training images; on 10,000 it would come out .006 higher at 1 %, .002 at 5 %, and .001 elsewhere "
            "(Gaussian draws from the published spectra)."
        ),
        *(
            against_number(
                results,
                name,
                of=lambda cell: 100 * cell.config.subset,
                label="share of the training images (%)",
                logarithmic=True,
                colour="encoder",
            )
            for name in names
        ),
        spectra(results, colour="images", panel="encoder"),
    ]


STUDY = Study(
    name="subsets",
    title="Shares of the data",
    source="[Li22] Figures 2, 3 and 9",
    question="Do fewer images give a better representation than more, at equal steps, once the encoder is too small?",
    cells=cells,
    parts=parts,
)
