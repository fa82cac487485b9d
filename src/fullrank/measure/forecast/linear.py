r"""A linear model of accuracy: ordinary least squares, and how far it can be trusted.

Legend: X: (n, p) features, centered; y: (n,) accuracies; S = X^T X; e_i: residuals; h_i = 1/n + x_i^T S^-1 x_i, the
leverages; s^2 = sum e_i^2 / (n - p - 1); t: Student's 97.5 % quantile with as many degrees of freedom as s^2 has.

| quantity                    | formula                                                       |
|-----------------------------|---------------------------------------------------------------|
| coefficient b_j             | b = S^-1 X^T y; b_j +/- t s sqrt(S^-1_jj)                     |
| leave-one-out prediction i  | y_i - e_i / (1 - h_i), what a fit without run i says of it    |
| leave-one-out R^2           | 1 - sum (e_i / (1 - h_i))^2 / sum (y_i - mean y)^2 (PRESS)    |
| without a group G           | y_G - (I - H_GG)^-1 e_G, H the projection on X and 1          |
| prediction at x             | mean y + b^T (x - mean x) +/- t s sqrt(1 + h(x))              |
| variance inflation (VIF) j  | 1 / (1 - R^2 of feature j on the others)                      |

The intervals are those of independent errors of one size. Runs of one recipe, and checkpoints of one run, are less
independent than that: their intervals come out too narrow. Where the features say nothing, a leave-one-out prediction
is about the mean of the others, which is low where the one left out is high: it ranks runs backwards, not at random.

Reference: Li, Efros, Pathak, ECCV 2022 (https://arxiv.org/abs/2209.15007), section 3.5 and Fig. 4. Allen 1974 (PRESS),
    https://doi.org/10.1080/00401706.1974.10489157.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from fullrank.errors import FullrankError

CONFIDENCE = 0.95
MOST_INFLATION = 100.0  # of a coefficient's variance: from here on, where features correlate by .995, a fit is refused
_CONSTANT = 1e-9  # of a feature's size: less is rounding
_APART = "add runs that differ in one and not in the other"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a fit says of some runs."""

    value: np.ndarray  # `(m,)`
    lower: np.ndarray  # `(m,)`, the 95 % interval's lower end, for the accuracy of one such run
    upper: np.ndarray  # `(m,)`
    # for each run the features that lie outside the fitted runs' range; "their combination" where each lies within but
    # no fitted run is as far from the middle (leverage)
    outside: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class LinearFit:
    """A linear model, made by `fit_linear`."""

    names: tuple[str, ...]  # of the p features
    features: np.ndarray  # `(n, p)`, what it was fitted on
    accuracy: np.ndarray  # `(n,)`
    coefficients: np.ndarray  # `(p + 1,)`, the intercept first
    lower: np.ndarray  # `(p + 1,)`, the coefficients' 95 % intervals
    upper: np.ndarray  # `(p + 1,)`
    r2: float  # the share of the variance that is explained, in [0, 1]
    leave_one_out_r2: float  # the same of runs that the fit has not seen; below 0 it is worse than the mean
    left_out: Prediction  # what a fit without each run says of it
    residual: float  # the residual standard deviation s
    inflation: np.ndarray  # `(p,)`, the variance inflation factors; 1 for features that do not correlate
    condition: float  # the condition number of the features, each standardized

    @property
    def slopes(self) -> list[tuple[str, float, tuple[float, float]]]:
        """The features, each with its coefficient and the 95 % interval of that."""
        intervals = zip(self.lower[1:].tolist(), self.upper[1:].tolist(), strict=True)
        return list(zip(self.names, self.coefficients[1:].tolist(), intervals, strict=True))

    def predict(self, features: npt.ArrayLike) -> Prediction:
        """Forecast the accuracy of runs that were not fitted, of finite features `(m, p)`."""
        x = _matrix(features, len(self.names))
        n, p = self.features.shape
        value = self.coefficients[0] + x @ self.coefficients[1:]
        leverage = _leverages(self.features, x)
        reach = _quantile(n - p - 1) * self.residual * np.sqrt(1 + leverage)
        # A copy of the extreme run is no extrapolation, whatever its last bit.
        furthest = _leverages(self.features, self.features).max() * (1 + 1e-9)
        outside = tuple(
            _beyond(self.names, row, self.features) or (("their combination",) if far else ())
            for row, far in zip(x, leverage > furthest, strict=True)
        )
        return Prediction(value, value - reach, value + reach, outside)


def leave_groups_out(fit: LinearFit, groups: Sequence[Hashable]) -> np.ndarray:
    """Return what a fit without a run's whole group says of it, `(n,)`; NaN where the others cannot be fitted.

    Seeds of one setting are near each other: a fit that has seen one of them has nearly seen the others. `groups` names
    the group of each of the n runs, such as its setting; with groups of one it is leave-one-out (Allen 1974, PRESS).
    """
    if len(groups) != len(fit.accuracy):
        raise FullrankError(f"groups must name the group of each of {len(fit.accuracy)} runs, got {len(groups)}")
    x = fit.features - fit.features.mean(axis=0)
    basis = np.linalg.svd(np.column_stack([np.ones(len(x)), x]), full_matrices=False)[0]
    errors = fit.accuracy - fit.coefficients[0] - fit.features @ fit.coefficients[1:]
    found = np.full(len(x), np.nan)
    for group in dict.fromkeys(groups):
        own = [place for place, name in enumerate(groups) if name == group]
        unseen = np.eye(len(own)) - basis[own] @ basis[own].T
        if np.linalg.eigvalsh(unseen)[0] > _CONSTANT:
            found[own] = fit.accuracy[own] - np.linalg.solve(unseen, errors[own])
    return found


