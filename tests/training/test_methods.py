"""Every method trained by the loop: the same bits after an interruption, and what a checkpoint keeps of it."""

from dataclasses import replace

import pytest
import torch
import yaml
from safetensors.torch import save_file

import fullrank
from fullrank.config import (
    BackboneConfig,
    HeadsConfig,
    LossConfig,
    OptimConfig,
    TargetConfig,
    from_dict,
    read_config,
    to_dict,
)
from fullrank.errors import FullrankError
from fullrank.models.backbones import backbone
from fullrank.models.methods import METHODS
from fullrank.training import loop, measuring, setup
from fullrank.training.checkpoint import read_checkpoint, save_checkpoint
from fullrank.training.loop import resume, train
from fullrank.training.measuring import Measurer
from fullrank.training.runs import METRICS, SPECTRA, read_run
from tests.training.tiny import quiet, tiny

STEPS = 5
OF_EACH_KIND = ("simsiam", "nnsiam", "byol", "mocov3", "simclr", "vicreg", "distill")
"""The others differ from simclr or vicreg in their loss alone, and keep nothing."""


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A finished run to distil."""
    path = tmp_path_factory.mktemp("teacher") / "run"
    train(tiny(steps=2, seed=1, image_size=16, out=path), console=quiet())
    return path


def small(method, teacher, **changes):
    """A run of a few steps on 16 x 16 views, stopped between two checkpoints by the tests."""
    heads = {"projector_hidden": 16, "projector_out": 12}
    if method == "distill":
        heads = {}
    targets = {
        "nnsiam": TargetConfig(queue=32),  # two batches: it goes round
        "distill": TargetConfig(teacher=str(teacher)),
        "byol": TargetConfig(momentum=0.5),
    }
    monitor = replace(tiny().monitor, log_every=2, measure_every=STEPS, num_images=40)
    return tiny(
        method=method,
        steps=STEPS,
        image_size=16,
        checkpoint_every=2,
        heads=HeadsConfig(**heads),
        target=targets.get(method, TargetConfig()),
        monitor=monitor,
        **changes,
    )


def die_before(step, monkeypatch):
    real = loop.set_learning_rate

    def dying(optimizer, current, *arguments):
        if current == step:
            raise KeyboardInterrupt
        return real(optimizer, current, *arguments)

    monkeypatch.setattr(loop, "set_learning_rate", dying)


def last(run):
    return read_checkpoint(run / "checkpoints" / f"step_{STEPS:08d}.pt")


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[] if m in OF_EACH_KIND else pytest.mark.slow) for m in METHODS]
)
def test_an_interrupted_run_of_any_method_ends_with_the_same_bits(tmp_path, monkeypatch, teacher, method):
    train(small(method, teacher, out=tmp_path / "whole"), console=quiet())
    with monkeypatch.context() as patch:
        die_before(3, patch)  # one step after a checkpoint
        with pytest.raises(KeyboardInterrupt):
            train(small(method, teacher, out=tmp_path / "run"), console=quiet())
    assert resume(tmp_path / "run", console=quiet()).complete
    for name in (METRICS, SPECTRA):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    whole, run = last(tmp_path / "whole"), last(tmp_path / "run")
    assert whole["model"].keys() == run["model"].keys()
    for key, value in whole["model"].items():
        assert torch.equal(value, run["model"][key]), key
    first = read_checkpoint(tmp_path / "run" / "checkpoints" / "step_00000000.pt")["model"]
    for key in {
        "byol": ["target.projector.0.weight"],
        "nnsiam": ["queue", "position"],
        "distill": ["mean", "variance"],
    }.get(method, ["backbone.conv1.weight"]):
        assert not torch.equal(first[key], run["model"][key]), key


def test_a_vision_transformer_trains_and_resumes_with_a_constant_rate_for_its_predictor(tmp_path, monkeypatch):
    """[Li22] A.4 in small: AdamW, warm-up, frozen patches, fixed positions."""
    shape = BackboneConfig(
        name="vit_tiny_patch16_224", blocks=2, attention_heads=3, patch=4, positions="sincos", frozen_patches=True
    )
    config = replace(
        small("simsiam", None),
        image_size=32,
        backbone=shape,
        optim=OptimConfig(optimizer="adamw", base_lr=1e-3, weight_decay=0.1, warmup_steps=2),
    )
    train(replace(config, out=str(tmp_path / "whole")), console=quiet())
    with monkeypatch.context() as patch:
        die_before(3, patch)
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, out=str(tmp_path / "run")), console=quiet())
    resume(tmp_path / "run", console=quiet())
    state, whole = last(tmp_path / "run"), last(tmp_path / "whole")["model"]
    assert all(torch.equal(whole[key], value) for key, value in state["model"].items())
    first = read_checkpoint(tmp_path / "run" / "checkpoints" / "step_00000000.pt")["model"]
    moved = {key for key, value in first.items() if not torch.equal(value, state["model"][key])}
    assert "backbone.blocks.1.mlp.fc1.weight" in moved
    assert not moved & {"backbone.pos_embed", "backbone.patch_embed.proj.weight", "backbone.patch_embed.proj.bias"}
    rates = {group["constant_rate"]: group["lr"] for group in state["optimizer"]["param_groups"]}
    assert rates[True] == pytest.approx(1e-3 * 16 / 256)
    assert rates[False] < rates[True] / 2
    assert fullrank.load(tmp_path / "run")(torch.zeros(2, 3, 32, 32)).shape == (2, 192)


def test_the_target_branch_moves_with_the_step_numbers_of_the_loop(tmp_path, teacher, monkeypatch):
    seen = []
    monkeypatch.setattr(METHODS["byol"], "after_step", lambda self, step, steps: seen.append((step, steps)))
    train(small("byol", teacher, out=tmp_path / "run"), console=quiet())
    assert seen == [(step, STEPS) for step in range(STEPS)]


def test_config_yaml_holds_the_methods_own_settings(tmp_path, teacher):
    run = tmp_path / "run"
    train(tiny(method="byol", steps=2, heads=HeadsConfig(projector_out=20), out=run), console=quiet())
    config = read_run(run).config
    assert config["heads"] == {
        "projector_hidden": 256,
        "projector_out": 20,
        "projector_layers": 2,
        "predictor_hidden": 256,
        "normalize": None,
    }
    assert config["target"]["momentum"] == 0.996
    train(small("vicreg", teacher, loss=LossConfig(covariance=3.0), out=tmp_path / "vicreg"), console=quiet())
    config = read_run(tmp_path / "vicreg").config
    assert config["loss"] == {
        "temperature": None,
        "invariance": 25.0,
        "variance": 25.0,
        "covariance": 3.0,
        "lambd": None,
        "mu": None,
        "eps": 1e-4,
        "toward": None,
        "center": None,
    }
    held_out = read_run(tmp_path / "vicreg").protocols["heldout_loss"]
    assert (held_out["loss"], held_out["covariance"], held_out["batch"]) == ("vicreg", 3.0, 40)


def test_held_out_losses_that_compare_images_are_of_whole_batches(tmp_path, teacher):
    monitor = replace(tiny().monitor, num_images=300)
    runs = {}
    for method in ("simclr", "simsiam"):
        config = replace(small(method, teacher, out=tmp_path / method), monitor=monitor, subset=0.3)
        train(config, console=quiet())
        runs[method] = read_run(tmp_path / method).protocols["heldout_loss"]
    assert (runs["simclr"]["n"], runs["simclr"]["batch"]) == (256, 256)
    assert runs["simsiam"]["n"] == 300
    assert "batch" not in runs["simsiam"]
    assert (runs["simclr"]["batches"], runs["simclr"]["dimensions"], runs["simclr"]["normalize"]) == (
        "shuffled",
        12,
        "none",
    )


def test_held_out_batches_are_mixed_where_their_images_are_told_apart(tmp_path, teacher, monkeypatch):
    """A set that is sorted by class would make batches of one class, whose negatives are hard."""
    config, data = setup.open_data(small("simclr", teacher))
    monkeypatch.setattr(measuring, "view_blocks", lambda *a, **k: [(torch.arange(40), torch.arange(40))])
    mixed = [Measurer(replace(config, method=method), data, torch.device("cpu")).pairs for method in ("simclr", "byol")]
    assert not torch.equal(mixed[0][0], torch.arange(40))
    assert torch.equal(mixed[0][0], mixed[0][1])  # both views of an image stay together
    assert torch.equal(mixed[0][0].sort().values, torch.arange(40))
    assert torch.equal(mixed[1][0], torch.arange(40))


def test_load_gives_the_online_encoder_and_not_its_average(tmp_path, teacher):
    train(small("byol", teacher, out=tmp_path / "run"), console=quiet())
    state = last(tmp_path / "run")["model"]
    encoder = fullrank.load(tmp_path / "run")
    assert not torch.equal(state["backbone.conv1.weight"], state["target.backbone.conv1.weight"])
    assert torch.equal(encoder.conv1.weight, state["backbone.conv1.weight"])
    assert encoder.state_dict().keys() == {k.removeprefix("backbone.") for k in state if k.startswith("backbone.")}
    assert read_run(tmp_path / "run").protocols["knn"]["branch"] == "online"


def test_a_student_needs_no_teacher_to_be_loaded_nor_the_same_one_to_go_on(tmp_path, teacher, monkeypatch):
    moved, run = tmp_path / "moved", tmp_path / "run"
    train(small("distill", teacher, out=tmp_path / "whole"), console=quiet())
    teacher_now = tmp_path / "teacher"
    train(tiny(steps=2, seed=1, image_size=16, out=teacher_now), console=quiet())
    with monkeypatch.context() as patch:
        die_before(3, patch)
        with pytest.raises(KeyboardInterrupt):
            train(small("distill", teacher_now, out=run), console=quiet())
    teacher_now.rename(moved)
    assert fullrank.load(run)(torch.zeros(1, 3, 16, 16)).shape == (1, 32)
    with pytest.raises(FullrankError, match="no run, checkpoint or timm model is at --target.teacher .*teacher$"):
        resume(run, console=quiet())
    # other weights in its place are not taken: those the run began with are in the checkpoint
    saved = moved / "checkpoints" / "step_00000002.pt"
    state = read_checkpoint(saved)
    other = {k: v + 1 if v.is_floating_point() else v for k, v in state["model"].items()}
    monkeypatch.setattr("fullrank.models.methods.distillation.IMAGENET_MEAN", (0.1, 0.1, 0.1))  # nor other colours
    save_checkpoint(saved.parent, 2, {**{k: v for k, v in state.items() if k != "model"}, "model": other}, keep=0)
    config = read_config(run / "config.yaml")
    resume(run, replace(config, target=replace(config.target, teacher=str(moved))), console=quiet())
    found = last(run)["model"]
    for key, value in last(tmp_path / "whole")["model"].items():
        assert torch.equal(value, found[key]), key


def test_one_held_out_image_cannot_be_compared(tmp_path, teacher):
    from PIL import Image

    (tmp_path / "one").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "one" / "only.png")
    config = small("simclr", teacher, eval_images=str(tmp_path / "one"), out=tmp_path / "run")
    with pytest.raises(FullrankError, match="method=simclr compares the images of a batch, and there is one held-out"):
        train(config, console=quiet())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simsiam", "byol", "vicreg"])
def test_a_compiled_run_has_the_losses_of_the_other(tmp_path, teacher, method):
    for name in (False, True):
        config = small(method, teacher, out=tmp_path / str(name))
        train(replace(config, machine=replace(config.machine, compile=name, precision="float32")), console=quiet())
    plain, compiled = (
        [record["loss"] for record in read_run(tmp_path / str(name)).of_kind("train")] for name in (False, True)
    )
    assert compiled == pytest.approx(plain, rel=1e-3)


def test_distillation_needs_a_teacher_that_fits(teacher, tmp_path):
    for target, size, message in (
        (None, 16, "method=distill needs a teacher: --target.teacher with a run, a checkpoint, or a timm model"),
        (str(teacher), 32, "was trained on views of 16 x 16, and this run's are 32 x 32: use --image-size 16"),
        ("resnet81", 16, "unknown backbone 'resnet81'; did you mean 'resnet"),
        (str(tmp_path), 16, "is not a run: expected a folder"),
        ("vit_tiny_patch16_224", 8, "vit_tiny_patch16_224 does not take images of 8 x 8"),
    ):
        config = tiny(method="distill", image_size=size, heads=HeadsConfig(), target=TargetConfig(teacher=target))
        with pytest.raises(FullrankError, match=message):
            setup.build_method(config)


def test_a_timm_teacher_comes_with_its_published_weights(tmp_path, monkeypatch):
    published = backbone("test_resnet", image_size=32)
    save_file(published.state_dict(), tmp_path / "weights.safetensors")
    import timm

    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_resnet").mkdir()  # a folder that is no run does not hide the model
    real = timm.create_model

    def published_weights_from_disk(name, **options):
        overlay = {"file": str(tmp_path / "weights.safetensors"), "num_classes": 0}
        return real(name, pretrained_cfg_overlay=overlay, **options)

    monkeypatch.setattr(timm, "create_model", published_weights_from_disk)
    config = tiny(method="distill", heads=HeadsConfig(), target=TargetConfig(teacher="test_resnet"), image_size=32)
    teacher = setup.open_teacher(config)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(teacher(images), published.eval()(images))


def test_published_weights_that_cannot_be_had_are_named(monkeypatch):
    import timm

    real = timm.create_model

    def offline(name, pretrained, **options):
        if pretrained:
            raise RuntimeError("no network\nand more")
        return real(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = tiny(method="distill", heads=HeadsConfig(), target=TargetConfig(teacher="resnet18"), image_size=32)
    with pytest.raises(FullrankError, match=r"pretrained weights of resnet18 cannot be had \(no network\)"):
        setup.build_method(config)


def test_what_the_configuration_sets_is_checked_before_a_folder_is_made(tmp_path):
    for changes, message in (
        ({"method": "simclr", "loss": LossConfig(mu=1.0), "heads": HeadsConfig()}, "has no loss.mu"),
        ({"method": "nnsiam", "target": TargetConfig(queue=100)}, "is not a multiple of batch_size=16"),
        ({"method": "simclr", "loss": LossConfig(temperature=0.0), "heads": HeadsConfig()}, "loss.temperature must be"),
    ):
        with pytest.raises(FullrankError, match=message):
            train(tiny(out=tmp_path / "run", **changes), console=quiet())
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": TargetConfig(momentum=1.5)}, "target.momentum must be at least 0 and at most 1, got 1.5"),
        ({"target": TargetConfig(statistics_rate=-0.1)}, "target.statistics_rate must be at least 0"),
        ({"loss": LossConfig(covariance=-1.0)}, "loss.covariance must be at least 0 .*, got -1.0"),
        ({"optim": OptimConfig(final_lr=2.0)}, "optim.final_lr must be at least 0"),
        ({"optim": OptimConfig(bias_lr=0.1, base_lr=0.0)}, "optim.bias_lr is a share of optim.base_lr"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(FullrankError, match=message):
        tiny(**changes)


def test_an_unknown_method_names_the_nearest(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("method: vicreg-exq\n")
    with pytest.raises(FullrankError, match="method must be one of .*, got 'vicreg-exq'; did you mean 'vicreg_exp'"):
        read_config(path)


def test_configurations_and_checkpoints_of_before_the_other_methods_still_work(tmp_path, monkeypatch):
    """Their heads are all numbers but the hidden width, and they have neither `loss` nor `target`."""
    config = tiny(steps=STEPS, checkpoint_every=2, out=tmp_path / "run")
    old = to_dict(config)
    old["heads"] = {"projector_hidden": None, "projector_out": 16, "projector_layers": 3, "predictor_hidden": 8}
    del old["loss"], old["target"], old["optim"]["final_lr"], old["optim"]["bias_lr"]
    train(replace(config, out=str(tmp_path / "whole")), console=quiet())
    with monkeypatch.context() as patch:
        die_before(3, patch)
        with pytest.raises(KeyboardInterrupt):
            train(config, console=quiet())
    found = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    for name in ("image_size", "cache", "machine", "environment", "out"):
        old[name] = found[name]
    (tmp_path / "run" / "config.yaml").write_text(yaml.safe_dump(old))
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        state = torch.load(path, weights_only=True)
        state["config"] = {key: value for key, value in old.items() if key != "environment"}
        for group in state["optimizer"]["param_groups"]:
            del group["rate_scale"]
        torch.save(state, path)
    assert from_dict(state["config"], tiny(), "checkpoint").heads.projector_layers == 3
    assert resume(tmp_path / "run", console=quiet()).complete
    resumed = last(tmp_path / "run")["model"]
    for key, value in last(tmp_path / "whole")["model"].items():
        assert torch.equal(value, resumed[key]), key
    assert fullrank.load(tmp_path / "run").conv1.weight.shape[0] == 4
