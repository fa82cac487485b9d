"""Rank correlations against scipy's, and their intervals against resampling written as a loop."""

import sys

import numpy as np
import pytest
from scipy import stats

from fullrank.errors import FullrankError
from fullrank.measure.forecast import agreement


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
def test_coefficients_are_scipys(seed, ties):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((2, 15))
    if ties:
        x, y = np.round(x), np.round(y)
    for direction, sign in (("higher", 1), ("lower", -1), ("none", 1)):
        found = agreement(x, y, direction=direction)
        assert found.kendall == pytest.approx(stats.kendalltau(sign * x, y).statistic)
        assert found.spearman == pytest.approx(stats.spearmanr(sign * x, y).statistic)
        assert found.directed == (direction != "none")
        assert found.n == 15


def test_intervals_are_those_of_resampled_runs(monkeypatch):
    monkeypatch.setattr(sys.modules[agreement.__module__], "RESAMPLES", 4000)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(12)
    y = x + rng.standard_normal(12)
    found = agreement(x, y, direction="higher")
    kendall, spearman = [], []
    for _ in range(1500):
        i = rng.integers(0, 12, 12)
        kendall.append(stats.kendalltau(x[i], y[i]).statistic)
        spearman.append(stats.spearmanr(x[i], y[i]).statistic)
    for interval, values in ((found.kendall_interval, kendall), (found.spearman_interval, spearman)):
        np.testing.assert_allclose(interval, np.quantile(values, [0.025, 0.975]), atol=0.03)
    assert found == agreement(x, y, direction="higher")


def test_resampling_counts_a_run_drawn_twice_as_a_tie():
    """One resample written out: its coefficient is scipy's of the repeated rows."""
    from fullrank.measure.forecast.agreement import _kendall, _spearman

    rng = np.random.default_rng(1)
    x, y = np.round(2 * rng.standard_normal((2, 10)))
    drawn = rng.integers(0, 10, (50, 10))
    counts = np.stack([np.bincount(row, minlength=10) for row in drawn]).astype(float)
    np.testing.assert_allclose(_kendall(x, y, counts), [stats.kendalltau(x[i], y[i]).statistic for i in drawn])
    np.testing.assert_allclose(_spearman(x, y, counts), [stats.spearmanr(x[i], y[i]).statistic for i in drawn])


def test_a_perfect_ranking():
    found = agreement(np.arange(8.0), -(np.arange(8.0) ** 3), direction="lower")
    assert (found.kendall, found.spearman) == pytest.approx((1, 1))
    assert found.kendall_interval == pytest.approx((1, 1))


def test_few_runs_have_no_interval():
    found = agreement([1.0, 2.0, 4.0, 3.0], [0.1, 0.2, 0.3, 0.4], direction="higher")
    assert found.kendall == pytest.approx(4 / 6)
    assert found.kendall_interval is None
    assert found.spearman_interval is None
    # five runs drawn alike have no ranks, and are left out
    assert np.isfinite(agreement([1.0, 2, 3, 4, 5], [2.0, 1, 3, 4, 5], direction="higher").kendall_interval).all()


@pytest.mark.parametrize(
    ("score", "accuracy", "message"),
    [
        ([1.0, 2.0], [0.1, 0.2], "2 runs are too few to say how well a score ranks them: it takes 3"),
        ([1.0, 1.0, 1.0], [0.1, 0.2, 0.3], "the score is the same, 1, for all 3 runs"),
        ([1.0, 2.0, 3.0], [0.2, 0.2, 0.2], "the accuracy is the same, 0.2, for all 3 runs"),
        ([1.0, np.nan, 3.0], [0.1, 0.2, 0.3], "must be equally many finite numbers"),
        ([1.0, 2.0, 3.0], [0.1, 0.2], r"got shapes \(3,\) and \(2,\)"),
    ],
)
def test_what_cannot_be_ranked(score, accuracy, message):
    with pytest.raises(FullrankError, match=message):
        agreement(score, accuracy, direction="higher")


def test_whole_groups_are_drawn():
    """Copies of a run say nothing new: an interval over groups is about as wide as one without the copies."""
    generator = np.random.default_rng(3)
    x, y = generator.standard_normal((2, 8))
    names = [n for n in range(8) for _ in range(3)]
    single = agreement(x, y, direction="higher")
    tripled = agreement(np.repeat(x, 3), np.repeat(y, 3), direction="higher", groups=names)
    independent = agreement(np.repeat(x, 3), np.repeat(y, 3), direction="higher")
    assert tripled.spearman_interval == pytest.approx(single.spearman_interval)  # the same draws of eight
    assert np.ptp(independent.spearman_interval) < 0.8 * np.ptp(tripled.spearman_interval)
    few = agreement(np.repeat(x[:4], 3), np.repeat(y[:4], 3), direction="higher", groups=names[:12])
    assert few.spearman_interval is None
    with pytest.raises(FullrankError, match="group of each of 8 runs, got 7"):
        agreement(x, y, direction="higher", groups=names[:7])
    with pytest.raises(FullrankError, match="direction must be one of lower, higher, none, got 'context'"):
        agreement(x, y, direction="context")
