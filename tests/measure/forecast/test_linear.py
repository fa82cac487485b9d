"""The linear forecast, against the textbook's formulas with explicit inverses and n refits, in float64."""

import re

import numpy as np
import pytest
from scipy import stats

from fullrank.errors import FullrankError
from fullrank.measure.forecast import fit_linear, leave_groups_out

NAMES = ("loss", "auc")


def runs(n=14, noise=0.02, seed=0, correlation=0.6):
    rng = np.random.default_rng(seed)
    loss, other = rng.standard_normal((2, n))
    x = np.stack([-0.8 + 0.1 * loss, 0.75 + 0.06 * (correlation * loss + (1 - correlation**2) ** 0.5 * other)], axis=1)
    return x, 0.9 - 0.4 * x[:, 0] - 1.1 * x[:, 1] + noise * rng.standard_normal(n)


def naive(x, y):
    """Coefficients, their covariance and the residual variance, by the normal equations."""
    design = np.column_stack([np.ones(len(x)), x])
    inverse = np.linalg.inv(design.T @ design)
    b = inverse @ design.T @ y
    s2 = ((y - design @ b) ** 2).sum() / (len(x) - design.shape[1])
    return b, s2 * inverse, s2


def test_known_coefficients_are_recovered():
    x, y = runs(noise=0.0)
    fit = fit_linear(x, y, NAMES)
    np.testing.assert_allclose(fit.coefficients, [0.9, -0.4, -1.1], atol=1e-12)
    assert fit.r2 == pytest.approx(1)
    assert fit.leave_one_out_r2 == pytest.approx(1)
    np.testing.assert_allclose(fit.predict([[-0.7, 0.8]]).value, [0.9 + 0.28 - 0.88], atol=1e-12)


@pytest.mark.parametrize("p", [1, 2, 4])
def test_coefficients_and_intervals_are_those_of_the_textbook(p):
    rng = np.random.default_rng(p)
    x, y = rng.standard_normal((12, p)) * 10.0 ** np.arange(p) + 5, rng.standard_normal(12)
    fit = fit_linear(x, y, [f"x{j}" for j in range(p)])
    b, covariance, s2 = naive(x, y)
    np.testing.assert_allclose(fit.coefficients, b, rtol=1e-8)
    np.testing.assert_allclose(
        fit.coefficients, np.linalg.lstsq(np.column_stack([np.ones(12), x]), y, rcond=None)[0], rtol=1e-8
    )
    reach = stats.t.ppf(0.975, 12 - p - 1) * np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(fit.lower, b - reach, rtol=1e-7)
    np.testing.assert_allclose(fit.upper, b + reach, rtol=1e-7)
    assert fit.residual == pytest.approx(s2**0.5)
    at = rng.standard_normal((3, p))
    row = np.column_stack([np.ones(3), at])
    spread = np.sqrt(s2 + np.einsum("ij,jk,ik->i", row, covariance, row))
    said = fit.predict(at)
    np.testing.assert_allclose(said.value, row @ b, rtol=1e-8)
    np.testing.assert_allclose(said.upper - said.value, stats.t.ppf(0.975, 12 - p - 1) * spread, rtol=1e-7)
    np.testing.assert_allclose(said.value - said.lower, said.upper - said.value, rtol=1e-7)


def test_one_feature_agrees_with_scipy():
    x, y = runs()
    fit, theirs = fit_linear(x[:, :1], y, ("loss",)), stats.linregress(x[:, 0], y)
    np.testing.assert_allclose(fit.coefficients, [theirs.intercept, theirs.slope])
    assert fit.r2 == pytest.approx(theirs.rvalue**2)
    assert fit.upper[1] - fit.coefficients[1] == pytest.approx(theirs.stderr * stats.t.ppf(0.975, 12))
    assert fit.inflation.tolist() == pytest.approx([1.0])


def test_leaving_one_out_is_n_refits():
    x, y = runs(n=9)
    fit = fit_linear(x, y, NAMES)
    refit = np.empty((9, 3))
    for i in range(9):
        others = np.delete(np.arange(9), i)
        b, covariance, s2 = naive(x[others], y[others])
        row = np.array([1, *x[i]])
        reach = stats.t.ppf(0.975, 8 - 3) * (s2 + row @ covariance @ row) ** 0.5
        refit[i] = row @ b, row @ b - reach, row @ b + reach
    np.testing.assert_allclose(fit.left_out.value, refit[:, 0], rtol=1e-10)
    np.testing.assert_allclose(fit.left_out.lower, refit[:, 1], rtol=1e-8)
    np.testing.assert_allclose(fit.left_out.upper, refit[:, 2], rtol=1e-8)
    press = ((y - refit[:, 0]) ** 2).sum()
    assert fit.leave_one_out_r2 == pytest.approx(1 - press / ((y - y.mean()) ** 2).sum())
    assert fit.leave_one_out_r2 < fit.r2


