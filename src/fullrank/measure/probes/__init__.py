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
from fullrank.measure.probes.logistic import Chosen, LogisticProbe, choose_logistic, fit_logistic
from fullrank.measure.probes.neighbors import neighbors

__all__ = [
    "Chosen",
    "LogisticProbe",
    "best_k",
    "choose_logistic",
    "fit_logistic",
    "knn_accuracies",
    "knn_accuracy",
    "knn_predict",
    "knn_predictions",
    "knn_protocol",
    "leave_one_out",
    "neighbors",
]
