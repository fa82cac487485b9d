"""Do methods that decorrelate dimensions need wide embeddings, and contrastive ones large batches?"""

from collections.abc import Sequence
from dataclasses import replace

from fullrank.config import HeadsConfig, TrainConfig
from fullrank.documents import Part, Words
from fullrank.studies.bases import published
from fullrank.studies.study import ACCURACY, Cell, Published, Results, Scale, Study
from fullrank.studies.views import against_number, pivot
from fullrank.training.presets import LAB, preset

METHODS = {"VICReg": "vicreg", "VICReg-exp": "vicreg_exp", "VICReg-ctr": "vicreg_ctr", "SimCLR": "simclr"}
DIMENSIONS: dict[Scale, tuple[int, ...]] = {"lab": (32, 128, 512), "paper": (256, 512, 1024, 2048, 8192)}
"""Widths d of the embedding; the last is the hidden width of the wide projector too."""
WIDE, EQUAL = "wide", "d-d-d"
PAPER_BATCH = {"VICReg": 1024, "SimCLR": 2048}
LAB_BATCHES = (64, 256, 1024)
LAB_BATCH = 256

PUBLISHED_WIDE = Published(
    source="[Garrido23] Table S5, projector 8192-8192-d",
    protocol="ImageNet top-1, %, of a linear classifier trained online, ResNet-50, 100 epochs, one seed; second-hand: "
    "the supplement could not be read. SimCLR is the tuned one",
    columns=[f"d = {d}" for d in DIMENSIONS["paper"]],
    rows={
        "VICReg": ("65.01", "66.72", "68.06", "68.07", "68.13"),
        "VICReg-exp": ("65.24", "66.71", "67.86", "68.00", "67.93"),
        "VICReg-ctr": ("67.72", "67.86", "67.84", "67.92", "67.73"),
        "SimCLR": ("68.45", "68.61", "68.49", "68.48", "68.68"),
    },
)
PUBLISHED_EQUAL = replace(
    PUBLISHED_WIDE,
    source="[Garrido23] Table S5, projector d-d-d",
    rows={
        "VICReg": ("61.36", "63.50", "65.35", "66.74", "68.13"),
        "SimCLR": ("63.42", "65.35", "66.36", "67.62", "68.68"),
    },
)


def _cells(scale: Scale) -> list[Cell]:
    """Return methods by embedding behind two projectors; at lab scale two methods by batch too.

    A d-d-d projector as wide as the wide one is the same, and is not run twice.
    """
    *narrow, widest = DIMENSIONS[scale]
    methods = METHODS if scale == "lab" else PAPER_BATCH
    others = [batch for batch in LAB_BATCHES if batch != LAB_BATCH and scale == "lab"]
    return [
        *(_cell(scale, method, WIDE, d) for method in methods for d in DIMENSIONS[scale]),
        *(_cell(scale, method, EQUAL, d) for method in PAPER_BATCH for d in narrow),
        *(_cell(scale, method, WIDE, widest, batch) for method in PAPER_BATCH for batch in others),
    ]


def _cell(scale: Scale, method: str, projector: str, d: int, batch: int = LAB_BATCH) -> Cell:
    config = _lab(method, d, batch) if scale == "lab" else _paper(method)
    hidden = DIMENSIONS[scale][-1] if projector == WIDE else d
    config = replace(config, heads=HeadsConfig(projector_hidden=hidden, projector_out=d, projector_layers=3))
    factors = {"method": method, "projector": projector, "dimensions": f"d = {d}", "batch": _images(config.batch_size)}
    return Cell(factors, config)


def _images(batch: int) -> str:
    return f"{batch} images"


def _lab(method: str, d: int, batch: int) -> TrainConfig:
    """Return a method's recipe; another batch sees as many images, at a rate in proportion."""
    config = preset(LAB[METHODS[method]])
    steps = config.steps * config.batch_size // batch
    if method == "VICReg-exp":  # its weight is in proportion to d: see vicreg-exp-lab.yaml
        own, weight = config.heads.projector_out, config.loss.covariance
        assert own is not None
        assert weight is not None
        config = replace(config, loss=replace(config.loss, covariance=weight * d / own))
    monitor = replace(config.monitor, log_every=steps // 30, measure_every=steps // 3, num_images=10_000)
    config = replace(config, steps=steps, batch_size=batch, monitor=monitor)
    return replace(config, checkpoint_every=steps // 3, keep_checkpoints=1)


def _paper(method: str) -> TrainConfig:
    config, batch = published(f"{METHODS[method]}-resnet50-imagenet"), PAPER_BATCH[method]
    if config.batch_size == batch:
        return config
    epoch, own = 1_281_167 // batch, config.steps // 100
    optim = replace(config.optim, warmup_steps=config.optim.warmup_steps // own * epoch)
    monitor = replace(config.monitor, measure_every=epoch)
    config = replace(config, batch_size=batch, steps=100 * epoch, optim=optim, monitor=monitor)
    return replace(config, checkpoint_every=epoch)


_SETTINGS: dict[Scale, str] = {
    "lab": "The wide projector is 512-512-d here, and batches see the same images as often, at rates in proportion.",
    "paper": "SimCLR has the settings that [Garrido23] print; VICReg those of its own code for 100 epochs, at a batch "
    "of 1,024, which is second-hand, for [Garrido23] print theirs in a supplement that could not be read. The weights "
    "of VICReg-exp and VICReg-ctr stand there too, so these two are run at lab scale only.",
}


def _parts(results: Results, scale: Scale) -> Sequence[Part]:
    own_batches = [LAB_BATCH] if scale == "lab" else list(PAPER_BATCH.values())
    usual = results.where(batch=[_images(batch) for batch in own_batches])
    grids = [(usual.where(projector=WIDE), PUBLISHED_WIDE), (usual.where(projector=EQUAL), PUBLISHED_EQUAL)]
    accuracy, widest = ACCURACY[scale], f"d = {DIMENSIONS[scale][-1]}"
    batches = results.where(method=list(PAPER_BATCH), projector=WIDE, dimensions=widest)
    return [
        Words(f"{_SETTINGS[scale]} A projector d-d-d as wide as the wide one is the same as that."),
        *(
            pivot(grid, name, rows="method", columns="dimensions", published=beside if name == "linear" else None)
            for name in (accuracy, "knn", "auc")
            for grid, beside in grids
        ),
        against_number(usual, accuracy, "dimensions", "width d of the embedding", color="method", panel="projector"),
        *(pivot(batches, n, rows="method", columns="batch") for n in (accuracy, "knn") if scale == "lab"),
    ]


STUDY = Study(
    name="duality-dims",
    title="Embedding width, projector and batch",
    source="[Garrido23] section 5, Table S5",
    question="Do methods that decorrelate dimensions need wide embeddings, and contrastive ones large batches?",
    cells=_cells,
    parts=_parts,
)
