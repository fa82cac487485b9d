"""Probes: how well do labels follow from a frozen representation?"""

from fullrank.measure.probes.knn import (
    best_k,
    knn_accuracies,
    knn_accuracy,
    knn_predict,
    knn_predictions,
    knn_protocol,
    leave_one_out,
)
from fullrank.measure.probes.neighbours import neighbours

__all__ = [
    "best_k",
    "knn_accuracies",
    "knn_accuracy",
    "knn_predict",
    "knn_predictions",
    "knn_protocol",
    "leave_one_out",
    "neighbours",
]
