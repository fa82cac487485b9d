"""Value and gradient of every loss against its formula written out, in float64; precision; the smaller Gram matrix."""

import inspect
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from naive_losses import CASES, SMALLER_SIDE, WITH_PREDICTIONS, embeddings, value_and_gradients
from torch.utils._python_dispatch import TorchDispatchMode

from fullrank import losses
from fullrank.losses import _gram

SHAPES = [(6, 4), (4, 6), (5, 5), (2, 3)]


def test_every_loss_has_its_formula():
    tested = {name.split(",")[0] for name in (*CASES, *WITH_PREDICTIONS)}
    helpers = {"balance", "balanced_gap", "gather", "get_loss", "normalize"}
    told = {"dimension_residual", "sample_residual", "dimension_contrastive_bounds", "sample_contrastive_bounds"}
    functions = {name for name in losses.__all__ if inspect.isfunction(getattr(losses, name))}
    assert tested | helpers | told == functions


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
    one_long = []
    for seed in range(20):
        z = torch.randn(64, 256, generator=torch.Generator().manual_seed(seed))
        z[:, 0] *= 14
        one_long.append((z, 8))
    for z, share in ((whitened, 60), (lopsided, 15), *one_long):
        expected, (slope,) = value_and_gradients(losses.dimension_contrastive, [z.double()])
        assert 1 + losses.dimension_residual(z.double()) / expected > share
        value, (gradient,) = value_and_gradients(losses.dimension_contrastive, [z])
        assert relative(value, expected) < 1e-5
        assert relative(gradient, slope) < 2e-5


@pytest.mark.parametrize("scale", [1, 1e3, 1e4, 1e6])
@pytest.mark.parametrize("long", ["dimension", "dimensions", "sample", "both"])
@pytest.mark.parametrize("name", SMALLER_SIDE)
def test_long_dimensions_and_samples_cost_no_digits(name, long, scale):
    tensors = [x.detach().clone() for x in embeddings(24, 96, dtype=torch.float32)]
    for x in tensors:
        if long != "sample":
            x[:, : 12 if long == "dimensions" else 1] *= scale
        if long in ("sample", "both"):
            x[1] *= scale
    expected, slopes = value_and_gradients(CASES[name][0], [x.double() for x in tensors])
    value, gradients = value_and_gradients(CASES[name][0], tensors)
    assert relative(value, expected) < 1e-5
    for gradient, slope in zip(gradients, slopes, strict=True):
        if slope is not None:
            assert relative(gradient, slope) < 1e-5


@pytest.mark.parametrize("long", [False, True], ids=["float32", "float64"])
def test_products_are_those_of_float32_where_these_are_enough(long):
    """Of long columns at right angles, more of them than are summed one by one, float32 would keep nothing."""
    (z,) = embeddings(64, 96, count=1, dtype=torch.float32)
    z = z.detach()
    if long:
        z[:, :40] = 300 * torch.linalg.qr(z[:, :40]).Q
        z[:, 40:] *= 1e-2
    _, enough = _gram._through_rows(z, z)
    assert bool(enough) is not long
    expected, (slope,) = value_and_gradients(losses.dimension_contrastive, [z.double()])
    value, (gradient,) = value_and_gradients(losses.dimension_contrastive, [z])
    assert relative(value, expected) < 1e-5
    assert relative(gradient, slope) < 1e-5


@pytest.mark.parametrize("entry", [1e4, 1e5, 1e6])
def test_one_huge_entry_costs_no_digits_of_the_repulsion(entry):
    (z,) = (x.detach().clone() for x in embeddings(16, 24, count=1, dtype=torch.float32))
    z[:, 0] = 0
    z[3, 0] = entry

    def ours(z):
        return losses.vicreg_ctr(z, z, temperature=0.1, invariance=0.0, variance=0.0, covariance=0.5)

    def formula(z):
        x = z - z.sum(dim=0) / 16
        scores = [[(x[i] * x[j]).sum() / (0.1 * 23) for j in range(16) if j != i] for i in range(16)]
        tops = [max(row) for row in scores]
        return sum(top + sum((s - top).exp() for s in row).log() for top, row in zip(tops, scores, strict=True)) / 16

    value, (gradient,) = value_and_gradients(ours, [z])
    expected, (slope,) = value_and_gradients(formula, [z.double()])
    assert relative(value, expected) < 1e-5
    assert relative(gradient, slope) < 1e-4


