"""Published settings on ImageNet, and Places365, each with its source; a test compares them with the papers.

VICReg-exp and VICReg-ctr, and the squared and absolute variants of SimCLR and DCL, have none here: [Garrido23] print
them in an appendix that could not be read, and their code is not public.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from fullrank.config import (
    BackboneConfig,
    HeadsConfig,
    LossConfig,
    MonitorConfig,
    OptimConfig,
    TargetConfig,
    TrainConfig,
)

_IMAGES = 1_281_167
_PLACES_EPOCH = 1_803_460 // 256


def _imagenet(
    method: str, name: str, *, epochs: int, batch_size: int, optim: OptimConfig, warmup_epochs: int = 0
) -> TrainConfig:
    """What all have in common: 224 x 224 pixels, whole batches, measured and saved once an epoch."""
    epoch = _IMAGES // batch_size
    return TrainConfig(
        method=method,  # type: ignore[arg-type]
        images="imagenet/train",
        eval_images="imagenet/val",
        image_size=224,
        chunks=100,
        switch=0.4,
        steps=epochs * epoch,
        batch_size=batch_size,
        checkpoint_every=epoch,
        backbone=BackboneConfig(name=name, stem="imagenet"),
        optim=replace(optim, warmup_steps=warmup_epochs * epoch),
        monitor=MonitorConfig(log_every=100, measure_every=epoch, images=10_000),
    )


def _li22(method: str, name: str, width: int, **changes: object) -> TrainConfig:
    """[Li22] section 5 and their README: 100 epochs, batch 256, cosine by epochs, decay on everything."""
    optim = OptimConfig(base_lr=0.05, momentum=0.9, weight_decay=1e-4, cosine_every=_IMAGES // 256)
    config = replace(_imagenet(method, name, epochs=100, batch_size=256, optim=optim), views="simsiam")
    heads = HeadsConfig(projector_hidden=width, projector_out=2048, projector_layers=3, predictor_hidden=512)
    return replace(config, **{"heads": heads, **changes})  # type: ignore[arg-type]


def _li22_vit(blocks: int, attention_heads: int) -> TrainConfig:
    """[Li22] appendix A.4 and their code: MoCo-v3's ViT-S under SimSiam. The predictor's rate is constant here.

    Their code builds AdamW on one group of all parameters, so that its switch for a constant predictor rate does
    nothing: what they report was trained with a decaying one (`--optim.no-constant-predictor-lr`).
    """
    config = _li22("simsiam", "vit_small_patch16_224", 384)
    shape = BackboneConfig(
        name="vit_small_patch16_224",
        blocks=blocks,
        attention_heads=attention_heads,
        positions="sincos",
        frozen_patches=True,
    )
    optim = OptimConfig(
        optimizer="adamw",
        base_lr=1.5e-4,
        weight_decay=0.1,
        warmup_steps=10 * (_IMAGES // 256),
        cosine_every=_IMAGES // 256,
    )
    return replace(config, backbone=shape, optim=optim)


def _averaging(
    method: str,
    name: str,
    *,
    epochs: int,
    crop_min: float,
    momentum: float,
    optim: OptimConfig,
    views: Literal["byol", "mocov3"] = "mocov3",
    constant_momentum: bool | None = None,
) -> TrainConfig:
    """BYOL and MoCo-v3: batch 4096, LARS, 10 epochs of warm-up, two unlike views, 4096 inside heads and 256 out.

    [Li22]'s code has MoCo-v3's views for both methods.
    """
    config = _imagenet(method, name, epochs=epochs, batch_size=4096, optim=optim, warmup_epochs=10)
    heads = HeadsConfig(projector_hidden=4096, projector_out=256, projector_layers=2, predictor_hidden=4096)
    target = TargetConfig(momentum=momentum, constant_momentum=constant_momentum)
    return replace(config, views=views, crop_min=crop_min, heads=heads, target=target)


_MOCOV3_LARS = OptimConfig(optimizer="lars", base_lr=0.6, weight_decay=1e-6)
_WIDE = HeadsConfig(projector_hidden=8192, projector_out=8192, projector_layers=3)


def _joint(
    method: str, *, epochs: int, batch_size: int, heads: HeadsConfig, optim: OptimConfig, **changes: object
) -> TrainConfig:
    """Joint embeddings: ResNet-50, LARS, 10 epochs of warm-up, BYOL's two views."""
    config = _imagenet(method, "resnet50", epochs=epochs, batch_size=batch_size, optim=optim, warmup_epochs=10)
    return replace(config, **{"views": "byol", "heads": heads, **changes})  # type: ignore[arg-type]


