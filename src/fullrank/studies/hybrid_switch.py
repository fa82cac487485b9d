"""When should a hybrid order switch from single to multiple passes?"""

from dataclasses import replace

from fullrank.studies.bases import percent, simsiam
from fullrank.studies.study import ACCURACY, Cell, Published, Study
from fullrank.studies.views import against_number, overview, pivot, through_training

SWITCHES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_ENDS = {0.0: "multiple-pass", 1.0: "single-pass"}

PUBLISHED = Published(
    source="[Li22] Table 2",
    protocol="ImageNet top-1 of a linear probe, %, ResNet-18, mean and deviation of 3 seeds; Figure 8 prints no number",
    rows={"0 %": ("30.0 ± 1.8",), "40 %": ("48.3 ± 0.7",), "100 %": ("44.5 ± 0.8",)},
)
_NAMES = ("knn", "auc", "heldout_loss")

STUDY = Study(
    name="hybrid-switch",
    title="The switch of the hybrid order",
    source="[Li22] Figure 8; Figure 11 is part of `places`",
    question="After how many steps of single pass is it best to go on with multiple passes?",
    cells=lambda scale: [
        Cell(
            {"switch": percent(switch)},
            replace(simsiam(scale), order=_ENDS[switch])
            if switch in _ENDS
            else replace(simsiam(scale), order="hybrid", switch=switch),
        )
        for switch in SWITCHES
    ],
    parts=lambda results, scale: [
        pivot(results, ACCURACY[scale], rows="switch", published=PUBLISHED),
        overview(results, _NAMES, rows=("switch",)),
        *(through_training(results, name, color="switch") for name in _NAMES),
        *(
            against_number(results, name, "switch", "share of the steps before the switch (%)", logarithmic=False)
            for name in _NAMES[:2]
        ),
    ],
)
