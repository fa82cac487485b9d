"""All scores of features that come in blocks: one walk for the spectra, and a sample of rows for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fullrank.errors import FullrankError
from fullrank.measure.metrics import SpectrumMetric
from fullrank.measure.scores import SCORES, Score, take
from fullrank.measure.spectrum import Spectrum

SAMPLE = 5_000
"""Rows that the scores see which are no functions of the spectrum; most of them cost O(n^2 D)."""
SAMPLE_SEED = 0


class Absorbed(NamedTuple):
    """Features of one walk."""

    centered: Spectrum  # the spectrum of all rows about their mean
    uncentered: Spectrum  # the same about zero
    sample: Tensor  # at most `SAMPLE` rows, in order, drawn without replacement
    protocol: Mapping[str, Any]  # how the features were made


def absorb(blocks: Iterable[Tensor], protocol: Mapping[str, Any], n: int, dim: int) -> Absorbed:
    """Walk once over features, blocks `(n_i, D)` of N rows in all.

    Raises:
        FullrankError: Features hold NaN or infinity, or there is a single row.
    """
    if n < 2:
        raise FullrankError(f"{n} row has no spectrum: centering leaves nothing of it; give features of more images")
    chosen = np.arange(n)
    if n > SAMPLE:
        chosen = np.sort(np.random.default_rng(SAMPLE_SEED).choice(n, SAMPLE, replace=False))
    metric, sample, start = SpectrumMetric(dim), [], 0
    for block in blocks:
        try:
            metric.update(block)
        except FullrankError as error:
            at = f" (block of rows {start} to {start + len(block) - 1})" if start else ""
            raise FullrankError(f"{error}{at}") from None
        first, last = np.searchsorted(chosen, (start, start + len(block)))
        sample.append(block[torch.from_numpy(chosen[first:last] - start)].clone())
        start += len(block)
    both = metric.compute(), metric.compute_uncentered()
    centered, uncentered = (Spectrum(each.singular_values, {**protocol, **each.protocol}) for each in both)
    return Absorbed(centered, uncentered, torch.cat(sample), protocol)


def take_all(
    of: Absorbed, views: tuple[Tensor, Mapping[str, Any]] | None, progress: Callable[[int, int], None]
) -> dict[str, Score]:
    """Take every label-free score that the features allow; one that cannot be taken says why instead of a value.

    Args:
        of: The features.
        views: Features of views, `(n, q, D)`, and how they were made; None where there are none.
        progress: Called with the number of scores that were taken, and of all.
    """
    n, d = of.sample.shape
    dtype = str(of.sample.dtype).removeprefix("torch.")
    of_sample = {**of.protocol, "n": n, "d": d, "dtype": dtype, "sample_seed": SAMPLE_SEED}
    wanted = [kind for kind in SCORES.values() if kind.function is not None]
    found = {}
    for done, kind in enumerate(wanted):
        progress(done, len(wanted))
        if kind.spectrum is not None:
            spectrum = of.centered if kind.spectrum == "centered" else of.uncentered
            found[kind.name] = take(kind, spectrum, spectrum.protocol)
        elif kind.needs == "features":
            found[kind.name] = take(kind, of.sample, of_sample)
        elif views is not None:
            features, made = views
            n, q, d = features.shape
            found[kind.name] = take(kind, features, {**made, "n": n, "views": q, "d": d})
    return found
