"""Rank runs, or the checkpoints of one, without labels; and forecast their accuracy where some have labels.

from fullrank.ranking.options import RankOptions
from fullrank.ranking.rank import rank

rank(["runs/hybrid", "runs/multiple-pass", "runs/single-pass"], RankOptions())
"""
