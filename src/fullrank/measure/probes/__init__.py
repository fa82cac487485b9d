"""Probes: how well do labels follow from a frozen representation?"""

from fullrank.measure.probes.knn import knn_accuracy, knn_predict
from fullrank.measure.probes.logistic import Chosen, LogisticProbe, choose_logistic, fit_logistic

__all__ = ["Chosen", "LogisticProbe", "choose_logistic", "fit_logistic", "knn_accuracy", "knn_predict"]
