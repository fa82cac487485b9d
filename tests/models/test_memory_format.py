"""Channels last wherever it is safe."""

import pytest
import torch
from torch import nn

from fullrank.config import BackboneConfig
from fullrank.models.backbones import backbone
from fullrank.models.memory_format import choose_memory_format, to_memory_format


@pytest.mark.parametrize(
    ("capability", "width", "last"), [("AVX2", 0.0625, False), ("AVX512", 0.0625, True), ("AVX2", 0.125, True)]
)
def test_narrow_strided_convolutions_stay_contiguous_without_avx512(monkeypatch, capability, width, last):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    network = backbone(
        BackboneConfig("resnet18", width=width, depths=(1, 1, 1, 1), stem="cifar-stride2"), image_size=16
    )
    chosen = torch.channels_last if last else torch.contiguous_format
    assert choose_memory_format(network) == chosen
    assert to_memory_format(network) == chosen
    assert network.layer2[0].conv1.weight.is_contiguous(memory_format=chosen)


def test_networks_of_volumes_have_no_such_format():
    assert to_memory_format(nn.Conv3d(1, 2, 3)) == torch.contiguous_format


def test_training_a_narrow_encoder_does_not_damage_the_heap():
    network = backbone(
        BackboneConfig("resnet18", width=0.0625, depths=(1, 1, 1, 1), stem="cifar-stride2"), image_size=16
    ).train()
    chosen = to_memory_format(network)
    for _ in range(8):
        network(torch.randn(16, 3, 16, 16).to(memory_format=chosen)).square().mean().backward()
