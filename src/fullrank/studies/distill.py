"""Is it the capacity? Small encoders that collapse by themselves learn from a large one that does not."""

from dataclasses import replace

from fullrank.config import TrainConfig
from fullrank.documents import Words
from fullrank.studies.bases import DEEPER, SMALL, WIDE, other, published, short
from fullrank.studies.study import ACCURACY, Cell, Published, Scale, Study
from fullrank.studies.views import overview, pivot

TEACHER = f"{WIDE}, the teacher"

PUBLISHED = Published(
    source="[Li22] Table 4",
    protocol="ImageNet top-1 of a linear probe, %",
    columns=(TEACHER, SMALL, DEEPER),
    rows={"SimSiam": ("68.1", "58.9", "62.5"), "MoCo-v3": ("66.4", "56.4", "57.5")},
)


def _config(scale: Scale, method: str, student: str) -> TrainConfig:
    if student == TEACHER and method == "SimSiam":
        return short(scale, WIDE)
    if scale == "lab":
        return other("mocov3", WIDE) if student == TEACHER else other("distill", student)
    config = published("mocov3-resnet18-imagenet" if student == TEACHER else "distill-resnet18-imagenet")
    encoder = replace(config.backbone, name="resnet50") if student == TEACHER else short(scale, student).backbone
    return replace(config, backbone=encoder)


def _cell(scale: Scale, method: str, student: str) -> Cell:
    teacher = None if student == TEACHER else {"teacher": method, "student": TEACHER}
    return Cell({"teacher": method, "student": student}, _config(scale, method, student), teacher=teacher)


_SETTINGS: dict[Scale, str] = {
    "lab": "Teachers and students have the same steps, batch and decay as SimSiam in the other studies.",
    "paper": "Students are trained as SimSiam is, as in [Li22]. The MoCo-v3 teacher has the defaults of their code: "
    "what trained theirs is not published.",
}

STUDY = Study(
    name="distill",
    title="Distillation",
    source="[Li22] Table 4",
    question="Can a small encoder hold what a large one learned without labels, although it collapses by itself?",
    cells=lambda scale: [
        _cell(scale, method, student)
        for method in PUBLISHED.rows
        for student in ((TEACHER, SMALL) if scale == "lab" else (TEACHER, SMALL, DEEPER))
    ],
    parts=lambda results, scale: [
        Words(_SETTINGS[scale]),
        pivot(results, ACCURACY[scale], rows="teacher", columns="student", published=PUBLISHED),
        pivot(results, "knn", rows="teacher", columns="student"),
        overview(results, ("auc", "rankme"), rows=("teacher", "student")),
    ],
)
