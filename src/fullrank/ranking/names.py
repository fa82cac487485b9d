"""What scores are called."""

from __future__ import annotations

FEATURES = ("heldout_loss", "auc")
"""Scores that decide dominance, and that the accuracy is forecast from ([Li22] section 3.5)."""
FRONT, FORECAST = "front", "forecast"
"""What `fullrank rank` itself says, beside the scores."""
NAMES = {
    "heldout_loss": "held-out loss",
    "auc": "AUC",
    "knn": "k-NN accuracy",
    "linear": "linear probe accuracy",
    "logistic": "logistic probe accuracy",
    "rankme_centered": "RankMe, centred",
    "rankme": "RankMe",
    "dead": "dead directions",
    FRONT: "Pareto front of loss and AUC",
    FORECAST: "forecast from loss and AUC",
}


def title(name: str) -> str:
    """Call a score what people call it.

    >>> title("auc"), title("lidar")
    ('AUC', 'lidar')
    """
    return NAMES.get(name, name)


TITLES = tuple(title(name) for name in FEATURES)
