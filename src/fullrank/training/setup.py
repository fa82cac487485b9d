"""From a configuration to the things a run is made of: images, order, loader and method.

`open_data` and `resolve_machine` fill in what the configuration leaves to the images and the machine, so that a run's
config.yaml holds no `auto` whose meaning could change before it is resumed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from fullrank.config import TrainConfig
from fullrank.data import batches, former, holding, views
from fullrank.data.images import NAMES, Images, match_labels, open_images
from fullrank.data.order import ORDERS, Order, subset
from fullrank.errors import FullrankError
from fullrank.models.backbones import backbone, pretrained_backbone, width_of
from fullrank.models.methods import METHODS, Distillation, Method
from fullrank.training.checkpoint import load
from fullrank.training.distributed import ALONE, World
from fullrank.training.machine import choose_device, choose_precision
from fullrank.training.online_probe import OnlineProbe
from fullrank.training.runs import CONFIG

LARGE_VIEW = 224


@dataclass(frozen=True)
class Data:
    """The images of a run.

    Attributes:
        train: What the order indexes, the subset already taken, unreadable images left out where they are known.
        measured: The training images that are measured on: these, or all that the subset was taken from.
        held_out: Held-out images, or None.
        skipped: The names of the images left out.
        fingerprint: Of the training images as they were found, before anything was left out.
        former: Whether they are seen as runs of before saw them; see `fullrank.data.former`.
    """

    train: Images
    measured: Images
    held_out: Images | None
    skipped: list[str]
    fingerprint: str
    former: bool = False


def open_data(config: TrainConfig, world: World = ALONE, *, as_before: bool = False) -> tuple[TrainConfig, Data]:
    """Open the images, and hold them as configured; with many processes, each all of them.

    Args:
        config: The run's configuration.
        world: Its processes.
        as_before: See them as runs of before did, for one of them goes on.

    Returns:
        The configuration with `image_size` and `hold` resolved, and the images.
    """
    with world.together(), world.first_on_machine():
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
    config = world.on_main(_resolve_images, config, found, world.local_size)
    skipped: list[str] = []
    with world.together():
        if config.hold == "memory":
            try:
                found, skipped = holding.hold_whole(found, strict=config.strict)
            except holding.MixedSizesError:
                if not chosen:
                    raise
                config = replace(config, hold="stream")  # the few that were looked at had one size, and not all have
    measured = whole if config.subset < 1 and config.monitor.whole else found
    return config, Data(found, measured, held_out, skipped, fingerprint, as_before)


def _resolve_images(config: TrainConfig, images: Images, sharers: int) -> TrainConfig:
    config = replace(config, image_size=config.image_size or _view_size(images))
    return resolve_hold(config, images, sharers)


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
    return ORDERS[config.order](size, config.batch_size, config.steps, seed=config.seed, **arguments)  # type: ignore[call-arg]


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
        teacher = open_teacher(config) if issubclass(chosen, Distillation) else None
        torch.manual_seed(config.seed)
        encoder = build_backbone(config)
        if issubclass(chosen, Distillation):
            assert teacher is not None
            return chosen(encoder, config, teacher)
        return chosen(encoder, config)


def build_backbone(config: TrainConfig) -> nn.Module:
    """Build the configured backbone with weights from torch's generator.

    Raises:
        FullrankError: `image_size` is not resolved, or the backbone cannot be built.
    """
    if config.image_size is None:
        raise FullrankError("image_size must be known before the encoder is built: resolve the configuration first")
    shape = config.backbone
    return backbone(
        shape.name,
        image_size=config.image_size,
        block=shape.block,
        depths=shape.depths,
        width=shape.width,
        inner_width=shape.inner_width,
        stem=shape.stem,
        blocks=shape.blocks,
        attention_heads=shape.attention_heads,
        patch=shape.patch,
        positions=shape.positions,
        frozen_patches=shape.frozen_patches,
    )


def open_teacher(config: TrainConfig) -> nn.Module:
    """Load the encoder that the configured run distils.

    Raises:
        FullrankError: There is none, or it was trained on images of another size.
    """
    name, size = config.target.teacher, config.image_size
    if not name:
        raise FullrankError(
            "method=distill needs a teacher: --target.teacher with a run, a checkpoint, or a timm model that has "
            "published weights"
        )
    assert size is not None
    path = Path(name).expanduser()
    if "/" not in name and not path.is_file() and not (path / CONFIG).is_file():
        return pretrained_backbone(name, image_size=size)  # even where a folder that is no run has the model's name
    if not path.exists():
        raise FullrankError(f"no run, checkpoint or timm model is at --target.teacher {name}")
    teacher = load(path)
    seen = teacher.pretrained_cfg["input_size"][-1]  # type: ignore[index]
    if seen != size:
        raise FullrankError(
            f"the teacher {name} was trained on views of {seen} x {seen}, and this run's are {size} x {size}: use "
            f"--image-size {seen}"
        )
    return teacher


def resolve_method(config: TrainConfig, method: Method) -> TrainConfig:
    """Fill in what the configuration leaves to the method: heads, coefficients and target."""
    return replace(config, heads=method.heads_config, loss=method.loss_config, target=method.target_config)


def build_probe(
    config: TrainConfig, data: Data, method: Method, device: torch.device, world: World = ALONE
) -> OnlineProbe | None:
    """Build the online probe, where one is asked for.

    Raises:
        FullrankError: The training images have no labels, or all the same one.
    """
    if not config.monitor.online_probe:
        return None
    dtype = next(method.backbone.parameters()).dtype
    width = width_of(method.backbone)
    return OnlineProbe(data.train, width, config.steps, device=device, dtype=dtype, world=world, as_before=data.former)


def build_loader(
    config: TrainConfig, data: Data, order: Order, device: torch.device, world: World = ALONE
) -> batches.ViewLoader:
    """Build the loader of the two views of each step, of this process's piece of the global batch."""
    assert config.hold != "auto"
    assert config.image_size is not None
    return batches.ViewLoader(
        data.train,
        order,
        views.recipe(config.views, crop_min=config.crop_min),
        config.image_size,
        hold="stream" if config.hold == "stream" else "memory",
        device=device,
        workers=config.machine.workers,
        strict=config.strict,
        rank=world.rank,
        world_size=world.size,
    )


