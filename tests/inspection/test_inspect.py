"""`inspect` on everything that it takes: what it measures is what is measured by hand, and what is wrong is said."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from tests.training.tiny import quiet, tiny
from torchvision.transforms.functional import to_pil_image

import fullrank
from fullrank.config import HeadsConfig, TargetConfig
from fullrank.data import views
from fullrank.data.eval_images import load_for_eval, view_blocks
from fullrank.data.images import open_images, sample
from fullrank.data.order import subset
from fullrank.encoders import kind_of, open_encoder
from fullrank.errors import FullrankError
from fullrank.exporting.export import export
from fullrank.inspection.inspect import SAMPLE, VIEW_SEED, VIEW_STEP, absorb, inspect
from fullrank.inspection.options import InspectOptions
from fullrank.measure.protocols import obstacle
from fullrank.measure.quality import alignment, lidar, rankme
from fullrank.measure.scores import SCORES
from fullrank.models.backbones import backbone
from fullrank.training.checkpoint import list_checkpoints
from fullrank.training.loop import train
from fullrank.training.runs import read_spectra
from fullrank.training.scores import kept


def normal(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    train(tiny(steps=8, out=path), console=quiet())
    return path


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A SimSiam checkpoint as others write them: wrapped, with heads, in a dictionary."""
    torch.manual_seed(7)
    model = torchvision.models.resnet18(weights=None)
    path = tmp_path_factory.mktemp("weights") / "checkpoint.pth"
    torch.save({"epoch": 9, "state_dict": {f"module.encoder.{k}": v for k, v in model.state_dict().items()}}, path)
    return path, model


def test_a_matrix_is_measured_as_by_hand(tmp_path):
    features = normal(400, 12) @ np.diag(np.linspace(1, 0.01, 12)).astype(np.float32) + 3
    np.save(tmp_path / "x.npy", features)
    found = inspect([str(tmp_path / "x.npy")])[0]
    by_hand = fullrank.spectrum(features)
    assert found.kind == "features"
    torch.testing.assert_close(found.spectrum.singular_values, by_hand.singular_values, rtol=1e-9, atol=1e-9)
    assert found.scores["rankme"].value == pytest.approx(rankme(features), rel=1e-9)
    assert set(found.scores) == {
        name for name, kind in SCORES.items() if kind.function is not None and kind.needs == "features"
    }
    assert found.scores["auc"].protocol["center"]
    assert not found.scores["rankme"].protocol["center"]
    assert found.scores["uniformity"].protocol["t"] == 2.0
    assert found.verdict.layer == "not stated"
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["verdict"]["level"] == found.verdict.level


def test_all_rows_make_the_spectrum_and_a_sample_the_rest():
    x = torch.from_numpy(normal(SAMPLE + 500, 4)).sort(dim=0).values
    centred, uncentred, some, _ = absorb(x.split(777), {}, len(x), 4)
    assert (centred.protocol["n"], uncentred.protocol["n"], len(some)) == (len(x), len(x), SAMPLE)
    rows = {tuple(row) for row in x.tolist()}
    assert len({tuple(row) for row in some.tolist()} & rows) == SAMPLE
    assert float((some.mean(dim=0) - x.mean(dim=0)).abs().max()) < 0.02  # of all of a sorted matrix, not of its head
    torch.testing.assert_close(uncentred.singular_values, fullrank.spectrum(x, center=False).singular_values)


def test_a_run_is_measured_as_it_was_while_it_trained(run):
    found = inspect([str(run)], InspectOptions(limit=80))[0]
    recorded = {score["name"]: score["value"] for score in json.loads((run / "summary.json").read_text())["scores"]}
    for name in ("auc", "participation_ratio", "dead"):
        assert found.scores[name].value == pytest.approx(recorded[name], abs=1e-6)
    _, spectra = read_spectra(run / "spectra.safetensors")
    np.testing.assert_allclose(found.spectrum.singular_values, spectra[-1], rtol=1e-4, atol=1e-6 * spectra[-1][0])
    np.testing.assert_allclose(found.untrained.singular_values, spectra[0], rtol=1e-4, atol=1e-6 * spectra[0][0])
    assert (found.kind, found.source["step"]) == ("run", 8)
    assert found.spectrum.protocol == {
        "layer": "backbone",
        "branch": "online",
        "mode": "eval",
        "view": "eval",
        "image_size": 16,
        "mean": views.IMAGENET_MEAN,
        "std": views.IMAGENET_STD,
        "arithmetic": "float32",
        "images": "digits",
        "split": "train",
        "subset": 0.15,
        "sample": "at random, seed 0",
        "n": 80,
        "d": 32,
        "center": True,
        "normalize": False,
        "dtype": "float32",
        "method": "moments",
        "floor": pytest.approx(8.4e-8, rel=0.1),
    }


