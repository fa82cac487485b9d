"""The training loop: one run from its first step, or its last checkpoint, to its summary.

    fullrank train --images cifar10 --order hybrid --out runs/hybrid     # one process, CPU or GPU
    torchrun --nproc-per-node 8 -m fullrank train ...                    # eight, see fullrank.training.distributed
    fullrank train --resume runs/hybrid                                  # after Ctrl-C, a kill or a crash

A run is a function of its configuration and a step number: which images a step sees, how they are augmented and every
rate follow from `(seed, step)`. So a checkpoint holds weights, optimizer state and the sums of unfinished records,
and nothing of any random generator; on a CPU the run that was interrupted ends with the same bits as the one that was
not, for an equal number of processes. Another number changes a run, or goes on with it, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.optim import Optimizer

from fullrank.config import TrainConfig, to_dict
from fullrank.data.batches import Views
from fullrank.data.randomness import Purpose, random_bits
from fullrank.losses import gather
from fullrank.models.methods import Output
from fullrank.text import plain_console
from fullrank.training.distributed import World, processes
from fullrank.training.machine import compiled, environment
from fullrank.training.optim import begin_chunk, build_optimizer, set_learning_rate
from fullrank.training.progress import drawn, say
from fullrank.training.record import Recorder
from fullrank.training.resuming import read_resumed, restore
from fullrank.training.runs import RunFolder, opened
from fullrank.training.setup import Resolved, resolve
from fullrank.training.signals import caught_signals


def train_step(
    step: int, batch: Views, run: Resolved, model: Callable[..., Output], optimizer: Optimizer, world: World
) -> Output:
    """Train on one batch, of this process's images: all that the next weights depend on."""
    config, method = run.config, run.method
    # dropout and stochastic depth, where a backbone has them, are a function of the step too
    torch.manual_seed(int(random_bits(config.seed, Purpose.MODEL, step, world.rank, 1)[0]) >> 1)
    begin_chunk(config, run.loader.order, step, method, optimizer)
    set_learning_rate(optimizer, step, config.steps, config.optim, config.batch_size)
    with torch.autocast(run.device.type, torch.bfloat16, enabled=config.machine.precision == "bf16"):
        output = model(*(view.to(memory_format=run.memory_format) for view in batch.views))
    output.loss.backward()
    run.gradients.average()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    method.after_step(step, config.steps)
    if run.probe is not None:
        run.probe.step(step, output.representations, batch.images)
    return output


def train_steps(
    run: Resolved, folder: RunFolder, state: dict[str, Any] | None, console: Console, world: World
) -> Finished:
    """Train from the first step, or from a checkpoint, to the last one or a signal."""
    config, loader, every = run.config, run.loader, run.config.monitor
    with world.raise_together():
        optimizer = build_optimizer(run.method, config.optim, config.batch_size)
        recorder = Recorder(run, folder, optimizer, state, console, world)
    step = state["step"] if state is not None else 0
    world.on_main(folder.forget_after, step if state is not None else None)
    if state is not None:
        with world.raise_together():
            restore(run.method, optimizer, run.probe, loader, state)
    with (
        recorder,
        drawn(recorder.progress.bar),
        caught_signals(second_kills=world.size == 1) as caught,
        # the seeding of steps is this run's affair, not of the program it runs in
        torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []),
    ):
        recorder.announce(step, resumed=state is not None)
        model = compiled(run.method, run.device) if config.machine.compile else run.method
        run.method.train()
        if state is None:
            world.on_main(recorder.begin)
            # minutes, of many images: a run that is stopped meanwhile has nothing to save, and starts over
            scores = world.on_main(caught.unless, lambda: recorder.measure(step))
            if scores is not None:
                loader.order = loader.order.after(step, scores)
                world.on_main(recorder.checkpoint, step, world.all_gather_object(loader.skipped))
        if stop := world.all_reduce_max(caught.signal):
            recorder.stopped(step)
            return Finished(folder.path, step, stop)
        batches = world.each(loader(step))
        while step < config.steps:
            batch = next(batches)
            output = train_step(step, batch, run, model, optimizer, world)
            step += 1
            last = step == config.steps
            recorder.add(step, output.loss)
            if last or step % config.log_every == 0:
                world.on_main(recorder.log, step, gather(output.embedding.float()))
            if last or step % every.measure_every == 0:
                order = loader.order.after(step, world.on_main(recorder.measure, step))
                if order.learned != loader.order.learned:
                    loader.order = order
                    batches = world.each(loader(step))  # what was made ahead is of the order as it was
            stop = world.all_reduce_max(caught.signal)  # a signal to one stops all after the same step
            if last or stop or step % config.checkpoint_every == 0:
                world.on_main(recorder.checkpoint, step, world.all_gather_object(loader.skipped))
            if stop and not last:
                recorder.stopped(step)
                return Finished(folder.path, step, stop)
        world.on_main(recorder.finish)
    return Finished(folder.path, step)


@dataclass(frozen=True)
class Finished:
    """How `train` ended."""

    path: Path
    step: int  # steps done
    signal: int = 0  # the signal that stopped it; 0 where all steps are done

    @property
    def complete(self) -> bool:
        """Whether all steps are done."""
        return not self.signal


def train(config: TrainConfig, *, console: Console | None = None) -> Finished:
    """Train a new run, and show progress on the console.

    Raises:
        FullrankError: The configuration, the images or the folder do not allow it; the loss became NaN.
        OSError: The disk is full or cannot be written; checkpoints written before stay.
    """
    with processes() as world:
        world.on_main(RunFolder.check_free, config.out)
        run = resolve(config, world)  # all that can fail on what the user gave comes before a folder is made
        with opened(lambda: RunFolder.create(config), world) as folder:
            run = replace(run, config=replace(run.config, out=str(folder.path)))
            about = {**environment(run.device, world.size), "data": run.data.facts}
            world.on_main(folder.write_config, to_dict(run.config), about)
            return train_steps(run, folder, None, _console(console, world), world)


def resume(path: Path, asked: TrainConfig | None = None, *, console: Console | None = None) -> Finished:
    """Go on with a run from its last checkpoint, or from the start when it was stopped before the first.

    A finished run without weights stays as it is.

    `asked` is the configuration that was asked for, when it was changed; only `CHANGEABLE` fields may differ from the
    run's.

    Raises:
        FullrankError: There is no run, another process trains it, its configuration, images or checkpoint do not fit.
        OSError: As for `train`.
    """
    with processes() as world, opened(lambda: RunFolder.reopen(path), world) as folder:
        console = _console(console, world)
        resumed = world.on_main(read_resumed, path, asked, world.size)
        for note in resumed.notes:
            say(console, note)
        if resumed.finished:
            say(console, f"{path} is finished: all {resumed.config.steps} steps are done")
            return Finished(path, resumed.config.steps)
        return train_steps(resolve(resumed.config, world, resumed), folder, resumed.state, console, world)


def _console(console: Console | None, world: World) -> Console:
    return console or plain_console() if world.main else Console(quiet=True, force_terminal=False)
