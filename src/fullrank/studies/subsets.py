"""Does more data make it worse? The same steps on 1 to 100 % of the images, measured on all of them."""

from dataclasses import replace

from fullrank.documents import Words
from fullrank.studies.bases import DEEPER, SMALL, percent, simsiam
from fullrank.studies.study import ACCURACY, Cell, Published, Scale, Study
from fullrank.studies.views import against_number, overview, pivot, spectra

SHARES: dict[Scale, tuple[float, ...]] = {
    "lab": (0.01, 0.02, 0.05, 0.2, 0.5, 1.0),
    "paper": (0.01, 0.05, 0.1, 0.2, 0.5, 1.0),
}
"""Of the images that the other studies train on. At lab scale 2 % are one of their chunks."""

PUBLISHED = Published(
    source="computed from the spectra that [Li22] published (Figure 3)",
    protocol="AUC of the cumulative singular values, ResNet-18, centered, all ImageNet training images, one seed; "
    "D = 512, so that it does not compare with an AUC of another D",
    columns=(SMALL,),
    rows={
        percent(share): (auc,)
        for share, auc in zip(SHARES["paper"], ("0.610", "0.748", "0.845", "0.879", "0.871", "0.858"), strict=True)
    },
)


def _cell(scale: Scale, encoder: str, share: float) -> Cell:
    every = simsiam(scale, encoder)
    return Cell({"images": percent(share), "encoder": encoder}, replace(every, subset=share * every.subset))


STUDY = Study(
    name="subsets",
    title="Shares of the data",
    source="[Li22] Figures 2, 3 and 9",
    question="Do fewer images give a better representation than more, at equal steps, once the encoder is too small?",
    cells=lambda scale: [
        _cell(scale, encoder, share)
        for encoder in ((SMALL,) if scale == "lab" else (SMALL, DEEPER))
        for share in SHARES[scale]
    ],
    parts=lambda results, scale: [
        overview(results, ("knn", ACCURACY[scale], "heldout_loss", "auc"), rows=("encoder", "images")),
        pivot(results, "auc", rows="images", columns="encoder", published=PUBLISHED),
        Words(
            "[Li22] print no table of Figure 2: its k-NN accuracy is highest at 5 % of ImageNet for ResNet-18 and at "
            "10 % for ResNet-34, while the held-out loss goes on falling with more images. Their AUC is taken on all "
            "training images; on 10,000 it would come out .006 higher at 1 %, .002 at 5 %, and .001 elsewhere "
            "(Gaussian draws from the published spectra)."
        ),
        *(
            against_number(results, name, "images", "share of the training images (%)", color="encoder")
            for name in ("knn", ACCURACY[scale], "heldout_loss", "auc")
        ),
        spectra(results, color="images", panel="encoder"),
    ],
)