def test_images_of_one_name_are_compared_by_what_they_are(tmp_path, monkeypatch):
    """A folder that was changed in between, or one of the same name elsewhere, is another set."""
    made = open_images("digits")
    protocols = []
    for place, first in (("a", 0), ("b", 40), ("c", 0)):
        folder = tmp_path / place / "photos"
        folder.mkdir(parents=True)
        for index in range(first, first + 40):
            to_pil_image(made.read(index)).save(folder / f"{index - first}.png")
        monkeypatch.chdir(folder.parent)
        options = InspectOptions(images="photos", untrained=False, pretrained="no", image_size=32)
        protocols.append(inspect(["resnet18"], options)[0].scores["auc"].protocol)
    assert obstacle("auc", protocols[:2]) == "measured in different ways (images)"
    assert obstacle("auc", protocols[::2]) == ""


@pytest.mark.parametrize(("recipe", "crop"), [("auto", (0.6, 1.0)), ("simsiam", (0.2, 1.0))])
def test_scores_of_views_are_of_the_recipe(run, tmp_path, recipe, crop):
    path = tmp_path / "run"
    train(tiny(steps=1, out=path, crop_min=0.6, views="cifar"), console=quiet())
    found = inspect([str(path)], InspectOptions(limit=30, views=recipe, untrained=False))[0]
    name = "cifar" if recipe == "auto" else recipe
    protocol = found.scores["alignment"].protocol
    assert (protocol["recipe"], protocol["crop_scale"], protocol["views"], protocol["n"]) == (name, crop, 10, 30)
    assert "view" not in protocol
    images = open_images("digits").select(subset(1438, 0.15, 0))
    chosen = sample(torch.arange(len(images)), 30)
    pair = views.recipe(name, crop_min=0.6 if recipe == "auto" else None)
    (shown,) = view_blocks(images, chosen, pair, 16, seed=VIEW_SEED, step=VIEW_STEP, count=10)
    encoder = fullrank.load(path)
    with torch.no_grad():
        z = torch.stack([encoder(views.normalize(views.as_float(view))) for view in shown], dim=1)
    assert found.scores["alignment"].value == pytest.approx(alignment(z), rel=1e-4)
    assert found.scores["lidar"].value == pytest.approx(lidar(z), rel=1e-3)
    assert VIEW_STEP > 2**62


def test_untrained_twin_of_a_run_has_its_initial_weights(run):
    first = next(path for path in list_checkpoints(run / "checkpoints") if path.stem.endswith("5"))
    whole = inspect([str(first)], InspectOptions(limit=80, views="none"))[0]
    assert whole.kind == "checkpoint"
    again = inspect([str(run)], InspectOptions(limit=80, views="none"))[0]
    assert whole.untrained.singular_values.equal(again.untrained.singular_values)
    assert not whole.spectrum.singular_values.equal(again.spectrum.singular_values)


def test_embeddings_in_one_point_are_found_behind_a_run(tmp_path):
    """What a SimSiam loss of -1 means, which the representations need not show."""
    seldom = replace(tiny().monitor, measure_every=100)
    train(tiny(steps=100, seed=2, checkpoint_every=100, monitor=seldom, out=tmp_path / "run"), console=quiet())
    shutil.copytree(tmp_path / "run", tmp_path / "point")
    file = list_checkpoints(tmp_path / "point" / "checkpoints")[-1]
    state = torch.load(file, weights_only=False)
    last = [name for name in state["model"] if name.startswith("projector.") and state["model"][name].ndim == 2][-1]
    state["model"][last].zero_()
    torch.save(state, file)
    options = InspectOptions(images="digits", limit=400, views="none")
    before, after = (inspect([str(tmp_path / name)], options)[0] for name in ("run", "point"))
    assert before.verdict.level != "collapsed"
    assert (after.verdict.level, after.verdict.layer) == ("collapsed", "projector")
    assert "embeddings lie near one point: their standard deviation is 0 of 1/sqrt(M)" in after.verdict.text
    assert torch.equal(before.spectrum.singular_values, after.spectrum.singular_values)


