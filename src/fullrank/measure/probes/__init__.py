# ruff: noqa: F403  # each file says in its __all__ what it gives
"""Probes: how well do labels follow from a frozen representation?"""

from fullrank.measure.probes import knn, logistic
from fullrank.measure.probes.knn import *
from fullrank.measure.probes.logistic import *
from fullrank.measure.probes.neighbors import neighbors

__all__ = ["neighbors"] + knn.__all__ + logistic.__all__  # noqa: RUF005 - type checkers read no stars here
