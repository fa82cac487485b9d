"""Torchmetrics shells around the moments of `fullrank.measure.moments`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors

from fullrank.config import Count
from fullrank.errors import FullrankError, shown
from fullrank.measure import moments
from fullrank.measure.checks import Array, as_matrix
from fullrank.measure.scores import SCORES
from fullrank.measure.spectrum import ONE_ROW, Spectrum
from fullrank.numerics import exact_arithmetic
from fullrank.shapes import fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SETTINGS = ("dim", "center", "normalize", "exact", "fast")


class SpectrumMetric(Metric):
    """Measure the singular values of features that come in batches, in one pass and O(D^2) memory.

    The result is that of `fullrank.spectrum` on all rows together, whatever the batches, their order, the number of
    processes, or the parts that were merged. Sums are float64 moments about the mean, so a mean of 1e4 times the spread
    costs no digits. Singular values are right to about sqrt(D eps) of the largest (3e-7 at D = 512), far below a dead
    direction's 1e-3; while no more than D rows have come, the rows themselves are kept.

    `compute` returns a `Spectrum`, which is no scalar that Lightning's `self.log` could take: log its scores, or a
    metric of `fullrank.metrics`. Calling the metric (`forward`) absorbs a batch twice, to return its own spectrum too:
    call `update` instead.

    Args:
        dim: The features' width D.
        center: Subtract the mean of each column. RankMe as published does not.
        normalize: Divide each row by its L2 norm first (before centering; a zero row stays zero).
        exact: Resolve singular values below 3e-7 of the largest, to about 1e-14, by QR: about four times the time.
        fast: On a CPU, take products in float32 (sums stay float64), right to 3e-4: half to five sixths of the time.
        **kwargs: Passed on to `torchmetrics.Metric`.

    Reference: Chan, Golub, LeVeque 1979, eq. 2.1 (merging of moments); [Li22] eq. 1 and 2 (what the spectrum is for).

    >>> metric = SpectrumMetric(2)
    >>> metric.update(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    >>> metric.update(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
    >>> metric.compute().auc
    0.75
    """

    is_differentiable = False
    higher_is_better: bool | None = None
    full_state_update = True
    state: Tensor
    settings: Tensor

    def __init__(
        self,
        dim: int,
        *,
        center: bool = True,
        normalize: bool = False,
        exact: bool = False,
        fast: bool = False,
        **kwargs: Any,
    ) -> None:
        # On the default device, as torchmetrics' own, but for those that hold no float64.
        elsewhere = torch.empty(0).device.type in ("meta", "mps")
        with torch.device("cpu") if elsewhere else nullcontext():
            super().__init__(**kwargs)
        fit(dim, Count, "dim")
        fit({"center": center, "normalize": normalize, "exact": exact, "fast": fast}, dict[str, bool])
        if exact and fast:
            raise FullrankError("exact=True and fast=True exclude each other: choose one of them")
        self.dim, self.center, self.normalize, self.exact, self.fast = int(dim), center, normalize, exact, fast
        # One packed state, not four: what processes' matrices mean depends on their counts and means.
        with torch.device(self.device):
            empty = moments.pack(moments.empty(dim))
            settings = torch.tensor([dim, center, normalize, exact, fast], dtype=torch.int64)
        self.add_state("state", default=empty, dist_reduce_fx=_only)
        # A `MetricCollection` lets metrics of equal states share one: those of other settings must differ in it.
        self.add_state("settings", default=settings, dist_reduce_fx=_only)

    @exact_arithmetic()
    def update(self, features: Array) -> None:
        """Absorb a batch, `(N, D)`, in one dtype throughout; a memory-mapped array is read block by block.

        Raises:
            FullrankError: `features` is empty, not `(N, dim)`, of another dtype than before, or holds NaN or
                infinity; what was absorbed before stays.
        """
        x = as_matrix(features)
        if x.shape[1] != self.dim:
            what = f"features have {x.shape[1]} columns, this metric was made for {self.dim}"
            raise FullrankError(f"{what}: make it with SpectrumMetric({x.shape[1]}), or pass the layer it was made for")
        dtype = str(x.dtype).removeprefix("torch.")
        # What was made in inference mode (a Lightning validation) cannot be written to outside it.
        fixed = self.state.is_inference() and not torch.is_inference_mode_enabled()
        state = self.state.clone() if fixed else self.state
        seen = moments.unpack(state)
        if seen.dtype and dtype != seen.dtype:
            what = f"features are {dtype}, those before were {seen.dtype}"
            raise FullrankError(f"{what}: a spectrum is of one dtype; convert them to one, or reset the metric")
        how = {name: getattr(self, name) for name in SETTINGS[1:]}
        self.state = moments.repack(moments.absorb(replace(seen, dtype=dtype), x.to(state.device), **how), state)

    @exact_arithmetic()
    def compute(self) -> Spectrum:
        """Return the spectrum of everything absorbed, by all processes.

        Its protocol adds `method` ("moments", "exact" or "fast moments") and `floor`, the singular
        value, relative to the largest, below which values are rounding noise.

        Raises:
            FullrankError: Nothing was absorbed, or a single row is to be centered.
        """
        return self._spectrum(self.center)

    @exact_arithmetic()
    def compute_uncentered(self) -> Spectrum:
        """Return the spectrum about zero of everything absorbed, by all processes: RankMe as published is of it."""
        with self.sync_context(self.dist_sync_fn, self.process_group, self._to_sync, self._should_unsync):
            return self._spectrum(center=False)

    def _spectrum(self, center: bool) -> Spectrum:
        seen = moments.unpack(self.state)
        if seen.count == 0:
            raise FullrankError("no features were given: call update(features) before compute()")
        if center and seen.count < 2:
            raise FullrankError(ONE_ROW)
        if self.center and not center:
            seen = moments.about_zero(seen)
        protocol = {"n": seen.count, "d": self.dim, "center": center, "normalize": self.normalize, "dtype": seen.dtype}
        method = ("exact", "moments", "fast moments")[seen.form]
        return Spectrum(moments.singular_values(seen), {**protocol, "method": method, "floor": moments.floor(seen)})

    @property
    def count(self) -> int:
        """The number of rows that this process absorbed."""
        return moments.unpack(self.state).count

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Absorb what another metric absorbed, or the `metric_state` of one with the same settings.

        `torch.save(metric.metric_state, file)` keeps one part of a map-reduce; `merge_state(torch.load(file))` adds it.

        Raises:
            FullrankError: The two differ in `dim`, `center`, `normalize` or the features' dtype, or only this
                one is exact.
        """
        given = incoming_state
        if isinstance(given, SpectrumMetric):
            given = {"state": given.state, "settings": given.settings}
        states = given if isinstance(given, dict) else {}
        state, settings = states.get("state"), states.get("settings", self.settings)
        known = isinstance(settings, Tensor) and settings.shape == self.settings.shape
        if not known or not isinstance(state, Tensor) or not moments.is_packed(state):
            raise FullrankError(f"only a SpectrumMetric, or its metric_state, can be merged, got {shown(given)}")
        theirs, mine = _named(settings), _named(self.settings)
        for key in ("dim", "center", "normalize"):
            if theirs[key] != mine[key]:
                what = f"cannot merge a metric with {key}={theirs[key]} into a metric with {key}={mine[key]}"
                raise FullrankError(f"{what}: their spectra answer different questions; make both alike")
        self._go_on_from(self._merged([self.state, state]))

    def _go_on_from(self, state: Tensor) -> None:
        self.state, self._computed = state, None
        self._update_count += 1  # else torchmetrics warns that compute() comes before any update

    def plot(self, val: Spectrum | Sequence[Spectrum] | None = None, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Draw singular values on a log scale: of one spectrum, several, or `compute()` where none is given."""
        found = self.compute() if val is None else val
        for spectrum in [found] if isinstance(found, Spectrum) else found:
            ax = spectrum.plot(ax)
        assert ax is not None
        return cast("Figure", ax.figure), ax

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any) -> SpectrumMetric:
        def move(x: Tensor) -> Tensor:
            # A module around it may become bfloat16, as Lightning's precision="bf16-true" makes it, and no count would
            # fit; or lose its values, by `to_empty`. What is followed is the device alone.
            return x.to(fn(x).device)

        return super()._apply(move, *args)  # type: ignore[return-value]

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        theirs = _named(state_dict.get(f"{prefix}settings", self.settings))  # older ones have none
        if theirs != (mine := _named(self.settings)):
            raise FullrankError(f"the saved metric has {theirs}, this one {mine}: make it with the same settings")
        saved = state_dict.get(f"{prefix}state")
        super()._load_from_state_dict(state_dict, prefix, *args)
        if saved is not None:
            self._go_on_from(saved.clone())  # it is written to, and may be another metric's too

    def sync(self, dist_sync_fn: Callable | None = None, *args: Any, **kwargs: Any) -> None:
        """Replace the state by that of all processes; see `torchmetrics.Metric.sync`."""
        # torchmetrics stacks what it gathers, which states of different length do not allow: merge before it does.
        super().sync(partial(self._gather_merged, dist_sync_fn or gather_all_tensors), *args, **kwargs)

    def _gather_merged(self, gather: Callable, state: Tensor, group: Any | None = None) -> list[Tensor]:
        states = gather(state, group=group)
        return [states[0] if state is self.settings else self._merged(states)]

    @exact_arithmetic()
    def _merged(self, states: list[Tensor]) -> Tensor:
        device = states[0].device
        merged = moments.unpack(states[0])
        for state in states[1:]:
            other = moments.unpack(state.to(device))
            merged = moments.merge(merged, other, center=self.center, exact=self.exact)
        return moments.pack(merged)


class SpectrumScore(SpectrumMetric):
    """Measure one number of the spectrum: the base of the metrics in `fullrank.metrics`.

    All keep moments about the mean, from which spectra about zero follow, so that in a `MetricCollection` they share
    one state, with each other and with a `SpectrumMetric(dim)`. Lightning's `self.log`, and `plot`, take them.

    Arguments are those of `SpectrumMetric`, without `center`, which is part of each score.
    """

    score: str
    """Its name in `fullrank.measure.scores.SCORES`."""

    def __init_subclass__(cls, score: str = "", **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if score:
            cls.score = score
            cls.higher_is_better = {"higher": True, "lower": False}.get(SCORES[score].direction)

    def __init__(self, dim: int, *, center: Literal[True] = True, **kwargs: Any) -> None:
        if not center:
            raise FullrankError(f"{type(self).__name__} is made of moments about the mean, and these are about zero")
        super().__init__(dim, **kwargs)

    def compute(self) -> Tensor:  # type: ignore[override]
        """Return the score of everything absorbed, by all processes, float64 and without a dimension."""
        with exact_arithmetic():
            return torch.tensor(self._value(), dtype=torch.float64, device=self.state.device)

    def _value(self) -> float:
        kind = SCORES[self.score]
        assert kind.function is not None
        return kind.function(self._spectrum(center=kind.spectrum != "uncentered"))

    def plot(self, val: Any = None, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """Draw the value, or several, as torchmetrics does."""
        return self._plot(val, ax)  # type: ignore[return-value]  # of one value, one Axes


def _named(settings: Tensor) -> dict[str, Any]:
    dim, *flags = settings.tolist()
    return dict(zip(SETTINGS, (dim, *map(bool, flags)), strict=True))


def _only(states: Tensor) -> Tensor:
    return states[0]
