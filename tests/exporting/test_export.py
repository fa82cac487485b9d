"""What others find in an exported folder: timm builds the same encoder from it, and the card says what is known."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import fullrank
from fullrank.cli import main
from fullrank.config import BackboneConfig, HeadsConfig, TargetConfig, to_dict
from fullrank.errors import FullrankError
from fullrank.exporting import export as exporting
from fullrank.exporting.card import Known, _with_chosen, card
from fullrank.exporting.export import export
from fullrank.measure.scores import Score
from fullrank.models import backbones
from fullrank.models.encoder import Encoder, Preprocessing
from fullrank.training import setup
from fullrank.training.checkpoint import save_checkpoint
from fullrank.training.loop import train
from fullrank.training.runs import read_run
from tests.training.test_loop import stop_after
from tests.training.tiny import quiet, tiny

FLAT = (1, 1, 1, 1)
VIT = {"name": "vit_tiny_patch16_224", "blocks": 1, "patch": 8}
BACKBONES = {
    "resnet18_w16": ({"name": "resnet18_w16"}, 32),
    "stride 2, narrow": ({"name": "resnet18", "width": 0.0625, "depths": FLAT, "stem": "cifar-stride2"}, 16),
    "cifar, width 1": ({"name": "resnet18", "depths": FLAT}, 32),
    "imagenet, narrow": ({"name": "resnet50", "width": 0.125, "stem": "imagenet"}, 32),
    "imagenet, width 1": ({"name": "basic50", "depths": FLAT, "stem": "imagenet"}, 32),
    "bottleneck, inner width": ({"name": "bottleneck26x2", "width": 0.125, "depths": (1, 2, 1, 1)}, 32),
    "bottleneck, timm's": ({"name": "bottleneck26x2", "depths": FLAT, "stem": "imagenet"}, 32),
    "ViT, fixed": ({**VIT, "attention_heads": 6, "positions": "sincos", "frozen_patches": True}, 32),
    "ViT": (VIT, 32),
    "convnext": ({"name": "convnext_atto"}, 32),
    "mobilenet": ({"name": "mobilenetv3_small_050"}, 32),
    "tagged": ({"name": "test_efficientnet.r160_in1k"}, 32),
}

# Run without fullrank: timm and torch alone, and what lies in each folder.
PLAIN = """
import os, re, sys
import timm, torch

for folder in sys.argv[2:]:
    os.chdir(folder)
    sys.path.insert(0, folder)
    images = torch.load("images.pt")
    blocks = re.findall(r"```python\\n(.*?)```", open("README.md").read(), re.S)
    found = {}
    for number, block in enumerate(block for block in blocks if "fullrank.load" not in block):
        names = {}
        exec(block, names)
        with torch.no_grad():
            found[f"block {number}"] = names["encoder"](images)
    local = timm.create_model("local-dir:.", pretrained=True).eval()
    with torch.no_grad():
        found["local-dir"] = local(images)
    found["data"] = timm.data.resolve_model_data_config(local)
    torch.save(found, sys.argv[1] + "/" + os.path.basename(folder) + ".pt")
assert "fullrank" not in sys.modules
"""


def untrained(folder, config):
    """A checkpoint whose weights and statistics are all random: nothing is 0 or 1 by chance."""
    config = setup.resolve_machine(config)[0]
    state = setup.build_method(config).state_dict()
    generator = torch.Generator().manual_seed(1)
    for value in state.values():
        if value.is_floating_point():
            value += 0.05 * torch.rand(value.shape, generator=generator)
    return save_checkpoint(folder, 3, {"config": to_dict(config), "model": state}, keep=0)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Every kind of backbone, exported, and what plain timm and torch make of the folders."""
    root = tmp_path_factory.mktemp("exported")
    folders = {}
    for number, (name, (backbone, size)) in enumerate(BACKBONES.items()):
        config = tiny(image_size=size, backbone=BackboneConfig(**backbone), heads=HeadsConfig(projector_hidden=8))
        checkpoint = untrained(root / f"run{number}", config)
        folders[name] = root / f"export{number}"
        export(checkpoint, folders[name])
        images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(2))
        torch.save(images, folders[name] / "images.pt")
        encoder = fullrank.load(checkpoint)
        with torch.no_grad():
            torch.save({"features": encoder(images), "config": encoder.pretrained_cfg}, root / f"ours{number}.pt")
    subprocess.run(
        [sys.executable, "-c", PLAIN, str(root), *map(str, folders.values())], check=True, env=_environment()
    )
    return lambda name: (
        folders[name],
        torch.load(root / f"ours{list(folders).index(name)}.pt", weights_only=True),
        torch.load(root / f"{folders[name].name}.pt", weights_only=True),
    )


