"""`resolve`: from a configuration to a run with nothing left open, so that it means the same when it is resumed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from fullrank.config import TrainConfig
from fullrank.data.batches import ViewLoader
from fullrank.errors import FullrankError
from fullrank.models.backbones import width_of
from fullrank.models.batchnorm import synchronise
from fullrank.models.memory_format import to_memory_format
from fullrank.models.methods import Method
from fullrank.training import setup
from fullrank.training.distributed import ALONE, World
from fullrank.training.machine import choose_device, choose_precision
from fullrank.training.measuring import Measurer
from fullrank.training.online_probe import OnlineProbe
from fullrank.training.resuming import Resumed, counted


@dataclass(frozen=True)
class Resolved:
    """A run with nothing left open.

    Attributes:
        config: The configuration; what it leaves to the machine, the images and the method is filled in.
        device: Where this process trains.
        data: The images.
        loader: Gives the two views of each step, in the run's order.
        method: What is trained, on the device.
        memory_format: Of the method's weights, and so of its images.
        probe: The online probe, where the run has one.
        measurer: Measures the method, on the main process; None on the others.
    """

    config: TrainConfig
    device: torch.device
    data: setup.Data
    loader: ViewLoader
    method: Method
    memory_format: torch.memory_format
    probe: OnlineProbe | None
    measurer: Measurer | None


def resolve(config: TrainConfig, world: World = ALONE, resumed: Resumed | None = None) -> Resolved:
    """Choose what the configuration leaves open, open the images, and build the method with its initial weights.

    Args:
        config: What to do.
        world: The run's processes.
        resumed: The run that goes on, where one does: it sees the images as it did.

    Raises:
        FullrankError: The configuration, the machine or the images do not allow it.
    """
    config, device = resolve_machine(config, world)
    config, data = setup.open_data(config, world, as_before=resumed is not None and resumed.former)
    if resumed is not None:
        world.on_main(resumed.check_images, config, data.facts)
    facts = world.all_gather_object(data.facts)
    with world.raise_together():
        for rank, found in enumerate(facts):
            if found != facts[0]:
                raise FullrankError(
                    f"process {rank} finds other images than process 0: {counted(found['train'])}, not "
                    f"{counted(facts[0]['train'])}, or other names or sizes; give all machines the same files"
                )
        loader = setup.build_loader(config, data, setup.build_order(config, len(data.train)), device, world)
        with world.first_on_machine():  # which downloads a teacher, where there is one
            method = setup.build_method(config)
        config = replace(config, heads=method.heads_config, loss=method.loss_config, target=method.target_config)
        probe = build_probe(config, data, method, device, world)
        measurer = Measurer(config, data, device, probe) if world.main else None
    if world.size > 1:  # equal weights everywhere, whatever the machines' own arithmetic makes of the seed
        method.load_state_dict(world.on_main(method.state_dict))
        synchronise(method, device)
    method.to(device)
    return Resolved(config, device, data, loader, method, to_memory_format(method), probe, measurer)


def resolve_machine(config: TrainConfig, world: World = ALONE) -> tuple[TrainConfig, torch.device]:
    """Choose device and precision, and set the number of threads.

    Returns:
        The configuration with what the main process has chosen, and this process's device.

    Raises:
        FullrankError: There is no such device, or the batch cannot be shared among the processes.
    """

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


def build_probe(
    config: TrainConfig, data: setup.Data, method: Method, device: torch.device, world: World = ALONE
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
