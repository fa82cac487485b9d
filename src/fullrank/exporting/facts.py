"""What is known about an encoder that is exported: how it was trained, and what was measured of these very weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fullrank.config import TrainConfig
from fullrank.measure.scores import Score
from fullrank.measure.spectrum import Spectrum
from fullrank.models.encoder import Encoder
from fullrank.training.runs import CONFIG, RunRecord, read_run
from fullrank.training.scores import evaluated, latest

BETWEEN = " / "
"""Stands between the training and the held-out images in a protocol's `labels`; a path has no blanks around its `/`."""


@dataclass(frozen=True)
class Facts:
    """What is known about an exported encoder.

    Attributes:
        name: What it is called: its run's folder, or the checkpoint.
        branch: Whose encoder it is, `online` or `target`.
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
    branch: str
    width: int
    parameters: int
    images: int | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    scores: Sequence[Score] = ()
    spectrum: Spectrum | None = None
    init: Spectrum | None = None
    remark: str = "Its run was not at hand when it was exported, so no score of it is known."


def collect(encoder: Encoder) -> Facts:
    """Gather what is known of a run's encoder; where its checkpoint lies in a run's `checkpoints`, of the run too.

    Raises:
        FullrankError: A file of the run is damaged.
    """
    assert encoder.config is not None
    file, step = Path(encoder.source["checkpoint"]), int(encoder.source["step"])
    branch = str(encoder.branch)
    parameters = sum(parameter.numel() for parameter in encoder.module.parameters())
    known = Facts(file.stem, encoder.config, step, branch, encoder.width, parameters)
    folder = file.resolve().parent.parent
    if not (folder / CONFIG).is_file():
        return known
    run = read_run(folder)
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
    return replace(
        known,
        name=run.name,
        images=(run.environment.get("data") or {}).get("train", {}).get("count"),
        environment={key: value for key, value in run.environment.items() if key != "data"},
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


def public(value: Any) -> Any:
    r"""Cut each path to its last part, for what is published; whatever else is there stays, in lists and mappings too.

    Text with a separator in it is a path, for no known set of images has one in its name.

    >>> public("cifar10 / /home/me/secret/val"), public("private/clients/acme"), public(r"C:\data\acme")
    ('cifar10 / val', 'acme', 'acme')
    >>> public({"images": "/home/me/train-*.parquet", "loss": "l2 / 2 |W|^2", "n": 5, "crop": (0.5, "./a/b/")})
    {'images': 'train-*.parquet', 'loss': 'l2 / 2 |W|^2', 'n': 5, 'crop': [0.5, 'b']}
    """
    if isinstance(value, str):
        return BETWEEN.join(re.split(r"[/\\]", part.rstrip("/\\"))[-1] for part in value.split(BETWEEN))
    if isinstance(value, Mapping):
        return {key: public(each) for key, each in value.items()}
    return [public(each) for each in value] if isinstance(value, (list, tuple)) else value
