"""A frozen encoder and the labeled images that it is judged by: what every probe starts from."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fullrank.data.cache import Decoded, choose_cache
from fullrank.data.eval_images import BLOCK
from fullrank.data.images import (
    LABEL_COLUMNS,
    SAMPLED,
    SEEN,
    Images,
    Split,
    match_labels,
    open_images,
    same_images,
    sample,
)
from fullrank.errors import FullrankError
from fullrank.evaluation.options import EvaluateOptions
from fullrank.measure.protocols import FINGERPRINT
from fullrank.models.encoder import Encoder
from fullrank.registry import SOURCES
from fullrank.text import Progress, no_progress
from fullrank.training.distributed import ALONE, World
from fullrank.training.machine import float32_on
from fullrank.training.measuring import never_right

_COLUMNS = " or ".join(map(repr, LABEL_COLUMNS))


class UnlabeledError(FullrankError):
    """Report that labels are missing, and of which images."""


@dataclass(frozen=True)
class Represented:
    """What the quick probes need: representations that are taken already, where to compute, how they were made."""

    bank: tuple[Tensor, Tensor]  # `(N, D)` float32 and labels `(N,)` int64, of training images
    queries: tuple[Tensor, Tensor]  # `(Q, D)` and `(Q,)`, of images to classify, their labels in the bank's numbers
    device: torch.device  # where to compute
    protocol: dict[str, Any]  # what the protocol of every probe's score begins with


@dataclass
class Task:
    """A frozen encoder, and the images to judge it by."""

    name: str  # what the run was given as
    encoder: Encoder  # of a run, in eval mode
    train: Images  # training images whose labels are shown, every one labeled
    # images to classify, every one labeled in the numbers of `train`; where it is of a class that `train` does not
    # have, in one of its own
    held_out: Images
    device: torch.device  # where to compute
    run: Path | None  # the run's folder, where a probe may keep what it has to go on with; None where there is none
    protocol: dict[str, Any]  # what the protocol of every probe's score begins with
    progress: Progress  # told how far the work is
    # the processes that evaluate together; each takes its share of the features
    world: World = field(default_factory=lambda: ALONE)
    # names of the images that could not be read, as they are found
    skipped: dict[str, None] = field(default_factory=dict)

    @cached_property
    def represented(self) -> Represented:
        """What the quick probes need, taken once for all. Of many processes the main one has it, and all must ask."""
        bank = self._represent(self.train, "training images")
        return Represented(bank, self.queries, self.device, self.protocol)

    @cached_property
    def queries(self) -> tuple[Tensor, Tensor]:
        """Representations `(Q, D)` float32 and labels `(Q,)` of the held-out images, in the same way."""
        return self._represent(self.held_out, "held-out images")

    def _represent(self, images: Images, what: str) -> tuple[Tensor, Tensor]:
        # whole blocks, so that each network's batch, and with it the last bit, is that of one process
        blocks = torch.arange(len(images)).split(BLOCK)
        first, stop = (-(-rank * len(blocks) // self.world.size) for rank in (self.world.rank, self.world.rank + 1))
        features, labels = torch.empty(0), None
        with self.world.raise_together():
            if first < stop:  # the main process has one block at least
                own = torch.cat(blocks[first:stop])
                features, labels, *_ = self.encoder.features(
                    images,
                    indices=own,
                    device=self.device,
                    progress=lambda done: self.progress(f"{self.name}: {what}", done, len(own)),
                    unreadable=self.skipped.setdefault,
                )
        labels = torch.empty(0, dtype=torch.int64) if labels is None else labels
        for skipped in self.world.all_gather_object(self.skipped):
            self.skipped.update(skipped)
        return self.world.collect(features), self.world.collect(labels)


class Session:
    """What runs that are evaluated together share: options, machine, and image sets, which are opened once for all.

    Sets are decoded once, too, where `several` runs see them and they fit into memory.
    """

    def __init__(
        self,
        options: EvaluateOptions,
        device: torch.device,
        *,
        several: bool = False,
        progress: Progress = no_progress,
        world: World = ALONE,
    ) -> None:
        self.options, self.device, self.progress, self.world = options, device, progress, world
        self._several = several
        self.open = cache(self._open)

    def _open(self, name: str, split: Split, root: str) -> tuple[Images, str]:
        """Return a set and its fingerprint."""
        images = open_images(name, split=split, root=root)
        fingerprint = images.fingerprint()
        decoded = self._several and choose_cache(images, self.world.local_size * len(images)) == "memory"
        return Decoded(images) if decoded else images, fingerprint


def open_task(session: Session, name: str, encoder: Encoder, run: Path | None = None) -> Task:
    """Open the labeled images of a run's encoder, its own or those that the options name.

    A held-out image of a class without training images stays, and is never classified right: an accuracy is a share of
    all held-out images. Were it left out, the accuracy would rise as training images lose classes.
    """
    config, options, device = encoder.config, session.options, session.device
    assert config is not None
    train_name = options.images or config.images
    held_out_name = options.eval_images
    if held_out_name is None and options.images is None:
        held_out_name = config.eval_images
    if held_out_name is None and train_name in SOURCES:
        held_out_name = train_name
    found, train_print = session.open(train_name, "train", config.data_dir)
    train, held_out, missing = _labeled(found, found.labels, options.limit), None, []
    if train is None:
        missing.append(f"the training images {train_name} have no labels: name others with --images")
    if held_out_name is None:
        missing.append("there are no held-out images to classify: give some with --eval-images")
    else:
        asked, held_out_print = session.open(held_out_name, "eval", config.data_dir)
        held_out = _labeled(asked, match_labels(asked, found))
        lack = "have no labels" if held_out is None else ""
        if train is not None and held_out is not None:
            strange = ~torch.isin(labels_of(held_out), labels_of(train))
            lack = "share no class with the training images" if bool(strange.all()) else ""
        if same_images(train_print, held_out_print):
            lack = SEEN
        if lack:
            missing.append(f"the held-out images {held_out_name} {lack}: name others with --eval-images")
    if train is None or held_out is None or missing:
        said = "; ".join(missing)
        where = f" (labels are a folder a class, or a column {_COLUMNS})" if "have no labels" in said else ""
        raise UnlabeledError(said + where)
    sampled = len(train) < int((labels_of(found) >= 0).sum())
    protocol = {
        "mode": "eval",
        "layer": encoder.layer,
        "view": "eval",
        "image_size": encoder.preprocessing.size,
        "branch": encoder.branch,
        "dtype": float32_on(device),
        "labels": f"{train_name} / {held_out_name}",
        FINGERPRINT: f"{train_print} / {held_out_print}",
        **({"sample": SAMPLED} if sampled else {}),
        **never_right(int(strange.sum()), len(strange)),
    }
    return Task(name, encoder.to(device), train, held_out, device, run, protocol, session.progress, session.world)


def labels_of(images: Images) -> Tensor:
    """Return the labels of images that have some."""
    assert images.labels is not None
    return images.labels


def _labeled(images: Images, labels: Tensor | None, limit: int | None = None) -> Images | None:
    """Return the images that have a label, or `limit` of them at random; None where none has."""
    if labels is None or not bool((labels >= 0).any()):
        return None
    found = (labels >= 0).nonzero().squeeze(1)
    chosen = sample(found, limit or len(found))
    # a selection of all would copy images that lie in memory
    selected = copy.copy(images) if len(chosen) == len(images) else images.select(chosen)
    selected.labels = labels[chosen]
    return selected