def test_a_student_is_inspected_without_its_teacher(run, tmp_path):
    shutil.copytree(run, tmp_path / "teacher")
    target = TargetConfig(teacher=str(tmp_path / "teacher"))
    train(
        tiny(steps=4, out=tmp_path / "student", method="distill", target=target, heads=HeadsConfig()), console=quiet()
    )
    shutil.rmtree(tmp_path / "teacher")
    (found,) = inspect(
        [str(tmp_path / "student")], InspectOptions(images="digits", limit=100, views="none", untrained=False)
    )
    assert found.source["method"] == "distill"


def test_embeddings_are_not_judged_before_their_statistics_have_settled(run):
    found = inspect([str(run)], InspectOptions(images="digits", limit=400, views="none"))[0]  # 8 steps
    assert found.verdict.layer == "backbone"
    assert "embeddings" not in found.verdict.text


def test_embedding_of_a_run(run):
    found = inspect([str(run)], InspectOptions(limit=80, layer="embedding", untrained=False, views="none"))[0]
    assert found.spectrum.dim == 16
    assert found.verdict.layer == "projector"
    assert found.untrained is None


def test_a_timm_model_sees_images_by_timms_transform():
    options = InspectOptions(images="digits", image_size=32, limit=12, pretrained="no")
    found = inspect(["resnet10t"], options)[0]
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=0).eval()
    data = {**timm.data.resolve_model_data_config(model), "input_size": (3, 32, 32)}
    transform = timm.data.create_transform(**data, is_training=False)
    images = open_images("digits")
    chosen = sample(torch.arange(1438), 12).tolist()
    shown = [torchvision.transforms.functional.to_pil_image(images.read(i)) for i in chosen]
    with torch.no_grad():
        features = model(torch.stack([transform(image) for image in shown]))
    expected = fullrank.spectrum(features).singular_values
    assert float((found.spectrum.singular_values - expected).abs().max() / expected[0]) < 1e-5
    assert found.spectrum.protocol["interpolation"] == "bicubic"
    assert "its weights are random" in found.verdict.text
    assert found.verdict.remedies == ()
    assert found.verdict.confidence == "low"  # 12 images


@pytest.mark.parametrize("offline", [True, False])
def test_without_a_network_pretrained_weights_are_an_error_at_once(monkeypatch, offline):
    constants = pytest.importorskip("huggingface_hub.constants")
    asked = []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "http://localhost:9")  # where nothing listens
    monkeypatch.setattr(timm, "create_model", lambda *args, **rest: asked.append(constants.HF_HUB_OFFLINE) or _absent())
    with pytest.raises(FullrankError, match=r"weights of resnet18 cannot be had .*--pretrained no for random weights"):
        inspect(["resnet18"], InspectOptions(images="digits", image_size=32, limit=12))
    assert asked == [True]  # the cache alone was asked
    assert constants.HF_HUB_OFFLINE is offline


def _absent():
    raise OSError("nothing in the cache. And more")


def test_a_model_without_pretrained_weights():
    with pytest.raises(FullrankError, match=r"timm has no pretrained weights of nf_resnet26: .*--pretrained no"):
        inspect(["nf_resnet26"], InspectOptions(images="digits", image_size=32, limit=12))


def test_somebody_elses_weights(resnet):
    path, model = resnet
    found = inspect([str(path)], InspectOptions(backbone="resnet18", images="digits", image_size=32, limit=40))[0]
    images, _ = load_for_eval(open_images("digits"), sample(torch.arange(1438), 40), 32)
    model.fc = torch.nn.Identity()
    with torch.no_grad():
        features = model.eval()(views.normalize(views.as_float(images)))
    expected = fullrank.spectrum(features).singular_values
    assert float((found.spectrum.singular_values - expected).abs().max() / expected[0]) < 1e-5
    assert found.source["prefix"] == "state_dict.module.encoder"
    assert found.source["left out"] == "fc"
    assert found.untrained is not None


def test_a_size_that_weights_do_not_tell_makes_no_verdict_sure(resnet):
    options = InspectOptions(backbone="resnet18", images="digits", limit=8, untrained=False)
    guessed, said = (inspect([str(resnet[0])], replace(options, image_size=size))[0].verdict for size in (None, 224))
    assert guessed.certainty.startswith("images of 16 x 16 were enlarged to 224 x 224")
    assert "--image-size 16 or --image-size 224" in guessed.certainty
    assert (guessed.confidence, guessed.remedies) == ("low", ())
    assert "enlarged" not in said.text


