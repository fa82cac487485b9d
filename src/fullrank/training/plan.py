"""What a run would do, without doing it: `fullrank train --dry-run`."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fullrank.config import TrainConfig
from fullrank.data import cache, eval_images, views
from fullrank.data.memory import available_memory, gigabytes, peak_memory
from fullrank.data.order import Adaptive, Cumulative, Hybrid, Order, SinglePass
from fullrank.documents import Document, Table
from fullrank.errors import FullrankError
from fullrank.models.backbones import image_size_of
from fullrank.models.methods import Method
from fullrank.training import setup
from fullrank.training.optim import learning_rate


def plan(config: TrainConfig) -> tuple[Document, FullrankError | None]:
    """Describe a run: images, order, steps, parameters, memory; and say why its images cannot be opened, if so.

    The images are opened and the model is built, so what would fail at the start of the run fails here. Without the
    images, the rest is still described.
    """
    config, device = setup.resolve_machine(config)
    views.recipe(config.views, crop_min=config.crop_min)  # whose errors a plan should show too
    # held in memory only if the run would be, but not decoded for a plan: streaming reads none
    wanted, config = config.cache, replace(config, cache="stream")
    wrong: FullrankError | None = None
    assumed = ""
    try:
        config, data = setup.open_data(config)
    except FullrankError as error:
        wrong = error
        if config.image_size is None:
            config = replace(config, image_size=cache.LARGE_VIEW)
            assumed = ", assumed: images decide unless --image-size does"
        method = setup.build_method(config)
        about = {
            "images": f"{config.images}: not counted, for the images cannot be opened (see below)",
            "order": f"{config.order}; how often it sees an image follows from their number, not known",
        }
    else:
        config = setup.resolve_cache(replace(config, cache=wanted), data.train)
        order = setup.build_order(config, len(data.train))
        method = setup.build_method(config)
        setup.build_probe(config, data, method, torch.device("cpu"))  # whose errors too
        labels = "labeled" if data.train.labels is not None else "no labels"
        about = {
            "images": f"{config.images}: {len(data.train):,} ({labels}); {_cache_words(config, data, order)}",
            "held out": f"{len(data.held_out):,} images" if data.held_out else "none: no held-out loss, no k-NN",
            "order": describe_order(order),
        }
    places = (0, config.steps // 2, config.steps - 1)
    start, half, end = (learning_rate(step, config.steps, config.optim, config.batch_size) for step in places)
    about |= {
        "views": f"{config.views}, {config.image_size} x {config.image_size}{assumed}",
        "steps": f"{config.steps:,} of {config.batch_size} images",
        "method": config.method,
        **_settings(method),
        "parameters": _parameters(method),
        "optimizer": f"{config.optim.optimizer}, weight decay {config.optim.weight_decay:g}, learning rate "
        f"{start:.4g} at the start, {half:.4g} half-way, {end:.2g} at the end",
        "machine": f"{device}, {config.machine.precision}, CPU threads: {torch.get_num_threads()}",
        "memory": _memory(config, method),
    }
    if wrong is None and config.cache != "memory":
        about["processes"] = _processes(config, data, order)
    rows = Table("What the run would do", ["part", "plan"], list(about.items()), text=(1,), captioned=False)
    return Document("plan", "What the run would do", [rows], data=about), wrong


def describe_order(order: Order) -> str:
    """Say in words what an order does with its images and steps."""
    chunks: int | None = getattr(order, "chunks", None)
    if chunks is None or not isinstance(order, (SinglePass, Cumulative, Hybrid, Adaptive)):  # of another package
        a_pass = order.size // order.batch_size
        return f"{order.name}: {order.size:,} images in {order.steps / a_pass:.1f} passes of {a_pass} steps"
    rounds: int = getattr(order, "rounds", 1)
    size, steps = order.size // chunks, order.steps // (chunks * rounds)
    passes = steps / (size // order.batch_size)
    text = f"{order.name}: {chunks} chunks of {size:,} images, {steps:,} steps each, {passes:.1f} passes over a chunk"
    text += f", in each of {rounds} rounds" if rounds > 1 else ""
    if isinstance(order, Adaptive):
        return f"{text}, while the measured AUC rises; multiple passes over all while it falls"
    switch: int | None = getattr(order, "switch_step", None)
    return text if switch is None else f"{text}; multiple passes over all from step {switch:,}"


def _cache_words(config: TrainConfig, data: setup.Data, order: Order) -> str:
    words = "decoded by workers as needed"
    if config.cache != "stream":
        size = gigabytes(cache.kept_bytes(data.train, _kept_images(config, order), config.cache_side))
        switch: int | None = getattr(order, "switch_step", None)
        by_chunks = " by chunks" + (f" until step {switch:,}, then streamed" if switch is not None else "")
        words = f"held in memory{'' if config.cache == 'memory' else by_chunks}, {size}"
        if config.cache_side is not None:
            words += f", shorter sides at most {config.cache_side}"
    return words + (f"; encoded, {data.train.footprint}" if data.train.footprint else "")


def _kept_images(config: TrainConfig, order: Order) -> int:
    """Return how many images are decoded at a time: all, or a chunk and the next one."""
    return order.size if config.cache == "memory" else min(2 * len(order.pool(0)), order.size)


def _processes(config: TrainConfig, data: setup.Data, order: Order) -> str:
    """Estimate what processes take that do not keep all images, however many there are."""
    assert config.image_size is not None
    image, views = cache.kept_bytes(data.train, 1), 2 * 3 * config.image_size**2
    measured = 2 * min(config.monitor.num_images, eval_images.PIECE) * image  # one by one, and put together
    kept = 0.0
    if config.cache == "chunks":
        kept = cache.kept_bytes(data.train, _kept_images(config, order), config.cache_side)
    words = f"about {gigabytes(peak_memory() + measured + kept)} for this process beside the step"
    if config.cache == "chunks" and order.keeps(order.steps - 1):
        return words
    worker = config.batch_size * (image + 2 * views)  # a batch, and its views on their way
    return f"{words}, {gigabytes(worker)} for each of {config.machine.workers} workers beside what they share with it"


def _settings(method: Method) -> dict[str, str]:
    """Return the method's settings, its own where the configuration leaves them out."""
    words: dict[str, str] = {}
    for name in ("heads", "loss", "target"):
        given = {field: value for field, value in vars(getattr(method, f"{name}_config")).items() if value is not None}
        words |= {name: ", ".join(f"{field} {value}" for field, value in given.items())} if given else {}
    return words