def test_leaving_a_group_out_is_a_refit_without_it():
    x, y = runs(14, seed=5)
    groups = ["a", "b", "a", "c", "c", "c", "d", "e", "b", "f", "g", "h", "i", "a"]
    fit = fit_linear(x, y, NAMES)
    found = leave_groups_out(fit, groups)
    for i, group in enumerate(groups):
        rest = np.array([other != group for other in groups])
        assert found[i] == pytest.approx(naive(x[rest], y[rest])[0] @ [1, *x[i]], rel=1e-9)
    np.testing.assert_allclose(leave_groups_out(fit, range(14)), fit.left_out.value, rtol=1e-10)
    with pytest.raises(FullrankError, match="group of each of 14 runs, got 2"):
        leave_groups_out(fit, ["a", "b"])
    # the two runs beside the large group fit no plane
    assert np.isnan(leave_groups_out(fit, ["all"] * 12 + ["b", "c"])[:12]).all()


def test_intervals_cover_what_they_say():
    hits = np.zeros((3, 1000))
    truth = np.array([0.9, -0.4, -1.1])
    new = np.array([-0.75, 0.72])
    for seed in range(1000):
        x, y = runs(n=8, seed=seed)
        fit = fit_linear(x, y, NAMES)
        said = fit.predict(new[None])
        outcome = truth[0] + truth[1:] @ new + 0.02 * np.random.default_rng(10_000 + seed).standard_normal()
        hits[0, seed] = fit.lower[2] <= truth[2] <= fit.upper[2]
        hits[1, seed] = said.lower[0] <= outcome <= said.upper[0]
        hits[2, seed] = np.mean((fit.left_out.lower <= y) & (y <= fit.left_out.upper))
    # one coverage of .95 over 1,000 draws has a standard error of .007
    np.testing.assert_allclose(hits.mean(axis=1), 0.95, atol=0.02)


def test_inflation_and_condition_are_those_of_the_correlation():
    x, y = runs()
    r = np.corrcoef(x.T)[0, 1]
    fit = fit_linear(x, y, NAMES)
    np.testing.assert_allclose(fit.inflation, 1 / (1 - r**2))
    assert fit.condition == pytest.approx(((1 + abs(r)) / (1 - abs(r))) ** 0.5)


def test_extrapolation_is_named():
    x, y = runs(n=30, correlation=0.9)
    fit = fit_linear(x, y, NAMES)
    low, high, mean = x.min(axis=0), x.max(axis=0), x.mean(axis=0)
    against = [low[0] + 0.01, high[1] - 0.01]  # within both ranges, against their correlation
    said = fit.predict([mean, [high[0] + 0.01, mean[1]], low - 0.01, against, *x])
    assert said.outside[:4] == ((), ("loss",), ("loss", "auc"), ("their combination",))
    assert set(said.outside[4:]) == {()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[:4], y[:4]), "4 runs with labels are too few to fit accuracy on loss and auc: it takes 5"),
        (lambda x, y: (x * [1, 0] + [0, 0.8], y), "auc is the same, 0.8, for all 14 runs with labels"),
        (lambda x, y: (x, 0 * y + 0.4), "accuracy is the same, 0.4, for all 14 runs"),
        (lambda x, y: (x[:, [0, 0]] * [1, -2] + 1, y), "loss and auc are collinear in the 14 runs .*condition number"),
        (lambda x, y: (x[:, [0, 0]] + 1e-3 * x * [0, 1], y), "variance inflation .* refused from 100"),
        (lambda x, y: (np.where(x == x[0, 0], np.nan, x), y), r"features must be a matrix \(n, 2\) of finite numbers"),
        (lambda x, y: (x[:, :1], y), r"features must be a matrix \(n, 2\) of finite numbers, got shape \(14, 1\)"),
        (lambda x, y: (x, y[:3]), "accuracy must be 14 finite numbers"),
    ],
)
def test_what_cannot_be_fitted(change, message):
    with pytest.raises(FullrankError) as error:
        fit_linear(*change(*runs()), NAMES)
    assert re.search(message, str(error.value))


def test_one_run_that_carries_a_feature_alone():
    x, y = runs(n=8)
    x[:, 1] = 0.8
    x[3, 1] = 0.7
    with pytest.raises(FullrankError, match="only run 4 of the 8 with labels tells loss and auc apart"):
        fit_linear(x, y, NAMES)


def test_five_runs_are_enough():
    x, y = runs(n=5)
    fit = fit_linear(x, y, NAMES)
    assert np.isfinite(fit.left_out.upper).all()
    with pytest.raises(FullrankError, match="label 1 more"):
        fit_linear(x[:4], y[:4], NAMES)