@pytest.mark.parametrize("at", [1000.1, 1e5 + 0.3, 1e6 + 0.5])
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "varies"])
@pytest.mark.parametrize("name", ["vicreg", "vicreg_exp", "vicreg_ctr", "barlow_twins"])
def test_a_large_mean_costs_no_digits(name, constant, at):
    """Rounding of a column's mean is no variation of it, which a dead column has not."""
    tensors = [x.detach().clone() for x in embeddings(100, 6, dtype=torch.float32)]
    for x in tensors:
        x[:, 1] = at if constant else x[:, 1] + at
    expected, slopes = value_and_gradients(CASES[name][0], [x.double() for x in tensors])
    value, gradients = value_and_gradients(CASES[name][0], tensors)
    assert relative(value, expected) < 1e-6
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert relative(gradient, slope) < 1e-5


@pytest.mark.parametrize("temperature", [0.1, 0.02])
@pytest.mark.parametrize(
    "loss", [losses.info_nce, partial(losses.info_nce, negatives="cross"), losses.simclr_sq, losses.simclr_abs]
)
def test_pairs_far_above_their_negatives_still_have_a_loss_and_a_gradient(loss, temperature):
    z = torch.eye(4) + 0.1 * torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    tensors = [z, z + 0.05 * z.flip(0)]
    loss = partial(loss, temperature=temperature)
    expected, slopes = value_and_gradients(loss, [x.double() for x in tensors])
    value, gradients = value_and_gradients(loss, tensors)
    assert 0 < expected < 1e-3
    assert relative(value, expected) < 1e-4
    for gradient, slope in zip(gradients, slopes, strict=True):
        assert relative(gradient, slope) < 1e-3


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch's own, of its forward mode
@pytest.mark.parametrize("shape", [(3, 5), (5, 3)], ids=str)
@pytest.mark.parametrize("name", [name for name in (*CASES, *WITH_PREDICTIONS) if "," not in name])
def test_torch_func_maps_gradients_and_differentiates_them_both_ways(name, shape):
    loss, naive = {**CASES, **WITH_PREDICTIONS}[name]
    count = 4 if name in WITH_PREDICTIONS else 2
    with_gradient = count - 2
    batches = [embeddings(*shape, count=count, seed=seed) for seed in range(2)]
    stacked = [torch.stack([x.detach() for x in views]) for views in zip(*batches, strict=True)]
    direction = embeddings(*shape, count=1, seed=2)[0].detach()

    def slope(of, views):
        rest = list(views)
        return torch.func.grad(lambda x: of(*rest[:with_gradient], x, *rest[with_gradient + 1 :])), rest[with_gradient]

    expected = torch.stack([at(x) for at, x in (slope(naive, views) for views in zip(*stacked, strict=True))])
    mapped = torch.func.vmap(torch.func.grad(loss, argnums=with_gradient))(*[x.float() for x in stacked])
    assert relative(mapped, expected) < 1e-5
    single = [x[0].requires_grad_() for x in stacked]
    _, bent = torch.autograd.functional.hvp(
        lambda x: naive(*single[:with_gradient], x, *single[with_gradient + 1 :]), single[with_gradient], direction
    )
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-4)):
        at, x = slope(loss, [x.detach().to(dtype) for x in single])
        _, forward = torch.func.jvp(at, (x,), (direction.to(dtype),))
        _, pull = torch.func.vjp(at, x)
        assert relative(forward, bent) < tolerance
        assert relative(pull(direction.to(dtype))[0], bent) < tolerance


