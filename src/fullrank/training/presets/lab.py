"""Recipes for laptops: small encoders on small images, minutes to train on one core. They are ours, not the papers'."""

from __future__ import annotations

from fullrank.config import (
    BackboneConfig,
    HeadsConfig,
    LossConfig,
    MachineConfig,
    MonitorConfig,
    OptimConfig,
    TargetConfig,
    TrainConfig,
)

# ResNet-18 of width 16: 0.7 M parameters, D = 128
_ENCODER = BackboneConfig(name="resnet18", width=0.25, stem="cifar-stride2")
_SIMSIAM = HeadsConfig(projector_hidden=128, projector_out=512, projector_layers=3, predictor_hidden=128)
_AVERAGING = HeadsConfig(projector_hidden=1024, projector_out=256, projector_layers=2, predictor_hidden=1024)
_JOINT = HeadsConfig(projector_hidden=512, projector_out=512, projector_layers=3)


def _recipe(
    method: str,
    base_lr: float,
    heads: HeadsConfig = _JOINT,
    *,
    target: TargetConfig | None = None,
    warmup_steps: int = 0,
    **coefficients: float,
) -> TrainConfig:
    """What all have in common: 1,500 steps of 256 images of CIFAR-10, SGD with a cosine, decay 5e-4."""
    return TrainConfig(
        method=method,  # type: ignore[arg-type]
        images="cifar10",
        image_size=32,
        views="cifar",
        steps=1500,
        batch_size=256,
        backbone=_ENCODER,
        heads=heads,
        loss=LossConfig(**coefficients),  # type: ignore[arg-type]
        target=target or TargetConfig(),
        optim=OptimConfig(base_lr=base_lr, weight_decay=5e-4, warmup_steps=warmup_steps),
        monitor=MonitorConfig(log_every=50, measure_every=500, images=12_000),
    )


METHODS_LAB: dict[str, TrainConfig] = {
    # `simsiam-lab` has another recipe: the one that collapses
    "simsiam-lab-short": _recipe("simsiam", 0.3, _SIMSIAM),
    "nnsiam-lab": _recipe("nnsiam", 0.3, _SIMSIAM, target=TargetConfig(queue=2560)),
    "byol-lab": _recipe("byol", 0.3, _AVERAGING, target=TargetConfig(momentum=0.99)),
    "mocov3-lab": _recipe("mocov3", 0.3, _AVERAGING, target=TargetConfig(momentum=0.99), temperature=0.2),
    "simclr-lab": _recipe("simclr", 0.3, temperature=0.2),
    "simclr-sq-lab": _recipe("simclr-sq", 0.3, temperature=0.2),
    "simclr-abs-lab": _recipe("simclr-abs", 0.3, temperature=0.2),
    "dcl-lab": _recipe("dcl", 0.3, temperature=0.2),
    "dcl-sq-lab": _recipe("dcl-sq", 0.3, temperature=0.2),
    "dcl-abs-lab": _recipe("dcl-abs", 0.3, temperature=0.2),
    # mu = 1, the paper's, is too weak a repulsion in so few steps. As below, after 300 steps: 29.8 % (AUC .809); at a
    # rate of 1 with warm-up 30.5 % (.858); mu = 10 with warm-up 40.0 % (.788); mu = 30 at a rate of 0.1 28.1 % (.814).
    "spectral-lab": _recipe("spectral", 0.3, warmup_steps=50, mu=10.0),
    "vicreg-lab": _recipe("vicreg", 0.1),
    # [Garrido23] do not print the weights of these two, and VICReg's do not carry over. Ours follow from VICReg's and
    # SimCLR's. -exp: log sum_k exp(C_jk / tau) is log M + mean C / tau + mean C^2 / (2 tau^2) + ..., so it punishes
    # squares as VICReg's covariance term does if its weight is 2 tau^2 M: 10 at tau = 0.1, M = 512. -ctr: at squared
    # norms of M, its invariance term is a * |u1 - u2|^2 for weight a, SimCLR's is |u1 - u2|^2 / (2 tau), and it adds up
    # the repulsion of two views where SimCLR has the mean: in proportion at a weight of tau * a, 2.5 at tau = 0.1.
    # Tried on CIFAR-10: 300 steps, one seed, k-NN of 5,000 images, 21.4 % at random weights. -exp, tau = 0.1, weight 1,
    # 10, 30: 32.5 %, 35.3 %, NaN (AUC .844, .807); tau = 0.05, weight 2.5: 35.1 % (.802). -ctr, tau = 0.1, weight 1,
    # 2.5, 5: 33.7, 36.2, 36.7 % (.827, .803, .801); tau = 0.2, weight 5: 35.9 % (.807). VICReg itself: 35.8 % (.800).
    # After 600 steps: -exp 39.2 % (.790), -ctr 39.3 % (.797). A rate of 0.3 without warm-up gives NaN for all three.
    "vicreg-exp-lab": _recipe("vicreg-exp", 0.1, temperature=0.1, covariance=10.0),
    "vicreg-ctr-lab": _recipe("vicreg-ctr", 0.1, temperature=0.1, covariance=2.5),
    # The loss sums M^2 terms, so rates are low. As above, with warm-up: 0.003 34.2 % (AUC .829), 0.01 33.4 % (.850);
    # 0.02 with lambda 0.02 28.7 % (.878); without warm-up 0.03 31.7 % (.890), 0.1 30.5 % (.915).
    "barlow-lab": _recipe("barlow", 0.003, warmup_steps=50),
    # As above: 35.4 % (AUC .845); 0.05 with warm-up 33.3 % (.754), 0.03 33.6 % (.722); an invariance of 100 20.9 %.
    "tcr-lab": _recipe("tcr", 0.1),
    # the teacher is to be named: --target.teacher RUN
    "distill-lab": _recipe("distill", 0.3, HeadsConfig()),
}

LAB: dict[str, str] = {config.method: name for name, config in METHODS_LAB.items()}
"""The recipe of each method, by the method's name: `benchmarks/methods.py` compares them."""

SMALL: dict[str, TrainConfig] = {
    # What `fullrank demo` trains, with two orders: scikit-learn's digits, well under a minute a run on one core. Digits
    # are told apart by their whole shape, so crops are larger than usual; the decay is that of `simsiam-lab`. Without
    # AVX-512 a second thread makes a step 1.4 times faster; more gain nothing on so small a network.
    "simsiam-digits": TrainConfig(
        crop_min=0.5,
        steps=800,
        backbone=BackboneConfig(depths=(1, 1, 1, 1)),
        machine=MachineConfig(threads=2),
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
        backbone=_ENCODER,
        heads=_SIMSIAM,
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
    **METHODS_LAB,
}
