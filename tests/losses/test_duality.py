import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_losses import dot, embeddings

from fullrank import losses
from fullrank.errors import FullrankError

SCHEMES = ("vicreg", "vicreg_exp", "vicreg_ctr", "simclr", "simclr_a", "simclr_b")
shapes = st.tuples(st.integers(2, 12), st.integers(2, 12), st.integers(0, 1000))


def one(n, m, seed=0):
    return embeddings(n, m, count=1, seed=seed)[0].detach()


@settings(max_examples=50, deadline=None)
@given(shapes)
def test_theorem_3_3_holds_for_any_matrix(shape):
    z = one(*shape)
    left = losses.dimension_contrastive(z) + losses.dimension_residual(z)
    right = losses.sample_contrastive(z) + losses.sample_residual(z)
    torch.testing.assert_close(left, right, rtol=1e-12, atol=0)


def test_the_identity_holds_between_gradients_too():
    z = one(5, 9).requires_grad_()
    left = torch.autograd.grad(losses.dimension_contrastive(z) + losses.dimension_residual(z), z)[0]
    right = torch.autograd.grad(losses.sample_contrastive(z) + losses.sample_residual(z), z)[0]
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


def test_residuals_are_sums_of_fourth_powers():
    z = one(4, 7)
    assert losses.sample_residual(z).item() == pytest.approx(sum(float(dot(row, row)) ** 2 for row in z), rel=1e-12)
    assert losses.dimension_residual(z).item() == pytest.approx(sum(float(dot(c, c)) ** 2 for c in z.T), rel=1e-12)


@settings(max_examples=50, deadline=None)
@given(shapes)
def test_corollary_3_4_1(shape):
    n, m, seed = shape
    z = torch.nn.functional.normalize(one(n, m, seed), dim=1)
    low, high = losses.sample_contrastive_bounds(float(losses.dimension_contrastive(z)), n, m)
    assert low - 1e-9 <= float(losses.sample_contrastive(z)) <= high + 1e-9
    z = torch.nn.functional.normalize(one(n, m, seed), dim=0)
    low, high = losses.dimension_contrastive_bounds(float(losses.sample_contrastive(z)), n, m)
    assert low - 1e-9 <= float(losses.dimension_contrastive(z)) <= high + 1e-9


def test_both_ends_of_the_bounds_are_reached():
    n, m = 6, 4
    constant, one_column = torch.full((n, m), m**-0.5).double(), torch.zeros(n, m).double()
    one_column[:, 1] = 1
    low, _ = losses.sample_contrastive_bounds(float(losses.dimension_contrastive(constant)), n, m)
    assert float(losses.sample_contrastive(constant)) == pytest.approx(low, rel=1e-12)
    _, high = losses.sample_contrastive_bounds(float(losses.dimension_contrastive(one_column)), n, m)
    assert float(losses.sample_contrastive(one_column)) == pytest.approx(high, rel=1e-12)
    low, _ = losses.dimension_contrastive_bounds(float(losses.sample_contrastive(constant.T)), m, n)
    assert float(losses.dimension_contrastive(constant.T)) == pytest.approx(low, rel=1e-12)
    _, high = losses.dimension_contrastive_bounds(float(losses.sample_contrastive(one_column.T)), m, n)
    assert float(losses.dimension_contrastive(one_column.T)) == pytest.approx(high, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(8, 5), (5, 8), (6, 6)])
def test_doubly_normalised_embeddings_differ_by_n_minus_n_squared_over_m(n, m):
    z = losses.balance(one(n, m), iterations=500)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(n, dtype=torch.float64), rtol=1e-12, atol=0)
    torch.testing.assert_close(z.norm(dim=0), torch.full((m,), (n / m) ** 0.5, dtype=torch.float64))
    gap = float(losses.dimension_contrastive(z) - losses.sample_contrastive(z))
    assert gap == pytest.approx(losses.balanced_gap(n, m), abs=1e-8)
    assert losses.balanced_gap(n, m) == pytest.approx(n - n**2 / m)
    if n != m:
        assert abs(gap - (n - m)) > 1  # what the paper's text has


