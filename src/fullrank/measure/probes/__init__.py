"""Probes: how well do labels follow from a frozen representation?"""

from fullrank.measure.probes.knn import knn_accuracy, knn_predict

__all__ = ["knn_accuracy", "knn_predict"]
