"""Where does the order matter? Orders at several decays, with the paper's three numbers kept together at laptop scale.

| ResNet-18 with multiple passes                        | paper |          here |
|-------------------------------------------------------|------:|--------------:|
| clock of weight decay, sum over steps of rate x decay |  1.25 |    .45 to .90 |
| passes over an image                                  |   100 |            96 |
| images per parameter of the encoder                   |  .115 |          .057 |
| parameters of the encoder for each image of a chunk   |   914 |           880 |

The other studies' lab scale keeps none of them (3 passes over an image), and shows no effect of the order. The
projector is 128 wide inside, twice the representation; [Li22]'s is as wide as it.
"""

from dataclasses import replace

from fullrank.config import TrainConfig
from fullrank.documents import Words
from fullrank.studies.bases import LAB_WIDTH, clock, published, with_order
from fullrank.studies.study import ACCURACY, Cell, Scale, Study
from fullrank.studies.views import against, overview, pivot, spectra, through_training
from fullrank.training.presets import preset

DECAYS: dict[Scale, tuple[float, ...]] = {"lab": (8e-4, 1.1e-3, 1.6e-3), "paper": (5e-5, 1e-4)}
ORDERS = ("multiple-pass", "single-pass", "hybrid", "adaptive")
_NAMES = ("knn", "auc", "heldout_loss")


def _config(scale: Scale, decay: float) -> TrainConfig:
    if scale == "paper":
        config = published("simsiam-resnet18-imagenet")
        return replace(config, optim=replace(config.optim, weight_decay=decay))
    recipe = preset("simsiam-lab")
    return replace(
        recipe,
        subset=0.2,  # 10,000 images of CIFAR-10
        steps=15_000,
        chunks=50,  # of 200 images
        backbone=replace(recipe.backbone, width=LAB_WIDTH),
        optim=replace(recipe.optim, weight_decay=decay),
        monitor=replace(recipe.monitor, measure_every=1500, images=5000, whole=True),
    )


def _cell(scale: Scale, decay: float, order: str) -> Cell:
    config = with_order(_config(scale, decay), order)
    return Cell({"decay": f"{decay:g}", "clock": f"{clock(config):.2g}", "order": order}, config)


STUDY = Study(
    name="regime",
    title="Where the order matters",
    source="ours; [Li22] Table 2",
    question="Does the order prevent collapse once a chunk is seen many times and is small enough to be fitted?",
    cells=lambda scale: [_cell(scale, decay, order) for decay in DECAYS[scale] for order in ORDERS],
    parts=lambda results, scale: [
        *(pivot(results, name, rows="order", columns="decay") for name in (ACCURACY[scale], *_NAMES)),
        Words(
            "[Li22] Table 2 has 30.0 ± 1.8 % for multiple passes, 44.5 ± 0.8 % for a single pass and 48.3 ± 0.7 % for "
            "hybrid, of ResNet-18 on ImageNet."
        ),
        *(through_training(results, name, color="order", panel="decay") for name in _NAMES),
        against(results, "heldout_loss", "auc", color="order", panel="decay"),
        spectra(results, color="order", panel="decay"),
        overview(results, _NAMES, rows=("decay", "order")),
    ],
)
