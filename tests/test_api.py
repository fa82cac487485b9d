"""fullrank from Python: on names, on modules in memory, on anybody's DataLoader; what results show of themselves."""

from functools import partial

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import fullrank
from fullrank.data.images import open_images
from fullrank.encoders import DEFAULTS, MEANT_FOR, open_encoder
from fullrank.errors import FullrankError
from fullrank.evaluation.options import KnnOptions, LogisticOptions
from fullrank.inspection.inspect import inspect as inspect_named
from fullrank.inspection.options import InspectOptions
from fullrank.measure.probes import knn_accuracy
from tests.conftest import draw_nothing
from tests.training.tiny import TINY


class Net(nn.Module):
    """Anybody's encoder: no timm, no attributes."""

    def __init__(self, width=24):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(width))

    def forward(self, x):
        return self.body(x)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    model = Net()
    model(torch.zeros(1, 3, 16, 16))
    return model.train()


@pytest.fixture(scope="module")
def data():
    """Two classes that differ in brightness, 200 and 60 images."""
    torch.manual_seed(1)
    labels = torch.arange(260) % 2
    images = torch.randn(260, 3, 16, 16) + 4 * labels[:, None, None, None]
    return TensorDataset(images[:200], labels[:200]), TensorDataset(images[200:], labels[200:])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return fullrank.train("digits", preset=TINY, out=out)


def test_features_are_the_modules_own_in_eval_mode(net, data):
    taken = fullrank.features(net, DataLoader(data[0], batch_size=64), image_size=16)
    assert net.training  # its mode is put back
    torch.testing.assert_close(taken, net.eval()(data[0].tensors[0]).detach(), rtol=1e-4, atol=1e-4)
    net.train()


@pytest.mark.parametrize("shape", ["tensor", "tuple", "dictionary"])
def test_any_batches_give_the_same_features(net, data, shape):
    images, labels = data[0].tensors
    batches = {
        "tensor": [images[:100], images[100:]],
        "tuple": DataLoader(data[0], batch_size=100),
        "dictionary": [{"image": images[:100], "label": labels[:100]}, {"image": images[100:], "label": labels[100:]}],
    }[shape]
    expected = fullrank.features(net, images, image_size=16)
    torch.testing.assert_close(fullrank.features(net, batches, image_size=16), expected)


def test_inspect_a_module_on_a_loader(net, data):
    found = fullrank.inspect(net, DataLoader(data[0], batch_size=64), image_size=16)
    features = fullrank.features(net, data[0].tensors[0], image_size=16)
    assert found.scores["auc"].value == pytest.approx(fullrank.spectrum(features).auc, abs=1e-6)
    assert found.name == "Net"
    assert found.verdict.level in ("healthy", "partial", "collapsed")
    table = found.to_dataframe()
    assert list(table[table.score == "auc"].value) == [found.scores["auc"].value]
    assert "<iframe" in found._repr_html_()
    assert found.plot().axes


def test_inspect_features_in_memory():
    collapsed = torch.randn(500, 1) @ torch.ones(1, 16) + 1e-6 * torch.randn(500, 16)
    found = fullrank.inspect(collapsed)
    assert found.verdict.level == "collapsed"
    array = collapsed.numpy()
    for same in (array, array[::-1], array.astype(">f4")):
        assert fullrank.inspect(same).verdict == found.verdict
    for other in (np.ma.masked_less(array, 0), array.astype(str), array.astype(object)):
        with pytest.raises(FullrankError, match="features must be a matrix"):
            fullrank.inspect(other)
    with pytest.raises(FullrankError, match=r"must be \(N, D\), a row an image; got \(2, 3, 4\)"):
        fullrank.inspect(torch.zeros(2, 3, 4))


def test_evaluate_a_module_on_loaders_is_k_nn_of_its_features(net, data):
    loaders = [DataLoader(each, batch_size=64) for each in data]
    found = fullrank.evaluate(net, *loaders, image_size=16)
    bank, queries = (fullrank.features(net, loader, image_size=16) for loader in loaders)
    own = knn_accuracy(bank, data[0].tensors[1], queries, data[1].tensors[1], k=found.scores["knn"].chosen["k"])
    assert found.scores["knn"].value == own > 0.9
    assert found.scores["logistic"].value > 0.9
    assert set(found.to_dataframe().score) == {"knn", "logistic"}


def test_evaluate_opens_weights_as_features_does(net, data, tmp_path):
    loaders = [DataLoader(each, batch_size=64) for each in data]
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "own.pth")
    found = fullrank.evaluate(tmp_path / "own.pth", *loaders, logistic=False, backbone="resnet18")
    bank, queries = (fullrank.features(tmp_path / "own.pth", loader, backbone="resnet18") for loader in loaders)
    own = knn_accuracy(bank, data[0].tensors[1], queries, data[1].tensors[1], k=found.scores["knn"].chosen["k"])
    assert found.scores["knn"].value == own
    with pytest.raises(FullrankError, match="runs/x is judged as it was trained, .*: leave backbone and stem out"):
        fullrank.evaluate("runs/x", backbone="resnet18", stem="cifar")


