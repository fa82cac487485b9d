"""Do vision transformers collapse under SimSiam, and does a constant rate of the predictor help them?"""

from dataclasses import replace

from fullrank.config import BackboneConfig, OptimConfig, TrainConfig
from fullrank.documents import Words
from fullrank.studies.bases import published, short
from fullrank.studies.study import ACCURACY, Cell, Scale, Study
from fullrank.studies.views import pivot, spectra, through_training

BLOCKS: dict[Scale, tuple[int, ...]] = {"lab": (6, 3), "paper": (12, 6, 3)}
RATES = {"constant rate": True, "decayed rate": False}


def _config(scale: Scale, blocks: int, constant: bool) -> TrainConfig:
    if scale == "paper":
        config = published(f"simsiam-vit-small{'' if blocks == 12 else f'-depth{blocks}'}-imagenet")
    else:
        base = short("lab")
        config = replace(
            base,
            # timm's smallest: 64 wide, 2 heads, 0.26 M parameters with 6 blocks; patches of 4 x 4 make 64 tokens
            backbone=BackboneConfig("test_vit", blocks=blocks, patch=4, positions="sincos", frozen_patches=True),
            heads=replace(base.heads, projector_hidden=64),
            # the paper's decay and a tenth of the steps for warm-up; the rate is ours
            optim=OptimConfig(optimizer="adamw", base_lr=2e-3, weight_decay=0.1, warmup_steps=base.steps // 10),
        )
    return replace(config, optim=replace(config.optim, constant_predictor_lr=constant))


_SETTINGS: dict[Scale, str] = {
    "lab": "At lab scale the encoders are timm's smallest vision transformer, 64 wide, with patches of 4 x 4 pixels; "
    "its learning rate was not searched for.",
    "paper": "The settings are those of [Li22]'s code: ViT-S with MoCo-v3's fixed positions and frozen projection of "
    "patches, AdamW, 10 epochs of warm-up.",
}

STUDY = Study(
    name="vit",
    title="Vision transformers",
    source="[Li22] appendix A.4",
    question="Do vision transformers learn under SimSiam once the predictor's rate is constant?",
    cells=lambda scale: [
        Cell({"blocks": str(blocks), "predictor": rate}, _config(scale, blocks, constant))
        for blocks in BLOCKS[scale]
        for rate, constant in RATES.items()
    ],
    parts=lambda results, scale: [
        Words(
            f"{_SETTINGS[scale]} [Li22] report a linear probe of about 6 to 10 % on ImageNet for ViT-S and shallower "
            "ones (appendix A.4). Their code puts all parameters into one group of AdamW, so its switch for a constant "
            "rate of the predictor did nothing: those runs had a decayed one."
        ),
        *(pivot(results, name, rows="blocks", columns="predictor") for name in (ACCURACY[scale], "knn", "auc")),
        *(through_training(results, name, color="predictor", panel="blocks") for name in ("knn", "auc")),
        spectra(results, color="predictor", panel="blocks"),
    ],
)
