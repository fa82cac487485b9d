"""The singular spectrum of a representation, and the scores that are functions of it alone.

Legend: H: (N, D) representations of N images; s_1 >= ... >= s_D >= 0: singular values of H after centering its columns;
p_k = s_k / sum_i s_i. All scores are of singular values, not of variances, despite the field's name "cumulative
explained variance". `fullrank.measure.quality.spectral` says of each what it does not see.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fullrank.config import Count, Share
from fullrank.errors import FullrankError
from fullrank.measure.checks import Array, as_matrix, as_tensor, check_finite
from fullrank.numerics import exact_arithmetic, l2_normalize
from fullrank.shapes import fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALPHA_RANGE = (10, 100)  # first and last rank k of the power-law fit, counted from 1
ONE_ROW = "features have one row, and centering leaves nothing of it: give at least two"


class Spectrum:
    """Singular values and what follows from them.

    Make one with `fullrank.spectrum(features)`, or from published singular values with `Spectrum(values)`.

    Args:
        singular_values: `(D,)`, not negative and finite, in any order; kept as float64, descending.
        protocol: How the values came about.

    >>> spectrum = Spectrum(torch.ones(4))
    >>> spectrum.auc, spectrum.rankme, spectrum.dead()
    (0.625, 4.0, 0)
    """

    # No dataclass: torchmetrics and Lightning write into those that a metric returns.
    singular_values: Tensor
    protocol: Mapping[str, Any]

    @exact_arithmetic()
    def __init__(self, singular_values: Array, protocol: Mapping[str, Any] | None = None) -> None:
        values = as_tensor(singular_values, "a vector of singular values").to("cpu", torch.float64)
        if values.ndim != 1 or len(values) == 0:
            raise FullrankError(f"singular values must be a vector of at least one, got shape {tuple(values.shape)}")
        if not bool((torch.isfinite(values) & (values >= 0)).all()):
            raise FullrankError("singular values must be finite and not negative")
        self.singular_values = values.sort(descending=True).values
        self.protocol = {} if protocol is None else protocol

    @property
    def dim(self) -> int:
        """The number of directions D, dead ones included."""
        return len(self.singular_values)

    @property
    def _p(self) -> Tensor:
        """The shares p_k; all zero for features without any variation."""
        total = self.singular_values.sum()
        return self.singular_values / total if total > 0 else self.singular_values

    @property
    def explained(self) -> Tensor:
        """The share of the sum of singular values in the first j, `(D,)` ([Li22] eq. 1); 1 for constant features."""
        if self.singular_values[0] == 0:
            return torch.ones_like(self.singular_values)
        return self._p.cumsum(0).clamp(max=1.0)

    @property
    def auc(self) -> float:
        """Area under `explained`, in [(D+1)/(2D), 1]; lower is better; 1 for constant features ([Li22] eq. 2)."""
        return float(self.explained.mean())

    @property
    def rankme(self) -> float:
        """RankMe, the exponential of the entropy of p, in [1, D]; higher is better; 0 for constant features.

        As published (Garrido et al. 2023, https://arxiv.org/abs/2210.02885, eq. 1) it is of uncentered embeddings.
        """
        if self.singular_values[0] == 0:
            return 0.0
        return float(torch.special.entr(self._p).sum().exp())

    @property
    def participation_ratio(self) -> float:
        """(sum s^2)^2 / sum s^4, in [1, D]; higher is better; 0 for constant features."""
        relative = self._relative_variances
        return float(relative.sum() ** 2 / (relative**2).sum()) if len(relative) else 0.0

    @property
    def stable_rank(self) -> float:
        """Sum of s^2 / s_1^2, in [1, D]; higher is better; 0 for constant features. NESum, if centered."""
        return float(self._relative_variances.sum())

    @property
    def _relative_variances(self) -> Tensor:
        top = self.singular_values[0]
        return (self.singular_values / top) ** 2 if top > 0 else self.singular_values[:0]

    @property
    def _floor(self) -> float:
        """The singular value, of the largest, up to which one may be rounding alone; 0 where features are not known."""
        dtype = getattr(torch, str(self.protocol.get("dtype")), None)
        if not isinstance(dtype, torch.dtype):
            return 0.0
        of_svd = max(self.protocol.get("n", 0), self.dim) * torch.finfo(torch.float64).eps
        of_features = torch.finfo(dtype).eps / 2 if dtype.is_floating_point else 0.0
        return max(self.protocol.get("floor", of_svd), of_features)

    @property
    def alpha(self) -> float:
        """Exponent of the power law s_k^2 ~ k^-alpha (alpha-ReQ) over the ranks k = 10..100; near 1 is best."""
        return self.power_law(*ALPHA_RANGE)

    @exact_arithmetic()
    def power_law(self, first: int, last: int) -> float:
        """Fit the exponent of s_k^2 ~ k^-alpha by least squares of logs, with weights 1/k, over k = first..last.

        Ranks count from 1; directions of nothing but rounding, as far as the protocol tells, are left out. NaN when
        fewer than three lie in the range.

        Raises:
            FullrankError: The range is none of at least three ranks.
        """
        fit({"first": first, "last": last}, dict[str, Count])
        if last < first + 2:
            raise FullrankError(f"a power law is fitted to at least three ranks, got {first} to {last}")
        values = self.singular_values[first - 1 : last]
        values = values[values > self._floor * self.singular_values[0]]
        if len(values) < 3:
            return float("nan")
        k = np.arange(first, first + len(values))
        slope, _ = np.polyfit(np.log(k), 2 * np.log(values.numpy()), 1, w=k**-0.5)  # NumPy squares the weights
        return -float(slope)

    def dead(self, tol: float = 1e-3) -> int:
        """Count the directions whose singular value is below `tol`, in [0, 1], times the largest; all D if constant."""
        fit(tol, Share, "tol")
        if self.singular_values[0] == 0:
            return self.dim
        return int((self.singular_values < tol * self.singular_values[0]).sum())

    def plot(self, ax: Axes | None = None, **line: Any) -> Axes:
        """Draw the singular values on a log scale, as [Li22] Fig. 3, into `ax` or a new figure.

        What else is given is passed on to `Axes.plot`.
        """
        import matplotlib.pyplot as plt

        ax = plt.subplots()[1] if ax is None else ax
        ax.semilogy(range(1, self.dim + 1), self.singular_values.clamp(min=1e-300).numpy(), **line)
        ax.set_xlabel("direction")
        ax.set_ylabel("singular value")
        return ax

    def __repr__(self) -> str:
        scores = f"auc={self.auc:.4f}, rankme={self.rankme:.1f}, participation_ratio={self.participation_ratio:.1f}"
        return f"Spectrum(dim={self.dim}, {scores}, dead={self.dead()})"


@exact_arithmetic()
def spectrum(features: Array, *, center: bool = True, normalize: bool = False) -> Spectrum:
    """Measure the D singular values of a feature matrix, in float64.

    The default, centered and not normalized, is [Li22]'s, who apply it to the backbone's pooled output over the
    training images, without augmentation, the model in eval mode. RankMe as published is `center=False` on the
    projector's output. With N <= D at most N - 1 values (N, uncentered) can differ from zero.

    Args:
        features: `(N, D)`, real; N should be several times D, or the finite sample itself bends the spectrum.
        center: Subtract the mean of each column.
        normalize: Divide each row by its L2 norm first (before centering; a zero row stays zero).

    Raises:
        FullrankError: `features` are no finite matrix, or a single row to center.

    >>> import fullrank
    >>> fullrank.spectrum(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])).auc
    0.75
    """
    fit({"center": center, "normalize": normalize}, dict[str, bool])
    x = as_matrix(features)
    check_finite(x)
    n, d = x.shape
    dtype = str(x.dtype).removeprefix("torch.")
    x = x.to(torch.float64)
    if normalize:
        x = l2_normalize(x)
    if center:
        if n < 2:
            raise FullrankError(ONE_ROW)
        # Shifted by a row first: columns that are constant become exactly zero, not rounding noise.
        x = x - x[0].clone()
        x = x - x.mean(dim=0)
    found = torch.linalg.svdvals(x if n >= d else x.T).cpu()
    protocol = {"n": n, "d": d, "center": center, "normalize": normalize, "dtype": dtype}
    return Spectrum(F.pad(found, (0, d - len(found))), protocol)
