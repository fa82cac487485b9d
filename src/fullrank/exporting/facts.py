"""What is known about an encoder that is exported: how it was trained, and what was measured of these very weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fullrank.config import TrainConfig
from fullrank.measure.scores import Score
from fullrank.measure.spectrum import Spectrum
from fullrank.training.checkpoint import Branch
from fullrank.training.runs import CONFIG, RunRecord, read_run
from fullrank.training.scores import evaluated, latest


@dataclass(frozen=True)
class Facts:
    """What is known about an exported encoder.

    Attributes:
        name: What it is called: its run's folder, or the checkpoint.
        config: How it was trained.
        step: Steps done.
        branch: Whose encoder it is.
        width: D.
        parameters: How many numbers its weights are.
        images: Training images, where the run's folder says how many.
        environment: Versions and hardware of the training, where the run's folder says them.
        scores: What was measured at this step, on this branch or on the method as a whole; a name may come twice, with
            two protocols.
        spectrum: Of its representation, where it was measured at this step.
        init: The spectrum before training, measured likewise.
        remark: Why there are no scores, or not all that the run has; empty where nothing is to be said.
    """

    name: str
    config: TrainConfig
    step: int
    branch: Branch
    width: int
    parameters: int
    images: int | None
    environment: Mapping[str, Any]
    scores: Sequence[Score]
    spectrum: Spectrum | None
    init: Spectrum | None
    remark: str


def collect(file: Path, config: TrainConfig, step: int, branch: Branch, *, width: int, parameters: int) -> Facts:
    """Gather what the run of a checkpoint says about it.

    Args:
        file: The checkpoint; where it lies in a run's `checkpoints`, the run is read too.
        config: The checkpoint's configuration.
        step: Its steps.
        branch: Whose encoder is exported.
        width: D.
        parameters: How many numbers the encoder's weights are.

    Raises:
        FullrankError: A file of the run is damaged.
    """
    folder = file.resolve().parent.parent
    run = read_run(folder) if (folder / CONFIG).is_file() else None
    scores: list[Score] = []
    spectrum = init = None
    remark = "Its run was not at hand when it was exported, so no score of it is known."
    if run is not None:
        scores, spectrum, init = _measured(run, step)
        remark = ""
        if not scores:
            before = [record["step"] for record in run.of_kind("measure") if record["step"] < step]
            last = f": the last measurement before it, of step {before[-1]:,}, is of other weights" if before else ""
            remark = f"Nothing was measured at step {step:,}{last}."
    if branch != "online":
        own = [score for score in scores if score.protocol.get("branch", branch) == branch]
        if len(own) < len(scores):
            remark = "Scores of the online branch, which the run measured, are not of this encoder and are left out."
        scores, spectrum, init = own, None, None
    return Facts(
        name=file.stem if run is None else run.name,
        config=config,
        step=step,
        branch=branch,
        width=width,
        parameters=parameters,
        images=None if run is None else (run.environment.get("data") or {}).get("train", {}).get("count"),
        environment={} if run is None else {k: v for k, v in run.environment.items() if k != "data"},
        scores=scores,
        spectrum=spectrum,
        init=init,
        remark=remark,
    )


def _measured(run: RunRecord, step: int) -> tuple[list[Score], Spectrum | None, Spectrum | None]:
    """Return what was measured of a run at one step: its scores, the spectrum, and the one before training."""
    # what was chosen, and any warning, is told with how it was measured
    probed = [replace(score, protocol={**score.protocol, **score.chosen}) for score in evaluated(run.path, step)]
    at = {int(measured): row for row, measured in enumerate(run.spectrum_steps)}
    protocol = run.protocols.get("spectrum") or {}
    here, before = (Spectrum(run.singular_values[at[each]], protocol) if each in at else None for each in (step, 0))
    return [*latest(run, step).values(), *probed], here, before if step else None
