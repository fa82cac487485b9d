"""Where does the order matter? Orders at several decays, with the paper's three numbers kept together at laptop scale.

The deeper encoder is trained at the headline's setting.

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
from typing import NamedTuple

from fullrank.documents import Part, Words
from fullrank.studies.bases import DEEPER, SMALL, clock, simsiam
from fullrank.studies.study import ACCURACY, Cell, Results, Scale, Study
from fullrank.studies.views import against, overview, pivot, spectra, through_training


class _Setting(NamedTuple):
    steps: int
    decay: float
    every: int  # after how many steps each time a run is measured
    encoder: str = SMALL

    def __str__(self) -> str:
        return f"{'' if self.encoder == SMALL else f'{self.encoder}, '}{self.steps:,} steps, decay {self.decay:g}"


HEADLINE: dict[Scale, _Setting] = {"lab": _Setting(30_000, 8.5e-4, 1500), "paper": _Setting(500_400, 1e-4, 5004)}
"""The setting that is drawn: at the paper's scale the published one."""
SETTINGS: dict[Scale, tuple[_Setting, ...]] = {
    "lab": (
        *(_Setting(15_000, decay, 1500) for decay in (8e-4, 1.1e-3, 1.6e-3)),
        HEADLINE["lab"],
        _Setting(30_000, 1e-3, 3000),
        HEADLINE["lab"]._replace(encoder=DEEPER),
    ),
    "paper": (_Setting(500_400, 5e-5, 5004), HEADLINE["paper"], HEADLINE["paper"]._replace(encoder=DEEPER)),
}
ORDERS = ("multiple-pass", "single-pass", "hybrid", "adaptive")
FEW = "the images of one chunk"  # and no others, with multiple passes
_NAMES = ("knn", "auc", "heldout_loss")


def _cell(scale: Scale, setting: _Setting, order: str) -> Cell:
    recipe = simsiam(scale, setting.encoder)
    optim = replace(recipe.optim, weight_decay=setting.decay)
    config = replace(
        recipe, steps=setting.steps, optim=optim, monitor=replace(recipe.monitor, measure_every=setting.every)
    )
    config = replace(config, subset=config.subset / config.chunks) if order == FEW else replace(config, order=order)
    return Cell({"setting": str(setting), "clock": f"{clock(config):.2g}", "order": order}, config)


def _parts(results: Results, scale: Scale) -> Sequence[Part]:
    headline = results.where(setting=str(HEADLINE[scale]))
    return [
        *(pivot(results, name, rows="order", columns="setting") for name in (ACCURACY[scale], *_NAMES)),
        Words(
            "[Li22] Table 2 has 30.0 ± 1.8 % for multiple passes, 44.5 ± 0.8 % for a single pass and 48.3 ± 0.7 % for "
            "hybrid, of ResNet-18 on ImageNet; of ResNet-34 16.8 ± 3.2, 45.0 ± 1.1 and 50.3 ± 0.6 %. "
            f"The curves are of {HEADLINE[scale]}."
        ),
        *(through_training(headline.where(order=ORDERS), name, color="order") for name in _NAMES),
        spectra(headline, color="order"),
        against(results, "heldout_loss", "auc", color="order", panel="setting"),
        overview(results, _NAMES, rows=("setting", "order")),
    ]


STUDY = Study(
    name="regime",
    title="Where the order matters",
    source="ours; [Li22] Table 2",
    question="Does the order prevent collapse once a chunk is seen many times and is small enough to be fitted?",
    cells=lambda scale: [_cell(scale, setting, order) for setting in SETTINGS[scale] for order in (*ORDERS, FEW)],
    parts=_parts,
)