def _parameters(method: Method) -> str:
    def count(module: torch.nn.Module) -> float:
        return sum(p.numel() for p in module.parameters()) / 1e6

    parts = ", ".join(f"{name} {count(module):.2f} M" for name, module in method.named_children())
    return f"{count(method):.2f} M ({parts})"


def _memory(config: TrainConfig, method: Method) -> str:
    """Estimate a step's memory: weights, gradients and optimizer state, and the activations kept for the backward pass.

    What is kept for the backward pass is counted, not guessed: autograd says what it keeps for two images and for four,
    in float32, and what grows between them grows with the batch. The rest, such as a covariance matrix, does not.
    """
    copies = {"sgd": 3, "lars": 3, "adamw": 4}[config.optim.optimizer]
    # a target branch has no gradients and no optimizer state
    weights = sum(p.numel() * 4 * (copies if p.requires_grad else 1) for p in method.parameters())
    two, four = (_kept(config, method, images) for images in (2, 4))
    each = (four - two) / 2
    activations = (two - 2 * each) + each * config.batch_size
    if config.machine.precision == "bf16":
        activations /= 2
    parts = f"weights and optimizer {gigabytes(weights)}, activations {gigabytes(activations)}"
    free = f"{gigabytes(available_memory())} free in main memory"
    return f"about {gigabytes(weights + activations)} for a step ({parts}); {free}"


def _kept(config: TrainConfig, method: Method, images: int) -> float:
    """Return the bytes that autograd keeps of a batch, beside the weights."""
    kept: dict[int, int] = {}
    size = image_size_of(config)

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    own = {p.data_ptr() for p in method.parameters()}
    views = torch.zeros(2, images, 3, size, size)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        method(views[0], views[1])
    return sum(size for pointer, size in kept.items() if pointer not in own)
