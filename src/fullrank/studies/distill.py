"""Is it the capacity? Small encoders that collapse by themselves learn from a large one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fullrank.config import TrainConfig
from fullrank.documents import Part, Words
from fullrank.studies.bases import ACCURACY, DEEPER, PROBES, SMALL, WIDE, other, published, simsiam
from fullrank.studies.study import Cell, Published, Result, Scale, Study
from fullrank.studies.views import overview, pivot

TEACHER = f"{WIDE}, the teacher"

PUBLISHED = Published(
    source="[Li22] Table 4",
    protocol="ImageNet top-1 of a linear probe, %",
    values={
        ("SimSiam", TEACHER): (68.1, None),
        ("SimSiam", SMALL): (58.9, None),
        ("SimSiam", DEEPER): (62.5, None),
        ("MoCo-v3", TEACHER): (66.4, None),
        ("MoCo-v3", SMALL): (56.4, None),
        ("MoCo-v3", DEEPER): (57.5, None),
    },
)


def cells(scale: Scale) -> list[Cell]:
    """Return two teachers with their students; at lab scale one student each."""
    students = (SMALL,) if scale == "lab" else (SMALL, DEEPER)
    found = []
    for method in ("SimSiam", "MoCo-v3"):
        teacher = {"teacher": method, "student": TEACHER}
        found.append(Cell(teacher, _teacher(scale, method), PROBES[scale]))
        found += [
            Cell({"teacher": method, "student": student}, _student(scale, student), PROBES[scale], teacher)
            for student in students
        ]
    return found


def _teacher(scale: Scale, method: str) -> TrainConfig:
    if method == "SimSiam":
        return simsiam(scale, WIDE)
    if scale == "lab":
        return other("mocov3", WIDE)
    config = published("mocov3-resnet18-imagenet")
    return replace(config, backbone=replace(config.backbone, name="resnet50"))


def _student(scale: Scale, encoder: str) -> TrainConfig:
    if scale == "lab":
        return other("distill", encoder)
    config = published("distill-resnet18-imagenet")
    return replace(config, backbone=simsiam(scale, encoder).backbone)


_SETTINGS: dict[Scale, str] = {
    "lab": "Teachers and students have the same steps, batch and decay as SimSiam in the other studies.",
    "paper": "Students are trained as SimSiam is, as in [Li22]. The MoCo-v3 teacher has the defaults of their code: "
    "what trained theirs is not published.",
}


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return Table 4."""
    return [
        Words(_SETTINGS[scale]),
        pivot(results, ACCURACY[scale], rows="teacher", columns="student", published=PUBLISHED),
        pivot(results, "knn", rows="teacher", columns="student"),
        overview(results, ("auc", "rankme"), rows=("teacher", "student")),
    ]


STUDY = Study(
    name="distill",
    title="Distillation",
    source="[Li22] Table 4",
    question="Can a small encoder hold what a large one learnt without labels, although it collapses by itself?",
    cells=cells,
    parts=parts,
)
