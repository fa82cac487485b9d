import math
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch import nn

from fullrank.config import MachineConfig, MonitorConfig, OptimConfig
from fullrank.data.cache import kept_bytes
from fullrank.data.order import SinglePass
from fullrank.training import loop, setup
from fullrank.training.checkpoint import find_checkpoint, read_checkpoint
from fullrank.training.loop import resume, train
from fullrank.training.optim import begin_chunk, build_optimizer
from fullrank.training.plan import describe_order, plan
from fullrank.training.runs import METRICS, read_run
from tests.models.methods import building
from tests.training.tiny import quiet, tiny

CHUNKED = ("single-pass", "cumulative", "hybrid")
BOUNDARIES = {"single-pass": [5, 10, 15], "cumulative": [5, 10, 15], "hybrid": [5, 8]}  # of 4 chunks in 20 steps


def state(run):
    return read_checkpoint(find_checkpoint(run))


@pytest.mark.parametrize("order", CHUNKED)
@pytest.mark.parametrize("optimizer", ["sgd", "lars"])
def test_what_is_asked_for_is_reset_at_boundaries_and_nowhere_else(order, optimizer):
    config = tiny(order=order, image_size=16, optim=OptimConfig(optimizer=optimizer))
    method, made = setup.build_method(config), setup.build_order(config, 200)
    found = build_optimizer(method, config.optim, config.batch_size)
    torch.manual_seed(0)
    norms = [m for m in method.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
    for momentum in (False, True):
        for statistics in (False, True):
            changed = replace(config, reset_momentum=momentum, reset_statistics=statistics)
            forgot = {"momentum": [], "statistics": []}
            for step in range(20):
                for p in method.parameters():
                    p.grad = torch.randn_like(p)
                found.step()
                for module in norms:
                    module.running_mean += 1
                    module.num_batches_tracked += 1
                begin_chunk(changed, made, step, method, found)
                buffers = [s["momentum_buffer"] for s in found.state.values()]
                zero = {not b.any() for b in buffers}
                learnt = {bool(m.running_mean.any() and m.num_batches_tracked) for m in norms}
                assert len(zero) == len(learnt) == 1  # all of them or none
                if zero == {True}:
                    forgot["momentum"].append(step)
                if learnt == {False}:
                    forgot["statistics"].append(step)
            assert forgot["momentum"] == (BOUNDARIES[order] if momentum else [])
            assert forgot["statistics"] == (BOUNDARIES[order] if statistics else [])


def test_a_teacher_keeps_its_statistics():
    method = building.method("distill").train()
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(3.0)
    config = tiny(order="single-pass", reset_statistics=True)
    begin_chunk(config, setup.build_order(config, 200), 5, method, torch.optim.SGD(method.parameters()))
    for name, buffer in method.named_buffers():
        if name.endswith("running_mean"):
            assert set(buffer.tolist()) == {3.0 if name.startswith("teacher.") else 0.0}, name


def test_a_step_after_the_reset_is_one_without_history():
    config = tiny(order="single-pass", image_size=16, reset_momentum=True)
    method, made = setup.build_method(config), setup.build_order(config, 200)
    optimizer = build_optimizer(method, OptimConfig(weight_decay=0.0), 16)
    torch.manual_seed(0)
    for step in range(6):
        begin_chunk(config, made, step, method, optimizer)
        before = [p.detach().double().clone() for p in method.parameters()]
        for p in method.parameters():
            p.grad = torch.randn_like(p)
        optimizer.step()
    for p, old in zip(method.parameters(), before, strict=True):  # step 5 is the first of a chunk
        lr = 0.3 * 16 / 256
        torch.testing.assert_close(p.detach().double(), old - lr * p.grad.double(), rtol=0, atol=1e-6)


def test_a_run_that_resets_resumes_with_the_same_bits(tmp_path, monkeypatch):
    config = tiny(order="hybrid", reset_momentum=True, reset_statistics=True)
    train(replace(config, out=str(tmp_path / "whole")), console=quiet())
    real = loop.set_learning_rate

    def dying(optimizer, current, *arguments):
        if current == 5:  # a boundary, with a checkpoint before it, and reset already
            raise KeyboardInterrupt
        return real(optimizer, current, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "set_learning_rate", dying)
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, out=str(tmp_path / "run")), console=quiet())
    resume(tmp_path / "run", console=quiet())
    assert (tmp_path / "run" / METRICS).read_bytes() == (tmp_path / "whole" / METRICS).read_bytes()
    one, other = state(tmp_path / "run"), state(tmp_path / "whole")
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name]), name


def test_statistics_change_what_is_measured_and_momentum_what_is_trained(tmp_path):
    changes = {"plain": {}, "statistics": {"reset_statistics": True}, "momentum": {"reset_momentum": True}}
    for name, change in changes.items():
        train(tiny(order="single-pass", out=tmp_path / name, **change), console=quiet())
    plain, statistics, momentum = (dict(state(tmp_path / name)["model"]) for name in changes)
    for name, value in plain.items():
        buffer = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert torch.equal(value, statistics[name]) == (not buffer), name
        if "weight" in name:
            assert not torch.equal(value, momentum[name]), name
    for other in ("statistics", "momentum"):
        losses = [read_run(tmp_path / name).of_kind("measure") for name in ("plain", other)]
        assert [a["auc"] == b["auc"] for a, b in zip(*losses, strict=True)] == [True, True] + 4 * [False]
    assert all(math.isfinite(record["auc"]) for record in losses[1])


