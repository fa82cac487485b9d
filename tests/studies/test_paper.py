"""The paper's scale against the papers: every setting of every study, written out here a second time.

Sources: [Li22] (arXiv 2209.15007) section 5, appendices A.3 to A.5 and their code; MoCo-v3's code; [Garrido23] (arXiv
2206.02574) section 5; VICReg's code.
"""

import pytest

from fullrank.config import to_dict
from fullrank.studies.registry import STUDIES
from fullrank.studies.store import planned
from fullrank.studies.study import PROBES
from fullrank.text import flatten

# 1,281,167 images at batch 256 are 5,004 whole batches an epoch, 500,400 in 100 epochs.
SIMSIAM = {
    "images": "imagenet/train",
    "eval_images": "imagenet/val",
    "subset": 1.0,
    "image_size": 224,
    "method": "simsiam",
    "order": "multiple-pass",
    "chunks": 100,
    "switch": 0.4,
    "rounds": 1,
    "reset_momentum": False,
    "reset_statistics": False,
    "views": "simsiam",
    "crop_min": None,
    "steps": 500_400,
    "batch_size": 256,
    "backbone.name": "resnet18",
    "backbone.block": None,
    "backbone.depths": None,
    "backbone.width": 1.0,
    "backbone.inner_width": None,
    "backbone.stem": "imagenet",
    "backbone.blocks": None,
    "backbone.attention_heads": None,
    "backbone.patch": None,
    "backbone.positions": "learned",
    "backbone.frozen_patches": False,
    "heads.projector_hidden": 512,
    "heads.projector_out": 2048,
    "heads.projector_layers": 3,
    "heads.predictor_hidden": 512,
    "heads.normalize": None,
    "loss.temperature": None,
    "loss.invariance": None,
    "loss.variance": None,
    "loss.covariance": None,
    "loss.lambd": None,
    "loss.mu": None,
    "loss.eps": None,
    "loss.toward": None,
    "loss.center": None,
    "target.momentum": None,
    "target.constant_momentum": None,
    "target.queue": None,
    "target.teacher": None,
    "target.statistics_rate": None,
    "optim.optimizer": "sgd",
    "optim.base_lr": 0.05,
    "optim.momentum": 0.9,
    "optim.weight_decay": 1e-4,
    "optim.decay_all": True,
    "optim.decay_heads": "all",
    "optim.warmup_steps": 0,
    "optim.cosine_every": 5004,
    "optim.final_lr": 0.0,
    "optim.bias_lr": None,
    "optim.constant_predictor_lr": True,
    "monitor.knn_k": 20,
    "monitor.whole": True,
    "order_options": {},
}
NOT_PUBLISHED = (
    *(
        "data_dir",
        "strict",
        "cache",
        "cache_side",
        "reduced_jpeg",
        "seed",
        "checkpoint_every",
        "keep_checkpoints",
        "out",
    ),
    *("monitor.log_every", "monitor.measure_every", "monitor.num_images", "monitor.online_probe"),
    *("monitor.tensorboard", "monitor.wandb"),
)
"""How a run is made and watched, not what it trains."""

