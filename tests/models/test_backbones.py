import itertools
import math

import pytest
import timm
import torch
from torchvision.transforms.v2 import functional as F

from fullrank.config import BackboneConfig
from fullrank.data import views
from fullrank.errors import FullrankError
from fullrank.models.backbones import RESNETS, backbone, sincos_positions, width_of

PUBLISHED = {  # [Li22] Table 1: D, parameters in millions with the ImageNet classifier
    "resnet18": (512, 11.7),
    "resnet34": (512, 21.8),
    "resnet50": (2048, 25.6),
    "bottleneck26": (2048, 16.0),
    "bottleneck26x2": (2048, 39.6),
    "basic50": (512, 31.9),
}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_six_resnets_have_the_published_size(name):
    assert set(PUBLISHED) == set(RESNETS) - {"resnet18_w16"}
    width, millions = PUBLISHED[name]
    model = backbone(name, image_size=224)
    assert width_of(model) == width
    assert (parameters(model) + 1000 * width + 1000) / 1e6 == pytest.approx(millions, abs=0.08)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50"])
def test_a_named_resnet_is_timms(name):
    torch.manual_seed(0)
    ours = backbone(name, image_size=224).eval()
    theirs = timm.create_model(name, num_classes=0).eval()
    theirs.load_state_dict(ours.state_dict())  # the same keys and shapes
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(x), theirs(x))


def test_width_multiplies_every_channel():
    model = backbone(BackboneConfig("resnet18", width=0.25, stem="cifar-stride2"), image_size=32)
    assert width_of(model) == 128
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 128)
    assert model.conv1.weight.shape == (16, 3, 3, 3)
    assert [m.out_channels for m in (model.layer1[0].conv1, model.layer4[1].conv2)] == [16, 128]
    assert parameters(model) == 700_176
    assert parameters(backbone(BackboneConfig("resnet18_w16", stem="cifar-stride2"), image_size=32)) == 700_176
    assert width_of(backbone(BackboneConfig("resnet50", width=0.5), image_size=224)) == 1024


def test_block_depths_and_inner_width_replace_the_named_ones():
    model = backbone(BackboneConfig("resnet18", block="bottleneck", inner_width=2.0), image_size=224)
    assert parameters(model) == parameters(backbone("bottleneck26x2", image_size=224))
    assert len(backbone(BackboneConfig("resnet18", depths=(1, 2, 1, 3)), image_size=32).layer4) == 3


@pytest.mark.parametrize(
    ("stem", "size", "expected"),
    [("imagenet", 64, 16), ("cifar", 32, 32), ("cifar-stride2", 32, 16), ("cifar-padding2", 32, 34), ("auto", 32, 32)],
)
def test_stems_shrink_as_they_say(stem, size, expected):
    model = backbone(BackboneConfig("resnet18", width=0.125, stem=stem), image_size=size)
    x = model.maxpool(model.act1(model.bn1(model.conv1(torch.zeros(2, 3, size, size)))))
    assert x.shape[2:] == (expected, expected)


def test_the_stem_is_initialised_as_the_rest():
    torch.manual_seed(0)
    model = backbone("resnet18", image_size=224)
    theirs = timm.create_model("resnet18", num_classes=0)
    spreads = [float(m.conv1.weight.detach().std()) for m in (model, theirs)]
    assert spreads[0] == pytest.approx(spreads[1], rel=0.05)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mobilenetv3_small_050", "convnext_atto"])
def test_any_timm_model_by_name(name):
    model = backbone(name, image_size=64)
    assert model.training
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, width_of(model))


def test_vision_transformers_have_any_depth_heads_and_patch():
    model = backbone(BackboneConfig("vit_tiny_patch16_224", blocks=3, attention_heads=6, patch=4), image_size=32)
    assert len(model.blocks) == 3
    assert model.blocks[0].attn.num_heads == 6
    assert model.patch_embed.grid_size == (8, 8)
    assert all(p.requires_grad for p in model.parameters())
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 192)


