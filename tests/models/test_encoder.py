"""Features of an encoder are the same however images come, and taking them leaves the network as it was."""

import copy
from dataclasses import replace

import pytest
import timm
import torch
from tests.training.tiny import quiet, tiny
from torch import nn
from torch.utils.data import DataLoader

from fullrank.config import TargetConfig
from fullrank.data import views
from fullrank.data.images import ArrayImages
from fullrank.encoders import open_encoder
from fullrank.errors import FullrankError
from fullrank.models.encoder import Encoder, Preprocessing
from fullrank.training.loop import train

SIZE = 16
PIXELS = torch.randint(0, 256, (10, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(10) % 3
INPUTS = views.normalize(views.as_float(PIXELS))


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    module[1].running_mean.uniform_()
    return Encoder(module, Preprocessing(SIZE))


def by_hand(encoder, inputs=INPUTS):
    modes = [part.training for part in encoder.module.modules()]
    with torch.no_grad():
        features = encoder.module.eval()(inputs)
    for part, mode in zip(encoder.module.modules(), modes, strict=True):
        part.training = mode
    return features


def test_features_are_the_same_however_images_come(encoder):
    expected = by_hand(encoder)
    images = ArrayImages("made up", PIXELS, LABELS)
    pairs = list(zip(PIXELS, LABELS, strict=True))
    named = [{"pixel_values": image, "labels": label} for image, label in pairs]
    for given, labels in (
        (PIXELS, None),
        (INPUTS, None),
        (images, LABELS),
        (DataLoader(PIXELS, batch_size=4), None),
        (DataLoader(pairs, batch_size=4), LABELS),
        (DataLoader(named, batch_size=4), LABELS),
    ):
        found = encoder.features(given, batch_size=3)
        torch.testing.assert_close(found.features, expected)
        assert found.indices.tolist() == list(range(10))
        assert (found.labels is None) if labels is None else torch.equal(found.labels, labels)


def test_views_of_each_image_stand_side_by_side(encoder):
    other = PIXELS.flip(0)
    loader = DataLoader(
        [((one, two), label) for one, two, label in zip(PIXELS, other, LABELS, strict=True)], batch_size=4
    )
    found = encoder.features(loader)
    assert found.features.shape == (10, 2, 8)
    torch.testing.assert_close(found.features[:, 1], by_hand(encoder, INPUTS.flip(0)))
    assert torch.equal(found.labels, LABELS)


def test_some_images_and_how_far_it_is(encoder):
    told = []
    found = encoder.features(
        ArrayImages("made up", PIXELS, LABELS), indices=torch.tensor([7, 2]), progress=lambda done: told.append(done)
    )
    torch.testing.assert_close(found.features, by_hand(encoder)[[7, 2]])
    assert (found.indices.tolist(), found.labels.tolist(), told) == ([7, 2], [1, 2], [2])


def test_the_network_is_left_as_it_was(encoder):
    encoder.module.train()
    encoder.module[1].eval()  # frozen statistics in a network that is trained
    before = {name: value.clone() for name, value in encoder.module.state_dict().items()}
    assert not encoder.features(PIXELS).features.requires_grad
    assert [part.training for part in encoder.module.modules()] == [True, True, False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in encoder.module.state_dict().items())


def test_a_network_that_drops_the_axis_of_one_image_gives_what_it_gives_of_several(encoder):
    module = nn.Sequential(*encoder.module[:-1])
    module.append(Squeeze())
    squeezing = Encoder(module, Preprocessing(SIZE))
    assert squeezing.width == 8
    torch.testing.assert_close(squeezing.features(PIXELS, batch_size=3).features, by_hand(encoder))


class Squeeze(nn.Module):
    def forward(self, x):
        return x.squeeze()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: torch.fft.fft(x.mean(dim=(2, 3))), "the network gives complex numbers"),
        (lambda x: x.mean(), r"features of shape \(\) for 4 images, not \(B, D\)"),
        (lambda x: x.mean(dim=(1, 2, 3)), r"features of shape \(4,\) for 4 images, not \(B, D\)"),
        (lambda x: x.flatten(0, 1).flatten(1), r"features of shape \(12, 256\) for 4 images, not \(B, D\)"),
    ],
)
def test_what_is_no_feature_of_each_image_is_refused(output, message):
    class Network(nn.Module):
        def forward(self, x):
            return output(x)

    with pytest.raises(FullrankError, match=message):
        Encoder(Network(), Preprocessing(SIZE)).features(PIXELS[:4])


@pytest.mark.parametrize("size", [SIZE, 40])
def test_grays_and_alpha_in_batches_are_as_those_of_files(encoder, size):
    gray = torch.randint(0, 256, (4, 1, size, size), dtype=torch.uint8)
    expected = encoder.features(gray.expand(-1, 3, -1, -1)).features
    assert torch.equal(encoder.features(gray).features, expected)
    assert torch.equal(encoder.features(torch.cat([gray] * 3 + [255 - gray], dim=1)).features, expected)
    with pytest.raises(FullrankError, match=r"uint8 images .* have 1, 3 or 4 channels, got \(4, 2, "):
        encoder.features(gray.expand(-1, 2, -1, -1))


