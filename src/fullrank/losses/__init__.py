"""Losses: pure functions of the two views' embeddings, which come first; coefficients are keyword-only."""

from fullrank.losses.alignment import simsiam

__all__ = ["simsiam"]
