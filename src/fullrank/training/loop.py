"""The training loop: one run from its first step, or its last checkpoint, to its summary.

    fullrank train --images cifar10 --order hybrid --out runs/hybrid     # one process, CPU or GPU
    torchrun --nproc-per-node 8 -m fullrank train ...                    # eight, see fullrank.training.distributed
    fullrank train --resume runs/hybrid                                  # after Ctrl-C, a kill or a crash

A run is a function of its configuration and a step number: which images a step sees, how they are augmented and every
rate follow from `(seed, step)`. So a checkpoint holds weights, optimiser state and the sums of unfinished records,
and nothing of any random generator; on a CPU the run that was interrupted ends with the same bits as the one that was
not, for an equal number of processes. Another number changes a run, or goes on with it, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor
from torch.optim import Optimizer

from fullrank.config import TrainConfig, differences, from_dict, read_config, to_dict
from fullrank.data import former
from fullrank.data.batches import ViewLoader
from fullrank.data.images import same_images
from fullrank.data.randomness import Purpose, random_bits
from fullrank.errors import FullrankError
from fullrank.measure.scores import SCORES
from fullrank.models.batchnorm import synchronise
from fullrank.models.memory_format import to_memory_format
from fullrank.models.methods import Method
from fullrank.text import plain_console
from fullrank.training import setup
from fullrank.training.checkpoint import checkpoint_path, list_checkpoints, read_checkpoint, save_checkpoint
from fullrank.training.chunks import begin_chunk
from fullrank.training.distributed import World, processes
from fullrank.training.machine import environment
from fullrank.training.measuring import Measurer, training_protocol
from fullrank.training.online_probe import OnlineProbe
from fullrank.training.optim import build_optimizer, set_learning_rate
from fullrank.training.progress import TrainingProgress, clock
from fullrank.training.record import Record
from fullrank.training.runs import CONFIG, METRICS, SPECTRA, SUMMARY, RunFolder, read_run
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


@dataclass(frozen=True)
class Parts:
    """What a run is made of, as its configuration has it.

    Attributes:
        config: The configuration, with nothing left open.
        data: The images.
        loader: Gives the two views of each step.
        method: What is trained.
        measurer: Measures it, on the main process; None on the others.
        probe: The online probe, where the run has one.
    """

    config: TrainConfig
    data: setup.Data
    loader: ViewLoader
    method: Method
    measurer: Measurer | None
    probe: OnlineProbe | None


def train(config: TrainConfig, *, console: Console | None = None) -> Finished:
    """Train a new run.

    Args:
        config: What to do.
        console: Where to show progress.

    Raises:
        FullrankError: The configuration, the images or the folder do not allow it; the loss became NaN.
        OSError: The disk is full or cannot be written; checkpoints written before stay.
    """
    with processes() as world:
        console = _console(console, world)
        world.on_main(RunFolder.check_free, config.out)
        config, device = setup.resolve_machine(config, world)
        config, data = setup.open_data(config, world)
        # All that can fail on what the user gave comes before a folder is made.
        parts = _build(config, data, device, world)
        with _opened(lambda: RunFolder.create(config.out, setup.default_name(config)), world) as folder:
            parts = replace(parts, config=replace(parts.config, out=str(folder.path)))
            about = {**environment(device, world.size), "data": _facts(data)}
            world.on_main(folder.write_config, to_dict(parts.config), about)
            return _run(parts, folder, None, console, world)


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
    with processes() as world, _opened(lambda: RunFolder.reopen(path), world) as folder:
        console = _console(console, world)
        config, state, started, note = world.on_main(_read, path, asked)
        if note:
            console.print(note, soft_wrap=True, highlight=False, markup=False)
        if state is not None and (lost := world.on_main(_missing_records, path, state["step"], config)):
            console.print(lost, soft_wrap=True, highlight=False, markup=False)
        if state is not None and state["step"] == config.steps and world.on_main((path / SUMMARY).is_file):
            console.print(f"{path} is finished: all {config.steps} steps are done", soft_wrap=True, highlight=False)
            return Finished(path, config.steps, complete=True)
        config, device = setup.resolve_machine(config, world)
        before = started["data"].get("version", 1) < former.VERSION
        config, data = setup.open_data(config, world, as_before=before)
        world.on_main(_check_images, path, started["data"], config, data)
        if world.size != started.get("processes", 1):
            console.print(
                f"{path} goes on in {world.size} instead of {started.get('processes', 1)} processes: the same batches, "
                "and the same results up to rounding",
                soft_wrap=True,
                highlight=False,
            )
        return _run(_build(config, data, device, world), folder, state, console, world)


def _console(console: Console | None, world: World) -> Console:
    return console or plain_console() if world.main else Console(quiet=True, force_terminal=False)


@contextmanager
def _opened(open_folder: Callable[[], RunFolder], world: World) -> Iterator[RunFolder]:
    """Open the run's folder on the main process, which alone reads and writes it; the others know its path."""
    with world.together():
        own = open_folder() if world.main else None
    path = world.on_main(lambda: own.path if own else Path())
    folder = own or RunFolder.follow(path)
    try:
        yield folder
    finally:
        folder.close()


