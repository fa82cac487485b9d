"""Named configurations. Those named after a data set hold published settings, which a test compares with the papers."""

from __future__ import annotations

from dataclasses import replace

from fullrank.errors import FullrankError, nearest
from fullrank.training.config import BackboneConfig, HeadsConfig, MachineConfig, MonitorConfig, OptimConfig, TrainConfig

_IMAGENET_EPOCH = 1_281_167 // 256  # 5,004 steps


def _li22_imagenet(name: str, width: int) -> TrainConfig:
    """[Li22] section 5 and their README: 100 epochs of ImageNet, batch 256, cosine by epochs, decay on everything."""
    return TrainConfig(
        images="imagenet/train",
        eval_images="imagenet/val",
        image_size=224,
        chunks=100,
        switch=0.4,
        views="simsiam",
        steps=100 * _IMAGENET_EPOCH,  # 500,400
        batch_size=256,
        checkpoint_every=_IMAGENET_EPOCH,
        backbone=BackboneConfig(name=name, width=1.0, stem="imagenet"),
        heads=HeadsConfig(projector_hidden=width, projector_out=2048, projector_layers=3, predictor_hidden=512),
        optim=OptimConfig(base_lr=0.05, momentum=0.9, weight_decay=1e-4, cosine_every=_IMAGENET_EPOCH),
        monitor=MonitorConfig(log_every=100, measure_every=_IMAGENET_EPOCH, images=10_000),
    )


PRESETS: dict[str, TrainConfig] = {
    # What `fullrank demo` trains, with two orders: scikit-learn's digits, well under a minute a run on one core. Digits
    # are told apart by their whole shape, so crops are larger than usual; the decay is that of `simsiam-lab`. A second
    # thread gains little on so small a network, and loses much where another process wants the core.
    "simsiam-digits": TrainConfig(
        crop_min=0.5,
        steps=800,
        backbone=BackboneConfig(depths=(1, 1, 1, 1)),
        machine=MachineConfig(threads=1),
        optim=OptimConfig(weight_decay=2e-3),
        monitor=MonitorConfig(measure_every=100),
    ),
    # ResNet-18 of width 16, CIFAR-10, in the regime of weight decay where the representation collapses partially.
    "simsiam-lab": TrainConfig(
        images="cifar10",
        image_size=32,
        chunks=50,
        switch=0.4,
        views="cifar",
        steps=6000,
        batch_size=64,
        checkpoint_every=1000,
        backbone=BackboneConfig(name="resnet18", width=0.25, stem="cifar-stride2"),
        heads=HeadsConfig(projector_hidden=128, projector_out=512, projector_layers=3, predictor_hidden=128),
        optim=OptimConfig(base_lr=0.3, weight_decay=2e-3),
        monitor=MonitorConfig(log_every=50, measure_every=500, images=12_000),
    ),
    # Chen & He 2021, appendix D: 800 epochs at batch 512, two-layer projector, no blur.
    "simsiam-resnet18-cifar10": TrainConfig(
        images="cifar10",
        image_size=32,
        chunks=50,
        views="cifar",
        steps=800 * (50_000 // 512),
        batch_size=512,
        checkpoint_every=970,
        backbone=BackboneConfig(name="resnet18", width=1.0, stem="cifar"),
        heads=HeadsConfig(projector_hidden=2048, projector_out=2048, projector_layers=2, predictor_hidden=512),
        optim=OptimConfig(base_lr=0.03, weight_decay=5e-4),
        monitor=MonitorConfig(log_every=97, measure_every=970),
    ),
    "simsiam-resnet18-imagenet": _li22_imagenet("resnet18", 512),
    "simsiam-resnet34-imagenet": _li22_imagenet("resnet34", 512),
    "simsiam-resnet50-imagenet": _li22_imagenet("resnet50", 2048),
}
PRESETS["simsiam-resnet18-places365"] = replace(
    # [Li22] section 5.3: the switch at 60 gives as many multiple-pass steps as on ImageNet
    PRESETS["simsiam-resnet18-imagenet"],
    images="places365",
    eval_images=None,
    switch=0.6,
    steps=100 * (1_803_460 // 256),
    optim=replace(PRESETS["simsiam-resnet18-imagenet"].optim, cosine_every=1_803_460 // 256),
    checkpoint_every=1_803_460 // 256,
    monitor=replace(PRESETS["simsiam-resnet18-imagenet"].monitor, measure_every=1_803_460 // 256),
)


def preset(name: str) -> TrainConfig:
    """Return a named configuration.

    Raises:
        FullrankError: There is none of this name.
    """
    if name not in PRESETS:
        raise FullrankError(f"unknown preset {name!r}{nearest(name, PRESETS)} (known: {', '.join(PRESETS)})")
    return PRESETS[name]
