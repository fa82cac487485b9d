"""Where does the order matter? Orders at several decays, with the paper's three numbers kept together at laptop scale.

| ResNet-18 with multiple passes                        | paper |          here |
|-------------------------------------------------------|------:|--------------:|
| clock of weight decay, sum over steps of rate x decay |  1.25 |   .45 to 1.13 |
| passes over an image                                  |   100 |     96 or 192 |
| images per parameter of the encoder                   |  .115 |          .057 |
| parameters of the encoder for each image of a chunk   |   914 |           880 |

The projector is 128 wide inside, twice the representation; [Li22]'s is as wide as it.
"""

from collections.abc import Sequence
from dataclasses import replace

from fullrank.documents import Part, Words
from fullrank.studies.bases import clock, published
from fullrank.studies.study import ACCURACY, Cell, Results, Scale, Study
from fullrank.studies.views import against, overview, pivot, spectra, through_training

# Steps, decay, and after how many steps each time a run is measured.
SETTINGS: dict[Scale, tuple[tuple[int, float, int], ...]] = {
    "lab": (
        *((15_000, 8e-4, 1500), (15_000, 1.1e-3, 1500), (15_000, 1.6e-3, 1500)),
        *((30_000, 8.5e-4, 1500), (30_000, 1e-3, 3000)),
    ),
    "paper": ((500_400, 5e-5, 5004), (500_400, 1e-4, 5004)),
}
HEADLINE: dict[Scale, tuple[int, float]] = {"lab": (30_000, 8.5e-4), "paper": (500_400, 1e-4)}
"""The setting that is drawn: at the paper's scale the published one."""
ORDERS = ("multiple-pass", "single-pass", "hybrid", "adaptive")
FEW = "the images of one chunk"  # and no others, with multiple passes
_NAMES = ("knn", "auc", "heldout_loss")


def _named(steps: int, decay: float) -> str:
    return f"{steps:,} steps, decay {decay:g}"


def _cell(scale: Scale, steps: int, decay: float, every: int, order: str) -> Cell:
    recipe = published("simsiam-resnet18-imagenet" if scale == "paper" else "simsiam-collapse")
    optim, monitor = replace(recipe.optim, weight_decay=decay), replace(recipe.monitor, measure_every=every)
    config = replace(recipe, steps=steps, optim=optim, monitor=monitor)
    config = replace(config, subset=config.subset / config.chunks) if order == FEW else replace(config, order=order)
    return Cell({"steps and decay": _named(steps, decay), "clock": f"{clock(config):.2g}", "order": order}, config)


def _parts(results: Results, scale: Scale) -> Sequence[Part]:
    headline = results.where(steps_and_decay=_named(*HEADLINE[scale]))
    return [
        *(pivot(results, name, rows="order", columns="steps and decay") for name in (ACCURACY[scale], *_NAMES)),
        Words(
            "[Li22] Table 2 has 30.0 ± 1.8 % for multiple passes, 44.5 ± 0.8 % for a single pass and 48.3 ± 0.7 % for "
            f"hybrid, of ResNet-18 on ImageNet. The curves are of {_named(*HEADLINE[scale])}."
        ),
        *(through_training(headline.where(order=ORDERS), name, color="order") for name in _NAMES),
        spectra(headline, color="order"),
        against(results, "heldout_loss", "auc", color="order", panel="steps and decay"),
        overview(results, _NAMES, rows=("steps and decay", "order")),
    ]


STUDY = Study(
    name="regime",
    title="Where the order matters",
    source="ours; [Li22] Table 2",
    question="Does the order prevent collapse once a chunk is seen many times and is small enough to be fitted?",
    cells=lambda scale: [_cell(scale, *setting, order) for setting in SETTINGS[scale] for order in (*ORDERS, FEW)],
    parts=_parts,
)
