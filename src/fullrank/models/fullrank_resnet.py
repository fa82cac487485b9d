"""ResNets of any width from their first layer on, and with stems for small images, as a model of timm.

    import timm
    import fullrank_resnet  # this file, where an export of fullrank needs it; or fullrank.models.fullrank_resnet

    timm.create_model("fullrank_resnet", num_classes=0, layers=(2, 2, 2, 2), channels=(16, 32, 64, 128), stem="cifar")

timm's own ResNets begin with 64 channels of a 7x7 convolution, then pooling, whatever they are asked for.
`fullrank export` copies this file beside weights that they cannot take, so it needs torch and timm alone; once it is
imported, `timm.create_model` knows the model. The names of the weights are those of timm's and torchvision's ResNets.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, is_model, model_entrypoint, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

BLOCKS = {"basic": BasicBlock, "bottleneck": Bottleneck}
STEMS = {  # kernel, stride, padding, and whether the image is pooled after it
    "imagenet": (7, 2, 3, True),
    "cifar": (3, 1, 1, False),
    "cifar-stride2": (3, 2, 1, False),
    "cifar-padding2": (3, 1, 2, False),
}

default_cfgs = generate_default_cfgs({"fullrank_resnet": {"first_conv": "conv1", "classifier": "fc"}})


class StemResNet(ResNet):
    """timm's ResNet with a stem of one convolution, of any kernel, stride and width.

    Args:
        block: `basic`, two 3x3 convolutions, or `bottleneck`: 1x1, 3x3, 1x1.
        layers: Blocks in each of the four stages.
        channels: Channels of each stage, even numbers; the stem has those of the first. Bottlenecks put out four times
            as many.
        stem: `imagenet`: 7x7 of stride 2, then max-pooling; `cifar`: 3x3 of stride 1; `cifar-stride2`: 3x3 of stride 2;
            `cifar-padding2`: 3x3 of stride 1 with a border of 2, as solo-learn has it.
        in_chans: Channels of the image.
        arguments: Of `timm.models.resnet.ResNet`.
    """

    def __init__(
        self,
        block: str = "basic",
        layers: Sequence[int] = (2, 2, 2, 2),
        channels: Sequence[int] = (64, 128, 256, 512),
        stem: str = "imagenet",
        in_chans: int = 3,
        **arguments: Any,
    ) -> None:
        # timm fixes a plain stem at 64 channels; only its deep stem has a width, so one is asked for and put back to a
        # single convolution
        super().__init__(
            BLOCKS[block],
            tuple(layers),
            in_chans=in_chans,
            channels=tuple(channels),
            stem_type="deep",
            stem_width=channels[0] // 2,
            **arguments,
        )
        kernel, stride, padding, pooled = STEMS[stem]
        made = {"bias": False, "device": self.bn1.weight.device, "dtype": self.bn1.weight.dtype}
        self.conv1 = nn.Conv2d(in_chans, channels[0], kernel, stride, padding, **made)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")  # as timm's ResNet initializes
        if not pooled:
            self.maxpool = nn.Identity()
        self.feature_info[0]["reduction"] = stride
        for stage in self.feature_info[1:]:
            stage["reduction"] = stage["reduction"] * stride * (2 if pooled else 1) // 4  # timm's stem reduces by 4


def fullrank_resnet(pretrained: bool = False, **arguments: Any) -> ResNet:
    """Build a `StemResNet` for `timm.create_model`."""
    return build_model_with_cfg(StemResNet, "fullrank_resnet", pretrained, **arguments)


def _register() -> None:
    """Let timm know the model, once: fullrank's own comes before the copies that lie beside exports."""
    name = fullrank_resnet.__name__
    if is_model(name) and __name__ != "fullrank.models.fullrank_resnet":
        known = sys.modules[model_entrypoint(name).__module__]
        if STEMS.keys() <= getattr(known, "STEMS", {}).keys():  # else it is older than this copy
            return
    with warnings.catch_warnings():  # timm's, which takes the two for different models
        warnings.filterwarnings("ignore", f"Overwriting {name} in registry")
        register_model(fullrank_resnet)


_register()
