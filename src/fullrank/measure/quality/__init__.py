# ruff: noqa: F403  # each file says in its __all__ what it gives
"""Label-free scores of a representation: pure functions of features `(N, D)`, a tensor or a NumPy array.

`fullrank.measure.scores` has the table of them. No score is a verdict: none sees labels, each is fooled by something
(its docstring says by what), and values compare only under one protocol: layer, images, N, D, preprocessing.
`docs/measures.md` sets them side by side.
"""

from __future__ import annotations

from fullrank.measure.quality import manifold, spectral, spread, views
from fullrank.measure.quality.manifold import *
from fullrank.measure.quality.spectral import *
from fullrank.measure.quality.spread import *
from fullrank.measure.quality.views import *

__all__ = manifold.__all__ + spectral.__all__ + spread.__all__ + views.__all__
