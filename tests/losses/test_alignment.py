import pytest
import torch

from fullrank import losses
from fullrank.errors import FullrankError


def four(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(7, 5, dtype=torch.float64, generator=generator) for _ in range(4)]


def test_simsiam_is_equation_4_written_out():
    z1, z2, p1, p2 = four()
    total = 0.0
    for n in range(7):
        for p, z in ((p1[n], z2[n]), (p2[n], z1[n])):
            total -= 0.5 * float((p * z).sum() / ((p**2).sum().sqrt() * (z**2).sum().sqrt()))
    assert losses.simsiam(z1, z2, p1, p2).item() == pytest.approx(total / 7, rel=1e-12)


def test_simsiam_does_not_change_when_views_are_swapped_or_embeddings_scaled():
    z1, z2, p1, p2 = four()
    loss = losses.simsiam(z1, z2, p1, p2)
    torch.testing.assert_close(losses.simsiam(z2, z1, p2, p1), loss)
    torch.testing.assert_close(losses.simsiam(3 * z1, 0.1 * z2, p1, 7 * p2), loss)


def test_simsiams_gradient_reaches_predictions_only_and_is_right():
    z1, z2, p1, p2 = (x.requires_grad_() for x in four())
    losses.simsiam(z1, z2, p1, p2).backward()
    assert z1.grad is None
    assert z2.grad is None
    step, n, j = 1e-6, 3, 2
    moved = p1.detach().clone()
    moved[n, j] += step
    slope = (losses.simsiam(z1, z2, moved, p2) - losses.simsiam(z1, z2, p1, p2)).detach() / step
    assert float(p1.grad[n, j]) == pytest.approx(float(slope), abs=1e-6)


def test_simsiam_refuses_other_shapes():
    z1, z2, p1, p2 = four()
    with pytest.raises(FullrankError, match=r"one shape \(N, M\), got \(7, 5\), \(7, 5\), \(7, 5\), \(7, 4\)"):
        losses.simsiam(z1, z2, p1, p2[:, :4])
    with pytest.raises(FullrankError, match="one shape"):
        losses.simsiam(z1[0], z2[0], p1[0], p2[0])
