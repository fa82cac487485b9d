"""Evaluate runs: from a name on the command line to scores, kept with the run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from fullrank.data.images import SEEN, ArrayImages, Images, match_labels, same_images
from fullrank.encoders import open_checkpoint
from fullrank.errors import FullrankError
from fullrank.evaluation.linear import check_linear, linear
from fullrank.evaluation.options import EvaluateOptions
from fullrank.evaluation.probes import check_knn, check_logistic, knn, logistic
from fullrank.evaluation.result import Evaluation
from fullrank.evaluation.task import Represented, Session, UnlabeledError, open_task
from fullrank.measure.protocols import FINGERPRINT
from fullrank.models.encoder import Encoder, unchanged
from fullrank.text import Progress, expanded, no_progress, once, tails
from fullrank.training.checkpoint import find_checkpoint
from fullrank.training.distributed import processes
from fullrank.training.machine import choose_device, float32_on
from fullrank.training.measuring import never_right
from fullrank.training.scores import Kept, keep
from fullrank.training.setup import check_share

QUICK = {"knn": knn, "logistic": logistic}
"""Probes of representations that are taken once for all."""
_BATCHES = "batches in memory"
PROBES = (*QUICK, "linear")
"""Each is the name of a flag, of a section of settings and of a score; the first is taken where none is named."""


def evaluate(
    names: Sequence[str], options: EvaluateOptions | None = None, *, progress: Progress = no_progress
) -> list[Evaluation]:
    """Evaluate runs and checkpoints; each score of a run is kept in its scores.json as soon as it is taken.

    Under torchrun every process takes its share of the images, and all need the runs and the images. The main one
    alone writes. What is named twice is evaluated once.

    Raises:
        FullrankError: One of them cannot be read or measured; scores taken before are kept.
    """
    options, names = options or EvaluateOptions(), once(names)
    if not names:
        raise FullrankError("give at least one run: fullrank evaluate RUN [RUN ...]")
    asked = _asked(options)
    with processes() as world:
        with world.raise_together():
            device = choose_device(options.device, world)
            if device.type == "cuda" and world.size > 1:
                torch.cuda.set_device(device)
            if "linear" in asked:
                check_share(options.linear_options.batch_size, world.size, "linear.batch_size")
            for name in names:  # a misspelt last one is found before the first one's work
                if not find_checkpoint(expanded(name)).is_file():
                    raise FullrankError(
                        f"there is no {name}: expected a run's folder or a checkpoint of `fullrank train`"
                    )
        labels = tails([Path(name) for name in names])
        session = Session(options, device, several=len(names) > 1, progress=progress, world=world)
        return [_evaluate(session, expanded(name), label, asked) for name, label in zip(names, labels, strict=True)]


def _asked(options: EvaluateOptions) -> list[str]:
    """Return the probes that are asked for, and refuse settings of others."""
    asked = [name for name in PROBES if getattr(options, name)] or [PROBES[0]]
    for name in PROBES:
        section = f"{name}_options"
        if name not in asked and getattr(options, section) != getattr(EvaluateOptions(), section):
            raise FullrankError(f"--{name}.* are settings of a probe that is not asked for: add --{name}")
    return asked


def _evaluate(session: Session, path: Path, label: str, asked: Sequence[str]) -> Evaluation:
    options, world = session.options, session.world
    run = path if path.is_dir() else None
    task, missing, unkept, scores = None, "", "", {}
    with world.raise_together(), world.first_on_machine():
        encoder = open_checkpoint(path)
        step = int(encoder.source["step"])
        try:
            # a run of somebody else's, who lets nobody write: nothing of it can be gone on with
            task = open_task(session, label, encoder, run if run is not None and os.access(run, os.W_OK) else None)
        except UnlabeledError as error:
            missing = str(error)
        else:
            checks = {"knn": check_knn, "logistic": check_logistic, "linear": check_linear}
            for probe in asked:  # before any probe's work
                checks[probe](len(task.train), options)
    seen = world.all_gather_object((step, missing or (task and task.protocol)))
    with world.raise_together():
        if other := next((rank for rank, each in enumerate(seen) if each != seen[0]), 0):
            raise FullrankError(
                f"process {other} finds another checkpoint or other images than process 0: give all machines the same"
            )
    if task is None:
        return Evaluation(label, run, step, {}, missing=missing)
    for name in asked:
        with unchanged(encoder.module):
            if name in QUICK:  # on the main process, of the features that all have taken
                scores[name] = world.on_main(QUICK[name], task.represented, options)
            else:
                scores[name] = linear(task, options)
        if run is not None:  # at once: the next probe may take hours, and be stopped
            unkept = world.on_main(keep, run, [Kept(scores[name], step, "evaluate")]) or unkept
    return Evaluation(label, run, step, scores, skipped=tuple(task.skipped), unkept=unkept)


def probe_features(
    name: str, encoder: Encoder, train: Images | Iterable[Any], test: Images | Iterable[Any], options: EvaluateOptions
) -> Evaluation:
    """Judge an encoder in memory by the quick probes, on labeled images or batches.

    Labels are matched as those of two sets are; those of batches are numbers.
    """
    asked, device = _asked(options), choose_device(options.device)
    taken, made, prints = [], [], []
    sets: list[Images] = []
    skipped: dict[str, None] = {}
    for what, images in (("train", train), ("test", test)):
        seen = encoder.features(images, device=device, unreadable=skipped.setdefault)
        features, labels = seen.matrix(what), seen.classes(what).long()
        unseen = torch.empty(len(labels), 3, 0, 0, dtype=torch.uint8)  # batches are a set too, whose labels are numbers
        sets.append(images if isinstance(images, Images) else ArrayImages(_BATCHES, unseen, labels))
        if what == "test":
            matched = match_labels(sets[1], sets[0])
            assert matched is not None
            labels = matched[seen.indices]
        known = labels >= 0
        taken.append((features[known], labels[known]))
        made.append(seen.protocol)
        prints += [images.fingerprint()] if isinstance(images, Images) else []
    if len(prints) == 2 and same_images(prints[0], prints[1]):
        raise FullrankError(f"the test images {SEEN}: give others")
    if made[0] != made[1]:
        raise FullrankError(
            "train and test would be shown in different ways, one as it is and one as the encoder shows images: give "
            "both as images, or both as floating point batches"
        )
    strange = ~torch.isin(taken[1][1], taken[0][1])
    if bool(strange.all()):
        raise FullrankError("test shares no class with train: give both the same labels")
    protocol = {
        **made[0],
        "dtype": float32_on(device),
        "labels": " / ".join(each.name for each in sets),
        **({FINGERPRINT: " / ".join(prints)} if len(prints) == len(sets) else {}),
        **never_right(int(strange.sum()), len(strange)),
    }
    of = Represented(taken[0], taken[1], device, protocol)
    scores = {name: QUICK[name](of, options) for name in asked}
    return Evaluation(name, None, encoder.source.get("step"), scores, skipped=tuple(skipped))
