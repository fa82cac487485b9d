import math

import numpy as np
import pytest
import torch
from building import linears, method, views
from torch import nn

from fullrank.config import OptimConfig
from fullrank.errors import FullrankError
from fullrank.training.optim import build_optimizer


def cosine(a, b):
    """Cosines of rows, by numpy in float64."""
    a, b = (x.detach().double().numpy() for x in (a, b))
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_heads_are_the_papers_and_every_width_is_free():
    simsiam = method()
    assert linears(simsiam.projector) == [(32, 32), (32, 32), (32, 128)]
    assert linears(simsiam.predictor) == [(128, 32), (32, 128)]
    assert not simsiam.projector[-1].affine
    assert simsiam.predictor[-1].bias is not None
    free = method(projector_hidden=77, projector_out=24, projector_layers=2, predictor_hidden=9)
    assert linears(free.projector) == [(32, 77), (77, 24)]
    assert linears(free.predictor) == [(24, 9), (9, 24)]
    byol, moco = method("byol"), method("mocov3")
    for model in (byol, moco):
        assert linears(model.projector) == [(32, 256), (256, 256)]
        assert linears(model.predictor) == [(256, 256), (256, 256)]
        assert isinstance(model.predictor[-1], nn.Linear)
        assert model.predictor[-1].bias is None
    assert isinstance(byol.projector[-1], nn.Linear)
    assert not moco.projector[-1].affine


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("simsiam", 512, (512, 2048, 3, 512)),
        ("nnsiam", 2048, (2048, 2048, 3, 512)),
        ("byol", 512, (4096, 256, 2, 4096)),
        ("mocov3", 2048, (4096, 256, 2, 4096)),
        ("vicreg", 2048, (8192, 8192, 3, None)),
        ("simclr", 2048, (8192, 8192, 3, None)),
        ("simsiam", 128, (128, 512, 3, 128)),
        ("vicreg", 128, (512, 512, 3, None)),
    ],
)
def test_widths_of_the_papers_backbones(name, width, expected):
    own = type(method(name)).own_heads(width)
    assert (own.projector_hidden, own.projector_out, own.projector_layers, own.predictor_hidden) == expected


def test_simsiams_loss_is_the_papers_and_each_view_has_its_own_batch_statistics():
    model, (a, b) = method(projector_out=24, predictor_hidden=8), views()
    z = [model.projector(model.backbone(x)) for x in (a, b)]
    p = [model.predictor(x) for x in z]
    found = model(a, b)
    expected = -(cosine(p[0], z[1]).mean() + cosine(p[1], z[0]).mean()) / 2
    assert found.loss.item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(found.embedding, z[0])
    assert not found.embedding.requires_grad


@pytest.mark.parametrize("name", ["simsiam", "nnsiam", "byol", "mocov3"])
def test_the_target_gets_no_gradient(name):
    # with a predictor that is constant, all of the loss's gradient would have to come through the target
    model = method(name)
    nn.init.zeros_(model.predictor[-1].weight)
    if model.predictor[-1].bias is None:  # a prediction of zeros has no direction
        model.predictor.append(nn.Linear(256, 256))
        nn.init.zeros_(model.predictor[-1].weight)
    model(*views()).loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.backbone.parameters())


def test_the_predictor_has_a_constant_rate_where_the_paper_has_it():
    for name in ("simsiam", "nnsiam"):
        model = method(name)
        assert list(model.constant_rate_modules()) == [model.predictor]
    for name in ("byol", "mocov3", "simclr", "distill"):
        assert list(method(name).constant_rate_modules()) == []


def test_nnsiam_takes_the_nearest_by_cosine_as_targets():
    model, (a, b) = method("nnsiam"), views()
    z = [model.projector(model.backbone(x)) for x in (a, b)]
    p = [model.predictor(x) for x in z]
    queue = model.queue.clone()
    chosen = [[int(np.argmax([cosine(row[None], q[None])[0] for q in queue])) for row in x] for x in z]
    expected = -(cosine(p[0], queue[chosen[1]]).mean() + cosine(p[1], queue[chosen[0]]).mean()) / 2
    assert model(a, b).loss.item() == pytest.approx(expected, rel=1e-5)
    assert len(set(chosen[0] + chosen[1])) > 1


def test_nnsiams_queue_takes_first_views_after_the_look_up_and_forgets_the_oldest():
    model = method("nnsiam")  # 24 rows, batches of 6
    assert model.queue.shape == (24, 128)
    torch.testing.assert_close(model.queue.norm(dim=1), torch.ones(24))
    embeddings = []
    for step in range(5):
        before = model.queue.clone()
        embedding = model(*views(seed=step)).embedding
        embeddings.append(embedding / embedding.norm(dim=1, keepdim=True))
        changed = (model.queue != before).any(dim=1).nonzero().flatten().tolist()
        assert changed == list(range(step * 6 % 24, step * 6 % 24 + 6))
    assert int(model.position) == 6
    torch.testing.assert_close(model.queue, torch.cat([embeddings[4], *embeddings[1:4]]))
    before = model.queue.clone()
    model.eval()(*views())
    assert torch.equal(model.queue, before)
    assert int(model.position) == 6


def test_nnsiams_state_holds_the_queue():
    model, other = method("nnsiam"), method("nnsiam")
    model(*views())
    assert not torch.equal(model.queue, other.queue)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.queue, other.queue)
    assert int(other.position) == 6


