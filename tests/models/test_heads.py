import pytest
from torch import nn

from fullrank.errors import FullrankError
from fullrank.models import heads


def kinds(head):
    return [type(module).__name__ for module in head]


def test_simsiams_heads():
    projector = heads.mlp(512, 512, 2048, 3, last="norm")
    assert kinds(projector) == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    assert [m.out_features for m in projector if isinstance(m, nn.Linear)] == [512, 512, 2048]
    assert not projector[-1].affine
    assert all(m.bias is None for m in projector if isinstance(m, nn.Linear))
    predictor = heads.mlp(2048, 512, 2048, 2, last="bias")
    assert kinds(predictor) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [m.out_features for m in predictor if isinstance(m, nn.Linear)] == [512, 2048]
    assert predictor[-1].bias is not None


def test_garrido23s_heads_end_in_a_linear_layer_alone():
    projector = heads.mlp(2048, 8192, 512, 3, last="linear")
    assert kinds(projector) == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear"]
    assert [m.out_features for m in projector if isinstance(m, nn.Linear)] == [8192, 8192, 512]
    assert projector[-1].bias is None


def test_one_layer_is_a_head_too():
    assert kinds(heads.mlp(8, 5, 4, 1, last="norm")) == ["Linear", "BatchNorm1d"]
    assert heads.mlp(8, 5, 4, 1, last="norm")[0].weight.shape == (4, 8)


def test_widths_of_nothing_are_refused():
    with pytest.raises(FullrankError, match="must be at least 1, got 8, 0, 4 and 3 layers"):
        heads.mlp(8, 0, 4, 3, last="norm")
    with pytest.raises(FullrankError, match="got 8, 8, 4 and 0 layers"):
        heads.mlp(8, 8, 4, 0, last="norm")
