"""From a configuration to a run with nothing left open, so that it means the same when it is resumed: `resolve`.

What a run is made of (images, order, method, loader, probe) is built here too, a function each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from fullrank.config import TrainConfig
from fullrank.data import batches, cache, views
from fullrank.data.images import Images, NoSplitError, match_labels, open_images, same_images
from fullrank.data.order import Order, open_order, subset
from fullrank.errors import FullrankError
from fullrank.models.backbones import build_backbone, image_size_of, pretrained_backbone
from fullrank.models.batchnorm import synchronize
from fullrank.models.memory_format import to_memory_format
from fullrank.models.methods import METHODS, Distillation, Method
from fullrank.registry import SOURCES
from fullrank.text import expanded
from fullrank.training.checkpoint import load
from fullrank.training.distributed import ALONE, Gradients, World
from fullrank.training.loggers import check_loggers
from fullrank.training.machine import choose_device, choose_precision
from fullrank.training.measuring import Measurer
from fullrank.training.online_probe import OnlineProbe
from fullrank.training.resuming import IMAGES_VERSION, Resumed, counted
from fullrank.training.runs import CONFIG


@dataclass(frozen=True)
class Data:
    """The images of a run."""

    train: Images  # what the order indexes, the subset already taken, unreadable images left out where they are known
    measured: Images  # the training images that are measured on: these, or all that the subset was taken from
    held_out: Images | None  # held-out images, or None
    image_size: int  # rows and columns of a view of them
    skipped: list[str]  # the names of the images left out
    fingerprints: dict[str, str]  # of the images as they were found, before anything was left out, by part
    seen: bool = False  # whether the held-out images are the training images

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What must be the same when a run is resumed, wherever its images lie then."""

        def seen(part: str, images: Images, skipped: int = 0) -> dict[str, Any]:
            return {"count": len(images), "fingerprint": self.fingerprints[part], "skipped": skipped}

        return {
            "version": IMAGES_VERSION,
            "train": seen("train", self.train, len(self.skipped)),
            "held_out": self.held_out and seen("held_out", self.held_out),
            **({} if self.measured is self.train else {"measured": seen("whole", self.measured)}),
        }


@dataclass(frozen=True)
class Resolved:
    """A run with nothing left open."""

    config: TrainConfig  # the configuration; what it leaves to the machine, the images and the method is filled in
    device: torch.device  # where this process trains
    data: Data
    loader: batches.ViewLoader  # gives the two views of each step, in the run's order
    method: Method  # what is trained, on the device
    memory_format: torch.memory_format  # of the method's weights, and so of its images
    gradients: Gradients  # averages the method's gradients over processes
    probe: OnlineProbe | None  # the online probe, where the run has one
    measurer: Measurer | None  # measures the method, on the main process; None on the others


def resolve(config: TrainConfig, world: World = ALONE, resumed: Resumed | None = None) -> Resolved:
    """Choose what the configuration leaves open, open the images, and build the method with its initial weights."""
    world.on_main(check_loggers, config.monitor)
    config, device = resolve_machine(config, world)
    config = replace(config, monitor=replace(config.monitor, log_every=config.log_every))
    config, data = open_data(config, world, goes_on=resumed is not None)
    if resumed is not None:
        world.on_main(resumed.check_images, config, data.facts)
    facts = world.all_gather_object(data.facts)
    with world.raise_together():
        if other := next((rank for rank, found in enumerate(facts) if found != facts[0]), 0):
            raise FullrankError(
                f"process {other} finds other images than process 0: {counted(facts[other]['train'])}, not "
                f"{counted(facts[0]['train'])}, or other names or sizes; give all machines the same files"
            )
        loader = build_loader(config, data, build_order(config, len(data.train)), device, world)
        with world.first_on_machine():  # which downloads a teacher, where there is one
            method = build_method(config)
        config = replace(config, heads=method.heads_config, loss=method.loss_config, target=method.target_config)
        probe = build_probe(config, data, method, device, world)
        measurer = Measurer(config, data, device, probe) if world.main else None
    if world.size > 1:  # equal weights everywhere, whatever the machines' own arithmetic makes of the seed
        method.load_state_dict(world.on_main(method.state_dict))
        synchronize(method, device)
    memory_format = to_memory_format(method.to(device))
    return Resolved(config, device, data, loader, method, memory_format, Gradients(method, world), probe, measurer)


