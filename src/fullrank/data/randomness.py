"""Random numbers as a function of where they are used, never of what was drawn before.

Every draw names its place: `(seed, purpose, a, b)`. The bits come straight from numpy's Philox counter generator
(Salmon et al. 2011), whose raw stream numpy promises to keep (NEP 19); its derived distributions, which may change
between versions, are not used. So a run that is resumed, looked at or spread over processes sees the same numbers.
"""

from __future__ import annotations

from enum import IntEnum
from numbers import Integral

import numpy as np
import numpy.typing as npt

from fullrank.errors import FullrankError


class Purpose(IntEnum):
    """What a stream of random numbers is for. Values are part of a run's identity: never reuse or renumber one."""

    ARRIVAL = 1  # the permutation that decides the order in which images arrive
    PASS = 2  # the shuffle of one pass over a pool of images
    VIEW = 3  # the parameters of random views
    MODEL = 4  # randomness inside the model (dropout, stochastic depth) at one step
    PROBE = 5  # what judges a trained encoder: a probe's first weights, and which training images choose its settings
    SAMPLE = 6  # which images of a set are measured or looked at in place of all


def random_bits(seed: int, purpose: Purpose, a: int, b: int, count: int) -> npt.NDArray[np.uint64]:
    """Draw `count` words of 64 random bits that depend on `(seed, purpose, a, b)` alone.

    A longer draw begins with the words of a shorter one. All four numbers must be in [0, 2^63).
    """
    key = np.array([seed, int(purpose)], dtype=np.uint64)
    counter = np.array([0, 0, a, b], dtype=np.uint64)  # the low words count the draws, so streams never overlap
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def uniform(seed: int, purpose: Purpose, a: int, b: int, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Draw float64 numbers, uniform in [0, 1) on a grid of 2^-53, in row-major order."""
    bits = random_bits(seed, purpose, a, b, int(np.prod(shape)))
    return ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def permutation(seed: int, purpose: Purpose, a: int, b: int, size: int) -> npt.NDArray[np.int64]:
    """Draw a permutation of `range(size)`: the order of random 64-bit words (equal ones, if ever, by index)."""
    return np.argsort(random_bits(seed, purpose, a, b, size), kind="stable")


def check_seed(seed: int) -> None:
    """Raise `FullrankError` unless `seed` is an integer in [0, 2^63)."""
    if not isinstance(seed, Integral) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise FullrankError(f"seed must be a whole number from 0 to 2^63 - 1, got {seed!r}")
