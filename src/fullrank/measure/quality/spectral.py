"""Scores that are functions of the singular values alone: each takes features `(N, D)`, or a `Spectrum` already made.

Legend: s_1 >= ... >= s_D >= 0: singular values of the features H, (N, D); p_k = s_k / sum_i s_i; l_k = s_k^2 / (N - 1).

Centered or not, as published, is part of each score's definition: a `Spectrum` whose protocol says otherwise is
refused, and `fullrank.spectrum(features, center=...)` has other variants. All are unchanged when the features are
rotated or multiplied by a number, none when single columns are rescaled. The finite sample bends all of them (N should
be several times D), and none can tell useful directions from noise.

Raises:
    FullrankError: Each, where the features cannot be measured, or the spectrum was centered otherwise.
"""

from __future__ import annotations

from fullrank.errors import FullrankError
from fullrank.measure.checks import Array
from fullrank.measure.spectrum import ALPHA_RANGE, Spectrum, spectrum
from fullrank.shapes import fit

__all__ = ["alpha_req", "auc", "dead", "nesum", "participation_ratio", "pseudo_condition_number"]
__all__ += ["rankme", "rankme_centered", "stable_rank"]


def auc(features: Spectrum | Array) -> float:
    """Return the area under the cumulative explained variance, (1/D) sum_j sum_{i<=j} p_i = 1 + (1 - sum_k k p_k) / D.

    Lower is better, jointly with the training loss. Range [(D+1)/(2D), 1]: equal singular values, rank one
    (and constant features).

    Fails: its floor and its scale depend on D, so 512 and 2048 dimensions do not compare, and padding with dead columns
    raises it. It is made of singular values, not variances, despite the name; squaring them gives another number.

    Reference: Li, Efros, Pathak 2022, eq. 1 and 2, https://arxiv.org/abs/2209.15007

    >>> import torch
    >>> auc(Spectrum(torch.tensor([1.0, 1.0, 0.0, 0.0])))
    0.875
    """
    return _spectrum_of(features, True, "auc").auc


def rankme(features: Spectrum | Array, *, eps: float = 0.0) -> float:
    """Return RankMe, exp(-sum_k p_k log p_k): the exponential entropy of the normalized singular values.

    Higher is better. Range [1, min(N, D)]; 0 when there is no variation at all (no non-zero feature, uncentered). The
    authors take uncentered projector outputs of 25,600 training images.

    Fails: compares models of one method only; saturates beyond the number of classes; a large mean hides
    everything behind its one direction when uncentered. Full rank is necessary for good features, not
    sufficient: white noise scores best.

    `eps`, not negative, is the authors' constant, p_k = s_k / ||s||_1 + eps with 1e-7, which keeps log(0) out of
    float32; here 0 log 0 = 0. It is added outside the normalization, so the p_k sum to more than one and exp(H) can
    pass D.

    Reference: Garrido, Balestriero, Najman, LeCun 2023, eq. 1, https://arxiv.org/abs/2210.02885

    >>> import torch
    >>> rankme(Spectrum(torch.tensor([3.0, 3.0, 3.0, 3.0])))
    4.0
    """
    if not fit(eps, float, "eps") >= 0:
        raise FullrankError(f"eps must not be negative, got {eps}: 0 needs none, 1e-7 is the published one")
    found = _spectrum_of(features, False, "rankme")
    if eps == 0 or found.singular_values[0] == 0:
        return found.rankme
    # Zeros that only pad a spectrum of N < D images to D values are no singular values to the authors.
    values = found.singular_values[: min(int(found.protocol.get("n", found.dim)), found.dim)]
    p = values / values.sum() + eps
    return float((-(p * p.log()).sum()).exp())


def rankme_centered(features: Spectrum | Array) -> float:
    """Return `rankme` of centered features: the rank of the variation, without the mean's direction.

    Higher is better. Range [1, min(N - 1, D)]; 0 for constant features. Of post-ReLU features this and the published,
    uncentered score are far apart.

    Reference: Garrido et al. 2023, eq. 1, https://arxiv.org/abs/2210.02885, on the matrix of Li et al. 2022.
    """
    return _spectrum_of(features, True, "rankme_centered").rankme


def participation_ratio(features: Spectrum | Array) -> float:
    """Return (sum_k l_k)^2 / sum_k l_k^2.

    Higher is better. Range [1, min(N, D)]; 0 for constant features.

    Fails: blind to the tail of the spectrum: one strong direction beside 500 healthy weak ones gives nearly 1. The
    finite sample lowers it; for Gaussian features 1 / PR_hat is about 1 / PR + 1 / N.

    Reference: Gao et al. 2017, https://doi.org/10.1101/214262

    >>> import torch
    >>> participation_ratio(Spectrum(torch.tensor([2.0, 2.0, 2.0, 0.0])))
    3.0
    """
    return _spectrum_of(features, True, "participation_ratio").participation_ratio


