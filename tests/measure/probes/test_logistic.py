import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from fullrank.errors import FullrankError
from fullrank.measure.probes import choose_logistic, fit_logistic
from fullrank.measure.probes.logistic import _Problem


def blobs(count, width=6, classes=4, *, seed=0, spread=1.0, dtype=torch.float64):
    """Overlapping classes whose features have means and deviations of many sizes, as a collapsed encoder's have."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    labels = torch.randint(classes, (count,), generator=generator)
    x = centres[labels] + spread * torch.randn(count, width, generator=generator, dtype=torch.float64)
    x[:, 1] = x[:, 0] + 0.01 * x[:, 1]
    return (x * torch.logspace(2, -4, width, dtype=torch.float64) + 3).to(dtype), labels


def naive_objective(x, labels, weight, bias, l2):
    """f as the module's docstring has it, one image at a time, of features standardized by numpy."""
    x = (x.numpy() - x.numpy().mean(0)) / x.numpy().std(0)
    total = torch.zeros((), dtype=torch.float64)
    for row, label in zip(torch.from_numpy(x), labels.tolist(), strict=True):
        scores = weight @ row + bias
        total = total + torch.log(torch.exp(scores).sum()) - scores[label]
    return total / len(x) + l2 / 2 * (weight * weight).sum()


