"""The table of scores, from which documentation, `fullrank inspect` and `fullrank rank` are driven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fullrank.measure.quality import manifold, spectral, spread, views


@dataclass(frozen=True)
class Score:
    """A score and what a reader must know of it.

    Args:
        name: Its key in `SCORES`.
        function: Called with one argument, returns a float; further arguments have the published values as
            defaults.
        better: Whether lower or higher is better; "context" where neither is by itself.
        needs: What `function` takes: features `(N, D)`, or views `(N, q, D)`.
        range: The values it can take, for N images and D dimensions.
        source: Where it was published.
        sees: What it responds to, in one line.
        spectrum: Where it is a function of singular values alone, and `function` takes a `Spectrum` too:
            whether of centred features.
        across_widths: Whether values at different D can be compared: neither its floor nor its ceiling depends on D.
    """

    name: str
    function: Callable[..., float]
    better: Literal["lower", "higher", "context"]
    needs: Literal["features", "views"]
    range: str
    source: str
    sees: str
    spectrum: Literal["centered", "uncentered"] | None = None
    across_widths: bool = False


_LI = "Li et al. 2022, https://arxiv.org/abs/2209.15007"
_RANKME = "Garrido et al. 2023, https://arxiv.org/abs/2210.02885"
_TSITSULIN = "Tsitsulin et al. 2023, https://arxiv.org/abs/2305.16562"
_WANG = "Wang, Isola 2020, https://arxiv.org/abs/2005.10242"

SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score(
            "auc",
            spectral.auc,
            "lower",
            "features",
            "[(D+1)/(2D), 1]",
            _LI,
            "how early the cumulative singular values rise: dead directions and fast decay alike",
            "centered",
        ),
        Score(
            "rankme",
            spectral.rankme,
            "higher",
            "features",
            "[1, min(N, D)]",
            _RANKME,
            "how many directions share the singular values, the mean's among them",
            "uncentered",
        ),
        Score(
            "rankme_centered",
            spectral.rankme_centered,
            "higher",
            "features",
            "[1, min(N-1, D)]",
            _RANKME,
            "how many directions share the singular values of the variation",
            "centered",
        ),
        Score(
            "participation_ratio",
            spectral.participation_ratio,
            "higher",
            "features",
            "[1, min(N-1, D)]",
            "Gao et al. 2017, https://doi.org/10.1101/214262",
            "how many directions share the variance; the top of the spectrum, hardly the tail",
            "centered",
        ),
        Score(
            "stable_rank",
            spectral.stable_rank,
            "higher",
            "features",
            "[1, min(N, D)]",
            _TSITSULIN,
            "how far the first direction, mostly the mean, stands out",
            "uncentered",
        ),
        Score(
            "nesum",
            spectral.nesum,
            "higher",
            "features",
            "[1, min(N-1, D)]",
            "He, Ozay 2022, https://proceedings.mlr.press/v162/he22c.html",
            "how far the first direction of variation stands out",
            "centered",
        ),
        Score(
            "alpha_req",
            spectral.alpha_req,
            "context",
            "features",
            "(0, inf), near 1 is best",
            "Agrawal et al. 2022, https://openreview.net/forum?id=ii9X4vtZGTZ",
            "how fast the variances of directions 10 to 100 decay",
            "centered",
            across_widths=True,
        ),
        Score(
            "pseudo_condition_number",
            spectral.pseudo_condition_number,
            "higher",
            "features",
            "[0, 1]",
            _TSITSULIN,
            "the weakest direction against the strongest: one dead direction gives 0",
            "uncentered",
        ),
        Score(
            "feature_std",
            spread.feature_std,
            "higher",
            "features",
            "[0, 1/sqrt(D)]",
            "Chen, He 2021, https://arxiv.org/abs/2011.10566",
            "complete collapse to a point; not dimensional collapse",
        ),
        Score(
            "self_cluster",
            spread.self_cluster,
            "lower",
            "features",
            "[-1/(max(N, D)-1), 1]",
            _TSITSULIN,
            "squared cosines between images: a few shared directions, the mean's among them",
            across_widths=True,
        ),
        Score(
            "coherence",
            spread.coherence,
            "lower",
            "features",
            "[1, N/rank]",
            _TSITSULIN,
            "the one image that most owns a direction: outliers",
        ),
        Score(
            "uniformity",
            spread.uniformity,
            "lower",
            "features",
            "[-4N/(N-1), 0]",
            _WANG,
            "close pairs of images on the sphere: clumps, and collapse to a point",
            across_widths=True,
        ),
        Score(
            "alignment",
            views.alignment,
            "lower",
            "views",
            "[0, 4] for two views",
            _WANG,
            "how far views of one image lie apart; perfect at complete collapse",
            across_widths=True,
        ),
        Score(
            "lidar",
            views.lidar,
            "higher",
            "views",
            "[1, min(N-1, D)]",
            "Thilak et al. 2023, https://arxiv.org/abs/2312.04000",
            "how many directions tell images apart beyond what augmentation moves",
        ),
        Score(
            "two_nn",
            manifold.two_nn,
            "context",
            "features",
            "(0, inf)",
            "Facco et al. 2017, https://doi.org/10.1038/s41598-017-11873-y",
            "the dimension of the manifold near each image",
            across_widths=True,
        ),
        Score(
            "idest",
            manifold.idest,
            "lower",
            "features",
            "(0, inf)",
            "Mordacq et al. 2026, https://arxiv.org/abs/2606.03338",
            "the dimension of the manifold, by the growth of its spanning tree",
            across_widths=True,
        ),
        Score(
            "cluster_learnability",
            manifold.cluster_learnability,
            "higher",
            "features",
            "[0, 1]",
            "Lu et al. 2023, https://arxiv.org/abs/2206.01251",
            "whether clusters of the features are told apart by a nearest neighbour; a part of CLID",
            across_widths=True,
        ),
    )
}