def _read(path: Path, asked: TrainConfig | None) -> tuple[TrainConfig, dict[str, Any] | None, dict[str, Any], str]:
    """Read a run to go on with: its configuration, its last checkpoint if it has one, what it was started on."""
    config = read_config(path / CONFIG)
    if asked is not None:
        changed = differences(config, asked)
        if changed:
            raise FullrankError(
                f"{path} was started with another configuration: {'; '.join(changed)}. Resume it as it was "
                f"(--resume {path} alone), or start a new run with another --out"
            )
        config = replace(asked, out=config.out)
    found = list_checkpoints(path / "checkpoints")
    state = read_checkpoint(found[-1]) if found else None
    if state is not None:
        _check_configuration(path, found[-1], state, config)
        lacking = [name for name in ("optimizer", "record", "skipped") if name not in state]
        if lacking:
            raise FullrankError(
                f"{found[-1]} is damaged: {lacking[0]} is missing; delete it to go on from the checkpoint before"
            )
    started = read_run(path).environment
    if not isinstance(started.get("data"), dict):
        raise FullrankError(
            f"{path / CONFIG} is damaged: its environment.data, which says what images the run was started with, is "
            "missing; put the file back as it was, or start a new run"
        )
    version = started["data"].get("version", 1)
    if version not in (1, former.VERSION) or (state is not None and state.get("data_version", version) != version):
        raise FullrankError(
            f"{path / CONFIG} is not what the run was started with: environment.data.version is {version}; put the "
            "file back as it was"
        )
    return config, state, started, "" if state is None else _said_of_the_machine(state, config)


def _said_of_the_machine(state: dict[str, Any], config: TrainConfig) -> str:
    """Say which settings that may change at a resume, and change rounding, differ from the checkpoint's."""
    before = from_dict(state["config"], TrainConfig(), "the checkpoint")
    pairs = {
        "machine.precision": (before.machine.precision, config.machine.precision),
        "machine.device": (before.machine.device, config.machine.device),
        "hold": (before.hold, config.hold),
    }
    changed = [f"{name} {new} (before {old})" for name, (old, new) in pairs.items() if old != new]
    return f"going on with other settings, which change the rounding: {', '.join(changed)}" if changed else ""


def _check_configuration(path: Path, file: Path, state: dict[str, Any], config: TrainConfig) -> None:
    """Refuse a checkpoint of another configuration: config.yaml was edited, or it is another run's."""
    before = from_dict(state["config"], TrainConfig(), str(file))
    changed = differences(replace(before, out=config.out), config)
    if changed:
        raise FullrankError(
            f"{path / CONFIG} is not what {file.name} was trained with: {'; '.join(changed)}. Put it back (the first "
            f"of each), or start a new run with --config {path / CONFIG} and another --out"
        )
    if not state["step"] <= config.steps or file != checkpoint_path(file.parent, state["step"]):
        raise FullrankError(
            f"{file} is of step {state['step']:,}, not what its name says or within the run's {config.steps:,} steps: "
            "it was copied or renamed; put it back, or delete it to go on from the checkpoint before"
        )


def _missing_records(path: Path, step: int, config: TrainConfig) -> str:
    """Say which records up to a checkpoint's step are gone; empty where none is.

    They are said, not refused: nothing but an earlier checkpoint gives them back, and the weights are whole.
    """
    every = {"train": config.monitor.log_every, "measure": config.monitor.measure_every}
    run = read_run(path)
    lacking = []
    for kind, often in every.items():
        has = {record["step"] for record in run.of_kind(kind)}
        due = {*range(0 if kind == "measure" else often, step + 1, often), *([step] if step == config.steps else [])}
        lacking += [(METRICS, at) for at in due - has]
        if kind == "measure":
            lacking += [(SPECTRA, at) for at in due - set(run.spectrum_steps.tolist())]
    if not lacking:
        return ""
    names = " and ".join(sorted({name for name, _ in lacking}))
    return (
        f"{path}: {names} lack {len(lacking)} records up to step {step:,}, the first of step "
        f"{min(at for _, at in lacking):,}: the run goes on without them, and its curves have gaps; put the files back "
        "if you have them"
    )


