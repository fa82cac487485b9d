"""The training loop: one run from its first step, or its last checkpoint, to its summary.

    fullrank train --images cifar10 --order hybrid --out runs/hybrid     # one process, CPU or GPU
    fullrank train --resume runs/hybrid                                  # after Ctrl-C, a kill or a crash

A run is a function of its configuration and a step number: which images a step sees, how they are augmented and every
rate follow from `(seed, step)`. So a checkpoint holds weights, optimiser state and the sums of unfinished records,
and nothing of any random generator; on a CPU the run that was interrupted ends with the same bits as the one that was
not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.optim import Optimizer

from fullrank.data.batches import ViewLoader
from fullrank.data.randomness import Purpose, random_bits
from fullrank.errors import FullrankError
from fullrank.models.methods import Method
from fullrank.training import setup
from fullrank.training.checkpoint import find_checkpoint, list_checkpoints, read_checkpoint, save_checkpoint
from fullrank.training.config import TrainConfig, differences, read_config, to_dict
from fullrank.training.machine import environment
from fullrank.training.measuring import Measurer
from fullrank.training.optim import build_optimizer, set_learning_rate
from fullrank.training.progress import TrainingProgress, clock
from fullrank.training.record import Record
from fullrank.training.runs import CONFIG, SUMMARY, RunFolder, read_run
from fullrank.training.samples import write_samples
from fullrank.training.signals import caught_signals


@dataclass(frozen=True)
class Finished:
    """How `train` ended.

    Attributes:
        path: The run's folder.
        step: Steps done.
        complete: Whether these are all; False when a signal stopped it.
        signal: The signal that did.
    """

    path: Path
    step: int
    complete: bool
    signal: int | None = None


def train(config: TrainConfig, *, console: Console | None = None) -> Finished:
    """Train a new run.

    Args:
        config: What to do.
        console: Where to show progress.

    Raises:
        FullrankError: The configuration, the images or the folder do not allow it; the loss became NaN.
        OSError: The disk is full or cannot be written; checkpoints written before stay.
    """
    RunFolder.check_free(config.out)
    config, device = setup.resolve_machine(config)
    config, data = setup.open_data(config)
    # All that can fail on what the user gave comes before a folder is made.
    loader = setup.build_loader(config, data, setup.build_order(config, len(data.train)), device)
    method = setup.build_method(config)
    config = setup.resolve_method(config, method)
    measurer = Measurer(config, data, device)
    folder = RunFolder.create(config.out, setup.default_name(config))
    try:
        config = replace(config, out=str(folder.path))
        folder.write_config(to_dict(config), {**environment(device), "data": _facts(data)})
        return _run(config, data, loader, measurer, method, folder, None, console or Console())
    finally:
        folder.close()


def resume(path: Path, asked: TrainConfig | None = None, *, console: Console | None = None) -> Finished:
    """Go on with a run from its last checkpoint, or from the start when it was stopped before the first.

    Args:
        path: The run's folder.
        asked: The configuration that was asked for, when it was changed; only `CHANGEABLE` fields may differ from the
            run's.
        console: Where to show progress.

    Raises:
        FullrankError: There is no run, another process trains it, its configuration, images or checkpoint do not fit.
        OSError: As for `train`.
    """
    console = console or Console()
    folder = RunFolder.reopen(path)
    try:
        config = read_config(path / CONFIG)
        if asked is not None:
            changed = differences(config, asked)
            if changed:
                raise FullrankError(
                    f"{path} was started with another configuration: {'; '.join(changed)}. Resume it as it was "
                    f"(--resume {path} alone), or start a new run with another --out"
                )
            config = replace(asked, out=config.out)
        config, device = setup.resolve_machine(config)
        found = list_checkpoints(folder.checkpoints)
        state = read_checkpoint(find_checkpoint(path)) if found else None
        if (path / SUMMARY).is_file() and state is not None and state["step"] == config.steps:
            console.print(f"{path} is finished: all {config.steps} steps are done", soft_wrap=True, highlight=False)
            return Finished(path, config.steps, complete=True)
        config, data = setup.open_data(config)
        _check_images(path, config, data)
        loader = setup.build_loader(config, data, setup.build_order(config, len(data.train)), device)
        measurer = Measurer(config, data, device)
        return _run(config, data, loader, measurer, setup.build_method(config), folder, state, console)
    finally:
        folder.close()


def _facts(data: setup.Data) -> dict[str, Any]:
    """Return what must be the same when a run is resumed, wherever its images lie then."""
    return {
        "train": {"count": len(data.train), "fingerprint": data.fingerprint, "skipped": len(data.skipped)},
        "held_out": data.held_out
        and {"count": len(data.held_out), "fingerprint": data.held_out.fingerprint(), "skipped": 0},
    }


def _check_images(path: Path, config: TrainConfig, data: setup.Data) -> None:
    """Refuse images other than those the run was started with."""
    before, now = read_run(path).environment["data"], _facts(data)
    for part, where in (("train", config.images), ("held_out", config.eval_images or config.images)):
        if before[part] != now[part]:
            raise FullrankError(
                f"the {part.replace('_', '-')} images at {where} are not those that {path} was started with: "
                f"{_count(before[part])} then, {_count(now[part])} now, or other names or sizes; put them back, or "
                "start a new run"
            )


def _count(facts: dict[str, Any] | None) -> str:
    return f"{facts['count']} readable and {facts['skipped']} not" if facts else "none"


def _run(
    config: TrainConfig,
    data: setup.Data,
    loader: ViewLoader,
    measurer: Measurer,
    method: Method,
    folder: RunFolder,
    state: dict[str, Any] | None,
    console: Console,
) -> Finished:
    device = loader.device
    method.to(device)
    method.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(method, config.optim, config.batch_size)
    record = Record(folder, state, tensorboard=config.monitor.tensorboard)
    loader.skipped.update(data.skipped, measurer.skipped, state["skipped"] if state else ())

    step = 0
    folder.forget_after(state["step"] if state else None)
    if state is not None:
        step = state["step"]
        _restore(method, optimizer, state)
        console.print(f"going on with {folder.path} from step {step}", soft_wrap=True, highlight=False)
    else:
        console.print(
            f"{folder.path}: {config.method} on {len(data.train):,} images of {config.images}, {config.order}, "
            f"{config.steps:,} steps, {device}",
            soft_wrap=True,
            highlight=False,
        )
    for name in sorted(loader.skipped):
        console.print(f"skipped, cannot be decoded: {name}", soft_wrap=True, highlight=False, markup=False)

    def checkpoint() -> None:
        contents = {
            "config": to_dict(config),
            "model": method.state_dict(),
            "optimizer": optimizer.state_dict(),
            "record": record.state_dict(),
            "skipped": sorted(loader.skipped),
        }
        folder.sync()
        save_checkpoint(folder.checkpoints, step, contents, keep=config.keep_checkpoints)

    def measure() -> None:
        scores, measured = measurer.measure(method)
        record.measured(step, scores, measured)

    compute = torch.compile(method) if config.machine.compile else method
    method.train()
    if state is None:
        write_samples(folder.path / "samples.png", loader)
        record.protocols(measurer.protocols)
        measure()
        checkpoint()

    with (
        TrainingProgress(config, folder.path.name, step, console) as progress,
        caught_signals() as caught,
        # the seeding below is this run's affair, not of the program it runs in
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        for batch in loader(step):
            # dropout and stochastic depth, where a backbone has them, are a function of the step too
            torch.manual_seed(int(random_bits(config.seed, Purpose.MODEL, step, 0, 1)[0] >> 1))
            lr = set_learning_rate(optimizer, step, config.steps, config.optim, config.batch_size)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.machine.precision == "bf16"):
                output = compute(
                    batch.first.to(memory_format=torch.channels_last),
                    batch.second.to(memory_format=torch.channels_last),
                )
            output.loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            method.after_step(step, config.steps)

            step += 1
            last = step == config.steps
            record.add(output.loss)
            progress.step(step)
            if last or step % config.monitor.log_every == 0:
                loss, speed = record.logged(step, lr, output.embedding, config.batch_size)
                progress.log(step, loss, speed, record.latest_scores())
            if last or step % config.monitor.measure_every == 0:
                record.check_finite(step)
                measure()
            stop = caught.get("signal")
            if last or stop or step % config.checkpoint_every == 0:
                record.check_finite(step)
                checkpoint()
            if stop and not last:
                record.close()
                progress.note(
                    f"stopped after step {step} of {config.steps}, and saved; go on with: fullrank train --resume "
                    f"{folder.path}"
                )
                return Finished(folder.path, step, complete=False, signal=stop)

    record.close()
    skipped = sorted(loader.skipped)
    if skipped:
        shown = ", ".join(skipped[:3]) + (" ..." if len(skipped) > 3 else "")
        console.print(f"images that could not be decoded: {len(skipped)} ({shown})", soft_wrap=True, highlight=False)
    folder.write_summary(
        {
            "steps": step,
            "scores": record.final_scores(measurer.protocols),
            "skipped": skipped,
            "seconds": record.seconds,
        }
    )
    console.print(
        f"{folder.path}: {step} steps in {clock(record.seconds)}{record.latest_scores()}",
        soft_wrap=True,
        highlight=False,
    )
    return Finished(folder.path, step, complete=True)


def _restore(method: Method, optimizer: Optimizer, state: dict[str, Any]) -> None:
    try:
        method.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise FullrankError(
            f"the checkpoint does not fit the run's configuration: {str(error).splitlines()[0]}"
        ) from None