def test_evaluate_says_what_is_missing(net, data):
    with pytest.raises(FullrankError, match="test has no labels"):
        fullrank.evaluate(net, DataLoader(data[0], 64), [data[1].tensors[0]], image_size=16)
    with pytest.raises(FullrankError, match="give train and test"):
        fullrank.evaluate(net)
    with pytest.raises(FullrankError, match="give both"):
        fullrank.evaluate(net, DataLoader(data[0], 64))


class Pictures(Dataset):
    """Photographs of 16 x 16 pixels."""

    def __init__(self, first=0):
        self.first = first

    def __len__(self):
        return 60

    def __getitem__(self, index):
        return torch.full((3, 16, 16), 4 * index + self.first, dtype=torch.uint8), index % 2


def test_a_trained_module_is_not_called_untrained(net):
    found = [fullrank.inspect(net, images) for images in (Pictures(), DataLoader(Pictures(), batch_size=20))]
    assert found[0].verdict == found[1].verdict
    assert found[0].verdict.level != "untrained"
    assert found[0].scores["auc"].value == pytest.approx(found[1].scores["auc"].value, abs=1e-6)


@pytest.mark.parametrize("images", [Pictures(), DataLoader(Pictures(), batch_size=20), [torch.rand(20, 3, 16, 16)]])
def test_a_module_sees_small_images_in_their_own_size(net, images):
    assert fullrank.features(net, images).shape[1] == 24  # it takes no other size


def test_scores_of_modules_say_how_images_were_shown(net):
    of_pixels = fullrank.inspect(net, DataLoader(Pictures(), batch_size=20)).scores["auc"].protocol
    assert (of_pixels["view"], of_pixels["image_size"]) == ("eval", 16)
    of_floats = fullrank.inspect(net, [torch.rand(30, 3, 16, 16)]).scores["auc"].protocol
    assert of_floats["view"] == "as the batches hold it"
    judged = fullrank.evaluate(net, Pictures(), Pictures(1), logistic=False).scores["knn"].protocol
    assert (judged["view"], judged["image_size"]) == ("eval", 16)
    floats = [(torch.rand(30, 3, 16, 16), torch.arange(30) % 2)]
    with pytest.raises(FullrankError, match="train and test would be shown in different ways"):
        fullrank.evaluate(net, Pictures(), floats)
    assert fullrank.evaluate(net, Pictures(), Pictures(1), logistic=False).step is None
    assert judged["fingerprint"] == " / ".join(open_images(Pictures(first)).fingerprint() for first in (0, 1))
    with pytest.raises(FullrankError, match="test shares no class with train"):
        fullrank.evaluate(net, floats, [(floats[0][0], floats[0][1] + 2)])
    new = [(floats[0][0], floats[0][1] + 1)]
    strange = fullrank.evaluate(net, floats, new, logistic=False).scores["knn"].protocol["never right"]
    assert strange == "15 of 30 held-out images, of classes without training images"
    two_views = [(torch.rand(30, 3, 16, 16), torch.rand(30, 3, 16, 16), torch.arange(30) % 2)]
    of_two = r"have features of shape \(30, 2, 24\), not \(N, D\): give one view of each image"
    for judge in (fullrank.inspect, partial(fullrank.evaluate, test=floats)):
        with pytest.raises(FullrankError, match=of_two):
            judge(net, two_views)


def test_images_that_a_module_is_judged_by_are_not_those_it_learned_labels_of(net):
    loader = DataLoader(Pictures(), batch_size=20)
    for pair in ((Pictures(), Pictures()), (Pictures(), open_images(Pictures())), (loader, loader)):
        with pytest.raises(FullrankError, match="the test images are the training images, .* its own nearest neighbor"):
            fullrank.evaluate(net, *pair)


