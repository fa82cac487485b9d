import argparse
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from fullrank.config import BackboneConfig
from fullrank.errors import FullrankError
from fullrank.models.backbones import backbone
from fullrank.models.weights import DamagedError, ForeignError, Loaded, load_weights, read_pickle, read_weights
from fullrank.training.checkpoint import save_checkpoint


def renamed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def small():
    """Return a ResNet of every kind of layer, quick to build."""
    return backbone(BackboneConfig("resnet18", width=0.0625), image_size=32)


def filled(value):
    """Return weights of `small` that are all one number."""
    return {key: torch.full_like(tensor, value) for key, tensor in small().state_dict().items()}


def holds(model, value):
    return all(bool((tensor == value).all()) for tensor in model.state_dict().values())


@pytest.fixture(scope="module")
def torchvision18():
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # else equal to those of any other new model
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


# reading


def test_reads_what_torch_save_writes_flat_and_without_the_rest(tmp_path):
    w = torch.arange(6.0).reshape(2, 3)
    saved = {
        "epoch": 3,
        "arch": "resnet18",
        "state_dict": {"module.conv.weight": w, "module.bn.steps": torch.tensor(4)},
        "model": {"encoder": {"w": nn.Parameter(w.T)}},
        "optimizer": {"state": {0: {"momentum_buffer": w}}, "param_groups": [{"lr": 0.1}]},
    }
    for name, options in {"a.pt": {}, "b.pth.tar": {"_use_new_zipfile_serialization": False}, "c.CKPT": {}}.items():
        torch.save(saved, tmp_path / name, **options)
        weights = read_weights(tmp_path / name)
        assert list(weights) == [
            "state_dict.module.conv.weight",
            "state_dict.module.bn.steps",
            "model.encoder.w",
            "optimizer.state.0.momentum_buffer",
        ]
        assert torch.equal(weights["model.encoder.w"], w.T)
        assert not weights["model.encoder.w"].requires_grad


def test_reads_safetensors(tmp_path):
    save_file({"encoder.w": torch.ones(2, dtype=torch.bfloat16)}, tmp_path / "x.safetensors")
    weights = read_weights(str(tmp_path / "x.safetensors"))
    assert weights["encoder.w"].tolist() == [1, 1]
    assert weights["encoder.w"].dtype == torch.bfloat16


