"""Inspect any encoder: what X is, its features, their spectrum and scores, a verdict, a comparison.

from fullrank.inspection.inspect import inspect
from fullrank.inspection.options import InspectOptions

inspect(["runs/hybrid", "features.npy"], InspectOptions(limit=10_000))
"""
