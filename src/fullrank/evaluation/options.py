"""How to evaluate: the flags of `fullrank evaluate`. Imports nothing heavy, for `fullrank --help` is made from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from fullrank.config import Count, Limit, Positive, Precision, Seed, Workers
from fullrank.errors import FullrankError
from fullrank.shapes import Checked, Range, check_fields


@dataclass(frozen=True)
class KnnOptions:
    """How neighbors vote, and how many."""

    k: Count | None = None
    """Neighbors that vote; chosen by --knn.choose when left out."""
    choose: Literal["leave-one-out", "best-on-validation"] = "leave-one-out"
    """How k is chosen: leave-one-out takes the best k for 10,000 training images, each classified by the others;
    best-on-validation takes the best k for the held-out labels, as [Li22] report: its accuracy is slightly too high."""
    most: Count = 200
    """The largest k to choose from; the smallest is 1. [Li22] has 128. Less where there are fewer images."""
    vote: Literal["majority", "weighted"] = "majority"
    """majority ([Li22]), or weighted by exp(cosine / temperature) (Wu et al. 2018; with --knn.k 20 or 200)."""
    temperature: Positive = 0.07
    """Temperature of weighted votes, above 0."""

    def __post_init__(self) -> None:
        check_fields(self, "knn.")
        if self.k is not None and (self.choose, self.most) != (KnnOptions.choose, KnnOptions.most):
            raise FullrankError(f"knn.k={self.k} leaves nothing to choose: leave out knn.choose and knn.most, or knn.k")
        if self.vote != "weighted" and self.temperature != KnnOptions.temperature:
            raise FullrankError(f"knn.temperature={self.temperature} is for weighted votes: add --knn.vote weighted")


@dataclass(frozen=True)
class LogisticOptions:
    """How the logistic regression is fitted."""

    l2: Positive | None = None
    """Factor l2 of the penalty l2 / 2 |W|^2, above 0; chosen on a tenth of the training images when left out."""
    tolerance: Positive = 1e-4
    """Norm of the gradient at which a fit ends."""
    max_iterations: Count = 1000
    """Iterations after which a fit is given up; its score then comes with a warning."""

    def __post_init__(self) -> None:
        check_fields(self, "logistic.")


@dataclass(frozen=True)
class LinearOptions:
    """How [Li22]'s linear classifier is trained; the defaults are theirs."""

    epochs: Count = 90
    """Passes over the training images."""
    batch_size: Count = 1024
    """Images of a step."""
    base_lr: Annotated[float, Range(0, math.inf, above=True, below=True)] = 0.1
    """Learning rate at a batch of 256; it is scaled by batch_size / 256."""
    crop_min: Annotated[float, Range(0, 1, above=True)] = 0.08
    """Least share of the image's area that a training crop covers."""
    seed: Seed = 0
    """Decides the classifier's first weights, the order of the images and their crops."""
    precision: Precision = "auto"
    """What the encoder computes in while the classifier is trained; auto asks the machine whether bf16 gains."""
    cache: Literal["auto", "memory", "stream"] = "auto"
    """Decode all training images once and keep them, or decode them in workers as steps need them."""
    workers: Workers = 2
    """Processes that decode images, where they are streamed."""

    def __post_init__(self) -> None:
        check_fields(self, "linear.")


@dataclass(frozen=True)
class EvaluateOptions(Checked):
    """What to evaluate, and on which images; without a probe's name, the quick ones.

    A probe is a flag of its name here, a section of the same name for its settings (`NAME_options`), and an entry of
    `fullrank.evaluation.evaluate.PROBES`.
    """

    knn: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """k nearest neighbors among the training images, by cosine similarity. Quick."""
    logistic: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Logistic regression on representations taken once, without augmentation: one pass over the images, shared with
    k-NN, and seconds for 10 classes."""
    linear: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """[Li22]'s linear classifier, trained by LARS on random crops: as many passes over the images as it has epochs."""
    images: str | None = None
    """Labeled training images: digits, cifar10, ..., a folder, parquet files; the run's own when left out, all of them
    even if it was trained on a subset."""
    eval_images: str | None = None
    """Held-out images to classify; the run's own when left out, or those of the set that --images names."""
    limit: Limit | None = None
    """Number of labeled training images, at random; all when left out. All held-out images are classified."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    knn_options: Annotated[KnnOptions, tyro.conf.arg(name="knn")] = field(default_factory=KnnOptions)
    logistic_options: Annotated[LogisticOptions, tyro.conf.arg(name="logistic")] = field(
        default_factory=LogisticOptions
    )
    linear_options: Annotated[LinearOptions, tyro.conf.arg(name="linear")] = field(default_factory=LinearOptions)
