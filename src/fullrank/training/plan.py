"""What a run would do, without doing it: `fullrank train --dry-run`."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from fullrank.config import TrainConfig
from fullrank.data import holding, views
from fullrank.data.memory import available_memory, gigabytes
from fullrank.data.order import MultiplePass, Order
from fullrank.errors import FullrankError
from fullrank.models.methods import Method
from fullrank.training import setup
from fullrank.training.optim import learning_rate


class Plan(NamedTuple):
    """What a run would do.

    Attributes:
        rows: Pairs of a heading and its text, to print as a table.
        wrong: Why the images cannot be opened; what follows from them is not in `rows` then.
    """

    rows: list[tuple[str, str]]
    wrong: FullrankError | None = None


def plan(config: TrainConfig) -> Plan:
    """Describe a run: images, order, steps, parameters, memory.

    The images are opened and the model is built, so what would fail at the start of the run fails here. Without the
    images, the rest is still described.
    """
    config, device = setup.resolve_machine(config)
    views.recipe(config.views, crop_min=config.crop_min)  # whose errors a plan should show too
    # held in memory only if the run would be, but not decoded for a plan: streaming reads none
    wanted, config = config.hold, replace(config, hold="stream")
    try:
        config, data = setup.open_data(config)
    except FullrankError as error:
        wrong: FullrankError | None = error
        assumed = "" if config.image_size else ", assumed: images decide unless --image-size does"
        config = replace(config, image_size=config.image_size or setup.LARGE_VIEW)
        method = setup.build_method(config)
        about = [("images", f"{config.images}: not known, they cannot be opened (see below)")]
        order_words = f"{config.order}; how often it sees an image follows from their number, not known"
    else:
        wrong, assumed = None, ""
        config = setup.resolve_hold(replace(config, hold=wanted), data.train)
        order = setup.build_order(config, len(data.train))
        method = setup.build_method(config)
        setup.build_probe(config, data, method, torch.device("cpu"))  # whose errors too
        labels = "labelled" if data.train.labels is not None else "no labels"
        held_out = f"{len(data.held_out):,} images" if data.held_out is not None else "none: no held-out loss, no k-NN"
        about = [
            ("images", f"{config.images}: {len(data.train):,} ({labels}); {_hold_words(config, data, order)}"),
            ("held out", held_out),
        ]
        order_words = describe_order(order)
    rates = [
        learning_rate(s, config.steps, config.optim, config.batch_size)
        for s in (0, config.steps // 2, config.steps - 1)
    ]
    rows = [
        *about,
        ("views", f"{config.views}, {config.image_size} x {config.image_size}{assumed}"),
        ("order", order_words),
        ("steps", f"{config.steps:,} of {config.batch_size} images"),
        ("method", config.method),
        *_settings(method),
        ("parameters", _parameters(method)),
        (
            "optimiser",
            f"{config.optim.optimizer}, weight decay {config.optim.weight_decay:g}, learning rate "
            f"{rates[0]:.4g} at the start, {rates[1]:.4g} half-way, {rates[2]:.2g} at the end",
        ),
        ("machine", f"{device}, {config.machine.precision}, {torch.get_num_threads()} CPU threads"),
        ("memory", _memory(config, method)),
    ]
    return Plan(rows, wrong)


def describe_order(order: Order) -> str:
    """Say in words what an order does with its images and steps."""
    passes = order.steps / (order.size // order.batch_size)
    if isinstance(order, MultiplePass):
        return f"{order.name}: {order.size:,} images in {passes:.1f} passes of {order.size // order.batch_size} steps"
    chunks: int = getattr(order, "chunks")  # noqa: B009 - every other order has chunks
    rounds: int = getattr(order, "rounds", 1)
    size, steps = order.size // chunks, order.steps // (chunks * rounds)
    text = (
        f"{order.name}: {chunks} chunks of {size:,} images, {steps:,} steps each, "
        f"{steps / (size // order.batch_size):.1f} passes over a chunk"
        + (f", in each of {rounds} rounds" if rounds > 1 else "")
    )
    switch: int | None = getattr(order, "switch_step", None)
    return text if switch is None else f"{text}; multiple passes over all from step {switch:,}"


def _hold_words(config: TrainConfig, data: setup.Data, order: Order) -> str:
    encoded = data.train.encoded_bytes
    kept = f"; encoded, {gigabytes(encoded)} in memory" if encoded else ""
    return _decoded_words(config, data, order) + kept


def _decoded_words(config: TrainConfig, data: setup.Data, order: Order) -> str:
    if config.hold == "stream":
        return "decoded by workers as needed"
    size = holding.look_at_sizes(data.train)[0]
    if config.hold == "memory":
        return f"held in memory, {gigabytes(order.size * 3 * size[0] * size[1])}"
    return f"held in memory by chunks, {gigabytes(2 * len(order.pool(0)) * 3 * size[0] * size[1])}"


def _settings(method: Method) -> list[tuple[str, str]]:
    """Return the method's settings, its own where the configuration leaves them out."""
    sections = {"heads": method.heads_config, "loss": method.loss_config, "target": method.target_config}
    words = {
        name: ", ".join(f"{field} {value}" for field, value in vars(section).items() if value is not None)
        for name, section in sections.items()
    }
    return [(name, text) for name, text in words.items() if text]


def _parameters(method: Method) -> str:
    def count(module: torch.nn.Module) -> float:
        return sum(p.numel() for p in module.parameters()) / 1e6

    parts = ", ".join(f"{name} {count(module):.2f} M" for name, module in method.named_children())
    return f"{count(method):.2f} M ({parts})"


def _memory(config: TrainConfig, method: Method) -> str:
    """Estimate a step's memory: weights, gradients and optimiser state, and the activations kept for the backward pass.

    What is kept for the backward pass is counted, not guessed: autograd says what it keeps for two images and for four,
    in float32, and what grows between them grows with the batch. The rest, such as a covariance matrix, does not.
    """
    copies = {"sgd": 3, "lars": 3, "adamw": 4}[config.optim.optimizer]
    # a target branch has no gradients and no optimiser state
    weights = sum(p.numel() * 4 * (copies if p.requires_grad else 1) for p in method.parameters())
    two, four = (_kept(config, method, images) for images in (2, 4))
    each = (four - two) / 2
    activations = (two - 2 * each) + each * config.batch_size
    if config.machine.precision == "bf16":
        activations /= 2
    return (
        f"about {gigabytes(weights + activations)} for a step (weights and optimiser "
        f"{gigabytes(weights)}, "
        f"activations {gigabytes(activations)}); {gigabytes(available_memory())} free in main memory"
    )


def _kept(config: TrainConfig, method: Method, images: int) -> float:
    """Return the bytes that autograd keeps of a batch, beside the weights."""
    assert config.image_size is not None
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    own = {p.data_ptr() for p in method.parameters()}
    views = torch.zeros(2, images, 3, config.image_size, config.image_size)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        method(views[0], views[1])
    return sum(size for pointer, size in kept.items() if pointer not in own)
