"""Do methods that do not collapse gain from a single pass? Two with a moving average, one that is contrastive."""

from dataclasses import replace

from fullrank.config import TrainConfig
from fullrank.documents import Words
from fullrank.studies.bases import other, published, short
from fullrank.studies.study import ACCURACY, Cell, Scale, Study
from fullrank.studies.views import pivot, spectra, through_training

METHODS = {"SimSiam": "simsiam", "BYOL": "byol", "MoCo-v3": "mocov3", "SimCLR": "simclr"}


def _base(scale: Scale, method: str) -> TrainConfig:
    name = METHODS[method]
    if method == "SimSiam":
        return short(scale)
    if scale == "lab":
        return other(name)
    if method == "SimCLR":
        config = published("simclr-resnet50-imagenet")
        return replace(config, backbone=replace(config.backbone, name="resnet18"))
    return published(f"{name}-resnet18-imagenet")


_SETTINGS: dict[Scale, str] = {
    "lab": "At lab scale the other methods see the same images as often as SimSiam, at its weight decay, in which it "
    "collapses partially; heads, loss, moving average and rate are those of their recipes.",
    "paper": "[Li22] do not publish the commands of these runs: BYOL and MoCo-v3 have the defaults of their code "
    "(crops from 8 % of the area, a constant momentum of .99, 10 epochs of warm-up) and MoCo-v3's batch of 4,096. "
    "SimCLR has [Garrido23]'s tuned settings, which are for ResNet-50, behind a ResNet-18.",
}

STUDY = Study(
    name="ema",
    title="Methods with a moving average or negatives",
    source="[Li22] Figures 1 and 7",
    question="Do methods that do not collapse gain anything from a single pass?",
    cells=lambda scale: [
        Cell({"method": method, "order": order}, replace(_base(scale, method), order=order))
        for method in METHODS
        for order in ("multiple-pass", "single-pass")
    ],
    parts=lambda results, scale: [
        Words(
            f"{_SETTINGS[scale]} [Li22] print no numbers for ResNet-18: BYOL and MoCo-v3 do not collapse, and a single "
            "pass does not help them, which the authors take for an effect of the moving average."
        ),
        *(pivot(results, name, rows="method", columns="order") for name in (ACCURACY[scale], "knn", "auc")),
        *(through_training(results, name, color="order", panel="method") for name in ("knn", "auc")),
        spectra(results, color="method", panel="order"),
    ],
)