def resolve_machine(config: TrainConfig, world: World = ALONE) -> tuple[TrainConfig, torch.device]:
    """Set the number of threads; return the configuration with the main process's choices, and this one's device."""

    def choose() -> TrainConfig:
        check_share(config.batch_size, world.size)
        device = choose_device(config.machine.device, world)
        machine = replace(
            config.machine,
            device=str(device) if world.local_size == 1 else device.type,
            precision=choose_precision(config.machine, device),
            threads=config.machine.threads or torch.get_num_threads(),
        )
        return replace(config, machine=machine)

    chosen = world.on_main(choose)
    with world.raise_together():
        device = choose_device(chosen.machine.device, world)
        if chosen.machine.threads is not None:
            torch.set_num_threads(chosen.machine.threads)
        if device.type == "cuda" and world.size > 1:
            torch.cuda.set_device(device)
    return chosen, device


def check_share(batch_size: int, processes: int, name: str = "batch_size") -> None:
    """Raise `FullrankError` unless each process gets an equal piece of the batch, of two images at least."""
    if processes == 1:
        return
    if batch_size < 2 * processes:
        raise FullrankError(
            f"{name}={batch_size} is of all {processes} processes together and leaves some fewer than 2 images: "
            f"raise it to {2 * processes} at least, or start fewer processes"
        )
    below = batch_size - batch_size % processes
    if batch_size != below:
        raise FullrankError(
            f"{name}={batch_size} cannot be shared equally among {processes} processes: take {below} or "
            f"{below + processes}, or start another number of processes"
        )


def open_data(config: TrainConfig, world: World = ALONE, *, goes_on: bool = False) -> tuple[TrainConfig, Data]:
    """Open the images, and keep them as configured; with many processes, each all of them.

    A run that `goes_on` keeps images of the size it began with. The configuration that is returned has `image_size`,
    `cache` and `cache_side` resolved.
    """
    with world.raise_together(), world.first_on_machine(), world.said_once():
        found = whole = open_images(config.images, split="train", root=config.data_dir)
        if config.subset < 1:
            found = whole.select(subset(len(whole), config.subset, config.seed))
        held_out = None
        if config.eval_images is not None or config.images in SOURCES:
            try:
                held_out = open_images(config.eval_images or config.images, split="eval", root=config.data_dir)
                held_out.labels = match_labels(held_out, whole)
            except NoSplitError:
                if config.eval_images is not None:
                    raise
            except FullrankError as error:
                raise FullrankError(f"held-out images: {error}; or leave them out with --eval-images None") from None

    sets = {"train": found, "whole": whole, "held_out": held_out}
    prints = world.once_a_machine(lambda: {part: each.fingerprint() for part, each in sets.items() if each is not None})
    seen = held_out is not None and same_images(prints["whole"], prints["held_out"])
    size = config.image_size or world.on_main(cache.view_size, found)
    config = world.on_main(resolve_cache, replace(config, image_size=size), found, world.local_size, goes_on)
    skipped: list[str] = []
    with world.raise_together():
        if config.cache == "memory":
            found, skipped = cache.cache_all(found, side=config.cache_side, strict=config.strict)
    measured = whole if config.subset < 1 and config.monitor.whole else found
    return config, Data(found, measured, held_out, size, skipped, prints, seen)


