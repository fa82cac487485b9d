"""How to rank: the flags of `fullrank rank`. Imports nothing heavy, for `fullrank --help` is made from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fullrank.config import Accuracy, Limit
from fullrank.shapes import Checked


@dataclass(frozen=True)
class RankOptions(Checked):
    """How to rank; the defaults are those of the command line."""

    accuracy: Accuracy | None = None
    """Which accuracy to compare with and to forecast; the one that most runs have when left out."""
    fit: Path | None = None
    """Fit accuracy on loss and AUC, over the runs that have labels, and write the fit to this file (.json)."""
    forecast: Path | None = None
    """Forecast the accuracy of these runs by a file that --fit wrote; they need no labels."""
    scores: str | None = None
    """Label-free scores to measure anew on each run's checkpoint, the same way for all: names of `fullrank inspect`,
    such as rankme,lidar,auc, or all. They replace the run's own records in the ranking, and are kept in its folder."""
    images: str | None = None
    """Images to measure --scores on: digits, cifar10, ..., a folder, parquet files; each run's own training images
    when left out."""
    limit: Limit | None = None
    """How many images for --scores, at random; the larger of 5,000 and five times the widest D when
    left out."""
    device: str = "auto"
    """Where to measure --scores: auto, cpu, cuda or cuda:N."""
