"""What a run must be to go on: its configuration, records, checkpoint and images are those it was started with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from fullrank.config import TrainConfig, forbidden_changes, from_dict, read_config, to_dict
from fullrank.data.batches import ViewLoader
from fullrank.errors import FullrankError
from fullrank.models.methods import Method
from fullrank.text import flatten
from fullrank.training.checkpoint import checkpoint_path, list_checkpoints, read_checkpoint
from fullrank.training.online_probe import OnlineProbe
from fullrank.training.runs import CONFIG, METRICS, SPECTRA, SUMMARY, RunRecord, read_run

IMAGES_VERSION = 2
"""Of how images are found, sampled and matched with labels: in a run's config.yaml, which has none before 0.1.0."""


@dataclass(frozen=True)
class Resumed:
    """A run that goes on."""

    path: Path
    config: TrainConfig  # its configuration, with what was changed
    state: dict[str, Any] | None  # its last checkpoint; None where it was stopped before the first
    images: dict[str, Any]  # what it saw of its images when it was started
    finished: bool  # whether nothing is left to do
    notes: list[str]  # what a person should know

    def check_images(self, config: TrainConfig, now: dict[str, Any]) -> None:
        """Refuse images other than those the run was started with."""
        for part, where in (("train", config.images), ("held_out", config.eval_images or config.images)):
            if self.images[part] != now[part]:
                raise FullrankError(
                    f"the {part.replace('_', '-')} images at {where} are not those that {self.path} was started with: "
                    f"{counted(self.images[part])} then, {counted(now[part])} now, or other names, sizes or contents; "
                    "put them back, or start a new run"
                )


def read_resumed(path: Path, asked: TrainConfig | None, processes: int) -> Resumed:
    """Read a run that is to go on in so many processes, as it was, or with what `asked` changes of it."""
    config = read_config(path / CONFIG)
    if asked is not None:
        changed = forbidden_changes(config, asked)
        if changed:
            raise FullrankError(
                f"{path} was started with another configuration: {'; '.join(changed)}. Resume it as it was "
                f"(--resume {path} alone), or start a new run with another --out"
            )
        config = replace(asked, out=config.out)
    found = list_checkpoints(path / "checkpoints")
    state = read_checkpoint(found[-1]) if found else None
    notes = _check_checkpoint(path, found[-1], state, config) if state is not None else []
    run = read_run(path)
    images = run.environment.get("data")
    if not isinstance(images, dict):
        raise FullrankError(
            f"{path / CONFIG} is damaged: its environment.data, which says what images the run was started with, is "
            "missing; put the file back as it was, or start a new run"
        )
    if state is not None:
        notes += _missing_records(run, state["step"], config)
    elif run.finished:
        notes.append(f"{path}: its weights are gone: delete its {SUMMARY} to train it anew, which drops its records")
    elif run.reached:
        what = f"it begins anew, and what it recorded up to step {run.reached:,} is dropped"
        notes.append(f"{path} has no checkpoint: {what}")
    finished = run.finished and (state is None or state["step"] == config.steps)
    if not finished and images.get("version") != IMAGES_VERSION:
        raise FullrankError(
            f"{path / CONFIG} has the environment.data.version {images.get('version')}, and this fullrank sees images "
            f"as of version {IMAGES_VERSION}: put the file back as it was, or start a new run"
        )
    if not finished and processes != (before := run.environment.get("processes", 1)):
        notes.append(
            f"{path} goes on in {processes} instead of {before} processes: the same batches, and the same results up "
            "to rounding"
        )
    return Resumed(path, config, state, images, finished, notes)


def _check_checkpoint(path: Path, file: Path, state: dict[str, Any], config: TrainConfig) -> list[str]:
    """Refuse a checkpoint of another configuration; say which settings that may change, and change rounding, did."""
    before = from_dict(state["config"], TrainConfig(), str(file))
    changed = forbidden_changes(replace(before, out=config.out), config)
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
    for name in ("optimizer", "record", "skipped"):
        if name not in state:
            raise FullrankError(f"{file} is damaged: {name} is missing; delete it to go on from the checkpoint before")
    old, new = flatten(to_dict(before)), flatten(to_dict(config))
    rounding = ("machine.precision", "machine.compile", "machine.device", "cache")
    others = [f"{name} {new[name]} (before {old[name]})" for name in rounding if old[name] != new[name]]
    return [f"going on with other settings, which change the rounding: {', '.join(others)}"] if others else []


def _missing_records(run: RunRecord, step: int, config: TrainConfig) -> list[str]:
    """Say which records up to a checkpoint's step are gone.

    They are said, not refused: nothing but an earlier checkpoint gives them back, and the weights are whole.
    """
    lacking = []
    for kind, often in {"train": config.log_every, "measure": config.monitor.measure_every}.items():
        has = {record["step"] for record in run.of_kind(kind)}
        due = {*range(0 if kind == "measure" else often, step + 1, often), *([step] if step == config.steps else [])}
        lacking += [(METRICS, at) for at in due - has]
        if kind == "measure":
            lacking += [(SPECTRA, at) for at in due - set(run.spectrum_steps.tolist())]
    if not lacking:
        return []
    names = " and ".join(sorted({name for name, _ in lacking}))
    return [
        f"{run.path}: {names} lack {len(lacking)} records up to step {step:,}, the first of step "
        f"{min(at for _, at in lacking):,}: the run goes on without them, and its curves have gaps; put the files back "
        "if you have them"
    ]


def counted(facts: dict[str, Any] | None) -> str:
    """Say how many images a set has."""
    return f"{facts['count']} readable and {facts['skipped']} not" if facts else "none"


def restore(
    method: Method, optimizer: Optimizer, probe: OnlineProbe | None, loader: ViewLoader, state: dict[str, Any]
) -> None:
    """Take over weights, the optimizers' state and what the order has learned from a checkpoint; drop its weights."""
    try:
        method.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if probe is not None:
            probe.load_state_dict(state["online_probe"])
        loader.order = replace(loader.order, **state.get("order", {}))
        _check_optimizer(optimizer, state["optimizer"])
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FullrankError(
            f"the checkpoint of step {state['step']:,} does not fit the run's configuration: {reason}; delete it to go "
            "on from the checkpoint before"
        ) from None
    del state["model"], state["optimizer"]


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
