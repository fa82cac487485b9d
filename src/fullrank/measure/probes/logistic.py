"""Logistic regression on fixed representations: the convex linear probe.

Legend: x_i: features of image i, standardized, (D,); y_i: its class, of C; W: (C, D) weights; b: (C,) biases.

    f(W, b) = (1/N) sum_i [log sum_c exp(W x_i + b)_c - (W x_i + b)_{y_i}] + (l2 / 2) ||W||^2

f is convex, so a probe is defined by its minimum and not by who looks for it: scikit-learn's
`LogisticRegression(C=1 / (N l2))` on the same x_i has the same. L-BFGS (torch's, with strong Wolfe line searches) runs
until the norm of the gradient of f is below a tolerance.

The features' variances span many orders of magnitude, the more so when a representation is collapsed, and L-BFGS would
take thousands of steps. So it walks in other coordinates: W along the principal axes of the features, each divided by
the root of the curvature to be expected along it, `variance / C + l2`. That changes the way, and not the minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fullrank.config import Count, Positive
from fullrank.errors import FullrankError
from fullrank.measure.checks import Array, as_labels, as_matrix, check_finite
from fullrank.numerics import exact_arithmetic
from fullrank.shapes import fit

__all__ = ["LogisticProbe", "choose_logistic", "fit_logistic"]

L2_GRID = tuple(10.0**power for power in range(-1, -8, -1))  # of the regularization to choose from, strongest first
TOLERANCE = 1e-4  # norm of the gradient at which a fit ends; scikit-learn asks as much of its largest entry only
MAX_ITERATIONS = 1000

# entries of features and logits that are looked at together: what a core's cache holds, or keeps a GPU busy
_BLOCK_ENTRIES = {"cpu": 2**19, "cuda": 2**25}
_HISTORY = 20
_AXES_ROWS = 2**14
_PATIENCE = 100  # iterations without a smaller gradient after which rounding is taken to allow none


@dataclass(frozen=True)
class LogisticProbe:
    """A fitted logistic regression; its numbers are float64."""

    classes: Tensor  # the labels it knows, ascending, `(C,)` int64
    weight: Tensor  # W, of standardized features, `(C, D)`
    bias: Tensor  # b, `(C,)`
    mean: Tensor  # what standardizing subtracts from features, `(D,)`
    scale: Tensor  # what it multiplies them with then, `(D,)`; 0 for a feature that was constant
    l2: float  # strength of the regularization
    objective: float  # f at W and b
    gradient_norm: float  # the norm of its gradient there
    iterations: int  # how many times f and its gradient were computed
    converged: bool  # whether the gradient's norm is within the tolerance

    @exact_arithmetic()
    def predict(self, features: Array) -> Tensor:
        """Return the likeliest label of each row of `(Q, D)` features, `(Q,)` int64."""
        x = as_matrix(features)
        if x.shape[1] != len(self.mean):
            raise FullrankError(f"the probe was fitted on features of {len(self.mean)} columns, got {x.shape[1]}")
        check_finite(x)
        blocks = (block.to(self.weight.device, torch.float64) for block in x.split(_rows(x, len(self.classes))))
        logits = (((block - self.mean) * self.scale) @ self.weight.T + self.bias for block in blocks)
        return self.classes[torch.cat([each.argmax(dim=1) for each in logits])]

    @exact_arithmetic()
    def accuracy(self, features: Array, labels: Array) -> float:
        """Return the share of rows of `(Q, D)` whose label `(Q,)` is predicted, in [0, 1].

        A row of a class that the probe was not fitted on counts as wrong.
        """
        predicted = self.predict(features)
        return float((predicted == as_labels(labels, len(predicted)).to(predicted.device)).double().mean())


@exact_arithmetic()
def fit_logistic(
    features: Array, labels: Array, *, l2: float, tolerance: float = TOLERANCE, max_iterations: int = MAX_ITERATIONS
) -> LogisticProbe:
    """Fit a logistic regression to standardized features.

    Each feature is standardized by its own mean and standard deviation over the rows; one that is constant is left out.
    Products are computed in the dtype of the features, float32 at least, on their device, and in float64 from where
    float32's rounding leaves no smaller gradient; sums over rows are float64.

    Args:
        features: `(N, D)`, finite.
        labels: `(N,)` whole numbers of at least 0, of two classes at least.
        l2: Strength of the regularization, above 0.
        tolerance: Norm of the gradient of f at which to stop, above 0.
        max_iterations: Give up after so many; the result says so, as where rounding leaves no smaller gradient.

    Reference: Liu & Nocedal 1989, https://doi.org/10.1007/BF01589116 (L-BFGS)
    """
    x, y = _checked(features, labels, [l2], tolerance, max_iterations)
    return _Problem(x, y, torch.arange(len(x))).fit(l2, tolerance, max_iterations, start=None)


@exact_arithmetic()
def choose_logistic(
    features: Array,
    labels: Array,
    held_out: Array,
    *,
    grid: Sequence[float] = L2_GRID,
    tolerance: float = TOLERANCE,
    max_iterations: int = MAX_ITERATIONS,
) -> tuple[LogisticProbe, dict[float, float]]:
    """Fit logistic regressions to some rows, choose the regularization by the others, and fit it to all.

    From the strongest to the weakest, each fit starts from the one before. Of equal accuracies the strongest wins.

    Args:
        features: `(N, D)`, finite.
        labels: `(N,)` whole numbers of at least 0, of two classes at least.
        held_out: Which rows choose, `(N,)` bool; some and not all.
        grid: Strengths to choose from, in any order, one at least.
        tolerance: As of `fit_logistic`.
        max_iterations: As of `fit_logistic`, for each fit.

    Returns:
        The probe of all rows, and the accuracy of each strength on those that were held out, in [0, 1].
    """
    strengths = sorted(set(grid), reverse=True)
    if not strengths:
        raise FullrankError("the grid of l2 to choose from is empty: give one strength at least")
    x, y = _checked(features, labels, strengths, tolerance, max_iterations)
    held_out = torch.as_tensor(held_out, device=x.device)
    if held_out.dtype != torch.bool or held_out.shape != y.shape:
        got = f"{held_out.dtype} of shape {tuple(held_out.shape)}"
        raise FullrankError(f"held_out must be True or False for each of {len(x)} rows, got {got}")
    if bool(held_out.all()) or not bool(held_out.any()):
        some = f"some of {len(x)} rows must be held out to choose the regularization"
        raise FullrankError(f"{some}, got {int(held_out.sum())}")
    judges, judge_labels = x[held_out], y[held_out]
    part = _Problem(x, y, (~held_out).nonzero().squeeze(1))
    fitted: list[LogisticProbe] = []
    for l2 in strengths:
        fitted.append(part.fit(l2, tolerance, max_iterations, fitted[-1] if fitted else None))
    del part  # it has a copy of the features, and so has the next one
    accuracies = [probe.accuracy(judges, judge_labels) for probe in fitted]
    best = fitted[accuracies.index(max(accuracies))]  # the first of equal ones
    whole = _Problem(x, y, torch.arange(len(x)))
    probe = whole.fit(best.l2, tolerance, max_iterations, start=best)
    return probe, dict(zip(strengths, accuracies, strict=True))


def _checked(
    features: Array, labels: Array, strengths: Sequence[float], tolerance: float, max_iterations: int
) -> tuple[Tensor, Tensor]:
    x = as_matrix(features)
    check_finite(x)
    y = as_labels(labels, len(x))
    for l2 in strengths:
        fit(l2, Positive, "l2")
    fit(tolerance, Positive, "tolerance")
    fit(max_iterations, Count, "max_iterations")
    if x.dtype in (torch.int32, torch.int64):
        x = x.double()  # more digits than a float32 has
    return x if x.dtype == torch.float64 else x.float(), y.to(x.device)


class _EndError(Exception):
    """Leaves L-BFGS from within: torch's asks its own coordinates' gradient alone whether to end."""


class _Problem:
    """f over some rows, in the coordinates that L-BFGS walks in."""

    def __init__(self, x: Tensor, y: Tensor, chosen: Tensor) -> None:
        self.classes, self.y = y[chosen.to(y.device)].unique(return_inverse=True)
        if len(self.classes) < 2:
            label = int(self.classes[0])
            raise FullrankError(f"all {len(chosen)} rows have the label {label}: a probe needs at least two classes")
        self.rows = _rows(x, len(self.classes))
        blocks = chosen.to(x.device).split(self.rows)
        self.mean = torch.stack([x[block].double().sum(dim=0) for block in blocks]).sum(dim=0) / len(chosen)
        squares = [(x[block].double() - self.mean).square_().sum(dim=0) for block in blocks]
        deviation = (torch.stack(squares).sum(dim=0) / len(chosen)).sqrt()
        # rounding gives a constant feature a deviation, and standardizing would make that a feature of noise
        constant = deviation <= 10 * torch.finfo(x.dtype).eps * self.mean.abs()
        self.scale = torch.where(constant, 0.0, 1 / deviation)
        # a sample is enough: the axes decide how long the way is, and not where it ends
        sample = self._standard(x[chosen.to(x.device)[:: max(1, len(chosen) // _AXES_ROWS)]])
        variances, self.axes = torch.linalg.eigh((sample.T @ sample).double() / len(sample))
        self.variances = variances.clamp(min=0)
        # Along the axes, for features that nearly repeat each other have large weights that cancel, and rounding with
        # them; there, the difference is a feature of its own.
        self.x = torch.cat([self._standard(x[block]) @ self.axes.to(x.dtype) for block in blocks])

    def _standard(self, x: Tensor) -> Tensor:
        return ((x.double() - self.mean) * self.scale).to(x.dtype)

    def fit(self, l2: float, tolerance: float, max_iterations: int, start: LogisticProbe | None) -> LogisticProbe:
        """Minimize f from a start, or from 0; in float64 from where rounding leaves no smaller gradient."""
        found = self._descend(l2, tolerance, max_iterations, start, self.x.dtype)
        left = max_iterations - found.iterations
        if found.converged or left < 1 or self.x.dtype == torch.float64:
            return found
        finer = self._descend(l2, tolerance, left, found, torch.float64)
        return replace(finer, iterations=found.iterations + finer.iterations)

    def _descend(
        self, l2: float, tolerance: float, max_iterations: int, start: LogisticProbe | None, dtype: torch.dtype
    ) -> LogisticProbe:
        count = len(self.classes)
        stretch = (self.variances / count + l2).rsqrt()
        bias_stretch = count**0.5
        u = self.x.new_zeros(count, self.x.shape[1], dtype=torch.float64)
        c = self.x.new_zeros(count, dtype=torch.float64)
        if start is not None:
            known = torch.searchsorted(self.classes, start.classes)
            u[known] = start.weight @ self.axes / stretch
            c[known] = start.bias / bias_stretch
        iterations, best_at = 0, 0
        best = u, c, float("nan"), float("inf")

        def evaluate() -> Tensor:
            nonlocal iterations, best, best_at
            iterations += 1
            weight, bias = u * stretch, c * bias_stretch
            value, by_weight, by_bias = self.objective(weight, bias, l2, dtype)
            u.grad, c.grad = by_weight * stretch, by_bias * bias_stretch
            norm = float(torch.cat([by_weight, by_bias[:, None]], dim=1).norm())
            if norm < best[-1]:
                best, best_at = (weight, bias, float(value), norm), iterations
            if norm <= tolerance or iterations == max_iterations or iterations - best_at == _PATIENCE:
                raise _EndError
            return value

        limits: dict[str, Any] = {"max_iter": max_iterations, "max_eval": 2 * max_iterations}
        limits |= {"tolerance_grad": 0, "tolerance_change": 0}  # ends by itself only where rounding leaves no way down
        optimizer = torch.optim.LBFGS([u, c], history_size=_HISTORY, line_search_fn="strong_wolfe", **limits)
        with suppress(_EndError):
            optimizer.step(evaluate)
        weight, bias, value, norm = best
        fitted = self.classes, weight @ self.axes.T, bias, self.mean, self.scale
        return LogisticProbe(*fitted, l2, value, norm, iterations, converged=norm <= tolerance)

    def objective(
        self, weight: Tensor, bias: Tensor, l2: float, dtype: torch.dtype = torch.float64
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return f and its gradients, all float64, of W along the axes and b; their norm is that of any axes."""
        value = weight.new_zeros(())
        by_weight, by_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        w, b = weight.to(dtype), bias.to(dtype)
        for rows, y in zip(self.x.split(self.rows), self.y.split(self.rows), strict=True):
            x = rows.to(dtype)
            logits = torch.addmm(b, x, w.T)
            logits = logits.sub_(logits.gather(1, y[:, None]))
            total = logits.logsumexp(dim=1)
            value += total.double().sum()
            excess = logits.sub_(total[:, None]).exp_()  # the probability of each class, less 1 of the true one
            excess.scatter_add_(1, y[:, None], torch.full_like(y[:, None], -1, dtype=excess.dtype))
            by_weight += excess.T @ x
            by_bias += excess.double().sum(dim=0)
        value = value / len(self.x) + l2 / 2 * weight.square().sum()
        return value, by_weight / len(self.x) + l2 * weight, by_bias / len(self.x)


def _rows(x: Tensor, classes: int) -> int:
    return max(256, _BLOCK_ENTRIES.get(x.device.type, 2**19) // (x.shape[1] + classes))