def resolve_machine(config: TrainConfig, world: World = ALONE) -> tuple[TrainConfig, torch.device]:
    """Choose device and precision, and set the number of threads.

    Returns:
        The configuration with what the main process has chosen, and this process's device.

    Raises:
        FullrankError: There is no such device, or the batch cannot be shared among the processes.
    """
    config = world.on_main(_resolve_machine, config, world)
    with world.together():
        device = choose_device(config.machine.device, world)
        if config.machine.threads is not None:
            torch.set_num_threads(config.machine.threads)
        if device.type == "cuda" and world.size > 1:
            torch.cuda.set_device(device)
    return config, device


def _resolve_machine(config: TrainConfig, world: World) -> TrainConfig:
    check_share(config.batch_size, world.size)
    device = choose_device(config.machine.device, world)
    machine = replace(
        config.machine,
        device=str(device) if world.local_size == 1 else device.type,
        precision=choose_precision(config.machine, device),  # type: ignore[arg-type]
        threads=config.machine.threads or torch.get_num_threads(),
    )
    return replace(config, machine=machine)


def check_share(batch_size: int, processes: int) -> None:
    """Raise `FullrankError` unless each process gets an equal piece of the batch, of two images at least."""
    if processes == 1:
        return
    if batch_size < 2 * processes:
        raise FullrankError(
            f"batch_size={batch_size} is of all {processes} processes together and leaves some fewer than 2 images: "
            f"raise it to {2 * processes} at least, or start fewer processes"
        )
    below = batch_size - batch_size % processes
    if batch_size != below:
        raise FullrankError(
            f"batch_size={batch_size} cannot be shared equally among {processes} processes: take {below} or "
            f"{below + processes}, or start another number of processes"
        )


def default_name(config: TrainConfig) -> str:
    """Return the name of a run that was given none."""
    source = Path(config.images).stem.replace("*", "") or "images"
    return f"{source}-{config.method}-{config.order}-s{config.seed}"
