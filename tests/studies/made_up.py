"""Results of studies that nobody ran, as `Store.results` gives them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from fullrank.config import to_dict
from fullrank.measure.scores import SCORES, Score, take
from fullrank.measure.spectrum import Spectrum
from fullrank.studies.study import Result
from fullrank.training.runs import RunRecord

COMMON = {"mode": "eval", "layer": "backbone", "view": "eval", "image_size": 32, "branch": "online", "dtype": "float32"}
ENVIRONMENT = {
    "fullrank": "0.1.0",
    "python": "3.12.1",
    "torch": "2.6.0",
    "torchvision": "0.21.0",
    "timm": "1.0.12",
    "numpy": "2.1.0",
    "device": "cpu",
    "cpu": "a made-up CPU",
    "threads": 1,
    "data": {"train": {"fingerprint": "aaaa"}, "held_out": {"fingerprint": "bbbb"}},
}


def finished(
    cell,
    seed=0,
    *,
    final=None,
    curves=None,
    evaluated=None,
    spectrum=None,
    width=8,
    n=10_000,
    k=20,
    seconds=60.0,
    environment=None,
    path="made-up",
):
    """Make up a finished run.

    Args:
        cell: Its setting.
        seed: Its seed.
        final: Final monitored scores by name; those of `curves` are their last values.
        curves: Monitored scores through training, by name, evenly from step 0 to the last.
        evaluated: Scores of `fullrank evaluate` by name.
        spectrum: Final singular values; equal ones where left out.
        width: The representation's width D, where there is no spectrum.
        n: Images that spectra are taken of.
        k: Neighbours of the evaluation.
        seconds: How long it took.
        environment: What differs from `ENVIRONMENT`.
        path: Its folder's name.
    """
    curves = {name: np.asarray(values, dtype=float) for name, values in (curves or {}).items()}
    count = len(next(iter(curves.values()))) if curves else 1
    steps = np.linspace(0, cell.config.steps, count).round().astype(int)
    spectrum = np.ones(width) if spectrum is None else np.asarray(spectrum, dtype=float)
    taken = {"images": cell.config.images, "split": "train", "n": n, "center": True, "normalize": False}
    if cell.config.subset < 1:  # as the monitor says it
        taken["subset"] = 1.0 if cell.config.monitor.whole else cell.config.subset
    protocols = {
        "spectrum": {**COMMON, **taken},
        "heldout_loss": {"mode": "eval", "loss": cell.config.method, "split": "held out", "n": 10_000, "pairs": 1},
        "knn": {**COMMON, "k": 20, "vote": "majority", "bank": f"{n} training images"},
    }
    records = [{"kind": "protocols", "step": 0, **protocols}]
    for place, step in enumerate(steps):
        scores = {name: float(values[place]) for name, values in curves.items()}
        records.append({"kind": "measure", "step": int(step), **scores})
    if final:
        records[-1] |= final
    if "loss" in (final or {}):
        records.append({"kind": "train", "step": int(steps[-1]), "loss": records[-1].pop("loss")})
    last = {**{name: float(values[-1]) for name, values in curves.items()}, **(final or {})}
    summary = [Score(name, value, protocols.get(name, protocols["spectrum"])).as_dict() for name, value in last.items()]
    protocol = {**COMMON, "k": k, "vote": "majority", "bank": 50_000}
    evaluation = [Score(name, value, protocol) for name, value in (evaluated or {}).items()]
    config = to_dict(cell.config) | {"seed": seed}
    config["machine"] = {**config["machine"], "precision": "bf16"}
    run = RunRecord(
        path=Path(path),
        config=config,
        environment={**ENVIRONMENT, **(environment or {})},
        records=records,
        timing=[],
        spectrum_steps=np.array([cell.config.steps]),
        singular_values=spectrum[None],
        summary={"steps": cell.config.steps, "scores": summary, "skipped": [], "seconds": seconds},
    )
    return Result(cell, seed, run, evaluation, _inspected(spectrum, taken) if cell.label_free else [])


def _inspected(singular_values, taken):
    """Return the scores of a spectrum, as `fullrank inspect` gives them."""
    found = []
    for kind in SCORES.values():
        if kind.spectrum:
            spectrum = Spectrum(singular_values, {"n": taken["n"], "center": kind.spectrum == "centered"})
            found.append(replace(take(kind, spectrum, {}), protocol={**COMMON, **taken}))
    return found


def decaying(width, steepness):
    """Return singular values that fall exponentially."""
    return 50 * np.exp(-steepness * np.arange(width) / width)


def auc(values):
    """Return the AUC of singular values."""
    return Spectrum(values).auc