def _environment():
    """Without this package on the path, and with the threads of this process: their number decides the last bit."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**kept, "OMP_NUM_THREADS": str(torch.get_num_threads())}


@pytest.mark.parametrize("name", BACKBONES)
def test_timm_and_torch_build_the_same_encoder_as_the_card_says(exported, name):
    folder, ours, theirs = exported(name)
    assert ours["features"].std() > 0
    assert {key for key in theirs if key != "data"} == {"block 0", "local-dir"}
    for key, features in theirs.items():
        if key != "data":
            assert torch.equal(features, ours["features"]), key
    for key in ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode"):
        assert json.loads(json.dumps(ours["config"][key])) == json.loads(json.dumps(theirs["data"][key])), key
    with torch.no_grad():
        again = fullrank.load(folder)(torch.load(folder / "images.pt"))
    assert torch.equal(again, ours["features"])


def test_what_timm_can_express_needs_no_file_of_ours(exported):
    ours = {"resnet18_w16", "stride 2, narrow", "cifar, width 1", "imagenet, narrow", "bottleneck, inner width"}
    for name in BACKBONES:
        folder, _, _ = exported(name)
        config = json.loads((folder / "config.json").read_text())
        assert (config["architecture"] == "fullrank_resnet") == (name in ours)
        assert (folder / "fullrank_resnet.py").is_file() == (name in ours)
    config = json.loads((exported("bottleneck, timm's")[0] / "config.json").read_text())
    assert (config["architecture"], config["model_args"]) == ("resnet50", {"layers": [1, 1, 1, 1], "base_width": 128})


def test_what_is_fixed_in_a_vision_transformer_is_in_its_weights(exported):
    weights = load_file(exported("ViT, fixed")[0] / "model.safetensors")
    assert {"pos_embed", "patch_embed.proj.weight"} <= set(weights)


@pytest.fixture(scope="module")
def byol(tmp_path_factory):
    """A run that has a target branch, finished, and the same one stopped at a step where nothing was measured."""
    root = tmp_path_factory.mktemp("byol")
    config = tiny(method="byol", heads=HeadsConfig(projector_hidden=8), target=TargetConfig(momentum=0.5))
    train(replace(config, steps=8, out=str(root / "whole")), console=quiet())
    with pytest.MonkeyPatch.context() as patch:
        stop_after(7, patch)
        with pytest.raises(KeyboardInterrupt):
            train(replace(config, steps=8, out=str(root / "stopped")), console=quiet())
    return root


def card_of(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def test_each_branch_is_named_and_is_its_own(byol, tmp_path):
    features = {}
    for branch in ("online", "target"):
        facts, _ = export(byol / "whole", tmp_path / branch, branch=branch)
        assert facts.branch == branch
        assert json.loads((tmp_path / branch / "config.json").read_text())["fullrank"]["branch"] == branch
        assert f"the {branch} branch" in card_of(tmp_path / branch)
        images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            features[branch] = fullrank.load(tmp_path / branch)(images)
            assert torch.equal(features[branch], fullrank.load(byol / "whole", branch=branch)(images))
    assert not torch.equal(features["online"], features["target"])
    with pytest.raises(FullrankError, match="is an export of the branch 'target', not of 'online'"):
        fullrank.load(tmp_path / "target", branch="online")


def test_scores_of_the_online_branch_are_not_shown_as_the_targets(byol, tmp_path):
    export(byol / "whole", tmp_path / "target", branch="target")
    card = card_of(tmp_path / "target")
    assert "Scores of the online branch, which the run measured, are not of this encoder and are left out." in card
    assert "| held-out loss |" in card  # of the method, both branches
    for words in ("| AUC |", "| k-NN accuracy |", "collapse"):
        assert words not in card


def test_a_method_without_the_branch_says_what_it_has(tmp_path):
    checkpoint = untrained(tmp_path, tiny(image_size=16))
    with pytest.raises(FullrankError, match="the method simsiam has no branch 'target': take online"):
        export(checkpoint, tmp_path / "out", branch="target")
    assert not (tmp_path / "out").exists()


def test_the_card_has_every_score_of_the_run_with_its_protocol(byol, tmp_path):
    run = read_run(byol / "whole")
    evaluated = {
        "fullrank": "0",
        "step": 8,
        "scores": [
            {"name": "knn", "value": 0.625, "better": "higher", "protocol": {"k": 7, "images": "/home/me/set.parquet"}},
            {"name": "probe", "value": 0.75, "better": "higher", "protocol": {"solver": "exact"}},
        ],
    }
    (run.path / "evaluation.json").write_text(json.dumps(evaluated))
    try:
        export(run.path, tmp_path / "out")
    finally:
        (run.path / "evaluation.json").unlink()
    card = card_of(tmp_path / "out")
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (?:lower|higher|none) \|$", card, re.M)
    assert len(rows) == len(run.summary["scores"]) + 2
    assert "**Probe**\n\n- solver: exact\n" in card
    assert "**K-NN accuracy**\n\n- k: 7\n- images: set.parquet\n".replace("K-NN", "k-NN") in card
    assert [name for name, _ in rows if name.startswith("k-NN accuracy: ")][
        -1
    ] == "k-NN accuracy: k 7, images set.parquet"
    assert ("k-NN accuracy: k 7, images set.parquet", "62.5\N{NO-BREAK SPACE}%") in rows
    assert any(re.match(r"k-NN accuracy: .*\bk \d+", name) for name, _ in rows[:-2])
    auc = next(score for score in run.summary["scores"] if score["name"] == "auc")
    assert f"| AUC | {auc['value']:.3f} | lower |" in card
    for words in ("- method: byol\n", "multiple-pass: 216 images", "online branch, after step 8 of 8", "momentum 0.5"):
        assert words in card


def test_the_verdict_is_that_of_these_weights(byol, tmp_path):
    export(byol / "whole" / "checkpoints" / "step_00000008.pt", tmp_path / "last")
    run = read_run(byol / "whole")
    assert f"\n{run.verdict().text}\n" in card_of(tmp_path / "last")
    assert "with random weights" in run.verdict().text or "before training" in run.verdict().text
    assert run.verdict(0).level == "untrained"
    export(byol / "whole" / "checkpoints" / "step_00000005.pt", tmp_path / "fifth")
    assert "AUC" not in card_of(tmp_path / "fifth").split("## Scores")[1]


def test_an_unfinished_run_is_exported_with_its_step(byol, tmp_path):
    export(byol / "stopped", tmp_path / "out")
    card = card_of(tmp_path / "out")
    assert "after step 5 of 8" in card
    assert "Nothing was measured at step 5." in card
    assert "Its training is unfinished" in card
    assert json.loads((tmp_path / "out" / "config.json").read_text())["fullrank"]["step"] == 5


def test_a_checkpoint_alone_is_exported_though_its_run_is_gone(tmp_path):
    export(untrained(tmp_path / "alone", tiny(image_size=16)), tmp_path / "out")
    assert "Its run was not at hand when it was exported" in card_of(tmp_path / "out")


def test_the_hub_reads_the_cards_metadata(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    config = tiny(image_size=16, images="cifar10", method="vicreg", heads=HeadsConfig(projector_hidden=8))
    export(untrained(tmp_path, config), tmp_path / "out")
    data = hub.ModelCard.load(tmp_path / "out" / "README.md").data
    assert data.library_name == "timm"
    assert data.pipeline_tag == "image-feature-extraction"
    assert data.datasets == ["uoft-cs/cifar10"]
    assert {"timm", "fullrank", "vicreg"} <= set(data.tags)
    export(untrained(tmp_path, tiny(image_size=16)), tmp_path / "digits")
    assert hub.ModelCard.load(tmp_path / "digits" / "README.md").data.datasets is None


def test_no_folder_of_this_machine_is_in_what_is_published(tmp_path):
    images = tmp_path / "my secret folder" / "set.parquet"
    config = tiny(image_size=16, images=str(images), eval_images=str(images), data_dir=str(tmp_path), out=str(tmp_path))
    export(untrained(tmp_path / "checkpoints", config), tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes(), path.name
    assert "set.parquet" in card_of(tmp_path / "out")


def test_no_folder_of_this_machine_is_in_what_is_published_of_a_measured_run(byol, tmp_path):
    run = tmp_path / "whole"
    shutil.copytree(byol / "whole", run)
    for file in ("metrics.jsonl", "summary.json"):
        text = (run / file).read_text()
        text = text.replace('"digits / digits"', '"digits / /home/me/secret/val"')
        (run / file).write_text(text.replace('"images": "digits"', '"images": "private/clients/acme"'))
    labels = ["cifar10 / /home/me/secret/val", "/home/me/secret/a/train / /home/me/secret/a/val", ". / ./secret/val"]
    protocol = {"objective": "l2 / 2 |W|^2", "base_lr": 0.5, "images": ["~/secret/a.parquet", "secret/b.parquet"]}
    scores = [
        {"name": "knn", "value": 0.5, "better": "higher", "protocol": {"labels": each, **protocol}} for each in labels
    ]
    (run / "evaluation.json").write_text(json.dumps({"fullrank": "0", "step": 8, "scores": scores}))
    export(run, tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        for word in (b"secret", b"/home", b"private", b"clients"):
            assert word not in path.read_bytes(), (word, path.name)
    card = card_of(tmp_path / "out")
    rest = "\n- objective: l2 / 2 |W|^2\n- base_lr: 0.5\n- images: a.parquet, b.parquet\n"
    for words in ("- labels: cifar10 / val", "- labels: train / val", "- labels: . / val"):
        assert f"{words}{rest}" in card
    assert "- images: acme\n" in card
    assert "- labels: digits / val\n" in card


@pytest.mark.parametrize("images", [".", "private/clients/acme", "/home/me/private/acme/"])
def test_the_set_of_images_is_named_without_harm_to_the_rest_of_the_card(tmp_path, images):
    teacher = "private/runs/teacher"
    config = tiny(image_size=16, images=images, method="byol", target=TargetConfig(momentum=0.5, teacher=teacher))
    made = backbones.backbone("resnet18_w16", image_size=16)
    score = Score("knn", 0.25, {"labels": f"{images} / digits", "temperature": 0.5})
    encoder = Encoder(made, Preprocessing(16), {"step": 3}, branch="online", config=config)
    known = Known("run", None, {"torch": "2.1"}, [score], "", "")
    text = card(encoder, known, backbones.made_by(made), made.pretrained_cfg)
    assert "private" not in text
    name = "." if images == "." else "acme"
    for words in (f"- images: {name}, without", f"- labels: {name} / digits\n", "teacher teacher", "2.1"):
        assert words in text


def test_a_taken_folder_is_refused_and_left_as_it_is(tmp_path):
    checkpoint = untrained(tmp_path / "run", tiny(image_size=16))
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    for out in (taken, taken / "notes.txt"):
        with pytest.raises(FullrankError, match="exists and is not an empty folder: choose another --out"):
            export(checkpoint, out)
    assert [(path.name, path.read_text()) for path in taken.iterdir()] == [("notes.txt", "mine")]
    (tmp_path / "empty").mkdir()
    export(checkpoint, tmp_path / "empty")
    assert (tmp_path / "empty" / "model.safetensors").is_file()


@pytest.mark.parametrize("broken", ["card", "open_export"])
def test_what_fails_leaves_nothing_behind(tmp_path, monkeypatch, broken):
    checkpoint = untrained(tmp_path / "run", tiny(image_size=16))

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, broken, fail)
    with pytest.raises(OSError, match="No space left"):
        export(checkpoint, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_encoder_that_timm_would_build_otherwise_is_not_written(tmp_path, monkeypatch):
    checkpoint = untrained(tmp_path / "run", tiny(image_size=16))
    real = exporting.made_by

    def other(encoder):
        made = real(encoder)
        return replace(made, arguments={**made.arguments, "stem": "cifar"})

    monkeypatch.setattr(exporting, "made_by", other)
    with pytest.raises(FullrankError, match=r"builds another network .* \(features differ by \d"):
        export(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_said_to_be_so(tmp_path, value):
    checkpoint = untrained(tmp_path / "run", tiny(image_size=16))
    state = torch.load(checkpoint, weights_only=True)
    state["model"]["backbone.conv1.weight"][0, 0, 0, 0] = value
    torch.save(state, checkpoint)
    with pytest.raises(FullrankError, match=r"weights that are not finite \(conv1\.weight\): its training diverged"):
        export(checkpoint, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_damaged_folders_are_one_line(tmp_path):
    export(untrained(tmp_path / "run", tiny(image_size=16)), tmp_path / "out")
    weights = tmp_path / "out" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    with pytest.raises(FullrankError, match="cannot build the encoder of .*out: "):
        fullrank.load(tmp_path / "out")
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(FullrankError, match="was not written by `fullrank export`; timm may load it as local-dir:"):
        fullrank.load(tmp_path / "out")


def test_exporting_leaves_the_callers_random_state_alone(tmp_path):
    checkpoint = untrained(tmp_path / "run", tiny(image_size=16))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    export(checkpoint, tmp_path / "out")
    assert torch.equal(torch.rand(3), expected)


def test_the_command_line(byol, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["export", str(byol / "whole"), "--out", str(out), "--branch", "target"]) == 0
    printed = capsys.readouterr().out
    assert f"{out}: target branch, step 8 of 8, D = 32" in printed
    assert "timm builds it as fullrank_resnet" in printed
    assert main(["export", str(byol / "whole"), "--out", str(out)]) == 1
    assert "exists and is not an empty folder" in capsys.readouterr().err
    assert main(["export", str(tmp_path / "none"), "--out", str(tmp_path / "other")]) == 1
    assert "there is no checkpoint" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", str(byol / "whole"), "--out", str(tmp_path / "other"), "--branch", "teacher"])
    assert not (tmp_path / "other").exists()


def test_evaluation_of_another_step_is_left_out_and_a_damaged_one_is_named(byol, tmp_path):
    path = byol / "stopped" / "evaluation.json"
    scores = [{"name": "knn", "value": 0.1, "better": "higher", "protocol": {}}]
    try:
        path.write_text(json.dumps({"step": 4, "scores": scores}))
        export(byol / "stopped", tmp_path / "out")
        assert "k-NN accuracy" not in card_of(tmp_path / "out")
        path.write_text("{")
        with pytest.raises(FullrankError, match="evaluation.json is damaged"):
            export(byol / "stopped", tmp_path / "other")
    finally:
        path.unlink()
    assert yaml.safe_load(card_of(tmp_path / "out").split("---")[1])["library_name"] == "timm"
    assert not Path(tmp_path / "other").exists()


def test_what_a_probe_chose_stands_beside_what_it_chose_from():
    score = Score("knn", 0.5, {"k": "1 to 200", "n": 9, "c": "of 1 to 3"}, chosen={"k": 43, "l2": 0.1, "c": 2})
    assert _with_chosen(score) == {"k": "43 of 1 to 200", "n": 9, "l2": 0.1, "c": "2 of 1 to 3"}