R34 = {"backbone.name": "resnet34"}
R50 = {"backbone.name": "resnet50", "heads.projector_hidden": 2048}
SINGLE, HYBRID, CUMULATIVE = ({"order": order} for order in ("single-pass", "hybrid", "cumulative"))
# 4,096 images a batch: 312 steps an epoch
LARS = {
    "views": "byol",
    "steps": 31_200,
    "batch_size": 4096,
    "optim.optimizer": "lars",
    "optim.base_lr": 0.6,
    "optim.weight_decay": 1e-6,
    "optim.warmup_steps": 3120,
    "optim.cosine_every": 1,
}
BYOL = {
    **LARS,
    "views": "mocov3",  # [Li22]'s code crops with torchvision's own interpolation
    "method": "byol",
    "crop_min": 0.08,
    "heads.projector_hidden": 4096,
    "heads.projector_out": 256,
    "heads.projector_layers": 2,
    "heads.predictor_hidden": 4096,
    "target.momentum": 0.99,
    "target.constant_momentum": True,
}
MOCOV3 = {**BYOL, "method": "mocov3", "loss.temperature": 1.0}
# 2,048 images a batch: 625 steps an epoch
SIMCLR = {
    **LARS,
    "method": "simclr",
    "steps": 62_500,
    "batch_size": 2048,
    "heads.projector_hidden": 8192,
    "heads.projector_out": 512,
    "heads.predictor_hidden": None,
    "loss.temperature": 0.15,
    "optim.base_lr": 0.5,
    "optim.warmup_steps": 6250,
    "optim.final_lr": 0.001,
}
# 1,024 images a batch: 1,251 steps an epoch
VICREG = {
    **LARS,
    "method": "vicreg",
    "steps": 125_100,
    "batch_size": 1024,
    "heads.projector_hidden": 8192,
    "heads.projector_out": 8192,
    "heads.predictor_hidden": None,
    "loss.invariance": 25.0,
    "loss.variance": 25.0,
    "loss.covariance": 1.0,
    "optim.base_lr": 0.3,
    "optim.warmup_steps": 12_510,
    "optim.final_lr": 0.001,
}
# 1,803,460 images at batch 256: 7,044 steps an epoch
PLACES = {
    "images": "places365",
    "eval_images": None,
    "switch": 0.6,
    "steps": 704_400,
    "optim.cosine_every": 7044,
}
STUDENT = {
    "method": "distill",
    "heads.projector_hidden": None,
    "heads.projector_out": None,
    "heads.projector_layers": None,
    "heads.predictor_hidden": None,
    "target.statistics_rate": 0.05,
}
VIT = {
    "backbone.name": "vit_small_patch16_224",
    "backbone.stem": "auto",
    "backbone.positions": "sincos",
    "backbone.frozen_patches": True,
    "heads.projector_hidden": 384,
    "optim.optimizer": "adamw",
    "optim.base_lr": 1.5e-4,
    "optim.weight_decay": 0.1,
    "optim.warmup_steps": 50_040,
}
DECAYED = {"optim.constant_predictor_lr": False}


def shape(blocks, attention_heads):
    return {**VIT, "backbone.blocks": blocks, "backbone.attention_heads": attention_heads}


def rates(base_lr, weight_decay):
    return {"optim.base_lr": base_lr, "optim.weight_decay": weight_decay}


def heads(hidden, out):
    return {"heads.projector_hidden": hidden, "heads.projector_out": out}


ORDERS = {
    ("multiple-pass", "ResNet-18"): {},
    ("cumulative", "ResNet-18"): CUMULATIVE,
    ("single-pass", "ResNet-18"): SINGLE,
    ("hybrid", "ResNet-18"): HYBRID,
    ("multiple-pass", "ResNet-34"): R34,
    ("cumulative", "ResNet-34"): {**R34, **CUMULATIVE},
    ("single-pass", "ResNet-34"): {**R34, **SINGLE},
    ("hybrid", "ResNet-34"): {**R34, **HYBRID},
}
SUBSETS = {
    (images, encoder): {"subset": share, **differs}
    for encoder, differs in (("ResNet-18", {}), ("ResNet-34", R34))
    for images, share in (*(("1 %", 0.01), ("5 %", 0.05), ("10 %", 0.1), ("20 %", 0.2), ("50 %", 0.5), ("100 %", 1.0)),)
}