def _build(config: TrainConfig, data: setup.Data, device: torch.device, world: World) -> Parts:
    """Build what the loop uses, and fill in what the method decides; the main process alone measures."""
    everyones = world.everyones(_facts(data))
    with world.together():
        for rank, found in enumerate(everyones):
            if found != everyones[0]:
                raise FullrankError(
                    f"process {rank} finds other images than process 0: {_count(found['train'])}, not "
                    f"{_count(everyones[0]['train'])}, or other names or sizes; give all machines the same files"
                )
        loader = setup.build_loader(config, data, setup.build_order(config, len(data.train)), device, world)
        with world.first_on_machine():  # which downloads a teacher, where there is one
            method = setup.build_method(config)
        config = setup.resolve_method(config, method)
        probe = setup.build_probe(config, data, method, device, world)
        measurer = Measurer(config, data, device, probe) if world.main else None
    return Parts(config, data, loader, method, measurer, probe)


def _facts(data: setup.Data) -> dict[str, Any]:
    """Return what must be the same when a run is resumed, wherever its images lie then."""
    return {
        **({} if data.former else {"version": former.VERSION}),
        "train": {"count": len(data.train), "fingerprint": data.fingerprint, "skipped": len(data.skipped)},
        "held_out": data.held_out
        and {"count": len(data.held_out), "fingerprint": data.held_out.fingerprint(), "skipped": 0},
        **(
            {}
            if data.measured is data.train
            else {"measured": {"count": len(data.measured), "fingerprint": data.measured.fingerprint(), "skipped": 0}}
        ),
    }


def _check_images(path: Path, before: dict[str, Any], config: TrainConfig, data: setup.Data) -> None:
    """Refuse images other than those the run was started with."""
    now = _facts(data)
    for part, where in (("train", config.images), ("held_out", config.eval_images or config.images)):
        if not _same(before[part], now[part]):
            raise FullrankError(
                f"the {part.replace('_', '-')} images at {where} are not those that {path} was started with: "
                f"{_count(before[part])} then, {_count(now[part])} now, or other names, sizes or contents; put them "
                "back, or start a new run"
            )


def _same(before: dict[str, Any] | None, now: dict[str, Any] | None) -> bool:
    if not before or not now:
        return not before and not now
    return {**before, "fingerprint": ""} == {**now, "fingerprint": ""} and same_images(
        before["fingerprint"], now["fingerprint"]
    )


def _count(facts: dict[str, Any] | None) -> str:
    return f"{facts['count']} readable and {facts['skipped']} not" if facts else "none"


