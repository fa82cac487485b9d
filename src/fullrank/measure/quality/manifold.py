"""Scores of the shape that features form: intrinsic dimension (TwoNN, IdEst) and cluster learnability (CLID).

Legend: h_i: row i of the features H, (N, D); r_1, r_2: distances of a row to its nearest and second nearest
row; L(n): length of the Euclidean minimum spanning tree of n rows.

These look at a sample of rows (`max_samples`, drawn by `seed`; None takes all): intrinsic dimensions depend on the
sample's density, so n is part of the result.

Raises:
    FullrankError: Each, where features are no finite matrix of enough distinct rows, or an argument is out of range.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fullrank.errors import FullrankError
from fullrank.measure.checks import BLOCK_ENTRIES, Array, as_features, check_directions, subsample
from fullrank.numerics import exact_arithmetic, l2_normalize
from fullrank.shapes import fit

__all__ = ["clid", "cluster_learnability", "idest", "two_nn"]

CANDIDATES = 8  # neighbors taken from the Gram matrix, whose rounding may swap near ties; their distances are exact


@exact_arithmetic()
def two_nn(features: Array, *, discard: float = 0.1, max_samples: int | None = 10_000, seed: int = 0) -> float:
    """Return the TwoNN intrinsic dimension, the slope through 0 of -log(1 - F(mu)) on log mu, mu = r_2 / r_1.

    F(mu_(i)) = i/n for the sorted mu; the largest `discard` share, in [0, 1), is left out of the fit. Neither direction
    is better in itself (CLID rewards a high one, IdEst a low one). Range (0, inf), at most about D in practice; inf
    when all neighbors are equally far. Cost O(n^2 D).

    Fails: underestimates beyond about 10 dimensions (14 of 16, 38 of 64 at n = 2,000), and reads noise where
    noise is larger than the distance of neighbors. Duplicate rows make r_1 = 0 and the published estimate
    diverge; exact ones are dropped first. Near-duplicates, such as frames of a video, still bend it. A port that takes
    F = (i-1)/n reads slightly lower.

    Reference: Facco, d'Errico, Rodriguez, Laio 2017, https://doi.org/10.1038/s41598-017-11873-y
    """
    if not 0 <= fit(discard, float, "discard") < 1:
        raise FullrankError(f"discard must be in [0, 1), got {discard}: the paper leaves out 0.1")
    x = _distinct_sample(features, max_samples, seed, least=10, score="two_nn")
    n = len(x)
    near = _two_nearest(x)
    log_mu = (near[:, 1] / near[:, 0]).log().sort().values
    kept = min(int(n * (1 - discard)), n - 1)
    if kept < 1:
        raise FullrankError(f"discard={discard} leaves none of {n} rows to fit: the paper leaves out 0.1")
    log_mu = log_mu[:kept]
    survival = -torch.log1p(-torch.arange(1, kept + 1, dtype=torch.float64, device=x.device) / n)
    return float((log_mu @ survival) / (log_mu @ log_mu)) if bool((log_mu > 0).any()) else float("inf")


@exact_arithmetic()
def idest(features: Array, *, max_samples: int = 4_000, sizes: int = 10, repeats: int = 3, seed: int = 0) -> float:
    """Return IdEst, the spanning-tree dimension 1 / (1 - m), from the slope m of log L(n) on log n.

    L(n) grows as n^((d-1)/d) for points of a d-dimensional set. Lower is better by its authors (Spearman about -0.8
    with linear probes over 33 models), the opposite of RankMe: it is the dimension of the manifold, not of the linear
    span. Range (0, inf); inf for m >= 1. Cost O(n^2 D), memory 8 n^2 bytes: 128 MB at 4,000.

    Fails: underestimates beyond about 10 dimensions (14 of 16, 35 of 64 at n = 2,000), so it orders models of
    one data set rather than counts dimensions; uninformative in the first epochs, and a collapsed encoder has
    a good value. Do not read it alone.

    Convention: the subsample sizes are ours, the paper's could not be read: `sizes` of them, geometric from a tenth of
    the rows to all, `repeats` draws of each, log L averaged. Exact duplicates are dropped first. SciPy's
    `minimum_spanning_tree` reads a distance of 0 as "no edge" and so lengthens the tree of a sample with duplicates.

    Reference: Mordacq, Kalogeiton, Oudot 2026, https://arxiv.org/abs/2606.03338
    """
    fit({"sizes": sizes, "repeats": repeats}, dict[str, int])
    if sizes < 2 or repeats < 1:
        got = f"sizes={sizes}, repeats={repeats}"
        raise FullrankError(f"idest needs sizes >= 2 and repeats >= 1 to fit a line, got {got}")
    x = _distinct_sample(features, max_samples, seed, least=100, score="idest")
    n = len(x)
    distance = torch.cdist(x, x).cpu().numpy()
    random = np.random.default_rng(seed)
    counts = np.unique(np.geomspace(n / 10, n, sizes).round().astype(int))
    length = []
    for count in counts:
        draws = [random.permutation(n)[:count] for _ in range(repeats if count < n else 1)]
        length.append(np.mean([np.log(_tree_length(distance[np.ix_(rows, rows)])) for rows in draws]))
    slope = float(np.polyfit(np.log(counts), length, 1)[0])
    return 1 / (1 - slope) if slope < 1 else float("inf")


@exact_arithmetic()
def cluster_learnability(
    features: Array, *, clusters: int | None = None, max_samples: int | None = 10_000, seed: int = 0
) -> float:
    """Return CL of CLID: the accuracy of a nearest-neighbor classifier on k-means clusters of the features.

    Rows are L2-normalized (cosine); k-means (`clusters`; the paper's floor(sqrt(n)) when None) labels all n rows; a
    random half gives neighbors, the other half is classified by its nearest one. Higher is better. Range [0, 1].

    Fails: collapsed and clumped features are the easiest to learn, which is why CLID adds the intrinsic
    dimension; it depends on n and on the number of clusters. The first version of the paper scored the
    learning curve over a data order (prequential); this is the accuracy of the published one. A stratified
    split, as in some ports, stops at a cluster of one image; this split is plain.

    Convention: duplicate rows stay, as in the paper: that a model makes images equal is part of how easy it is to
    learn. A row whose duplicate is among the neighbors is always right, so images that are there twice raise the score
    of every model (16-d Gaussian, 1,000 rows and 31 clusters: .41, with half of the rows twice .63).

    Reference: Lu, Liu, Baratin, Laroche, Courville, Sordoni 2023 (TMLR), https://arxiv.org/abs/2206.01251
    """
    from sklearn.cluster import KMeans

    x = subsample(as_features(features, rows=16, score="cluster_learnability"), max_samples, seed)
    check_directions(x)
    u = l2_normalize(x.double())
    n = len(u)
    k = int(n**0.5) if clusters is None else fit(clusters, int, "clusters")
    if not 2 <= k <= n // 2:
        raise FullrankError(f"clusters must be between 2 and half of the {n} rows, got {k}")
    _distinct((u * 1e9).round(), k, "cluster_learnability")  # Directions equal to 1e-9 are one direction.
    label = torch.from_numpy(KMeans(k, n_init=1, random_state=seed).fit_predict(u.cpu().numpy()))
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n))
    bank, query = order[: n // 2], order[n // 2 :]
    step = max(1, BLOCK_ENTRIES // len(bank))
    nearest = torch.cat([(u[rows] @ u[bank].T).argmax(dim=1).cpu() for rows in query.split(step)])
    return float((label[bank][nearest] == label[query]).double().mean())


@exact_arithmetic()
def clid(learnability: Sequence[float], dimension: Sequence[float]) -> list[float]:
    """Return CLID of each model of a pool: CL and ID, each standardized over the pool, added.

    Takes `cluster_learnability` and `two_nn` of two models or more, in one order, on the same images. Higher is better.
    It ranks the models of this pool and says nothing outside it: add a model and all values change. They sum to zero. A
    component on which all models agree adds nothing. Dividing ID by D instead, as one port does, is another score.

    Reference: Lu et al. 2023, section 3, https://arxiv.org/abs/2206.01251

    >>> clid([0.5, 0.75], [10.0, 30.0])
    [-2.0, 2.0]
    """
    one, other = list(learnability), list(dimension)
    if len(one) != len(other) or len(one) < 2:
        got = f"{len(one)} and {len(other)} values"
        raise FullrankError(f"clid needs CL and ID of the same models, at least two, got {got}")
    parts = torch.tensor([one, other], dtype=torch.float64)
    if not bool(torch.isfinite(parts).all()):
        raise FullrankError(f"clid needs finite values, got CL {one} and ID {other}: drop the models that have none")
    centered = parts - parts.mean(dim=1, keepdim=True)
    # Models that agree may differ from their mean by rounding; that is no spread to divide by.
    centered[(parts == parts[:, :1]).all(dim=1)] = 0
    spread = centered.pow(2).mean(dim=1, keepdim=True).sqrt()
    return (centered / torch.where(spread > 0, spread, 1.0)).sum(dim=0).tolist()


def _distinct_sample(features: Array, max_samples: int | None, seed: int, *, least: int, score: str) -> Tensor:
    return _distinct(subsample(as_features(features, rows=least, score=score), max_samples, seed), least, score)


def _distinct(x: Tensor, least: int, score: str) -> Tensor:
    """Return the first of each distinct row of `x` in float64, around their mean, with numbers up to 1.

    Distances keep their digits so, and none overflows or underflows; the scores do not depend on a scale.
    """
    x = x.to(torch.float64) + 0.0  # -0.0 becomes 0.0, which it equals.
    x = x * 2.0 ** min(-math.frexp(float(x.abs().max()))[1], 1023)  # A power of 2 changes no digit.
    first: dict[bytes, int] = {}
    for i, row in enumerate(x.cpu().numpy()):
        first.setdefault(row.tobytes(), i)
    if len(first) < least:
        what = f"{score} needs at least {least} distinct rows, got {len(first)} among {len(x)}"
        raise FullrankError(f"{what}: many images have equal features (a collapsed encoder, or duplicate images)")
    x = x[torch.tensor(list(first.values()), device=x.device)] if len(first) < len(x) else x
    x = x - x[0].clone()
    return x - x.mean(dim=0)


def _two_nearest(x: Tensor) -> Tensor:
    """Return the distances `(n, 2)` of each row to its two nearest others."""
    n = len(x)
    squared = (x * x).sum(dim=1)
    step = max(1, BLOCK_ENTRIES // max(n, CANDIDATES * x.shape[1]))
    found = []
    for start in range(0, n, step):
        rows = x[start : start + step]
        gap = squared[start : start + step, None] + squared - 2 * rows @ x.T
        gap[torch.arange(len(rows)), start + torch.arange(len(rows))] = torch.inf
        candidates = gap.topk(min(CANDIDATES, n - 1), largest=False).indices
        exact = torch.linalg.vector_norm(x[candidates] - rows[:, None], dim=2)
        found.append(exact.sort(dim=1).values[:, :2])
    return torch.cat(found)


def _tree_length(distance: np.ndarray) -> float:
    """Return the length of the minimum spanning tree of distances `(n, n)`, by Prim's algorithm, O(n^2)."""
    reach = distance[0].copy()
    reach[0] = np.inf
    inside = np.zeros(len(distance), dtype=bool)
    inside[0] = True
    length = 0.0
    for _ in range(len(distance) - 1):
        j = int(reach.argmin())
        length += float(reach[j])
        inside[j] = True
        np.minimum(reach, distance[j], out=reach)
        reach[inside] = np.inf
    return length