EXPECTED = {
    "orders": {
        **ORDERS,
        ("multiple-pass", "ResNet-50"): R50,
        ("cumulative", "ResNet-50"): {**R50, **CUMULATIVE},
        ("single-pass", "ResNet-50"): {**R50, **SINGLE},
        ("hybrid", "ResNet-50"): {**R50, **HYBRID},
    },
    "subsets": SUBSETS,
    "width-depth": {
        ("ResNet-18",): {},
        ("ResNet-34",): R34,
        ("ResNet-50",): R50,
        ("Bottleneck-26",): {**R50, "backbone.name": "bottleneck26"},
        ("Bottleneck-26 x2",): {**R50, "backbone.name": "bottleneck26x2"},
        ("Basic-50",): {"backbone.name": "basic50"},
    },
    "hybrid-switch": {
        ("0 %",): {},
        ("20 %",): {**HYBRID, "switch": 0.2},
        ("40 %",): HYBRID,
        ("60 %",): {**HYBRID, "switch": 0.6},
        ("80 %",): {**HYBRID, "switch": 0.8},
        ("100 %",): SINGLE,
    },
    "ema": {
        ("SimSiam", "multiple-pass"): {},
        ("SimSiam", "single-pass"): SINGLE,
        ("BYOL", "multiple-pass"): BYOL,
        ("BYOL", "single-pass"): {**BYOL, **SINGLE},
        ("MoCo-v3", "multiple-pass"): MOCOV3,
        ("MoCo-v3", "single-pass"): {**MOCOV3, **SINGLE},
        ("SimCLR", "multiple-pass"): SIMCLR,
        ("SimCLR", "single-pass"): {**SIMCLR, **SINGLE},
    },
    "places": {
        ("multiple-pass", "100 %"): PLACES,
        ("single-pass", "100 %"): {**PLACES, **SINGLE},
        ("hybrid", "100 %"): {**PLACES, **HYBRID},
        ("multiple-pass", "1 %"): {**PLACES, "subset": 0.01},
        ("multiple-pass", "5 %"): {**PLACES, "subset": 0.05},
        ("multiple-pass", "10 %"): {**PLACES, "subset": 0.1},
        ("multiple-pass", "50 %"): {**PLACES, "subset": 0.5},
    },
    "distill": {
        ("SimSiam", "ResNet-50, the teacher"): R50,
        ("SimSiam", "ResNet-18"): STUDENT,
        ("SimSiam", "ResNet-34"): {**STUDENT, **R34},
        ("MoCo-v3", "ResNet-50, the teacher"): {**MOCOV3, "backbone.name": "resnet50"},
        ("MoCo-v3", "ResNet-18"): STUDENT,
        ("MoCo-v3", "ResNet-34"): {**STUDENT, **R34},
    },
    "vit": {
        ("12", "constant rate"): shape(12, 12),
        ("12", "decayed rate"): {**shape(12, 12), **DECAYED},
        ("6", "constant rate"): shape(6, 6),
        ("6", "decayed rate"): {**shape(6, 6), **DECAYED},
        ("3", "constant rate"): shape(3, 6),
        ("3", "decayed rate"): {**shape(3, 6), **DECAYED},
    },
    "nnsiam": {("SimSiam",): {}, ("NNSiam",): {"method": "nnsiam", "target.queue": 25_600}},
    # 10 epochs, risen by epochs
    "warmup": {
        ("none", "ResNet-18"): {},
        ("10 % of the steps", "ResNet-18"): {"optim.warmup_steps": 50_040},
        ("none", "ResNet-34"): R34,
        ("10 % of the steps", "ResNet-34"): {**R34, "optim.warmup_steps": 50_040},
    },
    "duality-dims": {
        (method, projector, f"d = {d}", f"{batch} images"): {
            **settings,
            "backbone.name": "resnet50",
            **heads(8192 if projector == "wide" else d, d),
        }
        for method, batch, settings in (("VICReg", 1024, VICREG), ("SimCLR", 2048, SIMCLR))
        for projector, widths in (("wide", (256, 512, 1024, 2048, 8192)), ("d-d-d", (256, 512, 1024, 2048)))
        for d in widths
    },
    "decay": {
        ("0.05", "2.5e-05", "0.31", "everything", "multiple-pass"): rates(0.05, 2.5e-5),
        ("0.05", "5e-05", "0.63", "everything", "multiple-pass"): rates(0.05, 5e-5),
        ("0.05", "0.0001", "1.3", "everything", "multiple-pass"): {},
        ("0.05", "0.00025", "3.1", "everything", "multiple-pass"): rates(0.05, 2.5e-4),
        ("0.05", "2.5e-05", "0.31", "everything", "hybrid"): {**HYBRID, **rates(0.05, 2.5e-5)},
        ("0.05", "0.0001", "1.3", "everything", "hybrid"): HYBRID,
        ("0.025", "0.0002", "1.3", "everything", "multiple-pass"): rates(0.025, 2e-4),
        ("0.1", "5e-05", "1.3", "everything", "multiple-pass"): rates(0.1, 5e-5),
        ("0.05", "0.0001", "1.3", "not norms and biases", "multiple-pass"): {"optim.decay_all": False},
        ("0.05", "0.0001", "1.3", "not the predictor", "multiple-pass"): {"optim.decay_heads": "projector"},
        ("0.05", "0.0001", "1.3", "not the heads", "multiple-pass"): {"optim.decay_heads": "none"},
    },
    "regime": {
        (f"{encoder}500,400 steps, decay {decay}", clock, order): {**changes, **network, **rates(0.05, float(decay))}
        for encoder, network, decay, clock in (
            *(("", {}, "5e-05", "0.63"), ("", {}, "0.0001", "1.3")),
            ("ResNet-34, ", R34, "0.0001", "1.3"),
        )
        for order, changes in (
            *(("multiple-pass", {}), ("single-pass", SINGLE), ("hybrid", HYBRID)),
            ("adaptive", {"order": "adaptive"}),
            ("the images of one chunk", {"subset": 0.01}),
        )
    },
    "heads": {
        ("D = 256", "512", "M = 2048"): {"backbone.width": 0.5},
        ("D = 512", "512", "M = 2048"): {},
        ("D = 1024", "512", "M = 2048"): {"backbone.width": 2.0},
        ("D = 256", "2048", "M = 2048"): {"backbone.width": 0.5, **heads(2048, 2048)},
        ("D = 512", "2048", "M = 2048"): heads(2048, 2048),
        ("D = 1024", "2048", "M = 2048"): {"backbone.width": 2.0, **heads(2048, 2048)},
        ("D = 512", "512", "M = 512"): heads(512, 512),
        ("D = 512", "512", "M = 8192"): heads(512, 8192),
    },
    "boundaries": {
        ("1, multiple-pass", "1", "nothing"): {},
        ("10", "1", "nothing"): {**SINGLE, "chunks": 10},
        ("100", "1", "nothing"): SINGLE,
        ("1000", "1", "nothing"): {**SINGLE, "chunks": 1000},
        ("100", "2", "nothing"): {**SINGLE, "rounds": 2},
        ("100", "5", "nothing"): {**SINGLE, "rounds": 5},
        ("100", "1", "momentum"): {**SINGLE, "reset_momentum": True},
        ("100", "1", "statistics"): {**SINGLE, "reset_statistics": True},
    },
    "collapse": {
        ("orders", "multiple-pass", "ResNet-18"): {},
        ("orders", "single-pass", "ResNet-18"): SINGLE,
        **{("subsets", f"{share} %", "ResNet-18"): {"subset": share / 100} for share in (1, 5, 10, 20, 50)},
        ("regime", "500,400 steps, decay 5e-05", "0.63", "multiple-pass"): rates(0.05, 5e-5),
        ("regime", "500,400 steps, decay 5e-05", "0.63", "single-pass"): {**SINGLE, **rates(0.05, 5e-5)},
        ("regime", "500,400 steps, decay 5e-05", "0.63", "the images of one chunk"): {
            "subset": 0.01,
            **rates(0.05, 5e-5),
        },
        ("boundaries", "10", "1", "nothing"): {**SINGLE, "chunks": 10},
        ("boundaries", "1000", "1", "nothing"): {**SINGLE, "chunks": 1000},
        ("decay", "0.05", "2.5e-05", "0.31", "everything", "multiple-pass"): rates(0.05, 2.5e-5),
        ("decay", "0.05", "0.00025", "3.1", "everything", "multiple-pass"): rates(0.05, 2.5e-4),
        ("decay", "0.025", "0.0002", "1.3", "everything", "multiple-pass"): rates(0.025, 2e-4),
        ("decay", "0.1", "5e-05", "1.3", "everything", "multiple-pass"): rates(0.1, 5e-5),
    },
    "forecast": {
        **{("orders", *key): differs for key, differs in ORDERS.items()},
        **{("subsets", *key): differs for key, differs in SUBSETS.items() if key[0] != "100 %"},
    },
}


def test_every_study_is_written_out_here():
    assert set(EXPECTED) == set(STUDIES)


@pytest.mark.parametrize("name", EXPECTED)
def test_settings_are_the_published_ones(name):
    found = {tuple(run.cell.factors.values()): run.cell for run in planned(STUDIES[name], "paper", [0])}
    assert set(found) == set(EXPECTED[name])
    for key, differs in EXPECTED[name].items():
        settings = {
            field: value
            for field, value in flatten(to_dict(found[key].config)).items()
            if field not in NOT_PUBLISHED and not field.startswith("machine.")
        }
        assert settings == {**SIMSIAM, **differs}, key


def test_runs_have_the_papers_linear_probe_and_k_nn():
    assert PROBES["paper"] == ("knn", "linear")


def test_students_have_the_teacher_of_their_row():
    for cell in STUDIES["distill"].cells("paper"):
        method, student = cell.factors["teacher"], cell.factors["student"]
        wanted = None if "teacher" in student else {"teacher": method, "student": "ResNet-50, the teacher"}
        assert cell.teacher == wanted
