"""How to evaluate: the flags of `fullrank evaluate`. Imports nothing heavy, for `fullrank --help` is made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro


@dataclass(frozen=True)
class KnnOptions:
    """How neighbours vote."""

    k: int = 20
    """Neighbours that vote."""


@dataclass(frozen=True)
class Options:
    """What to evaluate, and on which images; without a probe's name, the quick ones.

    A probe is a flag of its name here, a section of the same name for its settings (`NAME_options`), and an entry of
    `fullrank.evaluation.evaluate.PROBES`.
    """

    knn: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """k nearest neighbours among the training images, by cosine similarity. Quick."""
    images: str | None = None
    """Training images whose labels are shown: digits, cifar10, ..., a folder, parquet files; the run's own, all of
    them even where it was trained on a subset, when left out."""
    eval_images: str | None = None
    """Held-out images to classify; the run's own when left out, or those of the set that --images names."""
    limit: int | None = None
    """So many training images, spread evenly over the labelled ones; all when left out. Held-out images are all
    classified."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    knn_options: Annotated[KnnOptions, tyro.conf.arg(name="knn")] = field(default_factory=KnnOptions)
