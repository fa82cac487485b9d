"""Train Siamese image encoders without labels, see whether their representation collapses, and prevent it.

    import fullrank

    fullrank.inspect(model, loader)       # is my encoder collapsed? spectrum, scores, verdict
    fullrank.train(images="cifar10")      # a new run; evaluate, rank and study are the other commands
    fullrank.features(model, loader)      # (N, D) representations
    fullrank.load("runs/my-run")          # the trained encoder, a plain nn.Module in eval mode
    fullrank.open_encoder("runs/my-run")  # an `Encoder`: it knows how it wants its images, of any model too

    fullrank.spectrum(features)           # singular values and scores of an (N, D) feature matrix
    fullrank.SpectrumMetric(dim)          # the same from batches, in one pass, over any number of processes
    fullrank.metrics.RankMe(dim)          # one score of it, a scalar for MetricCollection, self.log and plot
    fullrank.orders.Hybrid(...)           # which images each step sees, for any training loop
    fullrank.views.TwoViews("simsiam")    # two random views of an image or a batch: any dataset's transform
    fullrank.methods.SimSiam(backbone)    # a method on any backbone: method(view1, view2).loss
    fullrank.losses.vicreg(z1, z2)        # the losses of both papers, as functions and as modules

The names below are loaded when they are first used, so `import fullrank` and `fullrank --help` stay quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fullrank._version import __version__
from fullrank.errors import FullrankError

if TYPE_CHECKING:
    from fullrank import losses, methods, metrics, orders, views
    from fullrank.api import (
        Run,
        evaluate,
        features,
        inspect,
        list_methods,
        list_orders,
        list_presets,
        list_scores,
        list_studies,
        rank,
        study,
        train,
    )
    from fullrank.encoders import open_encoder
    from fullrank.measure.metrics import SpectrumMetric
    from fullrank.measure.spectrum import Spectrum, spectrum
    from fullrank.models.encoder import Encoder
    from fullrank.training.checkpoint import load

__all__ = [
    "Encoder",
    "FullrankError",
    "Run",
    "Spectrum",
    "SpectrumMetric",
    "__version__",
    "evaluate",
    "features",
    "inspect",
    "list_methods",
    "list_orders",
    "list_presets",
    "list_scores",
    "list_studies",
    "load",
    "losses",
    "methods",
    "metrics",
    "open_encoder",
    "orders",
    "rank",
    "spectrum",
    "study",
    "train",
    "views",
]

_HOMES = {
    "Encoder": "fullrank.models.encoder",
    "Spectrum": "fullrank.measure.spectrum",
    "SpectrumMetric": "fullrank.measure.metrics",
    "spectrum": "fullrank.measure.spectrum",
    "load": "fullrank.training.checkpoint",
    "open_encoder": "fullrank.encoders",
}
_MODULES = ("losses", "methods", "metrics", "orders", "views")

if not TYPE_CHECKING:  # else a type checker would take any name

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return importlib.import_module(f"fullrank.{name}")
        if name in __all__:
            return getattr(importlib.import_module(_HOMES.get(name, "fullrank.api")), name)
        raise AttributeError(f"module 'fullrank' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