IMAGENET: dict[str, TrainConfig] = {
    "simsiam-resnet18-imagenet": _li22("simsiam", "resnet18", 512),
    "simsiam-resnet34-imagenet": _li22("simsiam", "resnet34", 512),
    "simsiam-resnet50-imagenet": _li22("simsiam", "resnet50", 2048),
    "simsiam-vit-small-imagenet": _li22_vit(12, 12),
    "simsiam-vit-small-depth6-imagenet": _li22_vit(6, 6),
    "simsiam-vit-small-depth3-imagenet": _li22_vit(3, 6),
    # [Li22] section 5.1 (34.4 %): a queue of 25,600; ours compares by cosine, see `NNSiam`
    "nnsiam-resnet18-imagenet": _li22("nnsiam", "resnet18", 512, target=TargetConfig(queue=25_600)),
    # [Li22] appendix A.3: SGD as SimSiam. The teacher is to be named: --target.teacher RUN
    "distill-resnet18-imagenet": _li22(
        "distill", "resnet18", 512, heads=HeadsConfig(), target=TargetConfig(statistics_rate=0.05)
    ),
    # Grill et al. 2020, section 3.3: 1,000 epochs, base rate 0.2, decay 1.5e-6, momentum from 0.996
    "byol-resnet50-imagenet": _averaging(
        "byol",
        "resnet50",
        epochs=1000,
        crop_min=0.08,
        momentum=0.996,
        optim=OptimConfig(optimizer="lars", base_lr=0.2, weight_decay=1.5e-6),
        views="byol",
    ),
    # MoCo-v3's code, ResNet-50 in 100 epochs (68.9 %)
    "mocov3-resnet50-imagenet": replace(
        _averaging("mocov3", "resnet50", epochs=100, crop_min=0.2, momentum=0.99, optim=_MOCOV3_LARS),
        loss=LossConfig(temperature=1.0),
    ),
    # [Li22] section 5.2: the defaults of their code, for the commands of the paper are not published. The batch is
    # that of MoCo-v3's code.
    "byol-resnet18-imagenet": _averaging(
        "byol", "resnet18", epochs=100, crop_min=0.08, momentum=0.99, optim=_MOCOV3_LARS, constant_momentum=True
    ),
    "mocov3-resnet18-imagenet": replace(
        _averaging(
            "mocov3", "resnet18", epochs=100, crop_min=0.08, momentum=0.99, optim=_MOCOV3_LARS, constant_momentum=True
        ),
        loss=LossConfig(temperature=1.0),
    ),
    # [Garrido23] section 5: SimCLR tuned to 68.6 %: temperature 0.15, base rate 0.5, VICReg's projector 8192-8192-512.
    # Batch 2048 and 100 epochs are theirs too; decay, warm-up and views are VICReg's, for theirs could not be read.
    "simclr-resnet50-imagenet": _joint(
        "simclr",
        epochs=100,
        batch_size=2048,
        heads=HeadsConfig(projector_hidden=8192, projector_out=512, projector_layers=3),
        optim=OptimConfig(optimizer="lars", base_lr=0.5, weight_decay=1e-6, final_lr=0.001),
        loss=LossConfig(temperature=0.15),
    ),
    # VICReg's code, 100 epochs on one machine of eight GPUs: base rate 0.3 at batch 512
    "vicreg-resnet50-imagenet": _joint(
        "vicreg",
        epochs=100,
        batch_size=512,
        heads=_WIDE,
        optim=OptimConfig(optimizer="lars", base_lr=0.3, weight_decay=1e-6, final_lr=0.001),
        loss=LossConfig(invariance=25.0, variance=25.0, covariance=1.0),
    ),
    # Barlow Twins' code: 1,000 epochs at batch 2048, another rate for biases and norms
    "barlow-resnet50-imagenet": _joint(
        "barlow",
        epochs=1000,
        batch_size=2048,
        heads=_WIDE,
        optim=OptimConfig(optimizer="lars", base_lr=0.2, bias_lr=0.0048, weight_decay=1e-6, final_lr=0.001),
        loss=LossConfig(lambd=0.0051),
    ),
}
IMAGENET["simsiam-resnet18-places365"] = replace(
    # [Li22] section 5.3: the switch at 60 gives as many multiple-pass steps as on ImageNet
    IMAGENET["simsiam-resnet18-imagenet"],
    images="places365",
    eval_images=None,
    switch=0.6,
    steps=100 * _PLACES_EPOCH,
    optim=replace(IMAGENET["simsiam-resnet18-imagenet"].optim, cosine_every=_PLACES_EPOCH),
    checkpoint_every=_PLACES_EPOCH,
    monitor=replace(IMAGENET["simsiam-resnet18-imagenet"].monitor, measure_every=_PLACES_EPOCH),
)
