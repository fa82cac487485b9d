"""The linear probe against apex's LARC and a naive one, and its promise: interrupted, it ends with the same bits."""

import math
import os
import signal

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import functional as TF

from fullrank.data import views
from fullrank.data.cache import Decoded
from fullrank.data.images import ArrayImages, open_images
from fullrank.data.order import MultiplePass
from fullrank.data.views import ViewRecipe
from fullrank.errors import FullrankError
from fullrank.evaluation import linear as module
from fullrank.evaluation.linear import StoppedError, build_classifier, check_linear, linear
from fullrank.evaluation.options import EvaluateOptions, LinearOptions
from fullrank.evaluation.task import Task
from fullrank.measure.protocols import FINGERPRINT
from fullrank.models.encoder import Encoder, Preprocessing

SIZE = 6


def coloured(count, classes=3, *, noise=0.05, seed=0):
    """Images of one colour a class, with noise; the labels are not in order."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.tensor([[0.8, 0.2, 0.2], [0.2, 0.8, 0.2], [0.2, 0.2, 0.8]])
    labels = torch.randint(classes, (count,), generator=generator)
    pixels = colours[labels][:, :, None, None] + noise * torch.randn(count, 3, 8, 8, generator=generator)
    return ArrayImages(f"coloured {seed}", (pixels.clamp(0, 1) * 255).to(torch.uint8), labels)


class Corners(nn.Module):
    """Means of the four quarters of an image: crops and flips change them."""

    def forward(self, x):
        return F.adaptive_avg_pool2d(x, 2).flatten(1)


def frozen(train=None, *, held_out=None, encoder=None, run=None, progress=lambda what, done, total: None):
    encoder = Encoder(encoder or Corners(), Preprocessing(SIZE))
    train = train or coloured(60)
    held_out = held_out or coloured(30, seed=1)
    return Task("run", encoder, train, held_out, torch.device("cpu"), run, {"mode": "eval"}, progress)


def options(**changes):
    settings = {"epochs": 5, "batch_size": 20, "base_lr": 20.0, "precision": "float32", **changes}
    return EvaluateOptions(linear_options=LinearOptions(**settings))


def saved(run):
    (path,) = (run / "probe").iterdir()
    state = torch.load(path, weights_only=True)
    return {**state["classifier"]["layer"], **state["classifier"]["optimizer"]["state"][0]}, state


def larc(gradient, value, trust, decay):
    """What apex's LARC(clip=False) makes of a gradient before SGD sees it."""
    norms = value.norm(), gradient.norm()
    if norms[0] == 0 or norms[1] == 0:
        return gradient
    return (gradient + decay * value) * trust * norms[0] / (norms[1] + decay * norms[0] + 1e-8)


def test_lars_is_apexs_larc_without_clipping_and_for_the_bias_too():
    classifier = build_classifier(7, 4, LinearOptions(seed=3))
    layer = classifier.layer.double()
    naive = {name: value.detach().clone() for name, value in layer.named_parameters()}
    momentum = {name: torch.zeros_like(value) for name, value in naive.items()}
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        lr = 0.4 * (1 + step)
        gradients = {k: torch.randn(v.shape, generator=generator, dtype=torch.float64) for k, v in naive.items()}
        for name, value in layer.named_parameters():
            value.grad = gradients[name].clone()
        classifier.optimizer.param_groups[0]["lr"] = lr
        classifier.optimizer.step()
        for name in naive:
            momentum[name] = 0.9 * momentum[name] + larc(gradients[name], naive[name], 0.001, 0.0)
            naive[name] -= lr * momentum[name]
            torch.testing.assert_close(dict(layer.named_parameters())[name].detach(), naive[name], rtol=1e-12, atol=0)
    assert naive["bias"].norm() > 0.1  # 0 at first, so its first step is whole


def test_the_classifier_begins_small():
    layer = build_classifier(400, 50, LinearOptions()).layer.requires_grad_(False)
    assert layer.bias.abs().max() == 0
    assert float(layer.weight.std()) == pytest.approx(0.01, rel=0.02)
    assert abs(float(layer.weight.mean())) < 3 * 0.01 / math.sqrt(400 * 50)
    assert torch.equal(layer.weight, build_classifier(400, 50, LinearOptions()).layer.weight)
    assert not torch.equal(layer.weight, build_classifier(400, 50, LinearOptions(seed=1)).layer.weight)