def test_balancing_scales_rows_and_columns_only():
    z = one(7, 4)
    ratio = losses.balance(z) / z
    assert torch.linalg.matrix_rank(ratio, rtol=1e-10) == 1
    assert bool((ratio > 0).all())


def test_vicregs_covariance_term_is_the_criterion_of_centered_embeddings():
    z = one(9, 5)
    n, m = z.shape
    x = z - z.mean(dim=0)
    both_views = losses.vicreg(z, z, invariance=0, variance=0)
    torch.testing.assert_close(both_views, 2 * losses.dimension_contrastive(x) / (m * (n - 1) ** 2))
    rewritten = losses.sample_contrastive(x) + losses.sample_residual(x) - losses.dimension_residual(x)
    torch.testing.assert_close(both_views, 2 * rewritten / (m * (n - 1) ** 2))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_normalisations_are_table_1(scheme):
    n, m = 7, 4
    z = one(n, m)
    found = losses.normalize(z, scheme)
    centre = [0.0] * m if scheme == "simclr" else [sum(float(z[i, j]) for i in range(n)) / n for j in range(m)]
    x = [[float(z[i, j]) - centre[j] for j in range(m)] for i in range(n)]
    by_row = [math.sqrt(sum(v * v for v in row)) for row in x]
    by_column = [math.sqrt(sum(x[i][j] ** 2 for i in range(n))) for j in range(m)]
    for i in range(n):
        for j in range(m):
            if scheme in ("vicreg", "vicreg_exp"):
                expected = x[i][j] / by_column[j] * math.sqrt(n)
            elif scheme == "simclr_b":
                expected = x[i][j] / by_column[j] * math.sqrt(n / m)
            else:
                expected = x[i][j] / by_row[i]
            assert float(found[i, j]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scheme", ["vicreg", "vicreg_exp", "simclr_b"])
def test_a_constant_dimension_stays_zero(scheme, dtype):
    """The mean of seven tenths is not a tenth in binary, and what is left must not be scaled up."""
    for value in (0.1, 1 / 3, 1e5 + 0.3):
        z = one(7, 4).to(dtype)
        z[:, 1] = value
        assert not losses.normalize(z, scheme)[:, 1].any()


def test_self_cluster_is_affine_in_the_sample_contrastive_criterion():
    from fullrank.measure.quality import self_cluster

    z = one(20, 6)
    n, m = z.shape
    criterion = float(losses.sample_contrastive(losses.normalize(z, "simclr")))
    chance = n * (n - 1) / m
    assert self_cluster(z) == pytest.approx((criterion - chance) / (n * (n - 1) - chance), rel=1e-12)


def test_refusals():
    z = torch.ones(3, 2)
    with pytest.raises(FullrankError, match="scheme must be one of vicreg, .*, got 'simclr_c'; did you mean 'simclr"):
        losses.normalize(z, "simclr_c")
    with pytest.raises(FullrankError, match=r"z must have one shape \(N, M\), got \(2,\)"):
        losses.normalize(z[0], "simclr")
    with pytest.raises(FullrankError, match=r"sample_contrastive needs at least 2 rows, got shape \(1, 2\)"):
        losses.sample_contrastive(z[:1])
    with pytest.raises(FullrankError, match=r"dimension_contrastive needs at least 2 columns, got shape \(3, 1\)"):
        losses.dimension_contrastive(z[:, :1])
    with pytest.raises(FullrankError, match="z must hold real floating-point numbers, got torch.int64"):
        losses.sample_residual(z.long())
    with pytest.raises(FullrankError, match="iterations must be at least 1, got 0"):
        losses.balance(z, iterations=0)
    for bounds in (losses.sample_contrastive_bounds, losses.dimension_contrastive_bounds):
        with pytest.raises(FullrankError, match="n must be a positive finite number, got 0"):
            bounds(1.0, 0, 2)
    with pytest.raises(FullrankError, match="m must be a positive finite number, got 0"):
        losses.balanced_gap(3, 0)
