"""Dominance: what several costs decide together, without labels.

One representation dominates another where none of its costs is higher and one is lower.

Reference: Li, Efros, Pathak, ECCV 2022 (https://arxiv.org/abs/2209.15007), section 3.5: both coefficients of their
    forecast, of the held-out loss and of AUC, are negative. Their sizes, which would decide the rest, need labels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fullrank.errors import FullrankError


def fronts(costs: npt.ArrayLike) -> np.ndarray:
    """Sort `(n, m)` costs, of which lower is better, into successive Pareto fronts: `(n,)` int64, from 1.

    Front 1 is dominated by nobody, 2 only by members of 1, and so on. Each member of a later front is dominated by some
    member of the front before, not by all of them: see `undecided`.

    >>> fronts([[-0.9, 0.86], [-0.8, 0.75], [-0.7, 0.80]])
    array([1, 1, 2])
    """
    dominates = _dominates(costs)
    found = np.zeros(len(dominates), dtype=np.int64)
    front = 0
    while not found.all():
        front += 1
        left = found == 0
        found[left & ~dominates[left].any(axis=0)] = front
    return found


def undecided(costs: npt.ArrayLike) -> list[tuple[int, int]]:
    """Return the pairs of rows of `(n, m)` costs of which neither dominates the other, the smaller row first.

    >>> undecided([[-0.9, 0.86], [-0.8, 0.75], [-0.7, 0.80]])
    [(0, 1), (0, 2)]
    """
    dominates = _dominates(costs)
    return [(i, j) for i, j in np.argwhere(np.triu(~(dominates | dominates.T), k=1)).tolist()]


def _dominates(costs: npt.ArrayLike) -> np.ndarray:
    """Return `(n, n)` bool: whether row i dominates row j."""
    rows = np.asarray(costs, dtype=np.float64)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        bad = " with NaN or infinity: leave out what was not measured" if rows.ndim == 2 else ""
        raise FullrankError(f"costs must be a matrix (n, m) of finite numbers, got shape {rows.shape}{bad}")
    one, other = rows[:, None], rows[None]
    return np.logical_and((one <= other).all(axis=2), (one < other).any(axis=2))