def test_images_of_another_size_are_shown_as_images_are(encoder):
    large = torch.randint(0, 256, (4, 3, 40, 24), dtype=torch.uint8)
    shown = views.normalize(views.as_float(views.eval_view(large, SIZE).mul(255).round_().to(torch.uint8)))
    torch.testing.assert_close(encoder.features(large).features, by_hand(encoder, shown))


def test_what_it_computes_in(encoder):
    found = encoder.features(PIXELS, dtype=torch.bfloat16).features
    assert found.dtype == torch.float32
    assert not torch.equal(found, by_hand(encoder))
    torch.testing.assert_close(found, by_hand(encoder), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "there are no images"),
        ([{"name": "x"}], "a batch holds no tensor of images .*: it is dict: give batches of tensors"),
        ([[PIXELS[:4, 0], torch.arange(4)]], rf"it is list, \(4, {SIZE}, {SIZE}\) and \(4,\)"),
        ([PIXELS.numpy()], "it is ndarray"),
        ([PIXELS.permute(0, 2, 3, 1)], r"of images with the channels last, permute\(0, 3, 1, 2\)"),
        ([PIXELS.long()], "images hold torch.int64: give uint8 from 0 to 255"),
        ([PIXELS > 9], "images hold torch.bool: give uint8"),
        (
            [[PIXELS, PIXELS], PIXELS],
            r"batches give features of shapes \(B, 2, \d+\) and \(B, \d+\): give as many views",
        ),
    ],
)
def test_what_holds_no_images(encoder, given, message):
    with pytest.raises(FullrankError, match=message):
        encoder.features(given)


@pytest.mark.parametrize(
    "batch",
    [
        lambda images, index, labels: (images, labels, index),
        lambda images, index, labels: (index, images, labels),
        lambda images, index, labels: [[images, images], labels],
        lambda images, index, labels: (images, labels[:, None], torch.tensor(6)),  # as of MedMNIST
        lambda images, index, labels: {"index": index, "image": images, "label": labels},
        lambda images, index, labels: {"targets": labels, "index": index, "pixel_values": images},
    ],
)
def test_an_index_is_not_taken_for_labels(encoder, batch):
    images, index, labels = torch.rand(6, 3, SIZE, SIZE), torch.arange(6), torch.arange(6) % 2
    assert torch.equal(encoder.features([batch(images, index, labels)]).labels, labels)
    assert encoder.features([{"index": index, "image": images}]).labels is None


def test_a_network_that_gives_no_tensor_is_one_clear_error(encoder):
    class Tuple(nn.Module):
        def forward(self, x):
            return (x.mean((2, 3)),)

    with pytest.raises(FullrankError, match=r"the network gives tuple, not features \(B, D\): wrap it"):
        replace(encoder, module=Tuple()).features(INPUTS)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_in_another_precision_sees_images_in_it(encoder, dtype):
    images = torch.rand(6, 3, SIZE, SIZE)
    other = replace(encoder, module=copy.deepcopy(encoder.module).to(dtype))
    expected = encoder.features(images).features
    torch.testing.assert_close(other.features(images).features, expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close(encoder.features(images.double()).features, expected)


def test_features_say_how_images_were_shown(encoder):
    pixels = torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)
    assert encoder.features(pixels).protocol == encoder.protocol
    assert encoder.features(pixels.float()).protocol == {
        "layer": "backbone",
        "mode": "eval",
        "view": "as the batches hold it",
    }


def test_a_module_in_memory_is_opened_as_it_says_or_by_the_eval_view(encoder):
    model = timm.create_model("resnet10t", num_classes=0)
    opened = open_encoder(model, image_size=32)
    assert (opened.width, opened.preprocessing.size, opened.preprocessing.interpolation) == (512, 32, "bicubic")
    assert opened.protocol["view"] == "timm's transform"
    plain = open_encoder(encoder.module, image_size=SIZE)
    assert (plain.width, plain.protocol["view"], plain.source) == (8, "eval", {"module": "Sequential"})
    assert model.training
    with pytest.raises(FullrankError, match="it does not take images of 224 x 224"):
        open_encoder(nn.Sequential(nn.Flatten(), nn.Linear(8, 2)), image_size=224)


def test_embeddings_are_of_the_online_branch(tmp_path):
    train(tiny(steps=1, out=tmp_path / "run", method="byol", target=TargetConfig(momentum=0.5)), console=quiet())
    online, target = (open_encoder(tmp_path / "run", branch=branch) for branch in ("online", "target"))
    assert (online.protocol["branch"], target.protocol["branch"]) == ("online", "target")
    assert not torch.equal(online.module.conv1.weight, target.module.conv1.weight)
    assert open_encoder(tmp_path / "run", layer="embedding").protocol["layer"] == "projector"
    with pytest.raises(FullrankError, match="the embedding is of the online branch, got branch='target'"):
        open_encoder(tmp_path / "run", layer="embedding", branch="target")
