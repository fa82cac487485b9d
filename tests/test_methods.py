"""Methods without a configuration, in a plain loop."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from fullrank import methods
from fullrank.config import HeadsConfig, TargetConfig, TrainConfig
from fullrank.errors import FullrankError
from fullrank.methods import METHODS, Method, SimSiam


def backbone(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def train(method, steps=3):
    optimizer = torch.optim.SGD(method.parameters(), lr=0.05)
    found = []
    for step in range(steps):
        views = torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(step))
        output = method(*views)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        method.after_step(step, steps)
        found.append(output.loss.item())
    return found


def test_a_torchvision_resnet_trains_in_a_plain_loop():
    torch.manual_seed(0)
    model = resnet18()
    model.fc = nn.Identity()
    modes = {name: part.training for name, part in model.named_modules()}
    state = {name: value.clone() for name, value in model.state_dict().items()}
    method = SimSiam(model, image_size=32, projector_out=64)
    assert method.width == 512  # found by a forward pass that leaves no trace
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(part.training == modes[name] for name, part in model.named_modules())
    before = model.conv1.weight.clone()
    assert all(torch.tensor(train(method)).isfinite())
    assert not torch.equal(model.conv1.weight, before)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "distill"])
def test_it_is_the_configured_method_bit_for_bit(name):
    heads, target = {"projector_out": 16}, {"queue": 32} if name == "nnsiam" else {}
    config = TrainConfig(
        method=name, batch_size=8, image_size=32, heads=HeadsConfig(**heads), target=TargetConfig(**target)
    )
    losses = []
    for arguments in ({"config": config}, {**heads, **target, "image_size": 32}, {**heads, **target, "width": 8}):
        model = backbone()
        torch.manual_seed(1)
        method = METHODS[name](model, **arguments)
        losses.append([*train(method), *(value.double().sum().item() for value in method.state_dict().values())])
    assert losses[0] == losses[1] == losses[2]


def test_a_teacher_is_given_to_distillation():
    method = methods.Distillation(backbone(), teacher=backbone(1), image_size=32, statistics_rate=0.1)
    assert len(train(method)) == 3
    assert method.target_config.statistics_rate == 0.1


def test_every_class_is_exported():
    assert {METHODS[name] for name in METHODS} <= {getattr(methods, name) for name in methods.__all__}
    assert METHODS["vicreg"] is methods.VICReg
    assert issubclass(methods.BarlowTwins, Method)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Sequential does not say how wide its output .* give width=D, or image_size="),
        ({"width": 8, "projectorout": 2}, "SimSiam has no setting 'projectorout'; did you mean 'projector_out'"),
        ({"width": 8, "projector_out": 0}, "SimSiam: heads.projector_out must be .*got 0"),
        ({"width": 8, "temperature": 0.5}, r"method=simsiam has no loss.temperature \(got 0.5\).*nothing of loss"),
        ({"config": TrainConfig(image_size=32), "queue": 8}, "a configuration or settings, not both: .'queue'"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(FullrankError, match=message):
        SimSiam(backbone(), **arguments)


def test_a_backbone_of_another_output_is_named():
    with pytest.raises(FullrankError, match=r"the backbone gives \(8, 8\), not \(N, 9\): take off its classifier"):
        train(SimSiam(backbone(), width=9))
    with pytest.raises(FullrankError, match=r"a batch of 8 does not fit into queue=4"):
        train(methods.NNSiam(backbone(), width=8, queue=4))
