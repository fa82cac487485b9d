"""How well a score ranks representations whose accuracy is known.

Legend: x: (n,) scores, turned so that higher should be better; y: (n,) accuracies; c_ij = sign(x_i - x_j) sign(y_i -
y_j).

| coefficient   | formula                                                                                        |
|---------------|------------------------------------------------------------------------------------------------|
| Kendall tau-b | sum_ij c_ij / sqrt(sum_ij sign(x_i - x_j)^2 sum_ij sign(y_i - y_j)^2)                          |
| Spearman rho  | Pearson correlation of the ranks; equal values share the mean of their ranks                   |

Reference: Kendall 1945, https://doi.org/10.1093/biomet/33.3.239. Efron, Tibshirani 1993, "An introduction to the
    bootstrap", chapter 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fullrank.errors import FullrankError, choose

RESAMPLES = 2_000
FEWEST = 3  # runs for a coefficient: of two, it is 1 or -1 whatever they are
FEWEST_RESAMPLED = 5  # runs for an interval: fewer give a bootstrap too few different samples
Interval = tuple[float, float]


@dataclass(frozen=True)
class Agreement:
    """How well a score ranks runs."""

    n: int  # the runs
    # tau-b, in [-1, 1]: 1 where each better score, or higher one where there is no direction, has a better accuracy
    kendall: float
    kendall_interval: Interval | None  # 95 %, by bootstrap over runs or groups; None for less than `FEWEST_RESAMPLED`
    spearman: float  # rho, in [-1, 1]
    spearman_interval: Interval | None  # 95 %
    directed: bool  # whether it is known which of the score's values are better


def agreement(
    score: npt.ArrayLike,
    accuracy: npt.ArrayLike,
    *,
    direction: Literal["lower", "higher", "none"],
    groups: Sequence[Hashable] | None = None,
) -> Agreement:
    """Correlate the ranks of a score with those of the accuracy, with intervals.

    An interval is the range of the middle 95 % of coefficients over samples of n runs drawn with replacement.

    Args:
        score: `(n,)`, n at least 3, not all the same.
        accuracy: `(n,)`, not all the same; higher is better.
        direction: Which values of the score are better; "none" where neither is by itself.
        groups: The group of each run, such as its setting: whole groups are drawn, for their runs are not independent.
            Each run is a group of its own when left out.

    >>> agreement([3.0, 2.0, 1.0], [0.1, 0.2, 0.3], direction="lower").kendall
    1.0
    """
    x, y = np.asarray(score, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape or not np.isfinite([x, y]).all():
        got = f"shapes {x.shape} and {y.shape}"
        raise FullrankError(f"score and accuracy must be equally many finite numbers, got {got}")
    n = len(x)
    if n < FEWEST:
        raise FullrankError(f"{n} runs are too few to say how well a score ranks them: it takes {FEWEST}")
    for name, values in (("score", x), ("accuracy", y)):
        if np.ptp(values) == 0:
            raise FullrankError(f"the {name} is the same, {values[0]:.4g}, for all {n} runs: there is nothing to rank")
    choose("direction", direction, ("lower", "higher", "none"))
    x = -x if direction == "lower" else x
    names = list(range(n)) if groups is None else list(groups)
    if len(names) != n:
        raise FullrankError(f"groups must name the group of each of {n} runs, got {len(names)}")
    number = {name: place for place, name in enumerate(dict.fromkeys(names))}
    count, drawn = len(number), None
    if count >= FEWEST_RESAMPLED:
        times = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
        drawn = times[:, [number[name] for name in names]].astype(np.float64)
    kendall, spearman = (float(of(x, y, np.ones((1, n)))[0]) for of in (_kendall, _spearman))
    intervals = (None if drawn is None else _middle(of(x, y, drawn)) for of in (_kendall, _spearman))
    return Agreement(n, kendall, next(intervals), spearman, next(intervals), direction != "none")


def _kendall(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return tau-b of samples that hold run i `counts[b, i]` times, `(B,)`; NaN where all values of one are equal."""
    sign_x, sign_y = (np.sign(v[:, None] - v[None]) for v in (x, y))

    def pairs(weight: np.ndarray) -> np.ndarray:
        return ((counts @ weight) * counts).sum(axis=1)

    with np.errstate(invalid="ignore"):
        tau = pairs(sign_x * sign_y) / np.sqrt(pairs(sign_x**2) * pairs(sign_y**2))
    return np.clip(tau, -1, 1)


def _spearman(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return rho of samples that hold run i `counts[b, i]` times, `(B,)`; NaN where all values of one are equal."""

    def ranks(values: np.ndarray) -> np.ndarray:
        rank = counts @ ((values[:, None] < values[None]) + 0.5 * (values[:, None] == values[None]))
        return rank - (rank * counts).sum(axis=1, keepdims=True) / counts.sum(axis=1, keepdims=True)

    one, other = ranks(x), ranks(y)
    with np.errstate(invalid="ignore"):
        variances = (counts * one**2).sum(axis=1) * (counts * other**2).sum(axis=1)
        rho = (counts * one * other).sum(axis=1) / np.sqrt(variances)
    return np.clip(rho, -1, 1)


def _middle(coefficients: np.ndarray) -> Interval:
    # A sample of one run many times has no ranks.
    low, high = np.nanquantile(coefficients, [0.025, 0.975])
    return float(low), float(high)