def test_reads_a_checkpoint_of_fullrank(tmp_path):
    path = save_checkpoint(tmp_path, 5, {"model": renamed(filled(2.0), "backbone.")}, keep=1)
    model = small()
    assert load_weights(model, read_weights(path)) == Loaded("model.backbone", (), ())
    assert holds(model, 2)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Bomb(), "asks for posix.mkdir, .* nothing in it was run"),
        (argparse.Namespace(lr=Bomb()), "asks for posix.mkdir, .*: it was refused, .* If you trust whoever made it"),
        (nn.Linear(1, 1), "asks for torch.nn.modules.linear.Linear"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_no_tensor_is_refused_by_name_and_nothing_runs(tmp_path, monkeypatch, value, message, zipped):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(2), "args": value}, "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ForeignError, match=message + r".*checkpoint = torch.load\('x.pt'|" + message):
        read_weights("x.pt")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_arguments_and_numbers_of_numpy_are_read_past(tmp_path, zipped):
    """As checkpoints of DINO and MAE have them, and best accuracies everywhere."""
    inner = argparse.Namespace(lr=1, more=argparse.Namespace(name="x"))
    state = {"args": inner, "best": np.float64(3), "epoch": np.int64(4), "one": np.float32(1), "w": torch.ones(2)}
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
    assert list(read_weights(tmp_path / "x.pth")) == ["w"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_pickles_are_refused_and_nothing_runs(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.bin").write_bytes(pickle.dumps({"w": Bomb()}, protocol))
    with pytest.raises(FullrankError, match=r"nothing in it was run|damaged"):
        read_weights("x.bin")
    assert not (tmp_path / "exploded").exists()
    pickle.loads(pickle.dumps(Bomb(), protocol))  # the pickle would have gone off
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_cut_and_overwritten_files_are_damaged(tmp_path, zipped):
    path = tmp_path / "x.pth"
    torch.save({"w": torch.randn(1000)}, path, _use_new_zipfile_serialization=zipped)
    good = path.read_bytes()
    for size in (0, 1, 3, 20, 100, 200, 1000, len(good) - 20, len(good) - 1):
        path.write_bytes(good[:size])
        with pytest.raises(DamagedError, match=r"x.pth is damaged, cut short or overwritten .*: copy or save it again"):
            read_weights(path)
    if zipped:
        middle = len(good) // 2
        path.write_bytes(good[:middle] + bytes(byte ^ 255 for byte in good[middle : middle + 4]) + good[middle + 4 :])
        with pytest.raises(DamagedError, match="the checksum of .* is wrong"):
            read_weights(path)


def test_other_files_are_named_for_what_they_are(tmp_path):
    page, archive, tar, script = (tmp_path / name for name in ("page.pt", "zip.pt", "tar.tar", "script.pt"))
    page.write_text("<html>Not found</html>\n" * 20)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("weights.pth", "x")
    with tarfile.open(tar, "w") as file:
        file.add(page, "page.pt")
    with zipfile.ZipFile(script, "w") as file:  # the members that tell a TorchScript program
        file.writestr("script/data.pkl", "x")
        file.writestr("script/constants.pkl", "x")
    save_file({"w": torch.ones(9)}, tmp_path / "cut.safetensors")
    os.truncate(tmp_path / "cut.safetensors", 80)
    for path, message in (
        (page, "page.pt is damaged, .* \\(or torch.save did not write it\\)"),
        (archive, "is a zip file that torch.save did not write"),
        (tar, "is a tar archive: unpack it"),
        (script, r"is a TorchScript program, which was not run: .*torch.jit.load\('script.pt'\).state_dict\(\)"),
        (tmp_path / "cut.safetensors", "cut.safetensors is damaged, cut short"),
        (tmp_path / "none.pt", "none.pt does not exist: give a file of weights, .safetensors, .pt"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(FullrankError, match=message):
            read_weights(path)
    (tmp_path / "x.onnx").write_bytes(b"x")
    with pytest.raises(FullrankError, match="none of the formats that weights are read from, .*: save them with"):
        read_weights(tmp_path / "x.onnx")
    torch.save({"epoch": 3, "names": ["a"]}, tmp_path / "empty.pt")
    with pytest.raises(FullrankError, match="holds no tensors: give a file that has a model's state dict"):
        read_weights(tmp_path / "empty.pt")
    assert read_pickle(tmp_path / "empty.pt") == {"epoch": 3, "names": ["a"]}


# loading


@pytest.mark.parametrize("build", [lambda: timm.create_model("resnet18", num_classes=0), None])
def test_torchvisions_weights_give_torchvisions_features(torchvision18, build):
    model = (build or (lambda: backbone("resnet18", image_size=224)))().eval()
    state = {key: tensor for key, tensor in torchvision18.state_dict().items() if "num_batches" not in key}
    assert load_weights(model, state) == Loaded("", (), ("fc",))
    images = torch.randn(2, 3, 64, 64)
    features = nn.Sequential(*list(torchvision18.children())[:-1])
    assert torch.equal(model(images), features(images).flatten(1))


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "backbone.",
        "encoder.",
        "state_dict.module.encoder_q.",
        "teacher.backbone.",
        "_orig_mod.",
        "model._orig_mod.module.",
        "0.",
    ],
)
def test_prefixes_are_found(prefix):
    weights = {"epoch": torch.tensor(3), **renamed(filled(2.0), prefix), "zz.weight": torch.ones(3)}
    model = small()
    loaded = load_weights(model, weights)
    assert loaded == Loaded(prefix.removesuffix("."), (), () if prefix else ("epoch", "zz"))
    assert holds(model, 2)


def test_the_first_network_wins_and_the_others_are_named():
    weights = renamed(filled(1.0), "encoder_q.") | renamed(filled(2.0), "encoder_k.") | renamed(filled(3.0), "ema.net.")
    model = small()
    assert load_weights(model, weights) == Loaded("encoder_q", ("encoder_k", "ema.net"), ())
    assert holds(model, 1)
    for prefix in ("encoder_k", "encoder_k."):
        assert load_weights(model, weights, prefix=prefix) == Loaded("encoder_k", (), ())
        assert holds(model, 2)
    with pytest.raises(FullrankError, match=r"under 'encoder_p'; did you mean 'encoder_[qk]'\? \(they may lie under"):
        load_weights(model, weights, prefix="encoder_p")
    with pytest.raises(FullrankError, match="under '' .they may lie under 'encoder_q', 'encoder_k', 'ema.net'"):
        load_weights(model, weights, prefix="")
    assert holds(model, 2)


def test_a_network_that_does_not_fit_is_passed_over():
    broken = renamed(filled(1.0), "student.")
    broken["student.conv1.weight"] = torch.ones(4, 3, 7, 7)
    deeper = renamed(filled(1.0), "deep.") | {"deep.layer1.2.conv1.weight": torch.ones(4, 4, 3, 3)}
    model = small()
    assert load_weights(model, broken | deeper | renamed(filled(2.0), "teacher.")) == Loaded("teacher", (), ())
    assert holds(model, 2)


def test_a_simsiam_checkpoint(tmp_path):
    state = renamed(filled(2.0), "module.encoder.")
    state |= {"module.encoder.fc.0.weight": torch.ones(3, 3), "module.encoder.fc.1.running_mean": torch.ones(3)}
    state |= {"module.predictor.0.weight": torch.ones(3, 3), "module.predictor.1.num_batches_tracked": torch.tensor(1)}
    momentum = {index: {"momentum_buffer": torch.ones(3)} for index in range(3)}
    torch.save({"epoch": 1, "state_dict": state, "optimizer": {"state": momentum}}, tmp_path / "x.pth.tar")
    model = small()
    loaded = load_weights(model, read_weights(tmp_path / "x.pth.tar"))
    assert loaded == Loaded("state_dict.module.encoder", (), ("fc",))
    assert holds(model, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_take_the_models_dtype(dtype):
    weights = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in filled(2.0).items()}
    model = small()
    load_weights(model, weights)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert holds(model, 2)


def test_shared_and_strided_tensors_are_copied():
    state = small().state_dict()
    pool = torch.arange(20_000.0)
    weights = {
        key: pool[: tensor.numel()].reshape(tensor.shape[::-1]).permute(tuple(reversed(range(tensor.ndim))))
        for key, tensor in state.items()
    }
    before = {key: tensor.clone() for key, tensor in weights.items()}
    model = small()
    load_weights(model, weights)
    pool.zero_()
    assert all(torch.equal(tensor, before[key].to(tensor.dtype)) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", ["test_convnext", "test_vit", "mobilenetv3_small_050"])
def test_classifiers_of_timm_are_left_out(name):
    full = timm.create_model(name, num_classes=7)
    classifier = full.pretrained_cfg["classifier"]
    model = timm.create_model(name, num_classes=0)
    assert load_weights(model, renamed(full.state_dict(), "model.")) == Loaded("model", (), (classifier,))
    assert all(torch.equal(tensor, full.state_dict()[key]) for key, tensor in model.state_dict().items())


# what does not fit


def refused(model, weights, **options):
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(FullrankError) as caught:
        load_weights(model, weights, **options)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    return str(caught.value)


def without_advice(monkeypatch):
    """Spare a second in which all common backbones are tried."""
    monkeypatch.setattr("fullrank.models.weights._advice", lambda *_: "")


def test_a_deeper_model_of_the_family_does_not_fit():
    model = backbone("resnet18", image_size=224)
    message = refused(model, renamed(torchvision.models.resnet34(weights=None).state_dict(), "module."))
    assert message.startswith(
        "the weights do not fit the model: 100 of its 100 parameters and buffers were found in equal shape under "
        "'module'; left over, and not to be left out: layer1.2.conv1.weight, layer1.2.bn1.weight, "
        "layer1.2.bn1.bias and "
    )
    assert message.endswith("they fit --backbone resnet34 --stem imagenet")


def test_a_shallower_model_does_not_fit(torchvision18):
    message = refused(timm.create_model("resnet34", num_classes=0), torchvision18.state_dict())
    assert (
        "100 of its 180 parameters and buffers were found" in message
    )  # 20 and 36 convolutions, each with 4 of BatchNorm
    assert "missing: layer1.2.conv1.weight (nearest in the file: layer1.1.conv1.weight)" in message
    assert message.endswith("they fit --backbone resnet18 --stem imagenet")


def test_another_stem_is_told_by_its_shape(torchvision18):
    message = refused(backbone("resnet18", image_size=32), torchvision18.state_dict())
    assert "99 of its 100 parameters and buffers" in message
    assert "of another shape: conv1.weight is (64, 3, 7, 7) in the file and (64, 3, 3, 3) in the model" in message
    assert message.endswith("they fit --backbone resnet18 --stem imagenet")


def test_another_family_is_named():
    weights = renamed(timm.create_model("vit_tiny_patch16_224", num_classes=3).state_dict(), "module.student.")
    message = refused(small(), weights)
    assert "missing: conv1.weight" in message
    assert message.endswith("they fit --backbone vit_tiny_patch16_224 --image-size 224")


def test_a_vision_transformer_for_images_of_another_size_says_the_size_of_its_weights():
    name = "vit_tiny_patch16_224"
    weights = timm.create_model(name, num_classes=0).state_dict()
    message = refused(timm.create_model(name, num_classes=0, img_size=32), weights)
    assert "pos_embed is (1, 197, 192) in the file and (1, 5, 192) in the model" in message
    assert message.endswith(f"they fit --backbone {name} --image-size 224")


def test_unknown_weights_ask_for_their_backbone(monkeypatch):
    message = refused(small(), {"conv1.weight": torch.ones(4, 3, 3, 3), "deep.er": torch.ones(3)})
    assert "1 of its 100 parameters and buffers were found in equal shape at the top level" in message
    assert "(--backbone), and the size of its images" in message
    assert message.endswith("a network of your own is measured in Python, fullrank.inspect(model, loader)")
    without_advice(monkeypatch)
    message = refused(small(), {"a.b": torch.ones(3)})
    assert "0 of its 100 parameters" in message
    assert "left over" not in message
    assert "they may lie under nothing in this file" in refused(small(), {"a.b": torch.ones(3)}, prefix="a")


def test_extra_parts_of_a_layer_do_not_fit(monkeypatch):
    without_advice(monkeypatch)
    message = refused(small(), {**filled(2.0), "layer1.0.gamma": torch.ones(4)})
    assert "left over, and not to be left out: layer1.0.gamma; " in message
    vit = timm.create_model("test_vit", num_classes=0)
    scaled = {**vit.state_dict(), "blocks.0.ls1.gamma": torch.ones(64)}  # an Identity here, but no classifier
    assert "left over, and not to be left out: blocks.0.ls1.gamma" in refused(vit, scaled)
    # DINOv2's registers, which all other tokens attend to; its mask token stands for nothing outside training
    registers = vit.state_dict() | {"register_tokens": torch.zeros(1, 4, 64), "mask_token": torch.zeros(1, 64)}
    assert "left over, and not to be left out: register_tokens; " in refused(vit, registers)
    assert load_weights(vit, vit.state_dict() | {"mask_token": torch.zeros(1, 64)}).ignored == ("mask_token",)


def test_a_given_prefix_that_does_not_fit_is_explained_by_itself(monkeypatch):
    without_advice(monkeypatch)
    weights = renamed(filled(1.0), "a.") | renamed(filled(2.0), "b.")
    del weights["b.bn1.weight"]
    message = refused(small(), weights, prefix="b")
    assert "99 of its 100 parameters and buffers were found in equal shape under 'b'" in message
    assert "missing: bn1.weight (nearest in the file: " in message
    assert load_weights(small(), weights).prefix == "a"


@pytest.mark.parametrize("build", [lambda: timm.create_model("resnet18", num_classes=0), torchvision.models.resnet18])
def test_layers_that_a_sequential_numbers_get_their_names(build):
    """`nn.Sequential(*list(resnet.children())[:-1])`, as many training scripts make their backbone."""
    source = torchvision.models.resnet18(weights=None)
    cut = nn.Sequential(*list(source.children())[:-1])
    weights = {f"state_dict.backbone.{key}": value for key, value in cut.state_dict().items()}
    assert "state_dict.backbone.4.0.conv1.weight" in weights
    model = build()
    model.fc = nn.Identity()
    assert load_weights(model, weights).prefix == "state_dict.backbone"
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model.eval()(x), cut.eval()(x).flatten(1))
    with pytest.raises(FullrankError, match="do not fit"):
        load_weights(timm.create_model("resnet34", num_classes=0), weights)
