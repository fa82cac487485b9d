"""Ranges of settings: which numbers a field takes, and the one line that says so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from fullrank.errors import FullrankError, shown


class Range(NamedTuple):
    """The numbers from `low` to `high`, which NaN and infinity never are.

    >>> print(Range(0, 1, above=True))
    above 0 and at most 1
    """

    low: float
    high: float
    above: bool = False
    """Leaves out `low` itself."""
    below: bool = False
    """Leaves out `high` itself."""
    why: str = ""

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        return not (self.above and value == self.low) and not (self.below and value == self.high)

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:,}"
        return f"{low} and {'below' if self.below else 'at most'} {self.high:,}"

    def check(self, field: str, value: Any) -> None:
        """Raise `FullrankError` where a number, or one of several, is out of the range."""
        for each in value if isinstance(value, tuple) else (value,):
            if each not in self:
                why = f" ({self.why})" if self.why else ""
                raise FullrankError(f"{field} must be {self}, got {shown(each)}{why}")


def check_ranges(values: Mapping[str, Any], ranges: Mapping[str, Range]) -> None:
    """Raise `FullrankError` where a number is out of its range; what was left out (None) is not."""
    for name, limits in ranges.items():
        if values[name] is not None:
            limits.check(name, values[name])


OPTIONS = {
    "limit": Range(2, 10**9, why="a spectrum or a classifier needs several images"),
    "knn.k": Range(1, 10**9),
    "knn.most": Range(1, 10**9),
    "knn.temperature": Range(0, 1e9, above=True),
    "logistic.l2": Range(0, 1e9, above=True),
    "logistic.tolerance": Range(0, 1e9, above=True),
    "logistic.max_iterations": Range(1, 10**9),
    "linear.epochs": Range(1, 10**9),
    "linear.batch_size": Range(1, 10**9),
    "linear.base_lr": Range(0, math.inf, above=True, below=True),
    "linear.crop_min": Range(0, 1, above=True),
    "linear.seed": Range(0, 2**63 - 1),
    "linear.workers": Range(0, 2**14),
}
"""Which numbers the options of commands take; those of a run stand beside its fields."""