def test_small_images_stem_and_safetensors(tmp_path, run):
    state = backbone("resnet18_w16", image_size=32).state_dict()
    weights = {f"net.{name}": value for name, value in state.items()}
    save_file(weights, tmp_path / "w.safetensors")
    found = inspect(
        [str(tmp_path / "w.safetensors")], InspectOptions(backbone="resnet18_w16", images="digits", limit=20)
    )[0]
    assert found.source["stem"].startswith("cifar: 3x3, stride 1")
    assert found.spectrum.protocol["image_size"] == 32
    other = InspectOptions(backbone="resnet18_w16", images="digits", limit=20, stem="cifar-stride2")
    other = inspect([str(tmp_path / "w.safetensors")], other)[0]
    assert other.source["stem"].startswith("cifar-stride2")
    assert not other.spectrum.singular_values.equal(found.spectrum.singular_values)
    assert found.source["normalization"].startswith("ImageNet's (for weights of solo-learn, trained on CIFAR:")


@pytest.mark.parametrize("name", ["resnet18_w16", "resnet10t"])
def test_images_are_normalized_as_the_weights_file_was_trained(tmp_path, name):
    model = (backbone(name, image_size=32) if name == "resnet18_w16" else timm.create_model(name, num_classes=0)).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    how = {"backbone": name, "image_size": 32, "normalization": "cifar10"}
    opened = open_encoder(tmp_path / "w.safetensors", **how)
    pixels = torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, deviation = (torch.tensor(each)[:, None, None] for each in ((0.4914, 0.4822, 0.4465), (0.247, 0.243, 0.261)))
    with torch.no_grad():
        wanted = model((pixels / 255 - mean) / deviation)
    torch.testing.assert_close(opened.features(pixels).features, wanted)
    assert "normalization" not in opened.source


