import math

import pytest
import torch
import torch.nn.functional as F
from building import linears, method, views
from torch import nn

from fullrank import losses

EXPECTED = {
    "simclr": losses.info_nce,
    "simclr_sq": losses.simclr_sq,
    "simclr_abs": losses.simclr_abs,
    "dcl": losses.dcl,
    "dcl_sq": losses.dcl_sq,
    "dcl_abs": losses.dcl_abs,
    "spectral": losses.spectral_contrastive,
    "vicreg": losses.vicreg,
    "vicreg_exp": losses.vicreg_exp,
    "vicreg_ctr": losses.vicreg_ctr,
    "barlow_twins": losses.barlow_twins,
    "tcr": losses.tcr,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_loss_is_the_named_one_of_both_views_embeddings(name):
    model, (a, b) = method(name), views()
    z1, z2 = (model.projector(model.backbone(x)) for x in (a, b))
    found = model(a, b)
    torch.testing.assert_close(found.loss, EXPECTED[name](z1, z2))
    torch.testing.assert_close(found.embedding, z1)
    found.loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_simclr_is_cross_entropy_over_the_batch_at_the_set_temperature():
    model, (a, b) = method("simclr", loss={"temperature": 0.3}), views()
    u = F.normalize(torch.cat([model.projector(model.backbone(x)) for x in (a, b)]).double(), dim=1)
    similar = (u @ u.T / 0.3).tolist()
    expected = 0.0
    for i in range(12):
        others = [similar[i][j] for j in range(12) if j != i]
        expected -= (similar[i][(i + 6) % 12] - math.log(sum(map(math.exp, others)))) / 12
    assert model(a, b).loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_projector_is_garrido23s_and_every_width_is_free():
    projector = method("vicreg").projector
    assert linears(projector) == [(32, 128), (128, 128), (128, 128)]
    assert isinstance(projector[-1], nn.Linear)
    assert projector[-1].bias is None
    assert linears(method("barlow_twins", projector_hidden=64, projector_out=10).projector) == [
        (32, 64),
        (64, 64),
        (64, 10),
    ]
    # "2048-d" and "d-d-d"
    assert linears(method("dcl", projector_hidden=48, projector_out=8, projector_layers=2).projector) == [
        (32, 48),
        (48, 8),
    ]


@pytest.mark.parametrize("scheme", ["vicreg", "vicreg_exp", "vicreg_ctr", "simclr", "simclr_a", "simclr_b"])
def test_embeddings_are_normalised_as_asked(scheme):
    model, (a, b) = method("vicreg", normalize=scheme), views()
    plain = method("vicreg")
    plain.load_state_dict(model.state_dict())
    z1, z2 = (losses.normalize(model.projector(model.backbone(x)), scheme) for x in (a, b))
    found = model(a, b).loss
    torch.testing.assert_close(found, losses.vicreg(z1, z2))
    assert abs(found - plain(a, b).loss) > 1e-3


def test_half_precision_embeddings_are_compared_in_float32():
    model, (a, b) = method("barlow_twins"), views()
    with torch.autocast("cpu", torch.bfloat16):
        z1, z2 = (model.projector(model.backbone(x)) for x in (a, b))
        found = model(a, b).loss
    assert z1.dtype == torch.bfloat16
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, losses.barlow_twins(z1.float(), z2.float()))