def test_positions_and_patches_can_be_fixed():
    model = backbone(
        BackboneConfig("vit_tiny_patch16_224", blocks=1, patch=8, positions="sincos", frozen_patches=True),
        image_size=32,
    )
    fixed = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert fixed == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    assert model.patch_embed.proj.weight.std() > 0
    assert not model.pos_embed[0, 0].any()
    torch.testing.assert_close(model.pos_embed[0, 1:], sincos_positions(4, 4, 192))
    assert "pos_embed" in model.state_dict()


def test_sincos_positions_are_vaswanis_of_column_and_row():
    found = sincos_positions(3, 5, 24)
    for row, column in itertools.product(range(3), range(5)):
        expected = [
            wave(place / 10_000 ** (k / 6))
            for place in (column, row)
            for wave in (math.sin, math.cos)
            for k in range(6)
        ]
        assert found[row * 5 + column].tolist() == pytest.approx(expected, abs=1e-6)


def test_the_data_configuration_says_how_images_were_preprocessed():
    found = timm.data.resolve_model_data_config(backbone("resnet18", image_size=32))
    assert found["input_size"] == (3, 32, 32)
    assert found["mean"] == (0.485, 0.456, 0.406)
    assert found["crop_pct"] == 1.0


@pytest.mark.parametrize(
    ("size", "height", "width"),
    [
        *((32, *shape) for shape in ((20, 30), (32, 32), (40, 32), (33, 35), (60, 50))),
        *((96, *shape) for shape in ((32, 48), (96, 96), (96, 120), (100, 100), (150, 120))),
        *((224, *shape) for shape in ((224, 224), (300, 400))),
    ],
)
def test_timms_transform_is_the_eval_view(size, height, width):
    pixels = F.resize(torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(0)), [height, width], antialias=True)
    image = F.to_pil_image(pixels)
    transform = timm.data.create_transform(
        **timm.data.resolve_model_data_config(backbone(BackboneConfig("resnet18", width=0.0625), image_size=size))
    )
    seen = views.normalize(views.eval_view(F.pil_to_tensor(image)[None], size))[0]
    assert (transform(image) - seen).abs().max() < 1.5 / 255 / 0.22


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet81"}, "unknown backbone 'resnet81'; did you mean"),
        ({"name": "resnet18", "depths": (2, 2)}, "backbone.depths must be .*, got"),
        (
            {"name": "resnet18", "width": 0.01},
            "width=0.01 gives resnet18 a first stage of 0.64 channels: .* of 0.03125",
        ),
        ({"name": "resnet18_w16", "width": 0.0625}, "width=0.0625 gives resnet18_w16 a .* of 1 channels: .* of 0.125"),
        ({"name": "resnet18", "inner_width": 2.0}, "inner_width=2 is for bottlenecks, and these blocks are basic"),
        ({"name": "convnext_atto", "width": 0.5}, "shape a ResNet .*timm's 'convnext_atto' has its own"),
        ({"name": "vit_tiny_patch16_224", "image_size": 8}, "does not take images of 8 x 8"),
        ({"name": "vit_tiny_patch16_224", "patch": 5}, "patch=5 does not divide views of 32 x 32"),
        ({"name": "vit_tiny_patch16_224", "blocks": 0}, "backbone.blocks must be at least 1 and at most 1,000, got 0"),
        ({"name": "vit_tiny_patch16_224", "attention_heads": 5}, "dim should be divisible by num_heads"),
        ({"name": "resnet18", "blocks": 3}, "shape a vision transformer .* and 'resnet18' is none: leave them out"),
        ({"name": "convnext_atto", "patch": 4}, "'convnext_atto' is none"),
        ({"name": "convnext_atto", "frozen_patches": True}, "'convnext_atto' is none"),
    ],
)
def test_errors_say_what_to_do(arguments, message):
    size = arguments.pop("image_size", 32)
    with pytest.raises(FullrankError, match=message):
        backbone(BackboneConfig(**arguments), image_size=size)
