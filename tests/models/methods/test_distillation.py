import numpy as np
import pytest
import torch
from building import encoder, method, views


def test_the_loss_is_the_distance_from_standardised_features_of_the_first_view():
    model, (a, b) = method("distill"), views()
    with torch.no_grad():
        model.mean.uniform_(-1, 1)
        model.variance.uniform_(0.5, 2)
    mean, variance = (x.double().numpy().copy() for x in (model.mean, model.variance))
    features = model.teacher(a).double().numpy()
    predicted = model.head(model.backbone(a)).detach().double().numpy()
    found = model(a, b)
    assert found.loss.item() == pytest.approx(((predicted - (features - mean) / variance**0.5) ** 2).mean(), rel=1e-4)
    assert found.embedding.shape == (6, 48)
    model.eval()
    assert model(a, b).loss == model(a, a).loss


def test_statistics_follow_the_teacher_after_use():
    model = method("distill", target={"statistics_rate": 0.3})
    mean, variance = np.zeros(48), np.ones(48)
    for step in range(3):
        a, b = views(seed=step)
        features = model.teacher(a).double().numpy()
        model(a, b)
        mean = 0.7 * mean + 0.3 * features.mean(0)
        variance = 0.7 * variance + 0.3 * features.var(0)
        np.testing.assert_allclose(model.mean, mean, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(model.variance, variance, rtol=1e-4, atol=1e-6)
    before = model.mean.clone()
    model.eval()(*views(seed=9))
    assert torch.equal(model.mean, before)


def test_the_teacher_stays_as_it_is_and_is_kept_with_its_statistics():
    model = method("distill").train()
    assert model.training
    assert not model.teacher.training
    before = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    model(*views()).loss.backward()
    assert all(torch.equal(before[key], value) for key, value in model.teacher.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.backbone.parameters())
    state = model.state_dict()
    assert {"mean", "variance", *(f"teacher.{key}" for key in before)} <= set(state)
    other = method("distill", teacher=encoder(seed=5, width=0.09375))
    other.load_state_dict(state)
    assert torch.equal(other.mean, model.mean)
    a, b = views()
    assert torch.equal(other.eval()(a, b).loss, model.eval()(a, b).loss)


def test_a_teacher_that_expects_other_colours_sees_them():
    teacher = encoder(seed=1, width=0.09375)
    teacher.pretrained_cfg = {**teacher.pretrained_cfg, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    model = method("distill", teacher=teacher).eval()
    seen = []
    teacher.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    pixels = torch.rand(6, 3, 16, 16)

    def normalised(mean, std):
        return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)

    usual = normalised((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    model(usual, usual)
    torch.testing.assert_close(seen[0], normalised((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), rtol=1e-4, atol=1e-5)
    same = method("distill").eval()
    assert torch.equal(usual * same.rescale + same.shift, usual)
