import pytest
import torch
from naive_losses import CASES, WITH_PREDICTIONS, embeddings
from tests.processes import run_in_two
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fullrank import losses
from fullrank.errors import FullrankError

N, D, M = 8, 5, 6


class Encoder(nn.Module):
    """Two views to embeddings; what `DistributedDataParallel` averages is the gradient of its weights."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(D, M, bias=False, dtype=torch.float64)
        with torch.no_grad():
            self.linear.weight.copy_(embeddings(M, D, count=1, seed=1)[0])

    def forward(self, x1, x2):
        return self.linear(x1), self.linear(x2)


def run_all(encoder, rows):
    """Value and weight gradient of every loss, of this process's rows of the batch."""
    x1, x2 = (x.detach()[rows] for x in embeddings(N, D))
    found = {}
    for name, (loss, _) in {**CASES, **WITH_PREDICTIONS}.items():
        encoder.zero_grad()
        z1, z2 = encoder(x1, x2)
        tensors = [z1, z2, z1.tanh(), z2.tanh()] if name in WITH_PREDICTIONS else [z1, z2]
        value = loss(*[losses.gather(z) for z in tensors])
        value.backward()
        found[name] = value.item(), [p.grad.clone() for p in encoder.parameters()]
    return found


def _process(rank, folder):
    size = N // 2
    torch.save(
        run_all(DistributedDataParallel(Encoder()), slice(rank * size, (rank + 1) * size)), f"{folder}/{rank}.pt"
    )
    z = torch.full((2, 3), float(rank)).T.contiguous().T  # not contiguous
    assert losses.gather(z)[:, 0].tolist() == [0, 0, 1, 1]


def test_two_processes_equal_one_for_every_loss(tmp_path):
    run_in_two(_process, tmp_path)
    for name, (value, gradients) in run_all(Encoder(), slice(None)).items():
        assert max(g.norm() for g in gradients) > 1e-3, name
        for rank in range(2):
            found, slopes = torch.load(tmp_path / f"{rank}.pt", weights_only=True)[name]
            assert found == pytest.approx(value, rel=1e-12), name
            for slope, gradient in zip(slopes, gradients, strict=True):
                torch.testing.assert_close(slope, gradient, rtol=1e-10, atol=1e-10, msg=name)


def penalized(z, processes):
    """The gradient of a penalty on the gradient of all processes' losses together."""
    rows = losses.gather(z)
    (slope,) = torch.autograd.grad(processes * losses.vicreg(rows, rows**2), z, create_graph=True)
    return torch.autograd.grad(slope.square().sum(), z)[0]


def _penalize(rank, folder):
    z = embeddings(N, M, count=1)[0].detach().chunk(2)[rank].requires_grad_()
    torch.save(penalized(z, processes=1), f"{folder}/{rank}.pt")


def test_gradients_that_come_back_have_gradients(tmp_path):
    run_in_two(_penalize, tmp_path)
    found = torch.cat([torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)])
    torch.testing.assert_close(found, penalized(embeddings(N, M, count=1)[0], processes=2), rtol=1e-10, atol=1e-10)


def test_gather_is_the_identity_on_one_process():
    z = torch.ones(3, 2, requires_grad=True)
    assert losses.gather(z) is z


def test_gather_refuses_what_is_no_matrix():
    with pytest.raises(FullrankError, match=r"z must be a tensor \(N, M\), got \(3,\)"):
        losses.gather(torch.ones(3))
    with pytest.raises(FullrankError, match=r"z must be a tensor \(N, M\), got list"):
        losses.gather([[1.0]])
