"""[Li22]'s linear probe: a linear classifier that LARS trains on random crops, over a frozen encoder.

The protocol of their code: 90 epochs in batches of 1,024 images, each a random resized crop, flipped or not; weights
from N(0, 0.01^2), biases 0; LARS with a trust coefficient of 0.001, momentum 0.9 and no weight decay; a learning rate
of 0.1 x batch / 256 that falls along a cosine, epoch by epoch. It is judged on held-out images without augmentation.

Two things differ. The images of an epoch that do not fill a batch are left out (others each epoch). And the value is
the accuracy after the last epoch: [Li22]'s best over all epochs is kept beside it as `best_over_epochs`.

LARS is timm's. It equals apex's LARC with `clip=False`, which [Li22] used, with `trust_clip=False`, `eps=1e-8` and
`always_adapt=True`: without the last, timm scales no rate where there is no weight decay, and is SGD.

A step of LARS moves weights by lr x trust of their norm, whatever the gradient, and momentum makes that ten times as
much: so the sum of the rates says how far it can get (`reach`) from weights that are small at first. These settings
let weights grow e^230-fold on ImageNet, e^9-fold on CIFAR-10, where the accuracy is still rising, and leave them nearly
as they were on a thousand images. Below e^50 the score comes with a warning, and with the base rate that would do.

A classifier in training is kept in the run's folder, `probe/linear-SETTINGS.pt`, and the same command goes on with it.
As in training, what a step sees follows from the seed and the step alone, so it ends with the same bits.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from fullrank.config import MachineConfig, OptimConfig
from fullrank.data import cache
from fullrank.data.batches import ViewLoader
from fullrank.data.images import Images, same_images
from fullrank.data.order import MultiplePass
from fullrank.data.randomness import Purpose, random_bits
from fullrank.data.views import ViewRecipe
from fullrank.errors import FullrankError
from fullrank.evaluation.options import EvaluateOptions, LinearOptions
from fullrank.evaluation.task import Task, labels_of
from fullrank.measure.checks import check_finite
from fullrank.measure.protocols import FINGERPRINT
from fullrank.measure.scores import Score
from fullrank.models.encoder import fingerprint, unchanged
from fullrank.models.memory_format import choose_memory_format
from fullrank.models.weights import DamagedError, ForeignError, read_pickle
from fullrank.training.checkpoint import write_state
from fullrank.training.distributed import Gradients
from fullrank.training.machine import choose_precision
from fullrank.training.optim import LARS_TRUST, learning_rate, scaled_lr
from fullrank.training.scores import WARNING
from fullrank.training.signals import Caught, caught_signals

FAR_ENOUGH = 50
"""The `reach` below which a score comes with a warning."""
SAVE_EVERY = 100
"""Steps between saves."""
FOLDER = "probe"
FORMAT = 1
"""Raise this where a change of code changes what a probe comes to: finished ones are then trained anew."""
_MOMENTUM = 0.9
_FIRST_STD = 0.01
_BLOCK = 4096
_OF_THE_MACHINE = ("cache", "workers")


class StoppedError(Exception):
    """Report that a signal stopped a probe, which is saved."""

    def __init__(self, text: str, signal: int) -> None:
        super().__init__(text)
        self.signal = signal


@dataclass
class Classifier:
    """A linear classifier `(B, D)` -> `(B, C)` in training, and its accuracy on held-out images after each epoch."""

    layer: nn.Linear
    optimizer: Optimizer
    step: int = 0
    accuracies: list[float] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """Return what it takes to go on."""
        own = {"layer": self.layer.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {**own, "step": self.step, "accuracies": self.accuracies}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state that `state_dict` returned."""
        self.layer.load_state_dict(state["layer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.accuracies = state["step"], state["accuracies"]


def check_linear(count: int, options: EvaluateOptions) -> None:
    """Refuse a batch of more images than the `count` there are."""
    batch_size = options.linear_options.batch_size
    if batch_size > count:
        raise FullrankError(f"--linear.batch-size {batch_size} is more than the {count} training images: lower it")


def linear(task: Task, options: EvaluateOptions) -> Score:
    """Score a frozen encoder by [Li22]'s linear classifier.

    Raises:
        FullrankError: Representations are not finite, the images are too few or of one class, the encoder changed, or
            the classifier diverged.
        StoppedError: A signal came; what was trained is saved.
    """
    settings, path, state = task.world.on_main(_begin, task, options.linear_options)
    if state is None or not state["complete"]:
        state = _train(task, options, settings, path, state)
    task.skipped.update(dict.fromkeys(state["skipped"]))
    return task.world.on_main(_score, task, options.linear_options, settings["precision"], state)


def _begin(task: Task, asked: LinearOptions) -> tuple[dict[str, Any], Path | None, dict[str, Any] | None]:
    settings = _settings(task, asked, choose_precision(MachineConfig(precision=asked.precision), task.device))
    path = None if task.run is None else task.run / FOLDER / f"linear-{_digest(settings)}.pt"
    state = _read(path) if path is not None and path.is_file() else None
    seen = task.protocol.get(FINGERPRINT, "")
    # its settings know images by name, so that one that is mended does not undo what is half done
    if state is not None and state["complete"] and not same_images(state.get("images", seen), seen):
        print(f"{task.name}: its images have changed since its linear probe was trained: anew", file=sys.stderr)
        state = None
    return settings, path, state


def _score(task: Task, asked: LinearOptions, precision: str, state: dict[str, Any]) -> Score:
    accuracies: list[float] = state["classifier"]["accuracies"]
    best = max(accuracies)
    protocol = {
        **task.protocol,
        "probe": "linear classifier",
        "training view": f"random resized crop, {asked.crop_min:g} to 1 of the area, and flip",
        "optimizer": f"LARS, trust {LARS_TRUST:g} without clipping, bias too",
        "base_lr": asked.base_lr,
        "schedule": "cosine by epochs",
        "epochs": asked.epochs,
        "batch": asked.batch_size,
        "momentum": _MOMENTUM,
        "weight_decay": 0,
        "precision": precision,
        "seed": asked.seed,
        "value": "after the last epoch",
        "best_over_epochs": "chosen on the held-out labels, as [Li22]'s code reports it",
        "bank": state["bank"],
        "queries": state["queries"],
    }
    chosen: dict[str, Any] = {"best_over_epochs": best, "best_epoch": 1 + accuracies.index(best)}
    if (way := reach(state["bank"], asked)) < FAR_ENOUGH:
        rate = f"raise --linear.base-lr to {asked.base_lr * FAR_ENOUGH / way:.2g}"
        chosen[WARNING] = f"trained too little, LARS let weights grow e^{way:.2g}-fold at most: {rate}"
    return Score("linear", accuracies[-1], protocol, chosen=chosen)


def reach(images: int, asked: LinearOptions) -> float:
    """Return r, where LARS can make the weights grow e^r-fold at most: the sum of lr x trust / (1 - momentum)."""
    steps = images // asked.batch_size
    peak = scaled_lr(asked.base_lr, asked.batch_size)
    # the mean of a cosine by epochs over E epochs is (E + 1) / 2E of its peak
    return steps * peak * (asked.epochs + 1) / 2 * LARS_TRUST / (1 - _MOMENTUM)


def build_classifier(width: int, classes: int, asked: LinearOptions) -> Classifier:
    """Build the untrained classifier, a function of the seed, and its optimizer."""
    from timm.optim import Lars

    layer = torch.nn.utils.skip_init(nn.Linear, width, classes)
    generator = torch.Generator().manual_seed(int(random_bits(asked.seed, Purpose.PROBE, 1, 0, 1)[0]) >> 1)
    nn.init.normal_(layer.weight, std=_FIRST_STD, generator=generator)
    nn.init.zeros_(layer.bias)
    optimizer = Lars(
        layer.parameters(),
        lr=0.0,  # each step sets its own
        momentum=_MOMENTUM,
        eps=1e-8,
        trust_coeff=LARS_TRUST,
        trust_clip=False,
        always_adapt=True,
    )
    return Classifier(layer, optimizer)


def _train(
    task: Task, options: EvaluateOptions, settings: dict[str, Any], path: Path | None, state: dict[str, Any] | None
) -> dict[str, Any]:
    asked = options.linear_options
    device, module, world = task.device, task.encoder.to(task.device).module, task.world
    memory_format = choose_memory_format(module)
    queries, query_labels = task.queries
    kept: cache.Cache = asked.cache if asked.cache != "auto" else world.on_main(
        cache.choose_cache, task.train, world.local_size * len(task.train)
    )  # fmt: skip
    with world.raise_together():
        check_finite(queries)
        images, left_out = _readable(task, kept, path, state)
        classes, targets = labels_of(images).unique(return_inverse=True)
        if len(classes) < 2:
            what = f"all {len(images)} training images have the label {int(classes[0])}"
            raise FullrankError(f"{what}: a probe needs two")
        check_linear(len(images), options)  # some may have been unreadable
    queries = queries.to(device)
    query_targets = torch.searchsorted(classes, query_labels).clamp(max=len(classes) - 1)
    query_targets[classes[query_targets] != query_labels] = -1  # of a class that no training image has
    epoch = len(images) // asked.batch_size
    order = MultiplePass(len(images), asked.batch_size, asked.epochs * epoch, seed=asked.seed)
    recipe = ViewRecipe(crop_scale=(asked.crop_min, 1.0), jitter=0.0, grayscale=0.0, blur=0.0)
    loader = ViewLoader(
        images,
        order,
        (recipe,),
        task.encoder.preprocessing.size,
        cache=kept,
        device=device,
        workers=asked.workers,
        rank=world.rank,
        world_size=world.size,
    )
    schedule = OptimConfig(base_lr=asked.base_lr, cosine_every=epoch)
    classifier = build_classifier(queries.shape[1], len(classes), asked)
    gradients = Gradients(classifier.layer.to(device), world)
    if state is not None:
        classifier.load_state_dict(state["classifier"])
    catching: AbstractContextManager[Caught] = (
        nullcontext(Caught()) if path is None else caught_signals(second_kills=world.size == 1)
    )
    with catching as caught, unchanged(module) as check_unchanged:
        for made in world.each(loader(classifier.step)):
            lr = learning_rate(made.step, len(order), schedule, asked.batch_size)
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=settings["precision"] == "bf16"):
                h = module(made.views[0].to(memory_format=memory_format)).float()
            loss = F.cross_entropy(classifier.layer(h), targets[made.images].to(device))
            loss.backward()
            gradients.average()
            for group in classifier.optimizer.param_groups:
                group["lr"] = lr
            classifier.optimizer.step()
            classifier.optimizer.zero_grad(set_to_none=True)
            classifier.step += 1
            task.progress(f"{task.name}: linear probe, steps", classifier.step, len(order))
            if classifier.step % epoch == 0:
                classifier.accuracies.append(world.on_main(_accuracy, classifier, queries, query_targets))
            stop, complete = world.all_reduce_max(caught.signal), classifier.step == len(order)
            if stop or complete or classifier.step % SAVE_EVERY == 0:
                with world.raise_together():
                    check_unchanged()
                state = {
                    "settings": settings,
                    "images": task.protocol.get(FINGERPRINT, ""),
                    "complete": complete,
                    "classifier": classifier.state_dict(),
                    "skipped": sorted(task.skipped.keys() | set().union(*world.all_gather_object(loader.skipped))),
                    "left_out": left_out,
                    "bank": len(images),
                    "queries": len(queries),
                }
                if path is not None:
                    world.on_main(write_state, path, state)
            if stop and not complete:
                raise StoppedError(
                    f"{task.name}: stopped after step {classifier.step} of {len(order)} of the linear probe, and "
                    "saved; the same command goes on",
                    stop,
                )
    assert state is not None
    return state


def _readable(
    task: Task, kept: cache.Cache, path: Path | None, state: dict[str, Any] | None
) -> tuple[Images, list[str]]:
    """Return the readable training images, decoded into memory where they are to be and can be, and who is left out.

    Those that cannot be read are found before the first step, streamed too: the order is over the others, however they
    are held. A classifier that goes on leaves out those that it began without.
    """
    left_out = [] if state is None else list(state["left_out"])
    images = _without(task.train, left_out)
    gone: list[str] = []
    if kept == "memory":
        images, gone = cache.cache_all(images)
    elif state is None:
        gone = [images.key(index) for index in cache.find_unreadable(images).tolist()]
        images = _without(images, gone)
    if gone and state is not None:
        raise FullrankError(
            f"{gone[0]} could be read when the linear probe began: put it back, or delete {path} to start anew"
        )
    task.skipped.update(dict.fromkeys([*left_out, *gone]))
    return images, [*left_out, *gone]


def _without(images: Images, names: Sequence[str]) -> Images:
    out = set(names)  # none: a selection of all would copy images that lie in memory
    return images.select(torch.tensor([i for i in range(len(images)) if images.key(i) not in out])) if out else images


@torch.no_grad()
def _accuracy(classifier: Classifier, queries: Tensor, targets: Tensor) -> float:
    if not all(bool(torch.isfinite(p).all()) for p in classifier.layer.parameters()):
        raise FullrankError(
            f"the linear probe diverged before step {classifier.step}: lower --linear.base-lr, or use "
            "--linear.precision float32"
        )
    found = torch.cat([classifier.layer(block).argmax(dim=1) for block in queries.split(_BLOCK)])
    return float((found.cpu() == targets).double().mean())


def _settings(task: Task, asked: LinearOptions, precision: str) -> dict[str, Any]:
    """Return everything that the classifier's weights depend on."""
    return {
        "format": FORMAT,
        **{name: value for name, value in asdict(asked).items() if name not in _OF_THE_MACHINE},
        "precision": precision,
        "encoder": fingerprint(task.encoder.module),
        "image_size": task.encoder.preprocessing.size,
        "train": task.train.listing(),
        "train_labels": _digest(labels_of(task.train).tolist()),
        "held_out": task.held_out.listing(),
        "held_out_labels": _digest(labels_of(task.held_out).tolist()),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _read(path: Path) -> dict[str, Any]:
    try:
        state = read_pickle(path)
        if isinstance(state, dict) and {"complete", "classifier", "left_out"} <= state.keys():
            return state
    except (DamagedError, ForeignError):
        pass
    raise FullrankError(f"{path} is damaged or was not written by fullrank: delete it to start the linear probe anew")
