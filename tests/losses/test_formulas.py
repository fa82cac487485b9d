"""Value and gradient of every loss against its formula written out, in float64; precision; the smaller Gram matrix."""

import pytest
import torch
from naive_losses import CASES, SMALLER_SIDE, WITH_PREDICTIONS, embeddings, value_and_gradients
from torch.utils._python_dispatch import TorchDispatchMode

from fullrank import losses
from fullrank.losses import _gram

SHAPES = [(6, 4), (4, 6), (5, 5), (2, 3)]


def test_every_loss_has_its_formula():
    tested = {name.split(",")[0] for name in (*CASES, *WITH_PREDICTIONS)}
    helpers = {"balance", "balanced_gap", "gather", "normalize"}
    told = {"dimension_residual", "sample_residual", "dimension_contrastive_bounds", "sample_contrastive_bounds"}
    assert tested | helpers | told == set(losses.__all__)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", [*CASES, *WITH_PREDICTIONS])
def test_value_and_gradient_are_those_of_the_formula(name, shape):
    loss, naive = {**CASES, **WITH_PREDICTIONS}[name]
    tensors = embeddings(*shape, count=4 if name in WITH_PREDICTIONS else 2)
    value, gradients = value_and_gradients(loss, tensors)
    expected, slopes = value_and_gradients(naive, tensors)
    assert value.shape == ()
    assert value.item() == pytest.approx(expected.item(), rel=1e-10, abs=1e-12)
    for gradient, slope in zip(gradients, slopes, strict=True):
        if slope is None:
            assert gradient is None
        else:
            torch.testing.assert_close(gradient, slope, rtol=1e-8, atol=1e-10)


def test_the_hinge_and_the_ball_are_met_from_both_sides():
    """The cases above say nothing of a clamp unless entries lie on each side of it."""
    batches = [z for shape in SHAPES[:3] for z in embeddings(*shape)]
    norms = torch.cat([z.norm(dim=1) for z in batches])
    deviations = torch.cat([z.std(dim=0) for z in batches])
    assert norms.min() < 1
    assert norms.max() > 2  # the square roots of mu
    assert deviations.min() < 1 < deviations.max()


def relative(found, expected):
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("autocast", [False, True], ids=["", "autocast"])
@pytest.mark.parametrize("shape", [(32, 96), (96, 32), (64, 72)], ids=str)
@pytest.mark.parametrize("name", SMALLER_SIDE)
def test_either_gram_matrix_gives_the_same_value_and_gradient(name, shape, autocast, monkeypatch):
    loss = CASES[name][0]
    single = embeddings(*shape, dtype=torch.float32)
    expected, slopes = value_and_gradients(loss, [x.double() for x in single])
    for through_rows in (True, False):
        with monkeypatch.context() as patch:
            patch.setattr(_gram, "rows_are_fewer", lambda n, m, answer=through_rows: answer)
            value, gradients = value_and_gradients(loss, single, autocast)
        assert relative(value, expected) < 1e-5
        for gradient, slope in zip(gradients, slopes, strict=True):
            if slope is not None:
                assert relative(gradient, slope) < 1e-5


def test_subtracting_the_diagonal_costs_few_digits():
    """Nearly all of the sum is the diagonal: whitened rows, and columns of very different norms (docs/duality.md)."""
    generator = torch.Generator().manual_seed(0)
    whitened = torch.linalg.qr(torch.randn(72, 71, generator=generator)).Q.T
    lopsided = torch.randn(64, 256, generator=generator) * (1.5 * torch.randn(256, generator=generator)).exp()
    for z, share in ((whitened, 60), (lopsided, 15)):
        expected, (slope,) = value_and_gradients(losses.dimension_contrastive, [z.double()])
        assert 1 + losses.dimension_residual(z.double()) / expected > share
        value, (gradient,) = value_and_gradients(losses.dimension_contrastive, [z])
        assert relative(value, expected) < 1e-5
        assert relative(gradient, slope) < 2e-5


class Sizes(TorchDispatchMode):
    """Records the number of entries of every tensor an operation returns."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for x in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(x, torch.Tensor):
                self.largest = max(self.largest, x.numel())
        return found


@pytest.mark.parametrize("shape", [(8, 2000), (2000, 8)], ids=str)
@pytest.mark.parametrize("name", SMALLER_SIDE)
def test_the_larger_matrix_is_never_built(name, shape):
    tensors = embeddings(*shape, dtype=torch.float32)
    with Sizes() as sizes:
        value_and_gradients(CASES[name][0], tensors)
    assert sizes.largest == 8 * 2000


def test_the_recorder_sees_a_larger_matrix(monkeypatch):
    monkeypatch.setattr(_gram, "rows_are_fewer", lambda n, m: n > m)
    with Sizes() as sizes:
        value_and_gradients(losses.vicreg, embeddings(8, 2000, dtype=torch.float32))
    assert sizes.largest == 2000**2


@pytest.mark.parametrize("name", [*CASES, *WITH_PREDICTIONS])
def test_half_precision_is_raised_to_float32_whatever_autocast_says(name):
    loss = {**CASES, **WITH_PREDICTIONS}[name][0]
    half = embeddings(24, 40, count=4 if name in WITH_PREDICTIONS else 2, dtype=torch.bfloat16)
    expected, slopes = value_and_gradients(loss, [x.double() for x in half])
    value, gradients = value_and_gradients(loss, half, autocast=True)
    assert value.dtype == torch.float32
    assert relative(value, expected) < 1e-5
    for gradient, slope in zip(gradients, slopes, strict=True):
        if slope is not None:
            assert gradient.dtype == torch.bfloat16
            assert relative(gradient, slope) < 4e-3  # bfloat16 keeps 8 bits


@pytest.mark.parametrize("name", CASES)
def test_a_constant_encoder_gives_finite_gradients(name):
    tensors = [torch.ones(6, 4, dtype=torch.float32), torch.ones(6, 4, dtype=torch.float32)]
    value, gradients = value_and_gradients(CASES[name][0], tensors)
    zeros, zero_gradients = value_and_gradients(CASES[name][0], [torch.zeros(6, 4), torch.zeros(6, 4)])
    assert value.isfinite()
    assert zeros.isfinite()
    assert all(g.isfinite().all() for g in (*gradients, *zero_gradients) if g is not None)


@pytest.mark.parametrize("name", CASES)
def test_a_diverged_encoder_gives_nan_and_no_error(name):
    tensors = embeddings(6, 4)
    bad = tensors[0].detach().clone()
    bad[2, 1] = torch.nan
    assert CASES[name][0](bad, tensors[1]).isnan()
