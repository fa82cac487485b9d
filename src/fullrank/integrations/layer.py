"""What the callbacks of all frameworks share: a hook on a layer, its output's moving moments, the scores' names."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fullrank.errors import FullrankError, nearest
from fullrank.measure.monitor import MovingSpectrum
from fullrank.measure.scores import SCORES, take
from fullrank.measure.spectrum import Spectrum


class LayerWatch:
    """Read what a layer gives, by a forward hook, into moving moments; the callbacks say when.

    Its arguments and errors are those of `fullrank.integrations.lightning.CollapseMonitor`.
    """

    def __init__(
        self,
        layer: str,
        *,
        features: Callable[[Any], Tensor] | None,
        every: int,
        log_every: int,
        half_life: float | None,
        center: bool,
        normalize: bool,
        scores: Sequence[str] | None,
        name: str,
    ) -> None:
        for argument, value in (("every", every), ("log_every", log_every)):
            if value < 1:
                raise FullrankError(f"{argument} must be a positive number of batches, got {value}")
        wanted = "centered" if center else "uncentered"
        known = [kind.name for kind in SCORES.values() if kind.spectrum == wanted]
        if scores is None:
            scores = ("auc", "rankme_centered", "participation_ratio", "dead") if center else ("rankme", "stable_rank")
        for score in scores:
            if score not in known:
                raise FullrankError(
                    f"there is no score {score!r} of {wanted} features{nearest(score, known)}; there are: "
                    f"{', '.join(known)}"
                )
        self.layer = layer
        self.features = features
        self.every = every
        self.log_every = log_every
        self.half_life = half_life
        self.center = center
        self.normalize = normalize
        self.scores = tuple(scores)
        self.name = name
        self.spectrum: Spectrum | None = None
        self._monitor: MovingSpectrum | None = None
        self._saved: Mapping[str, Any] | None = None
        self._sink: Callable[[Tensor], None] | None = None  # where the hook sends features; None: nowhere
        self._handle: RemovableHandle | None = None

    def _attach(self, model: nn.Module) -> None:
        layers = dict(model.named_modules())
        if self.layer not in layers:
            raise FullrankError(
                f"{type(model).__name__} has no layer {self.layer!r}{nearest(self.layer, layers)}; "
                f"the outer ones are: {', '.join(name for name, _ in model.named_children())}"
            )
        self._handle = layers[self.layer].register_forward_hook(self._hook)

    def _detach(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        self._sink = None

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
            self._monitor = MovingSpectrum(
                h.shape[1], half_life=self.half_life, center=self.center, normalize=self.normalize
            )
            if self._saved is not None:
                self._monitor.load_state_dict(self._saved)
                self._saved = None
        self._monitor.update(h)

    def _named(self, spectrum: Spectrum, prefix: str) -> dict[str, float]:
        taken = [take(SCORES[score], spectrum, {}) for score in self.scores]
        return {
            f"{self.name}/{prefix}{score.name}": math.nan if score.value is None else score.value for score in taken
        }
