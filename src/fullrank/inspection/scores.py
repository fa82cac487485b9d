"""All scores of features that come in blocks: one walk for the spectra, and a sample of rows for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

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


def absorb(blocks: Iterable[Tensor], n: int, dim: int) -> tuple[Spectrum, Spectrum, Tensor]:
    """Walk once over features, blocks `(n_i, D)` of N rows in all.

    Returns:
        The centered and the uncentered spectrum of all rows, and a sample of at most `SAMPLE` of them in order, drawn
        without replacement.

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
    return metric.compute(), metric.compute_uncentered(), torch.cat(sample)


def take_all(
    spectra: Mapping[str, Spectrum],
    sample: Tensor,
    views: Tensor | None,
    protocol: Mapping[str, Any],
    view_protocol: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Score]:
    """Take every label-free score that the features allow; one that cannot be taken says why instead of a value.

    Args:
        spectra: Their "centered" and their "uncentered" spectrum.
        sample: Some of them, `(n, D)`.
        views: Features of views, `(n, q, D)`; None where there are none.
        protocol: How the features were made.
        view_protocol: How those of the views were made.
        progress: Called with the number of scores that were taken, and of all.
    """
    of_sample = {
        **protocol,
        "n": len(sample),
        "d": sample.shape[1],
        "dtype": str(sample.dtype).removeprefix("torch."),
        "sample_seed": SAMPLE_SEED,
    }
    wanted = [kind for kind in SCORES.values() if kind.function is not None]
    found = {}
    for done, kind in enumerate(wanted):
        progress(done, len(wanted))
        if kind.spectrum is not None:
            found[kind.name] = take(kind, spectra[kind.spectrum], spectra[kind.spectrum].protocol)
        elif kind.needs == "features":
            found[kind.name] = take(kind, sample, of_sample)
        elif views is not None:
            n, q, d = views.shape
            found[kind.name] = take(kind, views, {**view_protocol, "n": n, "views": q, "d": d})
    return found