def test_labels_of_batches_are_numbers_and_those_of_folders_names(net, tmp_path):
    """The folder "10" is the second in the alphabet, and its images are of class 10."""
    for number, name in enumerate(("1", "10", "2")):
        (tmp_path / name).mkdir()
        for each in range(5):
            Image.new("RGB", (16, 16), (80 * number, each, 0)).save(tmp_path / name / f"{each}.png")
    images = open_images(str(tmp_path))
    batch = torch.stack([images.read(index) for index in range(15)])
    for order in (1, -1):
        pair = (tmp_path, [(batch, torch.tensor([1] * 5 + [10] * 5 + [2] * 5))])[::order]
        assert fullrank.evaluate(net, *pair, logistic=False, knn_options=KnnOptions(k=1)).scores["knn"].value == 1
    for folder in ("1", "10", "2"):
        (tmp_path / folder).rename(tmp_path / f"class {folder}")
    with pytest.raises(FullrankError, match="names .* and those of batches in memory numbers"):
        fullrank.evaluate(net, tmp_path, [(batch, torch.arange(15) // 5)])


@pytest.mark.parametrize("labels", [torch.rand(60), torch.eye(60), ["cat"] * 60])
def test_labels_of_batches_that_are_no_whole_numbers_are_asked_for(net, labels):
    with pytest.raises(FullrankError, match=r"train has no labels: .* labels \(B,\) of whole numbers, .*'label', "):
        fullrank.evaluate(net, [(torch.rand(60, 3, 16, 16), labels)], [])


def test_options_hold_for_images_in_memory(run):
    found = fullrank.inspect(run.path, Pictures(), layer="embedding", untrained=False, views="none")
    assert found.scores["auc"].protocol["layer"] == "projector"
    with pytest.raises(FullrankError, match="leave image_size out"):
        fullrank.evaluate(run.path, image_size=48)


SET = {"backbone": "resnet18", "prefix": "x.", "stem": "cifar", "attention_heads": 3, "normalization": "imagenet"}
SET |= {"pretrained": "no", "layer": "embedding", "branch": "target", "image_size": 32, "key": "x", "images": "digits"}
SET |= {"limit": 20, "views": "cifar", "device": "cpu"}


@pytest.mark.parametrize("option", [{"pretrained": False}, {"branch": "onlin"}, {"stem": "cfar"}, {"layer": "head"}])
def test_an_encoder_is_not_opened_with_an_option_that_cannot_be(option):
    (name,) = option
    with pytest.raises(FullrankError, match=f"{name} must be one of"):
        open_encoder("resnet18", **option)


@pytest.mark.parametrize("option", SET)
def test_an_option_that_would_have_no_effect_is_refused(option, net, run, tmp_path):
    assert SET.keys() == MEANT_FOR.keys() == (DEFAULTS.keys() | vars(InspectOptions()).keys()) - {"untrained"}
    np.save(tmp_path / "x.npy", np.zeros((30, 4)))
    known, pictures = {option: SET[option]}, Pictures()
    for kind, source in {"modules": net, "runs": run, "timm models": "resnet18"}.items():
        if kind in MEANT_FOR[option] or option == "images":  # of which the second argument is in the place
            continue
        calls = [lambda: fullrank.inspect(source, pictures, **known)] * (option in vars(InspectOptions()))  # noqa: B023
        if option in DEFAULTS:
            calls.append(lambda: fullrank.features(source, pictures, **known))  # noqa: B023
            calls.append(lambda: open_encoder(getattr(source, "path", source), **known))  # noqa: B023
        for call in calls:
            with pytest.raises(FullrankError, match=f"^{option} is for .*, and there is none here: leave it out$"):
                call()
    if option != "branch":
        with pytest.raises(FullrankError, match=f"^{option} is for .*, and there is none here: leave it out$"):
            fullrank.inspect(np.zeros((30, 4)), **known)
    if option not in ("branch", "key"):
        with pytest.raises(FullrankError, match=f"^--{option.replace('_', '-')} is for .*, and there is none here"):
            inspect_named([str(tmp_path / "x.npy")], InspectOptions(**known))


@pytest.mark.parametrize("option", [{"limit": 10}, {"views": "cifar"}, {"image_size": 48}])
def test_what_says_how_images_are_shown_is_refused_of_the_networks_own_input(option, net):
    floats = [(torch.rand(30, 3, 16, 16), torch.arange(30) % 2)]
    (name,) = option
    calls = [lambda: fullrank.inspect(net, floats, **option)]
    if name == "image_size":
        calls.append(lambda: fullrank.features(net, floats, **option))
        calls.append(lambda: fullrank.evaluate(net, floats, floats, **option))
    for call in calls:
        with pytest.raises(FullrankError, match=f"^{name} is for images that are read one at a time.* none here"):
            call()
    assert fullrank.features(net, floats, image_size=16).shape == (30, 24)  # which they have


def test_settings_of_a_probe_that_is_not_asked_for_are_refused(net, run):
    settings = {"logistic": False, "logistic_options": LogisticOptions(l2=0.1)}
    for images in ((), (Pictures(), Pictures())):
        with pytest.raises(FullrankError, match="--logistic.* are settings of a probe that is not asked for"):
            fullrank.evaluate(run if not images else net, *images, **settings)


def test_a_run_shows_itself_and_goes_through_all_calls(run):
    assert run.scores["auc"].value == fullrank.Run(run.path).scores["auc"].value
    assert "spectrum" in run.verdict or "collapse" in run.verdict
    assert "<iframe" in run._repr_html_()
    assert run.plot().axes
    assert run.plot()._repr_png_().startswith(b"\x89PNG")  # what a notebook shows
    assert run.to_dataframe().step.max() == TINY.steps
    assert isinstance(run.encoder(), nn.Module)
    again = fullrank.inspect(run.path, limit=200, untrained=False)
    assert np.isfinite(again.scores["auc"].value)
    assert fullrank.evaluate(run.path, logistic=False).scores["knn"].value > 0.1
    ranking = fullrank.rank(run.path)
    assert (
        fullrank.rank([run]).rows()
        == fullrank.rank(run).rows()
        == fullrank.rank(str(run.path)).rows()
        == ranking.rows()
    )
    assert fullrank.inspect(run, limit=200, untrained=False).scores["auc"].value == again.scores["auc"].value
    assert fullrank.features(run, Pictures()).shape == (60, again.spectrum.dim)
    assert fullrank.evaluate(run, Pictures(), Pictures(1), logistic=False).step == TINY.steps
    assert len(ranking.rows()) >= 1
    assert ranking.best.exists()


def test_a_finished_run_is_gone_on_with(run):
    assert fullrank.train(resume_from=run.path).path == run.path
    with pytest.raises(FullrankError, match="give resume_from alone"):
        fullrank.train("digits", resume_from=run.path)


def test_wrong_settings_are_named():
    with pytest.raises(FullrankError, match="unknown key 'stepz'; did you mean 'steps'"):
        fullrank.train("digits", stepz=3)
    with pytest.raises(FullrankError, match="opens its images by name whenever it goes on, got Pictures"):
        fullrank.train(Pictures())
    with pytest.raises(FullrankError, match=r"fullrank.inspect: unknown key 'limitt'; did you mean 'limit'"):
        fullrank.inspect(torch.randn(10, 4), limitt=3)
    with pytest.raises(FullrankError, match="limit is for runs, .* and modules, and there is none here"):
        fullrank.inspect(torch.randn(10, 4), limit=5)
    with pytest.raises(FullrankError, match="preset must be text or TrainConfig or null, got 3"):
        fullrank.train("digits", preset=3)


@pytest.mark.parametrize("call", [fullrank.inspect, fullrank.features, partial(fullrank.evaluate, test=[])])
@pytest.mark.parametrize("size", [0, -3, "8", True])
def test_an_image_size_that_is_none_is_named(call, size, net):
    with pytest.raises(FullrankError, match=f"image_size must be .*, got {size!r}"):
        call(net, [torch.rand(20, 3, 16, 16)], image_size=size)


def test_names_are_listed():
    assert "vicreg" in fullrank.list_methods()
    assert "hybrid" in fullrank.list_orders()
    assert "auc" in fullrank.list_scores()
    assert "simsiam-lab" in fullrank.list_presets()
    assert "orders" in fullrank.list_studies()


def test_a_study_from_its_results(monkeypatch, tmp_path):
    page = fullrank.study("ema").html()
    assert "2 seeds (0, 1)" in page
    assert "<table" in page
    draw_nothing(monkeypatch)
    assert "2 seeds" not in fullrank.study("ema", seeds=1).html()
    with pytest.raises(FullrankError, match="seeds must be at least 1 and at most 16,384, got 0"):
        fullrank.study("subsets", seeds=0)
    with pytest.raises(FullrankError, match="no run of vit at lab scale is finished"):
        fullrank.study("vit", results=tmp_path)


def test_class_scores_are_warned_of(data):
    from torchvision.models import resnet18

    model = resnet18(num_classes=7)
    with pytest.warns(UserWarning, match="ends in fc, linear and 7 wide"):
        fullrank.features(model, data[1].tensors[0], image_size=16)
    model.fc = nn.Identity()
    assert fullrank.features(model, data[1].tensors[0], image_size=16).shape == (60, 512)


def test_class_scores_of_timms_models_are_warned_of_however_deep_their_classifier_lies():
    model, images = timm.create_model("test_convnext", num_classes=7), torch.zeros(2, 3, 64, 64)
    how = r"ends in head.fc, linear and 7 wide: .*; call model.reset_classifier\(0\) first"
    with pytest.warns(UserWarning, match=how):
        fullrank.features(model, images)
    model.reset_classifier(0)
    assert fullrank.features(model, images).shape == (2, model.num_features)


def test_arguments_in_the_wrong_order_are_named(net, data):
    with pytest.raises(FullrankError, match="a DataLoader is given. The images come second"):
        fullrank.inspect(DataLoader(data[0], batch_size=64), net)
    with pytest.raises(FullrankError, match="a Tensor is given. The images come second"):
        fullrank.features(data[0].tensors[0], net)
