from pathlib import Path

import pytest
import timm
import torch

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
    assert imported == {"__future__", "collections", "typing", "timm", "torch"}


@pytest.mark.parametrize("name", [name for name in RESNETS if name != "resnet18_w16"])
def test_full_resnets_are_timms_own(name):
    with torch.device("meta"):
        ours = backbone(name, image_size=224)
        made = made_by(ours)
        theirs = timm.create_model(made.architecture, num_classes=0, **made.arguments)
    assert made.architecture != FULLRANK_RESNET
    shapes = [{key: value.shape for key, value in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
