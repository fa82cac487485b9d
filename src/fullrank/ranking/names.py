"""The scores that a ranking goes by."""

from __future__ import annotations

from fullrank.measure.scores import title

FEATURES = ("heldout_loss", "auc")
"""Scores that decide dominance, and that the accuracy is forecast from ([Li22] section 3.5)."""
FRONT, FORECAST = "front", "forecast"
"""What `fullrank rank` itself says, beside the scores."""
TITLES = tuple(title(name) for name in FEATURES)
