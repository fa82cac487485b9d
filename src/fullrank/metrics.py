"""Metrics of torchmetrics that return a number: one class for each score of the spectrum.

    from torchmetrics import MetricCollection
    from fullrank.metrics import AUC, RankMe

    metrics = MetricCollection([AUC(512), RankMe(512)])     # one pass over features for all of them
    metrics.update(features)                                # (N, 512), as often as wanted
    self.log("rankme", self.rankme)                         # in a LightningModule, after self.rankme.update(h)

Their formulas, ranges and faults are those of the functions in `fullrank.measure.quality`. Centered or not is part of
each: RankMe, the stable rank and the pseudo-condition number are of features as they are, the others of centered ones.
`SpectrumMetric` returns the whole spectrum, which is no scalar to log; `plot()` draws it.

>>> import torch
>>> metric = ParticipationRatio(2)
>>> metric.update(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
>>> metric.compute()
tensor(2., dtype=torch.float64)
"""

from __future__ import annotations

from typing import Any

from fullrank.config import Share
from fullrank.measure.metrics import SpectrumMetric, SpectrumScore
from fullrank.shapes import fit

__all__ = [
    "AUC",
    "AlphaReQ",
    "DeadDirections",
    "NESum",
    "ParticipationRatio",
    "PseudoConditionNumber",
    "RankMe",
    "RankMeCentered",
    "SpectrumMetric",
    "SpectrumScore",
    "StableRank",
]


class AUC(SpectrumScore, score="auc"):
    """Measure the area under the cumulative explained variance ([Li22]), in [(D+1)/(2D), 1]; lower is better."""


class RankMe(SpectrumScore, score="rankme"):
    """Measure RankMe as published, of features that are not centered, in [1, min(N, D)]."""


class RankMeCentered(SpectrumScore, score="rankme_centered"):
    """Measure RankMe of centered features, in [1, min(N-1, D)]."""


class ParticipationRatio(SpectrumScore, score="participation_ratio"):
    """Measure how many directions share the variance, in [1, min(N-1, D)]."""


class StableRank(SpectrumScore, score="stable_rank"):
    """Measure the stable rank, of features that are not centered, in [1, min(N, D)]."""


class NESum(SpectrumScore, score="nesum"):
    """Measure NESum, the stable rank of centered features, in [1, min(N-1, D)]."""


class AlphaReQ(SpectrumScore, score="alpha_req"):
    """Measure alpha of the power law over ranks 10 to 100; near 1 is best, NaN below 12 directions."""


class PseudoConditionNumber(SpectrumScore, score="pseudo_condition_number"):
    """Measure s_D / s_1, of features that are not centered, in [0, 1]."""


class DeadDirections(SpectrumScore, score="dead"):
    """Count the directions whose singular value, centered, is below `tol` of the largest; in [0, D], lower is better.

    Arguments are those of `SpectrumScore`, and `tol` in [0, 1].
    """

    def __init__(self, dim: int, *, tol: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(dim, **kwargs)
        self.tol = fit(tol, Share, "tol")

    def _value(self) -> float:
        return float(self._spectrum(center=True).dead(self.tol))
