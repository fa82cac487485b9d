import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

import fullrank
from fullrank.models import fullrank_resnet
from fullrank.models.backbones import FULLRANK_RESNET, RESNETS, backbone, made_by


@pytest.mark.parametrize(("stem", "reductions"), [("imagenet", [2, 4, 8, 16, 32]), ("cifar", [1, 1, 2, 4, 8])])
def test_features_of_its_stages_are_as_small_as_timm_is_told(stem, reductions):
    model = timm.create_model(FULLRANK_RESNET, features_only=True, channels=(8, 16, 24, 32), stem=stem)
    assert model.feature_info.reduction() == reductions
    maps = model(torch.zeros(2, 3, 64, 64))
    assert [tuple(each.shape[1:]) for each in maps] == [
        (channels, 64 // by, 64 // by) for channels, by in zip(model.feature_info.channels(), reductions, strict=True)
    ]


def test_it_takes_what_timms_models_take():
    model = timm.create_model(FULLRANK_RESNET, num_classes=7, in_chans=1, channels=(8, 8, 8, 8), stem="cifar-stride2")
    assert model(torch.zeros(2, 1, 16, 16)).shape == (2, 7)
    assert timm.is_model(FULLRANK_RESNET)


def test_its_file_needs_torch_and_timm_alone():
    lines = Path(fullrank_resnet.__file__).read_text().splitlines()
    imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imported == {"__future__", "sys", "warnings", "collections", "typing", "timm", "torch"}


OURS = fullrank_resnet.__name__
TOGETHER = """
import importlib, sys, warnings
import timm
warnings.simplefilter("error")
for name in sys.argv[1:]:
    importlib.import_module(name)
    timm.create_model("fullrank_resnet", channels=(2, 2, 2, 2), layers=(1, 1, 1, 1), stem="cifar-padding2")
print(timm.models.model_entrypoint("fullrank_resnet").__module__)
"""


@pytest.mark.parametrize(
    ("order", "known"),
    [
        (["exported_a", "exported_b"], "exported_a"),
        (["exported_a", OURS], OURS),
        (["exported_a", OURS, "exported_b"], OURS),
    ],
)
def test_copies_beside_exports_and_ours_get_along_without_a_warning(order, known, tmp_path):
    """`import fullrank_resnet`, as a card says, and then `fullrank.load`: timm warned that a model was overwritten."""
    text = Path(fullrank_resnet.__file__).read_text()
    for name in ("exported_a", "exported_b"):
        (tmp_path / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(tmp_path), str(Path(fullrank.__file__).parent.parent)])
    said = subprocess.run(
        [sys.executable, "-c", TOGETHER, *order],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip() == known


def test_a_copy_that_knows_more_takes_the_place_of_an_older_one(tmp_path):
    text = Path(fullrank_resnet.__file__).read_text()
    line = next(line for line in text.splitlines() if "cifar-padding2" in line and "(3, 1, 2" in line)
    (tmp_path / "exported_old.py").write_text(text.replace(f"{line}\n", ""))
    (tmp_path / "exported_new.py").write_text(text)
    code = TOGETHER.replace('stem="cifar-padding2"', 'stem="cifar"')
    said = subprocess.run(
        [sys.executable, "-c", code, "exported_old", "exported_new"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (said.stdout.strip(), said.returncode) == ("exported_new", 0), said.stderr


@pytest.mark.parametrize("name", [name for name in RESNETS if name != "resnet18_w16"])
def test_full_resnets_are_timms_own(name):
    with torch.device("meta"):
        ours = backbone(name, image_size=224)
        made = made_by(ours)
        theirs = timm.create_model(made.architecture, num_classes=0, **made.arguments)
    assert made.architecture != FULLRANK_RESNET
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
