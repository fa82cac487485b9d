"""The online probe learns as a formula says, and the run beside it does not know that it is there."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from fullrank.data.images import ArrayImages
from fullrank.errors import FullrankError
from fullrank.report.document import write_report
from fullrank.training import setup
from fullrank.training.checkpoint import find_checkpoint, read_checkpoint
from fullrank.training.loop import resume, train
from fullrank.training.online_probe import OnlineProbe
from fullrank.training.plan import plan
from fullrank.training.runs import METRICS, SPECTRA, read_run
from tests.training.test_loop import assert_same_run, stop_after, weights
from tests.training.test_methods import small
from tests.training.tiny import quiet, tiny

CPU = torch.device("cpu")
NAMES = ("online_probe", "online_probe_train")
PROBED = replace(tiny().monitor, online_probe=True)


def images(labels):
    labels = torch.as_tensor(labels)
    return ArrayImages("random", torch.zeros(len(labels), 3, 4, 4, dtype=torch.uint8), labels)


def probe_of(labels, width=6, steps=20, dtype=torch.float64):
    return OnlineProbe(images(labels), width, steps, device=CPU, dtype=dtype)


def naive(batches, labels, steps, classes):
    """Adam on the mean cross-entropy of standardised representations, by hand; those without a label are left out."""
    width = batches[0].shape[1]
    weights, first, second = (np.zeros((classes, width + 1)) for _ in range(3))
    for step, (h, y) in enumerate(zip(batches, labels, strict=True)):
        h = (h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + 1e-5)
        h = np.hstack([h, np.ones((len(h), 1))])[y >= 0]
        logits = h @ weights.T
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        slope = (chances - np.eye(classes)[y[y >= 0]]).T @ h / len(h)
        first = 0.9 * first + 0.1 * slope
        second = 0.999 * second + 0.001 * slope**2
        rate = 1 / width * (1 + math.cos(math.pi * step / steps)) / 2
        unbiased = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        weights = weights - rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
    return weights


def test_it_is_softmax_regression_with_adam():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 3, 40)
    probe = probe_of(labels)
    batches, seen = [], []
    for step in range(5):
        chosen = rng.permutation(40)[:12]
        views = 3 + rng.standard_normal((2, 12, 6)) * np.arange(1, 7)
        probe.step(step, tuple(torch.tensor(views)), torch.tensor(chosen))
        batches.append(np.concatenate(views))
        seen.append(np.concatenate([labels[chosen]] * 2))
    expected = naive(batches, seen, 20, 3)
    found = probe.classifier.state_dict()
    np.testing.assert_allclose(found["1.weight"], expected[:, :-1], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found["1.bias"], expected[:, -1], rtol=1e-9, atol=1e-12)


def test_it_learns_what_is_linear_and_counts_each_view_before_it_is_learned_from():
    labels = torch.arange(60) % 3
    centres = torch.eye(3).repeat(1, 2).double() * 50
    probe = probe_of(labels, steps=300)
    generator = torch.Generator().manual_seed(0)
    for step in range(300):
        chosen = torch.randperm(60, generator=generator)[:16]
        noise = torch.randn(2, 16, 6, generator=generator, dtype=torch.float64)
        probe.step(step, tuple(centres[labels[chosen]] + noise), chosen)
        if step == 0:
            first = probe.taken()
            assert first == float((labels[chosen] == 0).double().mean())  # it knows nothing yet: the first class
    assert probe.taken() > 0.9
    assert probe.taken() is None  # nothing since
    assert probe.measure(centres[labels], labels) == 1.0
    assert probe.measure(centres[(labels + 1) % 3], labels) == 0.0


def test_a_batch_without_labels_teaches_nothing_and_breaks_nothing():
    probe = probe_of([-1] * 8 + [0, 1])
    probe.step(0, (torch.randn(8, 6).double(),), torch.arange(8))
    assert probe.taken() is None
    assert not probe.classifier[1].weight.any()
    probe.step(1, (torch.randn(10, 6).double(),), torch.arange(10))
    assert probe.taken() in (0, 0.5, 1)
    assert torch.isfinite(probe.classifier[1].weight).all()
    assert probe.classifier[1].weight.any()


def test_making_and_using_it_draws_no_random_number():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    probe = probe_of([0, 1, 2, 1])
    probe.step(0, (torch.arange(24.0).reshape(4, 6).double(),), torch.arange(4))
    probe.measure(torch.ones(4, 6).double(), torch.tensor([0, 1, 2, 1]))
    assert torch.equal(torch.rand(1), expected)


def without(records):
    return [{key: value for key, value in record.items() if key not in NAMES} for record in records]


@pytest.mark.parametrize("method", ["simsiam", "byol", "vicreg", "distill"])
def test_a_run_is_the_same_with_it_and_without(tmp_path, method):
    train(tiny(steps=1, seed=1, image_size=16, out=tmp_path / "teacher"), console=quiet())
    config = small(method, tmp_path / "teacher")
    train(replace(config, out=str(tmp_path / "without")), console=quiet())
    probed = replace(config.monitor, online_probe=True)
    train(replace(config, monitor=probed, out=str(tmp_path / "with")), console=quiet())
    plain, beside = read_run(tmp_path / "without"), read_run(tmp_path / "with")
    assert without(beside.records) == plain.records
    assert any("online_probe" in record for record in beside.of_kind("measure"))
    assert (tmp_path / "with" / SPECTRA).read_bytes() == (tmp_path / "without" / SPECTRA).read_bytes()
    left, right = weights(tmp_path / "without"), weights(tmp_path / "with")
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def probes_state(path):
    return read_checkpoint(find_checkpoint(path))["online_probe"]


def test_an_interrupted_run_ends_with_the_same_probe(tmp_path, monkeypatch):
    config = tiny(order="hybrid", steps=12, monitor=PROBED)
    train(replace(config, out=str(tmp_path / "whole")), console=quiet())
    with monkeypatch.context() as patch:
        stop_after(8, patch)  # between two records, and after the checkpoint of step 5
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, out=str(tmp_path / "run")), console=quiet())
    assert resume(tmp_path / "run", console=quiet()).complete
    assert_same_run(tmp_path / "whole", tmp_path / "run")
    assert "online_probe" in (tmp_path / "run" / METRICS).read_text()
    one, two = probes_state(tmp_path / "whole"), probes_state(tmp_path / "run")
    assert one["classifier"]["1.weight"].any()
    for name, value in one["classifier"].items():
        assert torch.equal(value, two["classifier"][name])
    for index, values in one["optimizer"]["state"].items():
        for name, value in values.items():
            assert torch.equal(value, two["optimizer"]["state"][index][name])


def test_its_accuracy_is_recorded_with_its_protocol_and_shown(tmp_path, no_drawing):
    train(tiny(steps=8, monitor=PROBED, out=tmp_path / "run"), console=quiet())
    run = read_run(tmp_path / "run")
    assert "online_probe" not in run.of_kind("measure")[0]  # it had not learned anything
    for record in run.of_kind("measure")[1:]:
        assert 0 <= record["online_probe"] <= 1
    for record in run.of_kind("train"):
        assert 0 <= record["online_probe_train"] <= 1
    scores = {score["name"]: score for score in run.summary["scores"]}
    assert scores["online_probe"]["value"] == run.of_kind("measure")[-1]["online_probe"]
    assert scores["online_probe_train"]["value"] == run.of_kind("train")[-1]["online_probe_train"]
    assert scores["online_probe"]["protocol"]["queries"] == 80
    assert scores["online_probe"]["protocol"]["mode"] == "eval"
    assert scores["online_probe_train"]["protocol"]["mode"] == "train"
    for name in NAMES:
        assert (scores[name]["protocol"]["lr"], scores[name]["protocol"]["classes"]) == (1 / 32, 10)
    page = write_report([tmp_path / "run"], tmp_path / "page.html").read_text()
    assert "online probe accuracy (%) over gradient steps" in page
    assert "online probe on training views" in page


def test_without_labels_it_says_so_before_anything_is_made(tmp_path):
    from PIL import Image

    (tmp_path / "images").mkdir()
    for number in range(40):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / "images" / f"{number}.png")
    config = tiny(images=str(tmp_path / "images"), subset=1.0, monitor=PROBED, out=tmp_path / "run")
    for start in (lambda: train(config, console=quiet()), lambda: plan(config)):
        with pytest.raises(FullrankError, match="monitor.online_probe learns labels, and the training images .* have"):
            start()
    assert not (tmp_path / "run").exists()
    with pytest.raises(FullrankError, match="are all of one: leave it out"):
        probe_of([0, 0, -1])


def test_a_run_without_held_out_images_has_its_accuracy_on_views(tmp_path):
    from PIL import Image

    for kind, shade in (("dark", 10), ("light", 200)):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for number in range(20):
            Image.new("RGB", (16, 16), (shade, number, 0)).save(tmp_path / "images" / kind / f"{number}.png")
    config = tiny(images=str(tmp_path / "images"), subset=1.0, steps=4, monitor=PROBED, out=tmp_path / "run")
    train(config, console=quiet())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    names = [score["name"] for score in summary["scores"]]
    assert "online_probe_train" in names
    assert "online_probe" not in names


def test_representations_are_without_gradient():
    config, data = setup.open_data(tiny(image_size=16))
    method = setup.build_method(config)
    batch = next(iter(setup.build_loader(config, data, setup.build_order(config, len(data.train)), CPU)(0)))
    output = method(batch.views[0], batch.views[1])
    assert [tuple(h.shape) for h in output.representations] == [(16, 32), (16, 32)]
    assert output.loss.requires_grad
    assert not any(h.requires_grad for h in output.representations)
