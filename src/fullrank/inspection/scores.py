"""All scores of features that come in blocks: one walk for the spectra, and a sample of rows for the rest."""

from __future__ import annotations

import inspect as python
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fullrank.errors import FullrankError
from fullrank.inspection.result import Scored
from fullrank.measure.metrics import SpectrumMetric
from fullrank.measure.quality import SCORES, Score
from fullrank.measure.spectrum import Spectrum

SAMPLE = 5_000
"""Rows that the scores see which are no functions of the spectrum; most of them cost O(n^2 D)."""
SAMPLE_SEED = 0


def absorb(blocks: Iterable[Tensor], n: int, dim: int) -> tuple[Spectrum, Spectrum, Tensor]:
    """Walk over features once.

    Args:
        blocks: `(n_i, D)` each, N rows in all.
        n: N.
        dim: D.

    Returns:
        The centred and the uncentred spectrum of all rows, and a sample of at most `SAMPLE` of them in order, drawn
        without replacement.

    Raises:
        FullrankError: Features hold NaN or infinity, or there is a single row.
    """
    if n < 2:
        raise FullrankError(f"{n} row has no spectrum: centring leaves nothing of it; give features of more images")
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
    return metric.compute(), metric.compute_uncentered(), torch.cat(sample)


def score(
    centred: Spectrum,
    uncentred: Spectrum,
    sample: Tensor,
    views: Tensor | None,
    protocol: Mapping[str, Any],
    view_protocol: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Scored]:
    """Take every score of the registry that the features allow.

    Args:
        centred: Their centred spectrum.
        uncentred: Their uncentred spectrum.
        sample: Some of them, `(n, D)`.
        views: Features of views, `(n, q, D)`; None where there are none.
        protocol: How the features were made.
        view_protocol: How those of the views were made.
        progress: Called with the number of scores that were taken, and of all.

    Returns:
        By name, and first of all `dead`; a score that cannot be taken says why instead of a value.
    """
    found = {"dead": Scored("dead", float(centred.dead()), "lower", "[0, D]", {**centred.protocol, "tol": 1e-3})}
    for done, (name, entry) in enumerate(SCORES.items()):
        progress(done, len(SCORES))
        settings = _defaults(entry)
        if entry.spectrum is not None:
            spectrum = centred if entry.spectrum == "centered" else uncentred
            found[name] = _one(entry, spectrum, {**spectrum.protocol, **settings})
        elif entry.needs == "features":
            dtype = str(sample.dtype).removeprefix("torch.")
            own = {"n": len(sample), "d": sample.shape[1], "dtype": dtype, "sample_seed": SAMPLE_SEED}
            found[name] = _one(entry, sample, {**protocol, **own, **settings})
        elif views is not None:
            n, q, d = views.shape
            found[name] = _one(entry, views, {**view_protocol, "n": n, "views": q, "d": d, **settings})
    return found


def _one(entry: Score, taken: Spectrum | Tensor, protocol: Mapping[str, Any]) -> Scored:
    try:
        value, why = entry.function(taken), ""
    except FullrankError as error:
        value, why = None, str(error)
    if value is not None and not np.isfinite(value):
        value, why = None, "too few directions that vary"
    return Scored(entry.name, value, entry.better, entry.range, protocol, why)


def _defaults(entry: Score) -> dict[str, Any]:
    """Return the settings that a score is taken with, but for centring, which a spectrum's protocol has."""
    parameters = python.signature(entry.function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "center"}
