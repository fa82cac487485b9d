# ruff: noqa: F403  # each file says in its __all__ what it gives
"""Losses: pure functions of the two views' embeddings, which come first; coefficients are keyword-only.

Each is an `nn.Module` too: `VICRegLoss(covariance=2.0)(z1, z2)` is `vicreg(z1, z2, covariance=2.0)`. `get_loss` finds
one by its name.

A loss is a scalar. All here compute in float32, or float64 for float64 input, also under autocast, and return it. They
take dense floating-point matrices `(N, M)` of one shape, and raise `FullrankError` for anything else: for fewer rows or
columns than can be compared, and for a setting out of its range, too. `gather` embeddings first on several processes.
`fullrank.losses.duality` has the criteria of [Garrido23] that relate the losses, and `normalize` and `balance`, which
return embeddings.
"""

from fullrank.losses import alignment, contrastive, covariance, duality, modules
from fullrank.losses.alignment import *
from fullrank.losses.contrastive import *
from fullrank.losses.covariance import *
from fullrank.losses.duality import *
from fullrank.losses.gather import gather
from fullrank.losses.modules import *

__all__ = ["gather"]
__all__ += alignment.__all__
__all__ += contrastive.__all__
__all__ += covariance.__all__
__all__ += duality.__all__
__all__ += modules.__all__