def test_what_weights_do_not_tell_of_a_vision_transformer(tmp_path):
    name, size = "vit_tiny_patch16_224", 32
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, num_heads=6, img_size=size).eval()
    file = tmp_path / "moco.pth"
    torch.save({"state_dict": {f"module.base_encoder.{key}": own for key, own in model.state_dict().items()}}, file)
    open_weights = partial(open_encoder, file, backbone=name, image_size=size)
    pixels = torch.randint(256, (4, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model(views.normalize(views.as_float(pixels)))
    as_trained = open_weights(attention_heads=6, normalization="imagenet")
    torch.testing.assert_close(as_trained.features(pixels).features, wanted)
    assert as_trained.source["attention heads"] == "6"
    assert "normalization" not in as_trained.source
    found = open_weights()
    assert not torch.allclose(found.features(pixels).features, wanted, atol=1e-2)
    assert found.source["attention heads"] == "3 (timm's; weights do not tell: --attention-heads)"
    assert found.source["normalization"].startswith("timm's (for weights of DINO")
    rotary = timm.create_model("eva02_tiny_patch14_224", num_classes=0, num_heads=6)  # no `VisionTransformer` of timm's
    save_file(rotary.state_dict(), tmp_path / "eva.safetensors")
    eva = open_encoder(tmp_path / "eva.safetensors", backbone="eva02_tiny_patch14_224", attention_heads=6)
    assert eva.source["attention heads"] == "6"
    with pytest.raises(FullrankError, match="does not take images of 32 x 32 and 5 attention heads: dim should be"):
        open_weights(attention_heads=5)
    save_file(backbone("resnet18_w16", image_size=size).state_dict(), tmp_path / "w.safetensors")
    for other in ("resnet18_w16", "resnet26", "swin_tiny_patch4_window7_224"):
        with pytest.raises(FullrankError, match=f"attention_heads are of a vision transformer .* '{other}' is none"):
            open_encoder(tmp_path / "w.safetensors", backbone=other, attention_heads=4)
    with pytest.raises(FullrankError, match=r"stem=cifar is of a ResNet of \[Li22\] .* 'resnet26' has its own"):
        open_encoder(tmp_path / "w.safetensors", backbone="resnet26", stem="cifar")


def test_rows_that_repeat_others_make_no_verdict_sure():
    once = normal(40, 64)
    found = fullrank.inspect(np.repeat(once, 50, axis=0)[np.random.default_rng(0).permutation(2000)])
    assert found.scores["auc"].protocol["distinct"] == 40
    assert (found.verdict.confidence, found.verdict.remedies) == ("low", ())
    assert "40 different ones of 2000 images cannot span 64 directions" in found.verdict.certainty
    some = fullrank.inspect(np.repeat(normal(400, 64), 5, axis=0))  # more than 5 D: as if each were there once
    assert "distinct" not in some.scores["auc"].protocol
    assert some.verdict.confidence == "high"


def test_constant_features_have_a_verdict_and_reasons_instead_of_scores(tmp_path):
    np.save(tmp_path / "c.npy", np.full((300, 8), 0.5, dtype=np.float32))
    found = inspect([str(tmp_path / "c.npy")])[0]
    assert found.verdict.level == "collapsed"
    assert found.scores["dead"].value == 8
    missing = {name: score.why for name, score in found.scores.items() if score.value is None}
    assert "two_nn" in missing
    assert all(missing.values())


def test_clid_is_of_a_pool(tmp_path):
    paths = []
    for seed in range(3):
        np.save(tmp_path / f"{seed}.npy", normal(200, 6, seed) * np.arange(1, 7) ** seed)
        paths.append(str(tmp_path / f"{seed}.npy"))
    assert "clid" not in inspect(paths[:2])[0].scores
    values = [each.scores["clid"].value for each in inspect(paths)]
    assert sum(values) == pytest.approx(0, abs=1e-9)


def test_images_that_cannot_be_read_are_named(tmp_path, run):
    from PIL import Image

    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    found = inspect([str(run)], InspectOptions(images=str(tmp_path), views="none", untrained=False))[0]
    assert [name.rsplit("/", 1)[1] for name in found.skipped] == ["broken.png"]
    assert found.spectrum.protocol["n"] == 40


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.full((4, 2), np.nan, dtype=np.float32), "x.npy: features hold NaN or infinity in 4 of 4 rows"),
        (np.zeros((1, 4), dtype=np.float32), "1 row"),
        (np.zeros((0, 4), dtype=np.float32), "x.npy"),
        (np.array([{"a": 1}], dtype=object), "x.npy"),
    ],
)
def test_matrices_that_cannot_be_measured(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", content, allow_pickle=True)
    with pytest.raises(FullrankError, match=message):
        inspect(["x.npy"])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet81", {}, "there is no resnet81: expected .*; did you mean 'resnet18'"),
        ("resnet18.pth", {}, r"there is no resnet18.pth: expected .* or the name of a timm model$"),
        ("resnet18", {}, "does not say which images"),
        ("w.pth", {}, "w.pth is not a checkpoint of ours: if it holds weights, say whose"),
        ("w.pth", {"backbone": "resnet18"}, "does not say which images"),
        ("w.pth", {"backbone": "resnet81", "images": "digits"}, "unknown backbone 'resnet81'; did you mean"),
        ("w.pth", {"backbone": "resnet34", "images": "digits", "image_size": 32}, "do not fit.*layer1.2.conv1.weight"),
        ("empty", {}, "empty is not a run"),
        (
            "resnet18",
            {"images": "digits", "layer": "embedding"},
            "--layer is for runs and checkpoints, and there is none",
        ),
        ("resnet18", {"images": "digits", "key": "x"}, "--key is for feature files, and there is none here"),
        (
            "resnet18.a1_in2k",
            {"images": "digits"},
            "no weights resnet18.a1_in2k; did you mean 'resnet18.a1_in1k'",
        ),
        ("resnet18", {"images": "digits", "limit": 1}, "limit must be at least 2 .*, got 1"),
        ("vit_tiny_patch16_224", {"images": "digits", "image_size": 8, "pretrained": "no"}, "8 x 8"),
    ],
)
def test_what_cannot_be_inspected(name, options, message, tmp_path, monkeypatch, resnet):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "w.pth").symlink_to(resnet[0])
    with pytest.raises(FullrankError, match=message):
        inspect([name], InspectOptions(**options))


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": {}, "hook": Evil()}, tmp_path / "w.pt")
    with pytest.raises(FullrankError, match="refused, and nothing in it was run"):
        inspect([str(tmp_path / "w.pt")], InspectOptions(backbone="resnet18", images="digits"))
    assert not (tmp_path / "ran").exists()


