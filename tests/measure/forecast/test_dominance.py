"""Fronts and undecided pairs, against the definition written as loops."""

import numpy as np
import pytest

from fullrank.errors import FullrankError
from fullrank.measure.forecast import fronts, undecided


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_fronts_are_peeled_off_one_after_another(seed):
    # few different values, so that ties in one cost, and in both, are among them
    costs = np.random.default_rng(seed).integers(0, 6, (30, 2)).astype(float)
    expected, left, front = {}, set(range(30)), 0
    while left:
        front += 1
        best = {i for i in left if not any(dominates(costs[j], costs[i]) for j in left)}
        expected |= dict.fromkeys(best, front)
        left -= best
    assert fronts(costs).tolist() == [expected[i] for i in range(30)]
    pairs = [
        (i, j)
        for i in range(30)
        for j in range(i + 1, 30)
        if not dominates(costs[i], costs[j]) and not dominates(costs[j], costs[i])
    ]
    assert undecided(costs) == pairs


def test_agreeing_costs_decide_everything_and_opposed_ones_nothing():
    x = np.arange(5.0)
    assert fronts(np.stack([x, 2 * x], axis=1)).tolist() == [1, 2, 3, 4, 5]
    assert undecided(np.stack([x, 2 * x], axis=1)) == []
    assert fronts(np.stack([x, -x], axis=1)).tolist() == [1] * 5
    assert len(undecided(np.stack([x, -x], axis=1))) == 10


def test_equal_costs_are_undecided():
    assert fronts([[1.0, 2.0], [1.0, 2.0]]).tolist() == [1, 1]
    assert undecided([[1.0, 2.0], [1.0, 2.0]]) == [(0, 1)]
    assert fronts([[1.0, 2.0], [1.0, 3.0]]).tolist() == [1, 2]  # no worse in one, better in the other


@pytest.mark.parametrize("costs", [[1.0, 2.0], [[1.0, np.nan]], [[np.inf, 0.0]]])
def test_what_is_no_matrix_of_costs(costs):
    with pytest.raises(FullrankError, match="costs must be a matrix"):
        fronts(costs)
