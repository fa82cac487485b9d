"""How to evaluate: the flags of `fullrank evaluate`. Imports nothing heavy, for `fullrank --help` is made from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from fullrank.errors import FullrankError


@dataclass(frozen=True)
class KnnOptions:
    """How neighbours vote, and how many."""

    k: int | None = None
    """Neighbours that vote; chosen by --knn.choose when left out."""
    choose: Literal["leave-one-out", "best-on-validation"] = "leave-one-out"
    """How k is chosen: leave-one-out takes the k that is best for 10,000 training images, each left out of the bank
    itself; best-on-validation takes the k that is best for the held-out labels, as [Li22] reports it: it has seen the
    answers, and is no lower than any fixed k."""
    most: int = 200
    """The largest k to choose from, 1 being the smallest; [Li22] has 128. Less where there are fewer images."""
    vote: Literal["majority", "weighted"] = "majority"
    """majority ([Li22]), or weighted by exp(cosine / temperature) (Wu et al. 2018; with --knn.k 20 or 200)."""
    temperature: float = 0.07
    """Of weighted votes."""

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise FullrankError(f"knn.k must be at least 1, got {self.k}")
        if self.most < 1:
            raise FullrankError(f"knn.most must be at least 1, got {self.most}")
        if self.k is not None and (self.choose, self.most) != (KnnOptions.choose, KnnOptions.most):
            raise FullrankError(f"knn.k={self.k} leaves nothing to choose: leave out knn.choose and knn.most, or knn.k")
        if not 0 < self.temperature < math.inf:
            raise FullrankError(f"knn.temperature must be a finite number above 0, got {self.temperature}")
        if self.vote != "weighted" and self.temperature != KnnOptions.temperature:
            raise FullrankError(f"knn.temperature={self.temperature} is for weighted votes: add --knn.vote weighted")


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

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 2:
            raise FullrankError(f"limit must be at least 2 images, got {self.limit}")
