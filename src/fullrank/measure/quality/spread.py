"""Scores of how features spread over their space: standard deviation, self-cluster, coherence, uniformity.

Legend: H: (N, D) features; u_i: row i of H divided by its L2 norm.

Raises:
    FullrankError: Each, where features are no finite matrix of the shape it takes, or an argument is out of its range.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fullrank.errors import FullrankError
from fullrank.measure.checks import BLOCK_ENTRIES, Array, as_features, check_directions, double_blocks, subsample
from fullrank.numerics import exact_arithmetic, l2_normalize
from fullrank.shapes import fit

__all__ = ["coherence", "feature_std", "self_cluster", "uniformity"]


@exact_arithmetic()
def feature_std(features: Array, *, normalize: bool = True) -> float:
    """Return the mean over dimensions of the standard deviation over images, of L2-normalized rows.

    Higher is better. Range [0, 1/sqrt(D)], reached by rows spread evenly around zero; 0 at complete collapse. With
    `normalize=False`, features as they are, the range is [0, inf). Deviations divide by N, which makes the upper end
    exact; ports that divide by N - 1 differ by a factor sqrt(N / (N - 1)).

    Fails: blind to dimensional collapse, as covarying columns keep their deviations; a non-zero mean (any
    post-ReLU feature) lowers it.

    Reference: Chen, He 2021, section 4.1, https://arxiv.org/abs/2011.10566

    >>> feature_std(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    0.5
    """
    fit(normalize, bool, "normalize")
    x = as_features(features, rows=2, score="feature_std")
    if normalize:
        check_directions(x)
    prepare = l2_normalize if normalize else Tensor.double
    # Shifted by a row, and in two passes, so that a large mean leaves the deviations their digits.
    shift = prepare(x[:1].double())
    mean = torch.zeros_like(shift)
    for block in double_blocks(x):
        mean += (prepare(block) - shift).sum(dim=0) / len(x)
    variance = torch.zeros_like(shift)
    for block in double_blocks(x):
        variance += ((prepare(block) - shift - mean) ** 2).sum(dim=0) / len(x)
    return float(variance.sqrt().mean())


@exact_arithmetic()
def self_cluster(features: Array) -> float:
    """Return (Q - E) / (N^2 - E): Q = sum_ij cos(h_i, h_j)^2, and E = N + N(N-1)/D is its value by chance.

    Lower is better. Range [-1 / (max(N, D) - 1), 1]: 0 for isotropic rows in expectation, 1 when all rows lie
    on one line. Uncentered: the mean of post-ReLU features counts as clustering. N and D are 2 at least.

    Q - N is the sample-contrastive criterion L_c of Garrido et al. 2022 (https://arxiv.org/abs/2206.02574) of unit
    embeddings. Cost O(N D min(N, D)), on the smaller side: Q = ||U U^T||_F^2 = ||U^T U||_F^2.

    Reference: Tsitsulin et al. 2023, https://arxiv.org/abs/2305.16562

    >>> self_cluster(torch.tensor([[1.0, 0.0], [2.0, 0.0], [-3.0, 0.0]]))
    1.0
    """
    x = as_features(features, rows=2, score="self_cluster")
    n, d = x.shape
    if d < 2:
        raise FullrankError("self_cluster needs at least two columns, got one: on a line all cosines are 1 or -1")
    check_directions(x)
    if n <= d:
        u = l2_normalize(x.double())
        gram = u @ u.T
    else:
        gram = torch.zeros(d, d, dtype=torch.float64, device=x.device)
        for block in double_blocks(x):
            u = l2_normalize(block)
            gram += u.T @ u
    expected = n + n * (n - 1) / d
    return float(((gram**2).sum() - expected) / (n**2 - expected))


@exact_arithmetic()
def coherence(features: Array, *, tol: float | None = None) -> float:
    """Return (N/r) max_i ||U_i||^2, where U, (N, r), are the left singular vectors of the r live directions.

    Uncentered. Lower is better. Range [1, N/r]: all images have equal leverage, or one alone holds a direction. 1,
    whatever the features, when N <= D and the rows are independent. The least stable of its paper's scores: a maximum
    over images, which one outlier decides.

    The published score is (N/D) max_i ||U_i||^2 over all D vectors. They agree at full rank. Below it the vectors of
    dead directions are arbitrary, whatever the SVD routine returned; only live ones, s_k > tol s_1, count here. By
    default `tol` is the rounding of the features' own dtype, 2 eps, and at least D eps of float64.

    Reference: Tsitsulin et al. 2023, https://arxiv.org/abs/2305.16562; the notion is of Candes, Recht 2009.

    >>> round(coherence(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])), 12)
    1.0
    """
    if tol is not None and not 0 <= fit(tol, float, "tol") < 1:
        raise FullrankError(f"tol must be in [0, 1), got {tol}: None is the rounding of the features' dtype")
    x = as_features(features, rows=1, score="coherence")
    n, d = x.shape
    if tol is None:
        rounding = 2 * torch.finfo(x.dtype).eps if x.is_floating_point() else 0.0
        tol = max(rounding, d * torch.finfo(torch.float64).eps)
    # A QR over blocks of rows, H = Q R: R has the singular values and right vectors of H, not squared.
    triangle = torch.zeros(0, d, dtype=torch.float64, device=x.device)
    for block in double_blocks(x, least=2 * d):
        triangle = torch.linalg.qr(torch.cat([triangle, block]), mode="r").R
    _, values, right = torch.linalg.svd(triangle, full_matrices=False)
    if values[0] == 0:
        got = f"features are all zero, shape {tuple(x.shape)}"
        raise FullrankError(f"{got}, and coherence needs one live direction: is the encoder's output dead?")
    live = values > tol * values[0]
    whiten = right[live].T / values[live]
    leverage = max(float(((block @ whiten) ** 2).sum(dim=1).max()) for block in double_blocks(x))
    return n / int(live.sum()) * leverage


@exact_arithmetic()
def uniformity(features: Array, *, t: float = 2.0, max_samples: int | None = 10_000, seed: int = 0) -> float:
    """Return log mean_{i<j} exp(-t ||u_i - u_j||^2), over pairs of distinct images, uncentered; t is 2 in the paper.

    Lower is better. Range [-2tN/(N-1), 0], that is down to about -4 at t = 2; 0 when all rows point one way. Rows
    uniform on a sphere of high dimension have about -3.9 at t = 2, and there the score is nearly flat in the number of
    live directions. Ports that count each row's distance 0 to itself read higher, by log(1 + ...) of order N^-1 e^4,
    which matters below N of 10,000.

    Of more than `max_samples` rows so many are drawn by `seed`; None uses all. Cost O(n^2 D).

    Reference: Wang, Isola 2020, eq. 2, https://arxiv.org/abs/2005.10242

    >>> uniformity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
    -8.0
    """
    if not fit(t, float, "t") > 0:
        raise FullrankError(f"t must be positive, got {t}: the paper uses 2")
    x = subsample(as_features(features, rows=2, score="uniformity"), max_samples, seed)
    if len(x) < 2:
        raise FullrankError(f"max_samples must leave two rows at least, got {max_samples}")
    check_directions(x)
    u = l2_normalize(x.double())
    n = len(u)
    step = max(1, BLOCK_ENTRIES // n)
    total = u.new_tensor(-torch.inf)  # a logarithm: at a large t all of the sum may underflow
    for start in range(0, n, step):
        squared = (2 - 2 * u[start : start + step] @ u[start:].T).clamp(min=0)
        others = torch.ones_like(squared, dtype=torch.bool).tril()
        total = torch.logaddexp(total, (-t * squared).masked_fill_(others, -torch.inf).logsumexp(dim=(0, 1)))
    return float(total) - math.log(n * (n - 1) / 2)