@pytest.mark.parametrize(("queue", "take"), [(100, 102), (5, 6)])
def test_a_queue_that_no_batches_fill_is_refused(queue, take):
    message = f"target.queue={queue} is not a multiple of batch_size=6: .*; take {take}"
    with pytest.raises(FullrankError, match=message):
        method("nnsiam", target={"queue": queue})


def test_byols_loss_is_the_papers_with_targets_of_the_average():
    model, (a, b) = method("byol"), views()
    with torch.no_grad():
        for p in model.target.parameters():
            p.add_(0.05 * torch.randn_like(p))
    prediction = [model.predictor(model.projector(model.backbone(x))) for x in (a, b)]
    target = [model.target(x) for x in (a, b)]
    expected = (2 - 2 * cosine(prediction[0], target[1])).mean() + (2 - 2 * cosine(prediction[1], target[0])).mean()
    assert model(a, b).loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [None, 0.2])
def test_mocov3s_loss_is_the_papers(temperature):
    model, (a, b) = method("mocov3", loss={"temperature": temperature}), views()
    with torch.no_grad():
        for p in model.target.parameters():
            p.add_(0.05 * torch.randn_like(p))
    prediction = [model.predictor(model.projector(model.backbone(x))) for x in (a, b)]
    target = [model.target(x) for x in (a, b)]
    expected, t = 0.0, temperature or 1.0
    for q, k in ((prediction[0], target[1]), (prediction[1], target[0])):
        for i in range(len(q)):
            similar = [cosine(q[i][None], other[None])[0] / t for other in k]
            expected -= 2 * t * (similar[i] - math.log(sum(math.exp(s) for s in similar))) / len(q)
    assert model(a, b).loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("name", "first"), [("byol", 0.996), ("mocov3", 0.99)])
def test_the_average_moves_by_the_papers_formula(name, first):
    model = method(name)
    key = "projector.3.weight"
    expected = dict(model.target.named_parameters())[key].detach().double().clone()
    torch.testing.assert_close(expected.float(), model.projector[3].weight.detach())
    for step in range(4):
        with torch.no_grad():
            for p in (*model.backbone.parameters(), *model.projector.parameters()):
                p.add_(torch.randn_like(p))
        model.after_step(step, 4)
        m = 1 - (1 - first) * (math.cos(math.pi * step / 4) + 1) / 2
        expected = m * expected + (1 - m) * model.projector[3].weight.detach().double()
        torch.testing.assert_close(dict(model.target.named_parameters())[key].double(), expected, rtol=1e-5, atol=1e-6)
    # at the end, momentum 1, it stays
    before = [p.clone() for p in model.target.parameters()]
    model.after_step(4, 4)
    assert all(torch.equal(p, q) for p, q in zip(before, model.target.parameters(), strict=True))


def test_the_averages_first_momentum_can_be_set():
    model = method("byol", target={"momentum": 0.0})
    with torch.no_grad():
        for p in model.backbone.parameters():
            p.add_(1)
    model.after_step(0, 10)
    for p, q in zip(model.target.backbone.parameters(), model.backbone.parameters(), strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("name", ["byol", "mocov3"])
def test_the_average_is_kept_and_never_trained(name):
    model = method(name)
    online = {*model.backbone.state_dict(prefix="backbone."), *model.projector.state_dict(prefix="projector.")}
    state = model.state_dict()
    assert {key.removeprefix("target.") for key in state if key.startswith("target.")} == online
    assert not any(p.requires_grad for p in model.target.parameters())
    for optimizer in ("sgd", "adamw", "lars"):
        trained = build_optimizer(model, OptimConfig(optimizer=optimizer), 256).param_groups
        ids = {id(p) for group in trained for p in group["params"]}
        assert not ids & {id(p) for p in model.target.parameters()}
    model(*views()).loss.backward()
    assert all(p.grad is None for p in model.target.parameters())


def test_the_averages_batch_statistics_are_of_the_batches_it_sees():
    model = method("byol")
    with torch.no_grad():
        model.target.backbone.conv1.weight.mul_(3)
    model(*views())
    mine, theirs = model.backbone.bn1.running_var, model.target.backbone.bn1.running_var
    assert (theirs > 2 * mine - 1).all()
    assert not torch.allclose(mine, theirs)


def test_neighbours_are_looked_up_in_full_precision():
    """Under autocast to bf16 nearly equal cosines would tie, and the place in the queue would decide."""
    torch.manual_seed(0)
    nnsiam = method("nnsiam", target={"queue": 60})
    z = 1 + 0.01 * torch.randn(6, nnsiam.queue.shape[1])
    nnsiam.queue.copy_(torch.nn.functional.normalize(1 + 0.01 * torch.randn_like(nnsiam.queue), dim=1))
    exact = nnsiam.nearest(z)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nnsiam.nearest(z), exact)
        coarse = nnsiam.queue[(z @ nnsiam.queue.T).argmax(dim=1)]
    assert not torch.equal(coarse, exact)


def test_the_momentum_may_stay_as_it_is():
    for constant, expected in ((True, 0.5), (False, 0.75)):
        byol = method("byol", target={"momentum": 0.5, "constant_momentum": constant})
        weight, mean = next(byol.backbone.parameters()), next(byol.target.parameters())
        with torch.no_grad():
            weight.add_(1)
        before = mean.clone()
        byol.after_step(2, 4)
        torch.testing.assert_close(mean, before + (1 - expected) * (weight - before))
