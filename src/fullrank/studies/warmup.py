"""Is collapse a matter of too large a rate at the start? Multiple passes with and without warm-up."""

from dataclasses import replace

from fullrank.config import TrainConfig
from fullrank.studies.bases import DEEPER, SMALL, short
from fullrank.studies.study import ACCURACY, Cell, Published, Study
from fullrank.studies.views import pivot, through_training

NONE, TENTH = "none", "10 % of the steps"

PUBLISHED = Published(
    source="[Li22] Tables 2 and 5",
    protocol="ImageNet top-1 of a linear probe, %, multiple passes, the warm-up of 10 of 100 epochs",
    columns=(SMALL, DEEPER),
    rows={NONE: ("30.0 ± 1.8", "16.8 ± 3.2"), TENTH: ("28.4", "35.8")},
)


def _config(config: TrainConfig, how: str) -> TrainConfig:
    steps = 0 if how == NONE else config.steps // 10
    return replace(config, optim=replace(config.optim, warmup_steps=steps))


STUDY = Study(
    name="warmup",
    title="Warm-up of the learning rate",
    source="[Li22] appendix A.5, Table 5",
    question="Does a learning rate that rises slowly prevent collapse?",
    cells=lambda scale: [
        Cell({"warm-up": how, "encoder": encoder}, _config(short(scale, encoder), how))
        for encoder in (SMALL, DEEPER)
        for how in (NONE, TENTH)
    ],
    parts=lambda results, scale: [
        pivot(results, ACCURACY[scale], rows="warm-up", columns="encoder", published=PUBLISHED),
        *(pivot(results, name, rows="warm-up", columns="encoder") for name in ("knn", "auc")),
        *(through_training(results, name, color="warm-up", panel="encoder") for name in ("knn", "auc")),
    ],
)
