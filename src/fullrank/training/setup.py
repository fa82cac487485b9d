"""The parts of a run, as its configuration has them: images, order, method and loader. `resolve` joins them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fullrank.config import TrainConfig
from fullrank.data import batches, former, holding, views
from fullrank.data.images import NAMES, Images, match_labels, open_images
from fullrank.data.order import ORDERS, Order, subset
from fullrank.errors import FullrankError
from fullrank.models.backbones import build_backbone, image_size_of, pretrained_backbone
from fullrank.models.methods import METHODS, Distillation, Method
from fullrank.training.checkpoint import load
from fullrank.training.distributed import ALONE, World
from fullrank.training.runs import CONFIG

LARGE_VIEW = 224


@dataclass(frozen=True)
class Data:
    """The images of a run.

    Attributes:
        train: What the order indexes, the subset already taken, unreadable images left out where they are known.
        measured: The training images that are measured on: these, or all that the subset was taken from.
        held_out: Held-out images, or None.
        image_size: Rows and columns of a view of them.
        skipped: The names of the images left out.
        fingerprint: Of the training images as they were found, before anything was left out.
        former: Whether they are seen as runs of before saw them; see `fullrank.data.former`.
    """

    train: Images
    measured: Images
    held_out: Images | None
    image_size: int
    skipped: list[str]
    fingerprint: str
    former: bool = False

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What must be the same when a run is resumed, wherever its images lie then."""

        def seen(images: Images) -> dict[str, Any]:
            return {"count": len(images), "fingerprint": images.fingerprint(), "skipped": 0}

        return {
            **({} if self.former else {"version": former.VERSION}),
            "train": {"count": len(self.train), "fingerprint": self.fingerprint, "skipped": len(self.skipped)},
            "held_out": self.held_out and seen(self.held_out),
            **({} if self.measured is self.train else {"measured": seen(self.measured)}),
        }


def open_data(config: TrainConfig, world: World = ALONE, *, as_before: bool = False) -> tuple[TrainConfig, Data]:
    """Open the images, and hold them as configured; with many processes, each all of them.

    Args:
        config: The run's configuration.
        world: Its processes.
        as_before: See them as runs of before did, for one of them goes on.

    Returns:
        The configuration with `image_size` and `hold` resolved, and the images.
    """
    with world.raise_together(), world.first_on_machine():
        found = whole = open_images(config.images, split="train", root=config.data_dir, former=as_before)
        if config.subset < 1:
            found = whole.select(subset(len(whole), config.subset, config.seed))
        fingerprint = found.fingerprint()
        held_out = None
        if config.eval_images is not None or config.images in NAMES:
            try:
                held_out = open_images(
                    config.eval_images or config.images, split="eval", root=config.data_dir, former=as_before
                )
                held_out.labels = (former.match_labels if as_before else match_labels)(held_out, whole)
            except FullrankError as error:
                raise FullrankError(f"held-out images: {error}; or leave them out with --eval-images None") from None

    chosen = config.hold == "auto"
    size = config.image_size or world.on_main(_view_size, found)
    config = world.on_main(resolve_hold, replace(config, image_size=size), found, world.local_size)
    skipped: list[str] = []
    with world.raise_together():
        if config.hold == "memory":
            try:
                found, skipped = holding.hold_whole(found, strict=config.strict)
            except holding.MixedSizesError:
                if not chosen:
                    raise
                config = replace(config, hold="stream")  # the few that were looked at had one size, and not all have
    measured = whole if config.subset < 1 and config.monitor.whole else found
    return config, Data(found, measured, held_out, size, skipped, fingerprint, as_before)


def resolve_hold(config: TrainConfig, images: Images, sharers: int = 1) -> TrainConfig:
    """Decide how images are held, where the configuration says `auto`.

    Args:
        config: The configuration.
        images: The training images.
        sharers: How many processes of this machine hold them, each for itself.
    """
    if config.hold != "auto":
        return config
    budget = None if config.machine.memory_gb is None else config.machine.memory_gb * 1e9
    if holding.choose_hold(images, sharers * len(images), memory=budget) == "memory":
        return replace(config, hold="memory")
    if config.order == "single-pass":
        pool = 2 * -(-len(images) // config.chunks)  # a chunk in use, and the next one being decoded
        if holding.choose_hold(images, sharers * pool, memory=budget) == "memory":
            return replace(config, hold="chunks")
    return replace(config, hold="stream")


def _view_size(images: Images) -> int:
    if images.preferred_size is not None:
        return images.preferred_size
    # the median of some at random: a set of photos may begin with an icon
    longest = sorted(max(size) for size in holding.look_at_sizes(images))
    size = longest[len(longest) // 2]
    return size if size <= views.SMALL_IMAGE else LARGE_VIEW


def build_order(config: TrainConfig, size: int) -> Order:
    """Build the configured order over `size` images."""
    arguments: dict[str, int | float] = {}
    if config.order != "multiple-pass":
        arguments["chunks"] = config.chunks
    if config.order == "single-pass":
        arguments["rounds"] = config.rounds
    if config.order == "hybrid":
        arguments["switch"] = config.switch
    kind: Any = ORDERS[config.order]
    return kind(size, config.batch_size, config.steps, seed=config.seed, **arguments)


def build_method(config: TrainConfig) -> Method:
    """Build the configured method with its initial weights, a function of the seed.

    Raises:
        FullrankError: `image_size` is not resolved, the backbone cannot be built, or the method does not have what the
            configuration sets, or lacks its teacher.
    """
    chosen = METHODS[config.method]
    if config.optim.decay_heads == "projector" and not chosen.has_predictor:
        raise FullrankError(
            f"optim.decay_heads=projector leaves the predictor out, and method={config.method} has none: "
            "take all or none"
        )
    # the generator's state is put back: building a model inside someone's program changes nothing there
    with torch.random.fork_rng(devices=[]):
        teacher = (open_teacher(config),) if issubclass(chosen, Distillation) else ()
        torch.manual_seed(config.seed)
        return chosen(build_backbone(config), config, *teacher)


def open_teacher(config: TrainConfig) -> nn.Module:
    """Load the encoder that the configured run distils.

    Raises:
        FullrankError: There is none, or it was trained on images of another size.
    """
    name, size = config.target.teacher, image_size_of(config)
    if not name:
        raise FullrankError(
            "method=distill needs a teacher: --target.teacher with a run, a checkpoint, or a timm model that has "
            "published weights"
        )
    path = Path(name).expanduser()
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
        hold="stream" if config.hold == "stream" else "memory",
        device=device,
        workers=config.machine.workers,
        strict=config.strict,
        rank=world.rank,
        world_size=world.size,
    )
