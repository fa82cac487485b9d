import pytest
import torch
from torch import nn

from fullrank.errors import FullrankError
from fullrank.models import heads
from fullrank.models.backbones import backbone
from fullrank.models.methods import SimSiam
from fullrank.training.config import HeadsConfig


def method(**config):
    torch.manual_seed(0)
    model = backbone("resnet18", image_size=16, width=0.0625, depths=(1, 1, 1, 1))
    return SimSiam(model, HeadsConfig(**{"projector_out": 24, "predictor_hidden": 8, **config}))


def kinds(head):
    return [type(module).__name__ for module in head]


def test_heads_are_simsiams():
    projector = heads.projector(512, 512, 2048)
    assert kinds(projector) == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    assert [m.out_features for m in projector if isinstance(m, nn.Linear)] == [512, 512, 2048]
    assert not projector[-1].affine
    assert all(m.bias is None for m in projector if isinstance(m, nn.Linear))
    predictor = heads.predictor(2048, 512)
    assert kinds(predictor) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert predictor[-1].bias is not None
    assert kinds(heads.projector(8, 8, 4, layers=1)) == ["Linear", "BatchNorm1d"]
    with pytest.raises(FullrankError, match="must be at least 1, got 8, 0, 4"):
        heads.projector(8, 0, 4)
    with pytest.raises(FullrankError, match="must be at least 1, got 0 and 4"):
        heads.predictor(0, 4)


def test_projector_width_is_the_backbones_by_default_and_free_otherwise():
    assert method().projector[0].out_features == 32
    assert method(projector_hidden=77).projector[0].out_features == 77


def test_the_loss_is_the_papers_and_each_view_has_its_own_batch_statistics():
    model = method()
    a, b = torch.randn(6, 3, 16, 16), 3 + torch.randn(6, 3, 16, 16)
    z = [model.projector(model.backbone(x)) for x in (a, b)]
    p = [model.predictor(x) for x in z]
    cosine = nn.CosineSimilarity()
    expected = -(cosine(p[0], z[1]).mean() + cosine(p[1], z[0]).mean()) / 2
    found = model(a, b)
    torch.testing.assert_close(found.loss, expected)
    torch.testing.assert_close(found.embedding, z[0])
    assert not found.embedding.requires_grad


def test_the_target_gets_no_gradient():
    # with a predictor that is constant, all of the loss's gradient would have to come through the target
    model = method()
    nn.init.zeros_(model.predictor[-1].weight)
    model(torch.randn(6, 3, 16, 16), torch.randn(6, 3, 16, 16)).loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.backbone.parameters())


def test_the_predictor_has_a_constant_rate():
    model = method()
    assert list(model.constant_rate_modules()) == [model.predictor]
