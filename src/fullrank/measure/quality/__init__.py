"""Label-free scores of a representation: pure functions of features.

    from fullrank.measure.quality import uniformity

    uniformity(features)                             # (N, D), a tensor or a NumPy array

`fullrank.measure.scores` has the table of them: which way is better, what they take, how they are written.

No score is a verdict: none sees labels, each is fooled by something (its docstring says by what), and values
compare only under one protocol: layer, images, N, D, preprocessing. `docs/measures.md` sets them side by
side.
"""

from __future__ import annotations

from fullrank.measure.quality.manifold import clid, cluster_learnability, idest, two_nn
from fullrank.measure.quality.spectral import (
    alpha_req,
    auc,
    dead,
    nesum,
    participation_ratio,
    pseudo_condition_number,
    rankme,
    rankme_centered,
    stable_rank,
)
from fullrank.measure.quality.spread import coherence, feature_std, self_cluster, uniformity
from fullrank.measure.quality.views import alignment, lidar

__all__ = [
    "alignment",
    "alpha_req",
    "auc",
    "clid",
    "cluster_learnability",
    "coherence",
    "dead",
    "feature_std",
    "idest",
    "lidar",
    "nesum",
    "participation_ratio",
    "pseudo_condition_number",
    "rankme",
    "rankme_centered",
    "self_cluster",
    "stable_rank",
    "two_nn",
    "uniformity",
]