def test_runs_on_a_subset_can_be_measured_on_all_images(tmp_path):
    monitor = MonitorConfig(log_every=3, measure_every=6, num_images=10_000, knn_k=5)
    for whole in (False, True):
        train(tiny(steps=6, out=tmp_path / str(whole), monitor=replace(monitor, whole=whole)), console=quiet())
    own, every = (read_run(tmp_path / name) for name in ("False", "True"))
    assert (own.protocols["spectrum"]["n"], own.protocols["spectrum"]["subset"]) == (216, 0.15)
    assert (every.protocols["spectrum"]["n"], every.protocols["spectrum"]["subset"]) == (1438, 1.0)
    assert [run.protocols["knn"]["bank"] for run in (own, every)] == [216, 1438]
    assert [run.environment["data"]["train"]["count"] for run in (own, every)] == [216, 216]
    one, other = (state(tmp_path / name)["model"] for name in ("True", "False"))
    for name, value in one.items():
        assert torch.equal(value, other[name])
    monitors = [run.of_kind("measure")[0] for run in (own, every)]
    assert monitors[0]["auc"] != monitors[1]["auc"]
    assert monitors[0]["heldout_loss"] == monitors[1]["heldout_loss"]


def test_rounds_train_the_same_however_images_are_held(tmp_path):
    for cache in ("memory", "chunks"):
        train(
            tiny(order="single-pass", rounds=2, chunks=3, steps=12, cache=cache, out=tmp_path / cache), console=quiet()
        )
    held, by_chunks = (state(tmp_path / cache)["model"] for cache in ("memory", "chunks"))
    for name, value in held.items():
        assert torch.equal(value, by_chunks[name]), name


def test_a_plan_tells_rounds():
    once, twice = (SinglePass(400, 10, 400, 4, rounds=rounds) for rounds in (1, 2))
    assert describe_order(once) == "single-pass: 4 chunks of 100 images, 100 steps each, 10.0 passes over a chunk"
    assert describe_order(twice) == (
        "single-pass: 4 chunks of 100 images, 50 steps each, 5.0 passes over a chunk, in each of 2 rounds"
    )


@pytest.fixture
def photos(tmp_path):
    """Sixty files of sizes from 70 x 80 to 130 x 80."""
    pixels = torch.randint(0, 256, (60, 130, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (tmp_path / "images").mkdir()
    for number, image in enumerate(pixels.numpy()):
        Image.fromarray(image[: 70 + number]).save(tmp_path / f"images/{number:02d}.png")
    return str(tmp_path / "images")


@pytest.mark.parametrize(("order", "side"), [("single-pass", None), ("hybrid", 75)])
def test_runs_that_keep_chunks_of_any_sizes_resume_with_the_same_bits(tmp_path, monkeypatch, photos, order, side):
    config = tiny(
        images=photos, subset=1.0, batch_size=8, steps=12, image_size=66, order=order, cache="chunks", cache_side=side
    )
    runs = {name: tmp_path / name for name in ("whole", "run", "streamed")}
    train(replace(config, out=str(runs["whole"])), console=quiet())
    train(replace(config, out=str(runs["streamed"]), cache="stream"), console=quiet())
    real = loop.set_learning_rate

    def dying(optimizer, current, *arguments):
        if current == 7:
            raise KeyboardInterrupt
        return real(optimizer, current, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "set_learning_rate", dying)
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, out=str(runs["run"])), console=quiet())
    resume(runs["run"], console=quiet())
    whole, run, streamed = (state(path)["model"] for path in runs.values())
    assert all(torch.equal(value, run[name]) for name, value in whole.items())
    # at twice the view or more nothing is scaled, and a kept image is seen as a streamed one
    assert all(torch.equal(value, streamed[name]) for name, value in whole.items()) == (side is None)
    kept = read_run(runs["whole"]).config
    assert (kept["cache"], kept["cache_side"]) == ("chunks", side or 132)
    assert read_run(runs["streamed"]).config["cache_side"] == side


def test_a_run_from_before_keeps_its_images_as_they_are(photos):
    config = tiny(images=photos, subset=1.0, batch_size=8, image_size=66, order="single-pass", cache="chunks")
    assert setup.open_data(config)[0].cache_side == 132
    assert setup.open_data(config, goes_on=True)[0].cache_side is None
    small = replace(config, image_size=64)
    assert setup.open_data(small)[0].cache_side is None


def test_chunks_are_kept_where_two_of_them_fit(photos):
    data = setup.open_data(tiny(images=photos, subset=1.0, batch_size=8, cache="stream", image_size=32))[1].train
    needs = kept_bytes(data, 60) / 1e9
    for order, share, expected in (
        ("hybrid", 1.01, "memory"),
        ("hybrid", 0.6, "chunks"),
        ("single-pass", 0.6, "chunks"),
        ("single-pass", 0.4, "stream"),
        ("cumulative", 0.6, "stream"),
    ):
        config = tiny(order=order, image_size=32, machine=MachineConfig(memory_gb=share * needs))
        assert setup.resolve_cache(config, data).cache == expected, (order, share)
    scaled = tiny(order="hybrid", image_size=32, cache_side=40, machine=MachineConfig(memory_gb=0.3 * needs))
    assert setup.resolve_cache(scaled, data).cache == "memory"


def test_a_plan_tells_what_is_kept(photos):
    config = tiny(images=photos, subset=1.0, batch_size=8, image_size=66, order="hybrid", cache="chunks")
    words = dict(plan(config)[0].data)["images"]
    assert "held in memory by chunks until step 8, then streamed, 0.7 MB, shorter sides at most 132" in words
    taken = {order: plan(replace(config, order=order))[0].data["processes"] for order in ("hybrid", "single-pass")}
    assert all(text.startswith("about ") and "for this process" in text for text in taken.values())
    assert ["of 0 workers" in text for text in taken.values()] == [True, False]
