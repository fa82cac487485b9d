import pytest
import torch
from torch import nn

from fullrank.errors import FullrankError
from fullrank.models.encoder import fingerprint, unchanged


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


class Counting(nn.Module):
    """Counts its calls in a buffer that no state dict has."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        self.calls += 1
        return x.mean(dim=(2, 3))


IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_looking_changes_nothing():
    module = network()
    before = fingerprint(module)
    with unchanged(module), torch.no_grad():
        module(IMAGES)
    assert fingerprint(module) == before == fingerprint(module.to(memory_format=torch.channels_last))


def test_batch_norm_in_train_mode_is_noticed_and_named():
    module = network().train()
    with (
        pytest.raises(FullrankError, match=r"changed while it was probed, in 3 of 7 .*\(1.num_batches_tracked, 1.run"),
        unchanged(module),
        torch.no_grad(),
    ):
        module(IMAGES)


def test_a_buffer_outside_the_state_dict_is_noticed():
    module = Counting()
    with pytest.raises(FullrankError, match=r"in 1 of 1 parameters and buffers \(calls\)"), unchanged(module):
        module(IMAGES)


def test_one_bit_of_one_weight_is_noticed():
    module = network()
    bits = module[0].weight.detach().view(torch.int32)
    with pytest.raises(FullrankError, match=r"\(0.weight\)"), unchanged(module):
        bits[0, 0, 0, 0] ^= 1


def test_other_names_shapes_and_types_are_other_networks():
    networks = [
        nn.Linear(2, 3),
        nn.Linear(3, 2),
        nn.Sequential(nn.Linear(2, 3)),
        nn.Linear(2, 3).to(torch.bfloat16),
    ]
    for module in networks:
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
    assert len({fingerprint(module) for module in networks}) == 4