def resolve_cache(config: TrainConfig, images: Images, sharers: int = 1, goes_on: bool = False) -> TrainConfig:
    """Decide how images are held, where the configuration says `auto`, and what they are scaled down to.

    `sharers` processes of this machine hold them, each for itself. A run of before that goes on has no `cache_side`,
    and keeps images as they are.
    """
    side, size = config.cache_side, config.image_size or 0
    if side is None and not goes_on and size > views.SMALL_IMAGE and cache.as_array(images) is None:
        side = 2 * size
    kept = config.cache
    if kept == "auto":
        budget = None if config.machine.memory_gb is None else config.machine.memory_gb * 1e9

        def fits(count: int) -> bool:
            return cache.choose_cache(images, sharers * count, side=side, memory=budget) == "memory"

        kept = "memory" if fits(len(images)) else "stream"
        pool = 2 * -(-len(images) // config.chunks)  # a chunk in use, and the next one being decoded
        if kept == "stream" and config.order in ("single-pass", "hybrid") and fits(pool):
            kept = "chunks"
    return replace(config, cache=kept, cache_side=config.cache_side if kept == "stream" else side)


def build_order(config: TrainConfig, size: int) -> Order:
    """Build the configured order over `size` images."""
    usual = {"chunks": config.chunks, "rounds": config.rounds, "switch": config.switch}
    return open_order(config.order, size, config.batch_size, config.steps, config.seed, usual, config.order_options)


def build_method(config: TrainConfig) -> Method:
    """Build the configured method with its initial weights, a function of the seed."""
    chosen = METHODS[config.method]
    if config.optim.decay_heads == "projector" and not chosen.has_predictor:
        raise FullrankError(
            f"optim.decay_heads=projector leaves the predictor out, and method={config.method} has none: "
            "take all or none"
        )
    # the generator's state is put back: building a model inside someone's program changes nothing there
    with torch.random.fork_rng(devices=[]):
        teacher: dict[str, Any] = {"teacher": open_teacher(config)} if issubclass(chosen, Distillation) else {}
        torch.manual_seed(config.seed)
        return chosen(build_backbone(config), config, **teacher)


def open_teacher(config: TrainConfig) -> nn.Module:
    """Load the encoder that the configured run distills."""
    name, size = config.target.teacher, image_size_of(config)
    if not name:
        raise FullrankError(
            "method=distill needs a teacher: --target.teacher with a run, a checkpoint, or a timm model that has "
            "published weights"
        )
    path = expanded(name)
    if "/" not in name and not path.is_file() and not (path / CONFIG).is_file():
        return pretrained_backbone(name, image_size=size)  # even where a folder that is no run has the model's name
    if not path.exists():
        raise FullrankError(f"no run, checkpoint or timm model is at --target.teacher {name}")
    teacher: Any = load(path)
    seen = teacher.pretrained_cfg["input_size"][-1]
    if seen != size:
        raise FullrankError(
            f"the teacher {name} was trained on views of {seen} x {seen}, and this run's are {size} x {size}: use "
            f"--image-size {seen}"
        )
    return teacher


def build_loader(
    config: TrainConfig, data: Data, order: Order, device: torch.device, world: World = ALONE
) -> batches.ViewLoader:
    """Build the loader of the two views of each step, of this process's piece of the global batch."""
    return batches.ViewLoader(
        data.train,
        order,
        views.recipe(config.views, crop_min=config.crop_min),
        data.image_size,
        cache="stream" if config.cache == "stream" else "memory",
        side=config.cache_side,
        device=device,
        workers=config.machine.workers,
        reduced=config.reduced_jpeg,
        strict=config.strict,
        rank=world.rank,
        world_size=world.size,
    )


def build_probe(
    config: TrainConfig, data: Data, method: Method, device: torch.device, world: World = ALONE
) -> OnlineProbe | None:
    """Build the online probe, where one is asked for."""
    if not config.monitor.online_probe:
        return None
    dtype = next(method.backbone.parameters()).dtype
    return OnlineProbe(data.train, method.width, config.steps, device=device, dtype=dtype, world=world)
