"""What the callbacks of all frameworks share: a hook on a layer, its output's moving moments, the scores' names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fullrank.config import Steps
from fullrank.errors import FullrankError, choose, nearest
from fullrank.measure.monitor import MovingSpectrum
from fullrank.measure.scores import SCORES, take
from fullrank.measure.spectrum import Spectrum
from fullrank.shapes import fit


class LayerWatch:
    """Read what a layer gives, by a forward hook, into moving moments; the callbacks say when.

    Args:
        layer: Name of the submodule whose output is the representation, as in `named_modules()`.
        features: Makes features `(N, D)` of what the layer returns; needed when that is not `(N, D)` or `(N, D, 1, 1)`.
        every: Measure one of so many training batches.
        half_life: Half-life of the moving moments, in measured samples; 8 D when omitted.
        center: Center the features.
        normalize: Divide each row by its L2 norm first.
        scores: Names of the scores to log, of those that `fullrank.measure.scores.SCORES` has for a spectrum centered
            like this one. When omitted: AUC, RankMe, the participation ratio and the dead directions; of uncentered
            features RankMe and the stable rank.
        name: Prefix of the logged names, before the slash. Give each watched layer its own.

    Raises:
        FullrankError: A number is not positive or a score is unknown; when training starts: the model has no such
            layer; later: the layer's output is no feature matrix.
    """

    def __init__(
        self,
        layer: str,
        *,
        features: Callable[[Any], Tensor] | None = None,
        every: int = 4,
        half_life: float | None = None,
        center: bool = True,
        normalize: bool = False,
        scores: Sequence[str] | None = None,
        name: str = "collapse",
    ) -> None:
        wanted = "centered" if center else "uncentered"
        known = [kind.name for kind in SCORES.values() if kind.spectrum == wanted]
        if scores is None:
            scores = ("auc", "rankme_centered", "participation_ratio", "dead") if center else ("rankme", "stable_rank")
        for score in scores:
            choose(f"a score of {wanted} features", score, known)
        self.layer, self.features, self.every, self.name = layer, features, fit(every, Steps, "every"), name
        self.half_life, self.center, self.normalize, self.scores = half_life, center, normalize, tuple(scores)
        self.spectrum: Spectrum | None = None
        self._monitor: MovingSpectrum | None = None
        self._saved: Mapping[str, Any] | None = None
        self._sink: Callable[[Tensor], None] | None = None  # where the hook sends features; None: nowhere
        self._handle: RemovableHandle | None = None

    def _attach(self, model: nn.Module) -> None:
        self._detach()  # of a training that ended in an error
        layers = dict(model.named_modules())
        if self.layer not in layers:
            raise FullrankError(
                f"{type(model).__name__} has no layer {self.layer!r}{nearest(self.layer, layers)} (the outer ones are: "
                f"{', '.join(name for name, _ in model.named_children())})"
            )
        self._handle = layers[self.layer].register_forward_hook(self._hook)

    def _detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = self._sink = None

    @torch.compiler.disable  # else float64 moments of D x D are compiled along with the step
    def _hook(self, module: Any, inputs: Any, output: Any) -> None:
        if self._sink is None:
            return
        h = output if self.features is None else self.features(output)
        if isinstance(h, Tensor) and h.ndim > 2 and math.prod(h.shape[2:]) == 1:
            h = h.flatten(1)
        if not isinstance(h, Tensor) or h.ndim != 2:
            got = f"shape {tuple(h.shape)}" if isinstance(h, Tensor) else type(h).__name__
            raise FullrankError(
                f"layer {self.layer!r} gives {got}, not features (N, D): "
                "name the layer after pooling, or pass e.g. features=lambda output: output.mean((2, 3))"
            )
        self._sink(h)

    def _absorb(self, h: Tensor) -> None:
        if self._monitor is None:
            how = {"center": self.center, "normalize": self.normalize}
            self._monitor = MovingSpectrum(h.shape[1], half_life=self.half_life, **how)
            if self._saved is not None:
                self._monitor.load_state_dict(self._saved)
                self._saved = None
        self._monitor.update(h)

    def _named(self, spectrum: Spectrum, prefix: str) -> dict[str, float]:
        taken = [take(SCORES[score], spectrum, {}) for score in self.scores]
        return {
            f"{self.name}/{prefix}{score.name}": math.nan if score.value is None else score.value for score in taken
        }
