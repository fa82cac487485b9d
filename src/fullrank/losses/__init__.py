"""Losses: pure functions of the two views' embeddings, which come first; coefficients are keyword-only.

A loss is a scalar. All here compute in float32, or float64 for float64 input, also under autocast, and return it.
`gather` embeddings first on several processes. `fullrank.losses.duality` has the criteria of [Garrido23] that relate
the losses, and `normalize` and `balance`, which return embeddings.
"""

from fullrank.losses.alignment import byol, simsiam
from fullrank.losses.contrastive import (
    dcl,
    dcl_abs,
    dcl_sq,
    info_nce,
    mocov3,
    simclr_abs,
    simclr_sq,
    spectral_contrastive,
)
from fullrank.losses.covariance import barlow_twins, tcr, vicreg, vicreg_ctr, vicreg_exp
from fullrank.losses.duality import (
    balance,
    balanced_gap,
    dimension_contrastive,
    dimension_contrastive_bounds,
    dimension_residual,
    normalize,
    sample_contrastive,
    sample_contrastive_bounds,
    sample_residual,
)
from fullrank.losses.gather import gather

__all__ = [
    "balance",
    "balanced_gap",
    "barlow_twins",
    "byol",
    "dcl",
    "dcl_abs",
    "dcl_sq",
    "dimension_contrastive",
    "dimension_contrastive_bounds",
    "dimension_residual",
    "gather",
    "info_nce",
    "mocov3",
    "normalize",
    "sample_contrastive",
    "sample_contrastive_bounds",
    "sample_residual",
    "simclr_abs",
    "simclr_sq",
    "simsiam",
    "spectral_contrastive",
    "tcr",
    "vicreg",
    "vicreg_ctr",
    "vicreg_exp",
]
