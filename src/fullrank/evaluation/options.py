"""How to evaluate: the flags of `fullrank evaluate`. Imports nothing heavy, for `fullrank --help` is made from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from fullrank.errors import FullrankError, check_words


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
        check_words(self)
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
class LogisticOptions:
    """How the logistic regression is fitted."""

    l2: float | None = None
    """Strength of the regularisation; chosen on a tenth of the training images when left out."""
    tolerance: float = 1e-4
    """Norm of the gradient at which a fit ends."""
    max_iterations: int = 1000
    """Iterations after which a fit is given up; its score then comes with a warning."""

    def __post_init__(self) -> None:
        for name, value in (("l2", self.l2), ("tolerance", self.tolerance)):
            if value is not None and not 0 < value < math.inf:
                raise FullrankError(f"logistic.{name} must be a finite number above 0, got {value}")
        if self.max_iterations < 1:
            raise FullrankError(f"logistic.max_iterations must be at least 1, got {self.max_iterations}")


@dataclass(frozen=True)
class LinearOptions:
    """How [Li22]'s linear classifier is trained; the defaults are theirs."""

    epochs: int = 90
    """Passes over the training images."""
    batch_size: int = 1024
    """Images of a step."""
    base_lr: float = 0.1
    """Learning rate at a batch of 256; it is scaled by batch_size / 256."""
    crop_min: float = 0.08
    """Least share of the image's area that a training crop covers."""
    seed: int = 0
    """The classifier's first weights, the order of images and their crops follow from it."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """What the encoder computes in while the classifier is trained; auto asks the machine whether bf16 gains."""
    hold: Literal["auto", "memory", "stream"] = "auto"
    """Decode all training images once and keep them, or decode them in workers as steps need them."""
    workers: int = 2
    """Processes that decode images, where they are streamed."""

    def __post_init__(self) -> None:
        check_words(self)
        for name, value in (("epochs", self.epochs), ("batch_size", self.batch_size)):
            if value < 1:
                raise FullrankError(f"linear.{name} must be at least 1, got {value}")
        if not 0 < self.base_lr < float("inf"):
            raise FullrankError(f"linear.base_lr must be above 0, got {self.base_lr}")
        if not 0 < self.crop_min <= 1:
            raise FullrankError(f"linear.crop_min must be a share of the image's area in (0, 1], got {self.crop_min}")
        for name, value in (("workers", self.workers), ("seed", self.seed)):
            if value < 0:
                raise FullrankError(f"linear.{name} must not be negative, got {value}")


@dataclass(frozen=True)
class Options:
    """What to evaluate, and on which images; without a probe's name, the quick ones.

    A probe is a flag of its name here, a section of the same name for its settings (`NAME_options`), and an entry of
    `fullrank.evaluation.evaluate.PROBES`.
    """

    knn: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """k nearest neighbours among the training images, by cosine similarity. Quick."""
    logistic: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Logistic regression on representations taken once, without augmentation: seconds for 10 classes, and one pass
    over the images where k-NN has not taken them."""
    linear: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """[Li22]'s linear classifier, trained by LARS on random crops: as many passes over the images as it has epochs."""
    images: str | None = None
    """Training images whose labels are shown: digits, cifar10, ..., a folder, parquet files; the run's own, all of
    them even where it was trained on a subset, when left out."""
    eval_images: str | None = None
    """Held-out images to classify; the run's own when left out, or those of the set that --images names."""
    limit: int | None = None
    """So many training images, of the labelled ones at random; all when left out. Held-out images are all
    classified."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    knn_options: Annotated[KnnOptions, tyro.conf.arg(name="knn")] = field(default_factory=KnnOptions)
    logistic_options: Annotated[LogisticOptions, tyro.conf.arg(name="logistic")] = field(
        default_factory=LogisticOptions
    )
    linear_options: Annotated[LinearOptions, tyro.conf.arg(name="linear")] = field(default_factory=LinearOptions)

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 2:
            raise FullrankError(f"limit must be at least 2 images, got {self.limit}")