def fit_linear(features: npt.ArrayLike, accuracy: npt.ArrayLike, names: Sequence[str]) -> LinearFit:
    """Fit accuracy = b_0 + sum_j b_j feature_j by ordinary least squares.

    Features are `(n, p)`, n at least p + 3, the accuracy `(n,)`, in any unit; names are for what is said.

    Raises:
        FullrankError: There are too few runs, a feature or the accuracy is constant, or features are collinear.

    >>> x = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]]
    >>> fit_linear(x, [3.0, 5.0, 2.0, 4.0, 6.0], ["a", "b"]).coefficients.round(6)
    array([ 3.,  2., -1.])
    """
    names = tuple(names)
    x, y = _matrix(features, len(names)), np.asarray(accuracy, dtype=np.float64)
    n, p = x.shape
    if y.shape != (n,) or not np.isfinite(y).all():
        raise FullrankError(f"accuracy must be {n} finite numbers, one for each run, got shape {y.shape}")
    both = " and ".join(names)
    if n < p + 3:
        why = f"a fit of {p + 1} coefficients on all runs but one still leaves an error to judge it by"
        what = f"{n} runs with labels are too few to fit accuracy on {both}: it takes {p + 3}, so that {why}"
        raise FullrankError(f"{what}; label {p + 3 - n} more")
    for name, column in zip((*names, "accuracy"), (*x.T, y), strict=True):
        if np.ptp(column) <= _CONSTANT * np.abs(column).max():
            what = f"{name} is the same, {column[0]:.4g}, for all {n} runs with labels"
            raise FullrankError(f"{what}: nothing can be fitted; add runs where it differs")
    centered = x - x.mean(axis=0)
    scale = np.sqrt((centered**2).mean(axis=0))
    left, singular, right = np.linalg.svd(centered / scale, full_matrices=False)
    condition = float(singular[0] / singular[-1]) if singular[-1] > 0 else float("inf")
    # Of standardized features the inverse correlation matrix has the VIFs on its diagonal.
    inflation = n * ((right.T / np.maximum(singular, 1e-100)) ** 2).sum(axis=1)
    if inflation.max() >= MOST_INFLATION:
        how = f"variance inflation {inflation.max():.3g}, refused from {MOST_INFLATION:.0f}"
        what = f"{both} are collinear in the {n} runs with labels (condition number {condition:.3g}, {how})"
        raise FullrankError(f"{what}: what each of them does cannot be told apart; {_APART}")
    whiten = right.T / singular / scale[:, None]  # centered @ whiten = left, and whiten @ whiten.T = S^-1
    slopes = whiten @ (left.T @ (y - y.mean()))
    errors, leverage = y - y.mean() - centered @ slopes, 1 / n + (left**2).sum(axis=1)
    residual = float(np.sqrt((errors**2).sum() / (n - p - 1)))
    mean = x.mean(axis=0)
    coefficients = np.array([y.mean() - mean @ slopes, *slopes])
    variances = [1 / n + ((mean @ whiten) ** 2).sum(), *(whiten**2).sum(axis=1)]
    reach = _quantile(n - p - 1) * residual * np.sqrt(variances)
    total = ((y - y.mean()) ** 2).sum()
    left_out = _left_out(x, y, errors, leverage, names)
    r2, unseen_r2 = (float(1 - (missed**2).sum() / total) for missed in (errors, y - left_out.value))
    low, high = coefficients - reach, coefficients + reach
    return LinearFit(names, x, y, coefficients, low, high, r2, unseen_r2, left_out, residual, inflation, condition)


def _left_out(
    x: np.ndarray, y: np.ndarray, errors: np.ndarray, leverage: np.ndarray, names: tuple[str, ...]
) -> Prediction:
    """Predict each run from a fit without it, from the one fit with all; its interval is that smaller fit's own."""
    n, p = x.shape
    if (leverage > 1 - 1e-12).any():
        what = f"only run {leverage.argmax() + 1} of the {n} with labels tells {' and '.join(names)} apart"
        raise FullrankError(f"{what}: without it they cannot be fitted, so no leave-one-out; {_APART}")
    freedom, value = n - p - 2, y - errors / (1 - leverage)
    squares = (errors**2).sum() - errors**2 / (1 - leverage)  # of the residuals of each smaller fit
    reach = _quantile(freedom) * np.sqrt(np.maximum(squares, 0) / freedom / (1 - leverage))
    outside = tuple(_beyond(names, x[i], np.delete(x, i, axis=0)) for i in range(n))
    return Prediction(value, value - reach, value + reach, outside)


def _beyond(names: tuple[str, ...], row: np.ndarray, fitted: np.ndarray) -> tuple[str, ...]:
    """Return the features of a run that lie outside the fitted runs' range."""
    inside = (fitted.min(axis=0) <= row) & (row <= fitted.max(axis=0))
    return tuple(name for name, within in zip(names, inside, strict=True) if not within)


def _leverages(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return how far points lie from the middle of the fitted runs `x`, 1/n at the middle."""
    mean = x.mean(axis=0)
    _, triangle = np.linalg.qr(x - mean)
    return 1 / len(x) + (np.linalg.solve(triangle.T, (at - mean).T) ** 2).sum(axis=0)


def _quantile(freedom: int) -> float:
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))


def _matrix(features: npt.ArrayLike, width: int) -> np.ndarray:
    x = np.asarray(features, dtype=np.float64)
    fits = x.ndim == 2 and x.shape[1] == width
    if not fits or not np.isfinite(x).all():
        bad = " with NaN or infinity" if fits else ""
        raise FullrankError(f"features must be a matrix (n, {width}) of finite numbers, got shape {x.shape}{bad}")
    return x
