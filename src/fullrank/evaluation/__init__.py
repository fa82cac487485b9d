"""Evaluate a run with labels: a frozen encoder, its labeled images, and probes on them.

from fullrank.evaluation.evaluate import evaluate
from fullrank.evaluation.options import EvaluateOptions

evaluate(["runs/hybrid"], EvaluateOptions(knn=True))
"""