def test_it_is_the_training_that_the_paper_describes(tmp_path):
    """A naive loop: torchvision's crops one by one, gradients by hand, apex's LARC, a cosine by epochs."""
    train = coloured(50, noise=0.2)  # 2 batches of 20 an epoch, 10 images left out
    asked = options(epochs=3, base_lr=30.0, crop_min=0.3, seed=4)
    linear(frozen(train, run=tmp_path), asked)
    order = MultiplePass(50, 20, 6, seed=4)
    weight = build_classifier(12, 3, asked.linear_options).layer.weight.detach().double()
    bias = torch.zeros(3, dtype=torch.float64)
    momentum = [torch.zeros_like(weight), torch.zeros_like(bias)]
    recipe = ViewRecipe(crop_scale=(0.3, 1.0))
    sizes = torch.full((20,), 8)
    for step in range(6):
        chosen = order[step]
        drawn = views.draw(recipe, seed=4, step=step, view=0, heights=sizes, widths=sizes)
        rows = []
        for place, image in enumerate(train.pixels[chosen]):
            box = [int(getattr(drawn, name)[place]) for name in ("top", "left", "height", "width")]
            crop = TF.resized_crop(image.double() / 255, *box, [SIZE, SIZE], antialias=True)
            crop = TF.horizontal_flip(crop) if bool(drawn.flip[place]) else crop
            rows.append(Corners()(TF.normalize(crop, views.IMAGENET_MEAN, views.IMAGENET_STD)[None]))
        h = torch.cat(rows)
        excess = torch.softmax(h @ weight.T + bias, dim=1) - F.one_hot(train.labels[chosen], 3)
        gradients = excess.T @ h / 20, excess.mean(0)
        lr = 30.0 * 20 / 256 * 0.5 * (1 + math.cos(math.pi * (step // 2) / 3))
        for value, gradient, own in zip((weight, bias), gradients, momentum, strict=True):
            own.mul_(0.9).add_(larc(gradient, value, 0.001, 0.0))
            value -= lr * own
    tensors, _ = saved(tmp_path)
    torch.testing.assert_close(tensors["weight"].double(), weight, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(tensors["bias"].double(), bias, rtol=1e-4, atol=1e-6)


def test_a_separable_set_is_learnt_to_the_last_image():
    score = linear(frozen(), options(epochs=30, base_lr=200.0))
    assert score.value == 1.0
    assert score.chosen["best_over_epochs"] == 1.0


def test_the_score_is_the_last_epochs_and_the_best_stands_beside_it(tmp_path, monkeypatch):
    accuracies = iter([0.2, 0.7, 0.7, 0.4, 0.6])
    monkeypatch.setattr(module, "_accuracy", lambda *arguments: next(accuracies))
    score = linear(frozen(), options(epochs=5))
    assert (score.name, score.value, score.kind.direction) == ("linear", 0.6, "higher")
    assert score.chosen["best_over_epochs"] == 0.7
    assert score.chosen["best_epoch"] == 2
    protocol = score.protocol
    assert (protocol["epochs"], protocol["batch"], protocol["base_lr"]) == (5, 20, 20.0)
    assert (protocol["bank"], protocol["queries"], protocol["mode"]) == (60, 30, "eval")


def test_a_rate_that_is_too_low_for_so_few_images_is_told():
    asked = options(epochs=3, base_lr=30.0)
    rates = [30.0 * 20 / 256 * 0.5 * (1 + math.cos(math.pi * epoch / 3)) for epoch in range(3)]
    way = sum(2 * rate for rate in rates) * 0.001 / (1 - 0.9)  # 50 images are two batches of 20 an epoch
    assert module.reach(50, asked.linear_options) == pytest.approx(way)
    score = linear(frozen(coloured(50)), asked)
    said = f"LARS let weights grow e^{way:.2g}-fold at most: raise --linear.base-lr to {30 * 50 / way:.2g}"
    assert said in score.chosen["warning"]
    assert module.reach(1_281_167, LinearOptions()) == pytest.approx(1251 * 0.4 * 91 / 2 * 0.01)
    enough = LinearOptions(epochs=2, batch_size=20, base_lr=2e4, precision="float32")
    assert "warning" not in linear(frozen(), EvaluateOptions(linear_options=enough)).chosen


def stopping(at, number):
    def progress(what, done, total):
        if "steps" in what and done == at:
            os.kill(os.getpid(), number) if number else crash()

    def crash():
        raise MemoryError("a crash")

    return progress


def test_stopped_and_crashed_it_ends_with_the_bits_of_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_EVERY", 4)
    asked = options(cache="stream", workers=0)
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = linear(frozen(run=tmp_path / "whole"), asked)
    broken = tmp_path / "broken"
    for at, number, kept in ((2, signal.SIGTERM, 2), (7, None, 4), (9, signal.SIGINT, 9), (14, None, 12)):
        expected = StoppedError if number else MemoryError
        with pytest.raises(expected) as caught:
            linear(frozen(run=broken, progress=stopping(at, number)), asked)
        state = saved(broken)[1]
        assert state["classifier"]["step"] == kept
        assert not state["complete"]
        if number:
            assert caught.value.signal == number
            assert f"stopped after step {at} of 15 of the linear probe, and saved" in str(caught.value)
    assert linear(frozen(run=broken), asked) == whole
    for a, b in zip(saved(tmp_path / "whole")[0].values(), saved(broken)[0].values(), strict=True):
        assert torch.equal(a, b)
    assert saved(broken)[1]["complete"]


def test_a_finished_probe_is_read_and_not_trained_again(tmp_path, monkeypatch):
    score = linear(frozen(run=tmp_path), options())
    with monkeypatch.context() as patch:
        patch.setattr(module, "_train", None)
        assert linear(frozen(run=tmp_path), options(workers=7)) == score  # how images are read changes no score
    for change in ({"base_lr": 1.0}, {"epochs": 2}, {"batch_size": 10}, {"crop_min": 0.5}, {"seed": 1}):
        linear(frozen(run=tmp_path), options(**change))
    linear(frozen(coloured(60, noise=0.06), run=tmp_path), options())
    relabelled = coloured(60)
    relabelled.labels = 2 - relabelled.labels
    linear(frozen(relabelled, run=tmp_path), options())
    assert len(list((tmp_path / "probe").iterdir())) == 8


def test_a_finished_probe_of_images_that_have_changed_since_is_trained_anew(tmp_path, monkeypatch, capsys):
    """A folder's names stay where its pictures are replaced."""

    def probe(prints):
        task = frozen(run=tmp_path)
        task.protocol[FINGERPRINT] = prints
        return linear(task, options())

    probe("a-1 / b-1")
    trained = []
    train = module._train
    monkeypatch.setattr(module, "_train", lambda *given: trained.append(given) or train(*given))
    probe("a-1 / b-1")
    probe("a / b")  # as runs of before knew them
    assert not trained
    probe("a-2 / b-1")
    assert len(trained) == 1
    assert "its images have changed since its linear probe was trained" in capsys.readouterr().err
    probe("a-2 / b-1")
    assert len(trained) == 1


class Changing(Corners):
    """Changes itself, a little, whenever it sees an image."""

    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.zeros(()))

    def forward(self, x):
        self.shift += 1e-3
        return super().forward(x) + self.shift


def test_an_encoder_that_changes_itself_is_refused_and_nothing_is_saved(tmp_path):
    with pytest.raises(FullrankError, match=r"the encoder changed while it was probed, in 1 of 1 .*\(shift\)"):
        linear(frozen(encoder=Changing(), run=tmp_path), options())
    assert not (tmp_path / "probe").exists()


def test_streamed_and_damaged_images_keep_their_labels(tmp_path):
    """A place whose image cannot be decoded shows another one of its batch, with that one's label."""
    images = coloured(60, noise=0.0)
    for number, pixels in enumerate(images.pixels):
        folder = tmp_path / f"class{images.labels[number]}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{number:02d}.png")
    for path in sorted(tmp_path.rglob("*.png"))[::4]:
        path.write_bytes(b"damaged")
    asked = {"epochs": 30, "base_lr": 200.0, "batch_size": 15}
    found = []
    for cache in ("stream", "memory"):
        judged = frozen(open_images(str(tmp_path)), held_out=images)
        found.append(linear(judged, options(**asked, cache=cache, workers=0)))
        assert len(judged.skipped) == 15
    assert found[0].value == 1.0
    assert found[0].protocol["bank"] == 45
    assert found[0] == found[1]


def test_it_goes_on_however_images_are_held_then(tmp_path, monkeypatch):
    """Neither what can be held in memory nor that an image cannot be decoded makes it another probe."""
    images = coloured(60)
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(images.pixels):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / "images" / f"{number:02d}.png")

    def found(*, decoded):
        opened = open_images(str(tmp_path / "images"))
        opened.labels = images.labels
        return Decoded(opened) if decoded else opened

    damaged = tmp_path / "images" / "07.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"damaged")
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(StoppedError):
        linear(frozen(found(decoded=True), run=run, progress=stopping(4, signal.SIGTERM)), options(cache="memory"))
    damaged.write_bytes(whole)  # it began without this one, and goes on without it
    with monkeypatch.context() as patch:
        patch.setattr(module.cache, "find_unreadable", None)
        score = linear(frozen(found(decoded=False), run=run), options(cache="stream", workers=0))
    assert saved(run)[1]["classifier"]["step"] == 10
    assert score.protocol["bank"] == 59
    assert len(list((run / "probe").iterdir())) == 1


def test_an_image_that_is_lost_while_a_probe_is_stopped_is_named(tmp_path):
    for number, pixels in enumerate(coloured(60).pixels):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / f"{number:02d}.png")

    def opened():
        images = open_images(str(tmp_path))
        images.labels = coloured(60).labels
        return images

    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(StoppedError):
        linear(frozen(opened(), run=run, progress=stopping(4, signal.SIGTERM)), options())
    (tmp_path / "08.png").write_bytes(b"damaged")
    with pytest.raises(FullrankError, match=r"08.png could be read when the linear probe began: .* to start anew"):
        linear(frozen(opened(), run=run), options())


