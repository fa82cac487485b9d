"""Do methods that decorrelate dimensions need wide embeddings, and contrastive ones large batches?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fullrank.config import HeadsConfig, TrainConfig
from fullrank.documents import Part, Words
from fullrank.studies.bases import ACCURACY, PROBES, published, where
from fullrank.studies.study import Cell, Published, Result, Scale, Study
from fullrank.studies.views import against_number, pivot
from fullrank.training.presets import LAB, preset

METHODS = {"VICReg": "vicreg", "VICReg-exp": "vicreg-exp", "VICReg-ctr": "vicreg-ctr", "SimCLR": "simclr"}
DIMENSIONS: dict[Scale, tuple[int, ...]] = {"lab": (32, 128, 512), "paper": (256, 512, 1024, 2048, 8192)}
"""Widths d of the embedding; the last is the hidden width of the wide projector too."""
WIDE, EQUAL = "wide", "d-d-d"
PAPER_BATCH = {"VICReg": 1024, "SimCLR": 2048}
LAB_BATCHES = (64, 256, 1024)
LAB_BATCH = 256

_PROTOCOL = (
    "ImageNet top-1, %, of a linear classifier trained online, ResNet-50, 100 epochs, one seed; second-hand: the "
    "supplement could not be read. SimCLR is the tuned one"
)
PUBLISHED_WIDE = Published(
    source="[Garrido23] Table S5, projector 8192-8192-d",
    protocol=_PROTOCOL,
    values={
        (method, f"d = {d}"): (value, None)
        for method, row in {
            "VICReg": (65.01, 66.72, 68.06, 68.07, 68.13),
            "VICReg-exp": (65.24, 66.71, 67.86, 68.00, 67.93),
            "VICReg-ctr": (67.72, 67.86, 67.84, 67.92, 67.73),
            "SimCLR": (68.45, 68.61, 68.49, 68.48, 68.68),
        }.items()
        for d, value in zip(DIMENSIONS["paper"], row, strict=True)
    },
)
PUBLISHED_EQUAL = Published(
    source="[Garrido23] Table S5, projector d-d-d",
    protocol=_PROTOCOL,
    values={
        (method, f"d = {d}"): (value, None)
        for method, row in {
            "VICReg": (61.36, 63.50, 65.35, 66.74, 68.13),
            "SimCLR": (63.42, 65.35, 66.36, 67.62, 68.68),
        }.items()
        for d, value in zip(DIMENSIONS["paper"], row, strict=True)
    },
)


def cells(scale: Scale) -> list[Cell]:
    """Return methods by embedding behind two projectors; at lab scale two methods by batch too.

    A d-d-d projector as wide as the wide one is the same, and is not run twice.
    """
    methods = list(METHODS) if scale == "lab" else list(PAPER_BATCH)
    *narrow, widest = DIMENSIONS[scale]
    found = [_cell(scale, method, WIDE, d) for method in methods for d in DIMENSIONS[scale]]
    found += [_cell(scale, method, EQUAL, d) for method in PAPER_BATCH for d in narrow]
    if scale == "lab":
        others = [batch for batch in LAB_BATCHES if batch != LAB_BATCH]
        found += [_cell(scale, method, WIDE, widest, batch) for method in PAPER_BATCH for batch in others]
    return found


def _cell(scale: Scale, method: str, projector: str, d: int, batch: int | None = None) -> Cell:
    config = _lab(method, d, batch or LAB_BATCH) if scale == "lab" else _paper(method)
    hidden = DIMENSIONS[scale][-1] if projector == WIDE else d
    config = replace(config, heads=HeadsConfig(projector_hidden=hidden, projector_out=d, projector_layers=3))
    factors = {"method": method, "projector": projector, "dimensions": f"d = {d}", "batch": _images(config.batch_size)}
    return Cell(factors, config, PROBES[scale])


def _images(batch: int) -> str:
    return f"{batch} images"


def _lab(method: str, d: int, batch: int) -> TrainConfig:
    """Return a method's recipe; another batch sees as many images, at a rate in proportion."""
    config = preset(LAB[METHODS[method]])
    steps = config.steps * config.batch_size // batch
    if method == "VICReg-exp":  # its weight is in proportion to d: see vicreg-exp-lab.yaml
        own = config.heads.projector_out, config.loss.covariance
        assert own[0] is not None
        assert own[1] is not None
        config = replace(config, loss=replace(config.loss, covariance=own[1] * d / own[0]))
    monitor = replace(config.monitor, log_every=steps // 30, measure_every=steps // 3, images=10_000)
    return replace(
        config, steps=steps, batch_size=batch, monitor=monitor, checkpoint_every=steps // 3, keep_checkpoints=1
    )


def _paper(method: str) -> TrainConfig:
    config = published(f"{METHODS[method]}-resnet50-imagenet")
    batch = PAPER_BATCH[method]
    if config.batch_size == batch:
        return config
    epoch, own = 1_281_167 // batch, config.steps // 100
    return replace(
        config,
        batch_size=batch,
        steps=100 * epoch,
        optim=replace(config.optim, warmup_steps=config.optim.warmup_steps // own * epoch),
        monitor=replace(config.monitor, measure_every=epoch),
        checkpoint_every=epoch,
    )


_SETTINGS: dict[Scale, str] = {
    "lab": "The wide projector is 512-512-d here, and batches see the same images as often, at rates in proportion.",
    "paper": "SimCLR has the settings that [Garrido23] print; VICReg those of its own code for 100 epochs, at a batch "
    "of 1,024, which is second-hand, for [Garrido23] print theirs in a supplement that could not be read. The weights "
    "of VICReg-exp and VICReg-ctr stand there too, so these two are run at lab scale only.",
}


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return Table S5 and the sweep of batches."""
    own_batch = [_images(batch) for batch in ((LAB_BATCH,) if scale == "lab" else PAPER_BATCH.values())]
    usual = where(results, batch=own_batch)
    wide, equal = where(usual, projector=WIDE), where(usual, projector=EQUAL)
    said: list[Part] = [
        Words(f"{_SETTINGS[scale]} A projector d-d-d as wide as the wide one is the same as that."),
    ]
    for name in (ACCURACY[scale], "knn", "auc"):
        first = name == ACCURACY[scale] and scale == "paper"
        beside = PUBLISHED_WIDE if first else None, PUBLISHED_EQUAL if first else None
        said += [
            pivot(wide, name, rows="method", columns="dimensions", published=beside[0]),
            pivot(equal, name, rows="method", columns="dimensions", published=beside[1]),
        ]
    said.append(
        against_number(
            usual,
            ACCURACY[scale],
            of=lambda cell: float(cell.factors["dimensions"].removeprefix("d = ")),
            label="width d of the embedding",
            logarithmic=True,
            colour="method",
            panel="projector",
        )
    )
    if scale == "lab":
        batches = where(results, method=list(PAPER_BATCH), projector=WIDE, dimensions=f"d = {DIMENSIONS[scale][-1]}")
        said += [pivot(batches, name, rows="method", columns="batch") for name in (ACCURACY[scale], "knn")]
    return said


STUDY = Study(
    name="duality-dims",
    title="Embedding width, projector and batch",
    source="[Garrido23] section 5, Table S5",
    question="Do methods that decorrelate dimensions need wide embeddings, and contrastive ones large batches?",
    cells=cells,
    parts=parts,
)
