"""The spectrum of a representation while it trains, from features that the training step has computed.

    monitor = MovingSpectrum(512)                                # before the loop
    monitor.update(h)                                            # in each step, or each fourth: h is (N, 512)
    if step % 500 == 0: print(monitor.compute())                 # AUC, RankMe, dead directions

It sees augmented views through a network in training mode, and tells how a run moves; a number to report or compare
comes from `fullrank.spectrum` or `SpectrumMetric` on plain images in eval mode.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fullrank.config import Count
from fullrank.errors import FullrankError
from fullrank.measure import moments
from fullrank.measure.checks import as_tensor
from fullrank.measure.spectrum import Spectrum
from fullrank.numerics import exact_arithmetic, l2_normalize
from fullrank.shapes import fit

HALF_LIFE_DIMS = 8  # the default half-life in multiples of D: some 23 D samples count, which do not bend the spectrum

_WEIGHT, _SQUARES, _SAMPLES, _SKIPPED = range(4)  # places in the counts


class MovingSpectrum:
    """Follow the spectrum of features through a moving mean and second moment: float64, D^2 + D + 4 numbers.

    A sample counts half as much once `half_life` later samples have come: weights 2^(-age / half_life), one age for all
    of a batch. With w the sum of the weights and q that of their squares, w^2 / q samples count, about 2.9 half-lives;
    singular values are those of so many samples.

    `update` costs one product of D x N x D and never waits for the device. A batch with NaN or infinity (mixed
    precision skips such steps) is left out and counted in the protocol's `skipped`. Float64 on a GPU too: float32
    products would blur what is below 3e-4 of the largest singular value, those in TF32 3e-2, and 1e-3 is dead.

    Args:
        dim: The features' width D.
        half_life: In samples, positive; 8 D when omitted.
        center: Take moments about the moving mean; otherwise about zero.
        normalize: Divide each row by its L2 norm first (a zero row stays zero).

    Reference: Chan, Golub, LeVeque 1979, eq. 2.1, with weights for counts.

    >>> monitor = MovingSpectrum(2)
    >>> monitor.update(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    >>> monitor.compute().auc
    0.75
    """

    def __init__(
        self, dim: int, *, half_life: float | None = None, center: bool = True, normalize: bool = False
    ) -> None:
        fit(dim, Count, "dim")
        fit({"center": center, "normalize": normalize}, dict[str, bool])
        if half_life is not None and (isinstance(half_life, str) or not half_life > 0):
            raise FullrankError(f"half_life must be a positive number of samples, got {half_life!r}")
        self.dim, self.center, self.normalize = int(dim), center, normalize
        self.half_life = float(HALF_LIFE_DIMS * dim if half_life is None else half_life)
        self.reset()

    @exact_arithmetic()
    def reset(self) -> None:
        """Forget everything."""
        self._counts = torch.zeros(4, dtype=torch.float64)
        self._mean = torch.zeros(self.dim, dtype=torch.float64)
        self._gram = torch.zeros(self.dim, self.dim, dtype=torch.float64)
        self._dtype = ""

    @exact_arithmetic()
    def update(self, features: Tensor) -> None:
        """Absorb a batch `(N, D)`, detached, where it is; from a device without float64 (MPS) it comes to the CPU."""
        features = as_tensor(features, f"numbers (N, {self.dim})")
        if features.ndim != 2 or features.shape[1] != self.dim or len(features) == 0:
            what = f"features must be (N, {self.dim}) with N at least 1, got {tuple(features.shape)}"
            raise FullrankError(f"{what}: pool or flatten them, or make the monitor for their width")
        device = torch.device("cpu") if features.device.type == "mps" else features.device
        self._counts, self._mean, self._gram = (x.to(device) for x in (self._counts, self._mean, self._gram))
        self._dtype = str(features.dtype).removeprefix("torch.")
        n = len(features)
        rows = features.detach().to(self._gram.device, torch.float64)
        if self.normalize:
            rows = l2_normalize(rows)
        if self.center:
            rows = rows - self._mean
        total = rows.sum(dim=0)
        good = torch.isfinite(total).all()
        total = torch.where(good, total, 0.0)
        # A bad batch brings no rows and no weight; that it fades the rest is nothing: weight and moment fade alike.
        rows = torch.where(good, rows, 0.0)
        decay = 0.5 ** (n / self.half_life)
        weight = self._counts[_WEIGHT] * decay
        if self.center:
            shift = moments.recentering(total, n, torch.zeros_like(total), weight)
            rows -= torch.where(good, shift, 0.0)
            self._mean += total / (weight + n)
        moments.add_gram_(self._gram, rows, decay)
        self._counts[_WEIGHT] *= decay
        self._counts[_SQUARES] *= decay**2
        self._counts[:_SKIPPED] += good * n
        self._counts[_SKIPPED] += ~good

    @exact_arithmetic()
    def compute(self, gather: Callable[[Tensor], Tensor] | None = None) -> Spectrum:
        """Return the spectrum now; this waits for the device, and takes tens of milliseconds at D = 512.

        `gather` returns the vectors of all processes, `(processes, L)`, given this one's, `(L,)`; each process then
        gets the spectrum of all together, and all must call it.

        Raises:
            FullrankError: Fewer than two samples have come (one, when not centered).
        """
        vector = torch.cat([self._counts, self._mean, self._gram.flatten()])
        vectors = (vector[None] if gather is None else gather(vector)).detach().cpu()
        counts, gram = self._merged(vectors)
        weight, squares, samples, skipped = counts.tolist()
        least = 2 if self.center else 1
        # many bad batches in a row leave no weight to the good ones before
        if samples < least or squares < torch.finfo(torch.float64).tiny:
            what = f"{int(samples)} samples have come, {int(skipped)} batches held NaN or infinity"
            raise FullrankError(f"{what}: call update(features) with at least {least} samples before compute()")
        effective = weight**2 / squares
        protocol = {"n": round(effective), "d": self.dim, "center": self.center, "normalize": self.normalize}
        protocol |= {"dtype": self._dtype, "method": "moving moments", "floor": moments.gram_floor(self.dim)}
        protocol |= {"half_life": self.half_life, "samples": int(samples), "skipped": int(skipped)}
        return Spectrum(moments.gram_singular_values(gram) * math.sqrt(effective / weight), protocol)

    def _merged(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the counts and the second moment of all processes together."""
        counts, mean, gram = self._split(vectors[0].clone())
        for vector in vectors[1:]:
            more, other, matrix = self._split(vector)
            gram += matrix
            weight = counts[_WEIGHT] + more[_WEIGHT]
            if self.center and weight > 0:
                delta = other - mean
                share = more[_WEIGHT] / weight
                moments.add_gram_(gram, ((counts[_WEIGHT] * share).sqrt() * delta)[None])
                mean += share * delta
            counts += more
        return counts, gram

    def _split(self, vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        counts, mean, gram = vector.split([4, self.dim, self.dim**2])
        return counts, mean, gram.view(self.dim, self.dim)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and numbers that `load_state_dict` takes; they load with `weights_only=True`."""
        tensors = {"counts": self._counts.clone(), "mean": self._mean.clone(), "gram": self._gram.clone()}
        return {"settings": self._settings(), "dtype": self._dtype, **tensors}

    @exact_arithmetic()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where `state_dict` was taken; with other settings that is a `FullrankError`."""
        if (theirs := dict(state["settings"])) != (ours := self._settings()):
            raise FullrankError(f"the saved monitor has settings {theirs}, this one {ours}: make it with the same")
        self._dtype = state["dtype"]
        self._counts, self._mean, self._gram = (state[key].clone() for key in ("counts", "mean", "gram"))

    def _settings(self) -> dict[str, Any]:
        return {"dim": self.dim, "half_life": self.half_life, "center": self.center, "normalize": self.normalize}