def set_for_a_test(setter, value, before):
    @contextmanager
    def context():
        setter(value)
        try:
            yield
        finally:
            setter(before)

    return context()


SETTINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "float64": lambda: set_for_a_test(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: set_for_a_test(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "medium": lambda: set_for_a_test(torch.set_float32_matmul_precision, "medium", "highest"),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", [*CASES, *WITH_PREDICTIONS])
def test_what_the_program_has_set_changes_nothing(name, setting):
    loss = {**CASES, **WITH_PREDICTIONS}[name][0]
    tensors = embeddings(24, 40, count=4 if name in WITH_PREDICTIONS else 2, dtype=torch.float32)
    expected, gradients = value_and_gradients(loss, tensors)
    with SETTINGS[setting]():
        value = loss(*tensors)
        assert value.dtype == torch.float32
        assert torch.equal(value.detach(), expected)
        if value.requires_grad and setting != "autocast":
            for found, gradient in zip(torch.autograd.grad(value, tensors, allow_unused=True), gradients, strict=True):
                assert gradient is None or torch.equal(found, gradient)


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


EVERY = {**CASES, **WITH_PREDICTIONS}
OF_DIRECTIONS = [
    name for name in EVERY if name.startswith(("info_nce", "simclr", "dcl", "tcr", "simsiam", "byol", "mocov3"))
]


def batch(name, **options):
    return embeddings(6, 4, count=4 if name in WITH_PREDICTIONS else 2, **options)


@pytest.mark.parametrize("name", OF_DIRECTIONS)
def test_one_embedding_of_zeros_has_no_direction_and_no_gradient(name):
    tensors = [x.detach().clone() for x in batch(name, dtype=torch.float32)]
    _, others = value_and_gradients(EVERY[name][0], tensors)
    for x in tensors:
        x[2] = 0
    value, gradients = value_and_gradients(EVERY[name][0], tensors)
    assert value.isfinite()
    for gradient, other in zip(gradients, others, strict=True):
        if gradient is not None:
            assert not gradient[2].any()
            assert gradient.abs().max() < 10 * other.abs().max()


@pytest.mark.parametrize("name", [*OF_DIRECTIONS, "spectral_contrastive"])
def test_one_embedding_of_zeros_has_second_derivatives(name):
    tensors = [x.detach().clone() for x in batch(name)]
    for x in tensors:
        x[2] = 0
        x.requires_grad_()
    gradients = torch.autograd.grad(EVERY[name][0](*tensors), tensors, create_graph=True, allow_unused=True)
    penalty = sum(gradient.square().sum() for gradient in gradients if gradient is not None)
    seconds = [x for x in torch.autograd.grad(penalty, tensors, allow_unused=True) if x is not None]
    assert seconds
    assert all(second.isfinite().all() for second in seconds)
    if name in OF_DIRECTIONS:
        assert not any(second[2].any() for second in seconds)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
@pytest.mark.parametrize("name", OF_DIRECTIONS)
def test_the_squares_of_long_and_short_embeddings_need_not_be_numbers(name, scale):
    tensors = batch(name, dtype=torch.float32)
    value, gradients = value_and_gradients(EVERY[name][0], tensors)
    scaled, slopes = value_and_gradients(EVERY[name][0], [x.detach() * scale for x in tensors])
    torch.testing.assert_close(scaled, value, rtol=1e-5, atol=1e-6)
    for slope, gradient in zip(slopes, gradients, strict=True):
        if slope is not None:
            torch.testing.assert_close(slope.double() * scale, gradient.double(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("entry", [torch.nan, torch.inf])
def test_a_diverged_encoder_gives_nan_and_no_error(name, entry):
    tensors = [x.detach().clone() for x in batch(name)]
    tensors[0][2, 1] = entry
    assert not EVERY[name][0](*tensors).isfinite()


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith(("vicreg", "barlow"))])
def test_a_diverging_encoder_does_not_look_collapsed(name):
    tensors = [1e25 * x.detach() for x in batch(name, dtype=torch.float32)]
    assert not CASES[name][0](*tensors).isfinite()
