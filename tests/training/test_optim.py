import math
from dataclasses import replace

import pytest
import torch

from fullrank.config import HeadsConfig, OptimConfig
from fullrank.errors import FullrankError
from fullrank.training import setup
from fullrank.training.optim import build_optimizer, learning_rate, set_learning_rate
from tests.training.tiny import tiny

METHOD = setup.build_method(tiny(image_size=16))
NNSIAM = setup.build_method(tiny(image_size=16, method="nnsiam"))


def test_rate_is_warm_up_then_cosine():
    config = OptimConfig(base_lr=0.2, warmup_steps=4)
    rates = [learning_rate(s, 24, config, 512) for s in range(24)]
    assert rates[:4] == pytest.approx([0.4 * (s + 1) / 5 for s in range(4)])
    assert rates[4:] == pytest.approx([0.2 * (1 + math.cos(math.pi * (s - 4) / 20)) for s in range(4, 24)])


def test_rate_by_epochs_is_li22s():
    # LR(e) = init * 0.5 * (1 + cos(pi * e / E)), constant within an epoch of 5,004 steps
    config = OptimConfig(base_lr=0.05, cosine_every=5004)
    for step in (0, 5003, 5004, 250_200, 500_399):
        expected = 0.05 * 0.5 * (1 + math.cos(math.pi * (step // 5004) / 100))
        assert learning_rate(step, 500_400, config, 256) == pytest.approx(expected)


def test_warm_up_by_epochs_is_li22s():
    # LR(e) = init * (1 + e) / (1 + w) for e < w, constant within an epoch, the predictor's too
    config = OptimConfig(base_lr=0.05, cosine_every=5004, warmup_steps=10 * 5004)
    for step in (0, 5003, 5004, 50_039):
        expected = 0.05 * (1 + step // 5004) / 11
        for constant in (False, True):
            assert learning_rate(step, 500_400, config, 256, constant=constant) == pytest.approx(expected)
    # then init * 0.5 * (1 + cos(pi * (e - w) / (E - w)))
    for step in (50_040, 250_200, 500_399):
        expected = 0.05 * 0.5 * (1 + math.cos(math.pi * (step // 5004 - 10) / 90))
        assert learning_rate(step, 500_400, config, 256) == pytest.approx(expected)


@pytest.mark.parametrize("method", [METHOD, NNSIAM], ids=["simsiam", "nnsiam"])
@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_the_predictors_rate_is_constant_under_every_optimiser(name, method):
    config = OptimConfig(optimizer=name, base_lr=0.2, warmup_steps=2)
    optimizer = build_optimizer(method, config, 256)
    predictor = {id(p) for p in method.predictor.parameters()}
    for step, constant in ((0, 0.2 / 3), (2, 0.2), (10, 0.2), (19, 0.2)):
        decaying = set_learning_rate(optimizer, step, 20, config, 256)
        for group in optimizer.param_groups:
            inside = {id(p) in predictor for p in group["params"]}
            assert len(inside) == 1
            assert group["lr"] == pytest.approx(constant if inside == {True} else decaying)
    assert decaying < 0.01
    config = replace(config, constant_predictor_lr=False)
    optimizer = build_optimizer(method, config, 256)
    set_learning_rate(optimizer, 19, 20, config, 256)
    assert {group["lr"] for group in optimizer.param_groups} == {learning_rate(19, 20, config, 256)}


def test_the_rate_ends_where_it_is_told():
    config = OptimConfig(base_lr=0.2, warmup_steps=4, final_lr=0.001)
    rates = [learning_rate(s, 24, config, 256) for s in range(25)]
    assert rates[3] == pytest.approx(0.2 * 4 / 5)
    # VICReg's code: q = (1 + cos(pi s / S)) / 2, rate q + 0.001 (1 - q)
    for s in range(4, 25):
        q = 0.5 * (1 + math.cos(math.pi * (s - 4) / 20))
        assert rates[s] == pytest.approx(0.2 * (q + 0.001 * (1 - q)))
    assert rates[24] == pytest.approx(0.0002)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
def test_biases_and_norms_may_have_a_rate_of_their_own(optimizer):
    # Barlow Twins: 0.2 for weights, 0.0048 for biases and norms, both times batch / 256 and on one schedule
    config = OptimConfig(optimizer=optimizer, base_lr=0.2, bias_lr=0.0048, weight_decay=0.1, warmup_steps=2)
    found = build_optimizer(METHOD, config, 512)
    predictor = {id(p) for p in METHOD.predictor.parameters()}
    for step in (0, 2, 9):
        set_learning_rate(found, step, 10, config, 512)
        for group in found.param_groups:
            for p in group["params"]:
                base = 0.0048 if p.ndim == 1 else 0.2
                own = replace(config, base_lr=base, bias_lr=None)
                expected = learning_rate(step, 10, own, 512, constant=id(p) in predictor)
                assert group["lr"] == pytest.approx(expected)
                assert group["weight_decay"] == (0.0 if optimizer == "lars" and p.ndim == 1 else 0.1)
    assert len({id(p) for group in found.param_groups for p in group["params"]}) == len(list(METHOD.parameters()))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_lars_scales_weights_by_their_norm_and_leaves_biases_and_norms_alone(decay):
    method = setup.build_method(tiny(image_size=16))
    config = OptimConfig(optimizer="lars", base_lr=0.5, momentum=0.0, weight_decay=decay, decay_all=True)
    optimizer = build_optimizer(method, config, 256)
    set_learning_rate(optimizer, 0, 10, config, 256)
    torch.manual_seed(0)
    before = {name: p.detach().double().clone() for name, p in method.named_parameters()}
    gradients = {}
    for name, p in method.named_parameters():
        p.grad = torch.randn_like(p)
        gradients[name] = p.grad.double()  # a copy, for timm 1.0.22 changes gradients in place
    optimizer.step()
    for name, p in method.named_parameters():
        w, g = before[name], gradients[name]
        if p.ndim == 1:
            expected = w - 0.5 * g
        else:
            ratio = 0.001 * w.norm() / (g.norm() + decay * w.norm())
            expected = w - 0.5 * ratio * (g + decay * w)
        torch.testing.assert_close(p.detach().double(), expected, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("decay_all", [True, False])
def test_every_parameter_is_trained_once_and_decays_as_asked(decay_all):
    optimizer = build_optimizer(METHOD, OptimConfig(weight_decay=0.1, decay_all=decay_all), 256)
    seen = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(seen) == len({id(p) for p in seen}) == len(list(METHOD.parameters()))
    for group in optimizer.param_groups:
        for p in group["params"]:
            assert group["weight_decay"] == (0.1 if decay_all or p.ndim > 1 else 0.0)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "lars"])
@pytest.mark.parametrize(
    ("decay_heads", "decaying"),
    [
        ("all", {"backbone", "projector", "predictor"}),
        ("projector", {"backbone", "projector"}),
        ("none", {"backbone"}),
    ],
)
def test_heads_may_be_left_out_of_the_decay(optimizer, decay_heads, decaying):
    found = build_optimizer(METHOD, OptimConfig(optimizer=optimizer, decay_heads=decay_heads, weight_decay=0.1), 256)
    decay = {id(p): group["weight_decay"] for group in found.param_groups for p in group["params"]}
    assert len(decay) == len(list(METHOD.parameters()))
    for name, p in METHOD.named_parameters():
        spared = name.split(".")[0] not in decaying or (optimizer == "lars" and p.ndim == 1)
        assert decay[id(p)] == (0.0 if spared else 0.1), name
    constant = {id(p) for group in found.param_groups for p in group["params"] if group["constant_rate"]}
    assert constant == {id(p) for p in METHOD.predictor.parameters()}


def test_leaving_out_a_predictor_that_is_not_there_is_an_error():
    config = tiny(image_size=16, method="vicreg", heads=HeadsConfig(), optim=OptimConfig(decay_heads="projector"))
    with pytest.raises(FullrankError, match="leaves the predictor out, and method=vicreg has none: take all or none"):
        setup.build_method(config)
    setup.build_method(replace(config, optim=OptimConfig(decay_heads="none")))


def test_sgd_is_torchs_with_the_configured_momentum():
    optimizer = build_optimizer(METHOD, OptimConfig(momentum=0.7), 256)
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["momentum"] == 0.7
    assert not optimizer.defaults["nesterov"]
