"""Evaluate a run with labels: a frozen encoder, its labelled images, and probes on them.

from fullrank.evaluation.evaluate import evaluate
from fullrank.evaluation.options import Options

evaluate(["runs/hybrid"], Options(knn=True))
"""