def test_a_probe_of_another_format_is_trained_anew(tmp_path, monkeypatch):
    linear(frozen(run=tmp_path), options())
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    linear(frozen(run=tmp_path), options())
    assert len(list((tmp_path / "probe").iterdir())) == 2


def test_a_batch_of_more_images_than_there_are_is_found_before_features_are_taken():
    judged = frozen(coloured(12), encoder=Broken())
    with pytest.raises(FullrankError, match="--linear.batch-size 20 is more than the 12 training images"):
        check_linear(len(judged.train), options())


def test_a_class_that_no_training_image_has_is_never_right():
    train = coloured(60, classes=2)
    score = linear(frozen(train, held_out=coloured(30, seed=1)), options(epochs=30, base_lr=200.0))
    assert score.value == pytest.approx(float((coloured(30, seed=1).labels < 2).double().mean()))


class Broken(Corners):
    def forward(self, x):
        return super().forward(x) * float("nan")


@pytest.mark.parametrize(
    ("given", "asked", "message"),
    [
        ({"train": coloured(60, classes=1)}, {}, "all 60 training images have the label 0: a probe needs two"),
        ({"train": coloured(12)}, {}, "--linear.batch-size 20 is more than the 12 training images: lower it"),
        ({"encoder": Broken()}, {}, "features hold NaN or infinity in 30 of 30 rows"),
        ({}, {"base_lr": 1e38}, "the linear probe diverged before step .*: lower --linear.base-lr"),
    ],
)
def test_errors(given, asked, message):
    with pytest.raises(FullrankError, match=message):
        linear(frozen(**given), options(**asked))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": 0}, "linear.epochs must be at least 1 .*, got 0"),
        ({"batch_size": 0}, "linear.batch_size must be at least 1 .*, got 0"),
        ({"base_lr": 0.0}, "linear.base_lr must be above 0 .*, got 0.0"),
        ({"base_lr": float("nan")}, "linear.base_lr must be above 0 .*, got nan"),
        ({"crop_min": 1.5}, "linear.crop_min must be above 0 and at most 1, got 1.5"),
        ({"workers": -1}, "linear.workers must be at least 0 .*, got -1"),
        ({"seed": -1}, "linear.seed must be at least 0 .*, got -1"),
    ],
)
def test_settings(setting, message):
    with pytest.raises(FullrankError, match=message):
        LinearOptions(**setting)


def test_a_damaged_file_is_named(tmp_path):
    linear(frozen(run=tmp_path), options())
    (path,) = (tmp_path / "probe").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FullrankError, match=r"linear-.*pt is damaged .*: delete it to start the linear probe anew"):
        linear(frozen(run=tmp_path), options())