def test_objective_and_gradient_are_the_formulas():
    x, labels = blobs(40)
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(4, 6, generator=generator, dtype=torch.float64).requires_grad_()
    bias = torch.randn(4, generator=generator, dtype=torch.float64).requires_grad_()
    expected = naive_objective(x, labels, weight, bias, 0.3)
    expected.backward()
    problem = _Problem(x, labels, torch.arange(40))
    problem.rows = 7  # several blocks, the last one short
    value, by_weight, by_bias = problem.objective(weight.detach() @ problem.axes, bias.detach(), 0.3)
    torch.testing.assert_close(value, expected.detach(), rtol=1e-10, atol=0)
    torch.testing.assert_close(by_weight @ problem.axes.T, weight.grad, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(by_bias, bias.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("l2", [1e-1, 1e-3, 1e-5])
def test_the_minimum_is_scikit_learns(l2):
    x, labels = blobs(300)
    probe = fit_logistic(x, labels, l2=l2, tolerance=1e-8)
    standard = StandardScaler().fit_transform(x.numpy())
    model = LogisticRegression(C=1 / (l2 * 300), tol=1e-12, max_iter=50, solver="newton-cg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 1.3 asks for a gradient that is 300 times smaller
        model.fit(standard, labels.numpy())
    weight, bias = (torch.from_numpy(each).requires_grad_() for each in (model.coef_, model.intercept_))
    theirs = naive_objective(x, labels, weight, bias, l2)
    theirs.backward()
    assert torch.cat([weight.grad.flatten(), bias.grad]).norm() < 1e-9
    assert probe.converged
    # f has at least the curvature l2, so the minimum is at most 1e-8 / l2 away
    np.testing.assert_allclose(probe.weight.numpy(), model.coef_, rtol=0, atol=1e-8 / l2)
    intercept = model.intercept_ - model.intercept_.mean()  # a common shift changes nothing
    np.testing.assert_allclose(probe.bias.numpy() - probe.bias.numpy().mean(), intercept, rtol=0, atol=1e-8 / l2)
    assert probe.objective == pytest.approx(float(theirs.detach()), abs=1e-10)
    queries, query_labels = blobs(200, seed=1)
    scaled = (queries.numpy() - x.numpy().mean(0)) / x.numpy().std(0)
    assert np.array_equal(probe.predict(queries).numpy(), model.predict(scaled))
    assert probe.accuracy(queries, query_labels) == model.score(scaled, query_labels.numpy())


def test_the_reported_gradient_is_that_of_the_reported_weights():
    x, labels = blobs(100)
    probe = fit_logistic(x, labels, l2=1e-3, tolerance=1e-3)
    weight, bias = probe.weight.clone().requires_grad_(), probe.bias.clone().requires_grad_()
    value = naive_objective(x, labels, weight, bias, 1e-3)
    value.backward()
    norm = float(torch.cat([weight.grad.flatten(), bias.grad]).norm())
    assert probe.gradient_norm == pytest.approx(norm, rel=1e-9)
    assert probe.objective == pytest.approx(float(value.detach()), rel=1e-12)
    assert norm <= 1e-3


def test_float32_ends_within_its_tolerance_of_the_same_minimum():
    x, labels = blobs(2000, width=16, classes=10, spread=2.0)
    single = fit_logistic(x.float(), labels, l2=1e-3)
    double = fit_logistic(x, labels, l2=1e-3, tolerance=1e-8)
    assert single.converged
    assert abs(single.objective - double.objective) < 1e-4**2 / (2 * 1e-3)  # by the curvature of at least l2


def test_where_float32_gets_no_further_float64_goes_on():
    x, labels = blobs(2000, width=16, classes=10, spread=2.0)
    alone = _Problem(x.float(), labels, torch.arange(2000))._descend(1e-5, 1e-8, 1000, None, torch.float32)
    assert not alone.converged  # else this would show nothing
    probe = fit_logistic(x.float(), labels, l2=1e-5, tolerance=1e-8)
    assert probe.converged
    assert alone.iterations < probe.iterations < 1000
    double = fit_logistic(x.float().double(), labels, l2=1e-5, tolerance=1e-8)
    assert probe.objective == pytest.approx(double.objective, abs=1e-6)


def test_two_classes_and_labels_with_gaps():
    x, labels = blobs(200, classes=2)
    probe = fit_logistic(x, labels * 5 + 2, l2=1e-3)
    assert probe.classes.tolist() == [2, 7]
    assert set(probe.predict(x).tolist()) == {2, 7}
    assert torch.equal(probe.predict(x), fit_logistic(x, labels, l2=1e-3).predict(x) * 5 + 2)


def test_separable_classes_are_told_apart():
    x, labels = blobs(200, width=16, spread=0.01)
    queries, query_labels = blobs(100, width=16, spread=0.01, seed=1)
    assert fit_logistic(x, labels, l2=1e-3).accuracy(queries, query_labels) == 1.0


def test_constant_features_are_left_out():
    x, labels = blobs(300)
    whole = torch.cat([x, torch.zeros(300, 1).double(), torch.full((300, 1), 0.1).double()], dim=1)
    probe = fit_logistic(whole, labels, l2=1e-3, tolerance=1e-8)
    assert probe.scale[6:].tolist() == [0.0, 0.0]
    torch.testing.assert_close(probe.weight[:, :6], fit_logistic(x, labels, l2=1e-3, tolerance=1e-8).weight)
    moved = whole.clone()
    moved[:, 6:] = 1e6
    assert torch.equal(probe.predict(moved), probe.predict(whole))


def test_the_regularisation_is_chosen_on_what_is_held_out():
    x, labels = blobs(150, width=40, classes=3, spread=4.0)
    held_out = torch.arange(150) % 3 == 0
    grid = (1e-4, 1e-2, 1.0)
    chosen, accuracies = choose_logistic(x, labels, held_out, grid=grid, tolerance=1e-6)
    expected = {}
    for l2 in grid:  # each alone, from zero: the minimum does not depend on where a fit starts
        probe = fit_logistic(x[~held_out], labels[~held_out], l2=l2, tolerance=1e-6)
        expected[l2] = probe.accuracy(x[held_out], labels[held_out])
    assert accuracies == expected
    assert len(set(expected.values())) > 1
    assert chosen.l2 == max(sorted(grid, reverse=True), key=lambda l2: expected[l2])
    alone = fit_logistic(x, labels, l2=chosen.l2, tolerance=1e-6)
    torch.testing.assert_close(chosen.weight, alone.weight, rtol=1e-2, atol=1e-4)


def test_of_equal_accuracies_the_strongest_regularisation_wins():
    x, labels = blobs(200, width=16, spread=0.01)
    probe, accuracies = choose_logistic(x, labels, torch.arange(200) % 5 == 0, grid=(1e-3, 1e-2, 1e-4))
    assert set(accuracies.values()) == {1.0}
    assert probe.l2 == 1e-2


def test_a_class_that_is_held_out_altogether_is_known_to_the_last_fit():
    x, labels = blobs(100)
    probe, accuracies = choose_logistic(x, labels, labels == 3, grid=(1e-3,))
    assert accuracies == {1e-3: 0.0}
    assert probe.classes.tolist() == [0, 1, 2, 3]
    assert probe.converged


def test_a_fit_that_is_given_up_says_so():
    x, labels = blobs(300)
    probe = fit_logistic(x, labels, l2=1e-6, tolerance=1e-9, max_iterations=3)
    assert not probe.converged
    assert probe.iterations == 3
    assert probe.gradient_norm > 1e-9
    stuck = fit_logistic(x.float(), labels, l2=1e-3, tolerance=1e-30, max_iterations=10**6)
    assert not stuck.converged
    assert stuck.gradient_norm < 1e-4
    assert stuck.iterations < 1000


def with_nan():
    x, _ = blobs(10)
    x[4, 2] = float("nan")
    return x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": with_nan()}, "NaN or infinity in 1 of 10 rows, first in row 4"),
        ({"labels": torch.arange(9)}, r"one whole number of at least 0 for each of 10 rows, got shape \(9,\)"),
        ({"labels": torch.arange(10) - 1}, "for each of 10 rows, got .* the least -1"),
        ({"labels": torch.rand(10)}, "got torch.float32"),
        ({"labels": torch.full((10,), 3)}, "all 10 rows have the label 3: a probe needs at least two classes"),
        ({"l2": 0.0}, "l2 must be above 0 .*got 0.0"),
        ({"l2": float("nan")}, "l2 must be above 0 .*got nan"),
        ({"tolerance": 0}, "tolerance must be above 0 .*got 0"),
        ({"max_iterations": 0}, "max_iterations must be at least 1 .*got 0"),
    ],
)
def test_errors(change, message):
    arguments = {"features": blobs(10)[0], "labels": torch.arange(10) % 2, "l2": 1e-3, **change}
    with pytest.raises(FullrankError, match=message):
        fit_logistic(**arguments)


def test_errors_of_choosing_and_predicting():
    x, labels = blobs(50)
    for held_out in (torch.zeros(50, dtype=torch.bool), torch.ones(50, dtype=torch.bool)):
        with pytest.raises(FullrankError, match=f"some of 50 rows must be held out .* got {int(held_out.sum())}"):
            choose_logistic(x, labels, held_out)
    for held_out, got in (
        (torch.arange(50), r"torch.int64 of shape \(50,"),
        (torch.arange(51) < 9, r"torch.bool of shape \(51,"),
    ):
        with pytest.raises(FullrankError, match=f"held_out must be True or False for each of 50 rows, got {got}"):
            choose_logistic(x, labels, held_out)
    with pytest.raises(FullrankError, match="the grid of l2 to choose from is empty"):
        choose_logistic(x, labels, torch.arange(50) < 9, grid=())
    probe = fit_logistic(x, labels, l2=1e-2)
    with pytest.raises(FullrankError, match="fitted on features of 6 columns, got 5"):
        probe.predict(x[:, :5])
    with pytest.raises(FullrankError, match="NaN or infinity"):
        probe.predict(with_nan())


def test_products_are_float32_whatever_the_program_around_allows(monkeypatch):
    x, labels = blobs(60, dtype=torch.float32)
    seen = []
    objective = _Problem.objective

    def watched(*arguments):
        seen.append(torch.get_float32_matmul_precision())
        return objective(*arguments)

    monkeypatch.setattr(_Problem, "objective", watched)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        fit_logistic(x, labels, l2=0.1)
        choose_logistic(x, labels, torch.arange(60) % 3 == 0, grid=[0.1])
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert set(seen) == {"highest"}