def test_all_names_are_looked_at_before_any_work(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", normal(50, 3))
    told = []
    with pytest.raises(FullrankError, match="there is no y.npy"):
        inspect([str(tmp_path / "x.npy"), "y.npy"], progress=lambda *what: told.append(what))
    assert told == []


def test_kinds(run, resnet, tmp_path):
    save_file({"features": torch.zeros(4, 2)}, tmp_path / "f.safetensors")
    assert kind_of(str(run), backbone="resnet18") == "run"
    (tmp_path / "UPPER.PTH").write_bytes(resnet[0].read_bytes())
    assert kind_of(str(tmp_path / "UPPER.PTH"), backbone="resnet18") == "weights"
    cut = tmp_path / "cut.pt"
    cut.write_bytes(list_checkpoints(run / "checkpoints")[0].read_bytes()[:5000])
    with pytest.raises(FullrankError, match="cut.pt is damaged"):
        kind_of(str(cut), backbone="resnet18")
    assert kind_of(str(list_checkpoints(run / "checkpoints")[0]), backbone="resnet18") == "checkpoint"
    assert kind_of(str(resnet[0]), backbone="resnet18") == "weights"
    assert kind_of(str(tmp_path / "f.safetensors"), backbone="resnet18") == "weights"
    assert kind_of(str(tmp_path / "f.safetensors")) == "features"
    assert kind_of("resnet18") == "timm model"


def test_one_number_of_images_for_all(resnet, monkeypatch):
    """Five times the widest D, for scores that depend on N could not be compared otherwise."""
    monkeypatch.setattr("fullrank.inspection.inspect.FEWEST_IMAGES", 10)
    monkeypatch.setattr("fullrank.inspection.inspect.ENOUGH", 1)
    options = InspectOptions(images="digits", image_size=32, pretrained="no", untrained=False)
    narrow, wide = inspect(["test_vit", "resnet10t"], options)
    assert (narrow.spectrum.dim, wide.spectrum.dim) == (64, 512)
    assert narrow.spectrum.protocol["n"] == wide.spectrum.protocol["n"] == 512


def test_constant_but_for_rounding(tmp_path):
    """A network's complete collapse is not exactly constant: rounding alone looks like a healthy spectrum."""
    rng = np.random.default_rng(0)
    for dtype, noise in ((np.float32, 1e-7), (np.float64, 1e-9), (np.float16, 1e-4)):
        constant = rng.random(64) + 0.5
        np.save(tmp_path / "c.npy", (constant + noise * rng.standard_normal((2000, 64))).astype(dtype))
        found = inspect([str(tmp_path / "c.npy")])[0]
        assert (found.verdict.level, found.verdict.confidence) == ("collapsed", "high"), dtype
        assert "constant but for rounding" in found.verdict.text
    np.save(tmp_path / "c.npy", (constant + 3e-3 * rng.standard_normal((2000, 64))).astype(np.float32))
    found = inspect([str(tmp_path / "c.npy")])[0]
    assert (found.verdict.level, found.verdict.confidence) == ("collapsed", "medium")
    assert "nearly constant: they vary by 0.003 of their size" in found.verdict.text
    assert "without gradient" in found.verdict.remedies[0].text


def test_what_is_named_twice_is_shown_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", normal(100, 4))
    np.save("y.npy", normal(100, 4, seed=1))
    assert [each.name for each in inspect(["x.npy", "y.npy", "./x.npy", str(tmp_path / "y.npy")])] == ["x.npy", "y.npy"]


def test_an_exported_encoder_is_inspected_as_its_run_is(run, tmp_path):
    export(run, tmp_path / "out")
    options = InspectOptions(images="digits", limit=80, views="none")
    (found,) = inspect([str(tmp_path / "out")], options)
    (own,) = inspect([str(run)], options)
    assert (found.kind, found.source["step"], found.untrained) == ("exported encoder", 8, None)
    assert "its weights are random" not in found.verdict.text
    assert found.scores["auc"].value == pytest.approx(own.scores["auc"].value, abs=0.01)  # pixels are rounded
    with pytest.raises(FullrankError, match="does not say which images"):
        inspect([str(tmp_path / "out")])


def test_scores_of_a_run_are_kept_with_it(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (found,) = inspect([str(tmp_path / "run")], InspectOptions(limit=40, views="none", untrained=False))
    assert "untrained" not in found.source
    taken = {each.score.name: each for each in kept(tmp_path / "run") if each.asked.get("limit") == 40}
    assert taken["rankme"].score.value == found.scores["rankme"].value
    assert {(each.by, each.step, each.asked["images"]) for each in taken.values()} == {("inspect", 8, None)}
    assert found.unkept == ""
    (tmp_path / "run" / "scores.json").write_text("{")
    (found,) = inspect([str(tmp_path / "run")], InspectOptions(limit=40, views="none", untrained=False))
    assert "scores.json is damaged" in found.unkept
    assert (tmp_path / "run" / "scores.json").read_text() == "{"