def _run(parts: Parts, folder: RunFolder, state: dict[str, Any] | None, console: Console, world: World) -> Finished:
    config, loader, method, measurer, probe = parts.config, parts.loader, parts.method, parts.measurer, parts.probe
    device = loader.device
    if world.size > 1:  # equal weights everywhere, whatever the machines' own arithmetic makes of the seed
        method.load_state_dict(world.on_main(method.state_dict))
        synchronise(method, device)
    method.to(device)
    memory_format = to_memory_format(method)
    with world.together():
        optimizer = build_optimizer(method, config.optim, config.batch_size)
        record = Record(folder, state, tensorboard=config.monitor.tensorboard and world.main)
    loader.skipped.update(parts.data.skipped, measurer.skipped if measurer else (), state["skipped"] if state else ())

    step = 0
    world.on_main(folder.forget_after, state["step"] if state else None)
    if state is not None:
        step = state["step"]
        with world.together():
            _restore(method, optimizer, probe, state)
            del state["model"], state["optimizer"]  # a copy of both, for as long as the run lasts
        console.print(f"going on with {folder.path} from step {step}", soft_wrap=True, highlight=False)
    else:
        console.print(
            f"{folder.path}: {config.method} on {len(parts.data.train):,} images of {config.images}, {config.order}, "
            f"{config.steps:,} steps, {device}{f', {world.size} processes' if world.size > 1 else ''}",
            soft_wrap=True,
            highlight=False,
        )
    for name in sorted(loader.skipped):
        console.print(f"skipped, cannot be decoded: {name}", soft_wrap=True, highlight=False, markup=False)

    # These four run on the main process alone, through `world.on_main`.
    def begin() -> None:
        assert measurer is not None
        write_samples(folder.path / "samples.png", loader)
        record.protocols(measurer.protocols)

    def log(lr: float, embedding: Tensor) -> None:
        taken = probe.taken() if probe is not None else None
        others = {} if taken is None else {"online_probe_train": taken}
        loss, speed = record.logged(step, lr, embedding, config.batch_size, others)
        progress.log(step, loss, speed, record.latest_scores(step))

    def measure() -> None:
        assert measurer is not None
        record.check_finite(step)
        known = set(measurer.failed)
        scores, measured = measurer.measure(method)
        for name in measurer.failed.keys() - known:
            console.print(
                f"{SCORES[name].title} could not be taken at step {step}, and is left out wherever it cannot: "
                f"{' '.join(measurer.failed[name].split())}",
                soft_wrap=True,
                highlight=False,
                markup=False,
            )
        record.measured(step, scores, measured)

    def checkpoint(skipped: list[set[str]]) -> None:
        record.check_finite(step)
        loader.skipped.update(*skipped)
        contents = {
            "config": to_dict(config),
            "model": method.state_dict(),
            "optimizer": optimizer.state_dict(),
            "record": record.state_dict(),
            **({} if probe is None else {"online_probe": probe.state_dict()}),
            "skipped": sorted(loader.skipped),
            **({} if parts.data.former else {"data_version": former.VERSION}),
        }
        folder.sync()
        save_checkpoint(folder.checkpoints, step, contents, keep=config.keep_checkpoints)

    compute = torch.compile(method) if config.machine.compile else method
    method.train()
    if state is None:
        world.on_main(begin)
        world.on_main(measure)
        world.on_main(checkpoint, world.everyones(loader.skipped))

    with (
        TrainingProgress(config, folder.path.name, step, console) as progress,
        caught_signals(second_kills=world.size == 1) as caught,
        # the seeding below is this run's affair, not of the program it runs in
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        for batch in world.each(loader(step)):
            # dropout and stochastic depth, where a backbone has them, are a function of the step too
            torch.manual_seed(int(random_bits(config.seed, Purpose.MODEL, step, world.rank, 1)[0] >> 1))
            begin_chunk(config, loader.order, step, method, optimizer)
            lr = set_learning_rate(optimizer, step, config.steps, config.optim, config.batch_size)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.machine.precision == "bf16"):
                output = compute(
                    batch.first.to(memory_format=memory_format),
                    batch.second.to(memory_format=memory_format),
                )
            output.loss.backward()
            world.average_gradients(method)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            method.after_step(step, config.steps)
            if probe is not None:
                probe.step(step, output.representations, batch.images)

            step += 1
            last = step == config.steps
            record.add(world.mean(output.loss))
            progress.step(step)
            if last or step % config.monitor.log_every == 0:
                world.on_main(log, lr, world.gather(output.embedding.float()))
            if last or step % config.monitor.measure_every == 0:
                world.on_main(measure)
            stop = world.largest(caught.get("signal", 0))  # a signal to one process stops all after the same step
            if last or stop or step % config.checkpoint_every == 0:
                world.on_main(checkpoint, world.everyones(loader.skipped))
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

    def finish() -> None:
        assert measurer is not None
        scores = record.final_scores(measurer.protocols, training_protocol(config))
        folder.write_summary({"steps": step, "scores": scores, "skipped": skipped, "seconds": record.seconds})

    world.on_main(finish)
    console.print(
        f"{folder.path}: {step} steps in {clock(record.seconds)}{record.latest_scores(step)}",
        soft_wrap=True,
        highlight=False,
    )
    return Finished(folder.path, step, complete=True)


def _restore(method: Method, optimizer: Optimizer, probe: OnlineProbe | None, state: dict[str, Any]) -> None:
    try:
        method.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if probe is not None:
            probe.load_state_dict(state["online_probe"])
        _check_optimizer(optimizer, state["optimizer"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FullrankError(
            f"the checkpoint of step {state['step']:,} does not fit the run's configuration: {reason}; delete it to go "
            "on from the checkpoint before"
        ) from None


def _check_optimizer(optimizer: Optimizer, saved: dict[str, Any]) -> None:
    """Raise `ValueError` where what an optimizer loaded is not of its parameters: torch would see it a step later."""
    for group, before in zip(optimizer.param_groups, saved["param_groups"], strict=True):
        for parameter in group["params"]:
            for name, value in optimizer.state.get(parameter, {}).items():
                if not isinstance(value, Tensor) or (value.ndim and value.shape != parameter.shape):
                    raise ValueError(f"the optimizer's {name} is not of its parameter's shape {tuple(parameter.shape)}")
        wrong = [name for name in ("lr", "weight_decay") if not isinstance(before.get(name), (int, float))]
        if wrong:
            raise ValueError(f"the optimizer's {wrong[0]} is no number")