def stable_rank(features: Spectrum | Array) -> float:
    """Return ||H||_F^2 / s_1^2 = sum_k s_k^2 / s_1^2.

    Higher is better. Range [1, min(N, D)]; 0 when all features are zero. It asks only how far the first direction
    stands out; uncentered, as published, that direction is mostly the mean. On centered features it is `nesum`.

    Reference: Tsitsulin, Munkhoeva, Perozzi 2023, https://arxiv.org/abs/2305.16562

    >>> import torch
    >>> stable_rank(Spectrum(torch.tensor([2.0, 1.0, 1.0])))
    1.5
    """
    return _spectrum_of(features, False, "stable_rank").stable_rank


def nesum(features: Spectrum | Array) -> float:
    """Return NESum, sum_k l_k / l_1 over the covariance's eigenvalues: the stable rank of centered features.

    Higher is better, though its authors do not aim at the maximum (whitened features). Range [1, min(N - 1, D)]; 0 for
    constant features. Sees the first direction against the rest; blind to which of the rest are dead.

    Reference: He, Ozay 2022, definition 4.1, https://proceedings.mlr.press/v162/he22c.html
    """
    return _spectrum_of(features, True, "nesum").stable_rank


def alpha_req(
    features: Spectrum | Array, *, first_rank: int = ALPHA_RANGE[0], last_rank: int = ALPHA_RANGE[1]
) -> float:
    """Return alpha of the power law l_k ~ k^-alpha over the ranks k = 10..100: least squares of logs, weights 1/k.

    Ranks count from 1. Near 1 is best: smaller is a long flat tail, larger a fast decay. Range all real numbers in
    principle, above 0 since l_k falls. NaN when fewer than three live directions lie in the range.

    Fails: the fit range can flip the sign of its correlation with accuracy, and ports differ: its authors' training
    code fits ranks 4..100, the later library of their group (reptrix) 11..100 (`np.arange(10, 100)`, from 0). The best
    line through a spectrum that is no power law is still a line. Directions of nothing but the rounding of the spectrum
    and of the features' dtype are left out. Those of a network's own arithmetic, which may be larger, are not, nor
    those of a mean that is some ten times the deviation or more: its rounding is of its own size.

    Reference: Agrawal, Mondal, Ghosh, Richards 2022, https://openreview.net/forum?id=ii9X4vtZGTZ

    >>> import torch
    >>> round(alpha_req(Spectrum(torch.arange(1.0, 129.0).double() ** -0.5)), 9)
    1.0
    """
    return _spectrum_of(features, True, "alpha_req").power_law(first_rank, last_rank)


def pseudo_condition_number(features: Spectrum | Array) -> float:
    """Return s_D / s_1, the inverse of the condition number.

    Higher is better. Range [0, 1]; 0 for constant features, and whenever N < D.

    Fails: one dead direction makes it 0, and in float32 it then measures rounding (about 1e-7), so most real
    encoders are indistinguishable. Its published association with linear probes is one with their
    conditioning and is not seen with nearest-neighbor probes.

    Reference: Tsitsulin et al. 2023, https://arxiv.org/abs/2305.16562

    >>> import torch
    >>> pseudo_condition_number(Spectrum(torch.tensor([4.0, 2.0, 1.0])))
    0.25
    """
    values = _spectrum_of(features, False, "pseudo_condition_number").singular_values
    return float(values[-1] / values[0]) if values[0] > 0 else 0.0


def dead(features: Spectrum | Array, *, tol: float = 1e-3) -> float:
    """Return the number of directions with s_k < tol s_1, of centered features.

    Lower is better. Range [0, D]; D for constant features. Directions that N <= D images cannot span count as dead.

    Reference: Li, Efros, Pathak 2022, Fig. 3, https://arxiv.org/abs/2209.15007

    >>> import torch
    >>> dead(Spectrum(torch.tensor([1.0, 0.5, 1e-4])))
    1.0
    """
    return float(_spectrum_of(features, True, "dead").dead(tol))


def _spectrum_of(features: Spectrum | Array, center: bool, score: str) -> Spectrum:
    if not isinstance(features, Spectrum):
        return spectrum(features, center=center)
    if (made := features.protocol.get("center")) not in (None, center):
        what = f"{score} takes a spectrum with center={center}, this one was made with center={made}"
        raise FullrankError(f"{what}: make one with fullrank.spectrum(features, center={center})")
    return features
