"""The quick linear probe: logistic regression on representations that are taken once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fullrank.data.randomness import Purpose, permutation
from fullrank.errors import FullrankError
from fullrank.evaluation.options import EvaluateOptions
from fullrank.evaluation.task import Task
from fullrank.measure.probes import choose_logistic, fit_logistic
from fullrank.measure.probes.logistic import L2_GRID
from fullrank.measure.scores import Score
from fullrank.training.scores import WARNING

SPLIT_SEED = 0
"""Which training images choose the regularisation is the same for every run."""
_FEWEST = 10


def check_logistic(task: Task, options: EvaluateOptions) -> None:
    """Refuse training images that are too few to choose the regularisation on."""
    if options.logistic_options.l2 is None:
        _check_count(len(task.train))


def logistic(task: Task, options: EvaluateOptions) -> Score:
    """Score a frozen encoder by a logistic regression on its representations of training images.

    Raises:
        FullrankError: A representation is not finite, there are too few images, or all are of one class.
    """
    check_logistic(task, options)
    asked = options.logistic_options
    tolerance, most = asked.tolerance, asked.max_iterations
    features = task.features
    count = len(features.bank)
    bank = features.bank.to(task.device)
    protocol: dict[str, Any] = {
        **task.protocol,
        "probe": "multinomial logistic regression",
        "features": "standardised by the training images",
        "objective": "mean cross-entropy + l2 / 2 |W|^2",
        "gradient": f"of norm {tolerance:g} at most",
        "bank": count,
        "queries": len(features.queries),
    }
    if asked.l2 is not None:
        probe = fit_logistic(bank, features.bank_labels, l2=asked.l2, tolerance=tolerance, max_iterations=most)
        protocol["l2"] = asked.l2
    else:
        found = choose_logistic(
            bank, features.bank_labels, _held_out(count), grid=L2_GRID, tolerance=tolerance, max_iterations=most
        )
        probe = found.probe
        protocol["l2"] = f"of {L2_GRID[-1]:g} to {L2_GRID[0]:g} by decades, the best"
        protocol["chosen on"] = f"a tenth of the training images (seed {SPLIT_SEED}), by accuracy; refitted to all"
    chosen: dict[str, Any] = {"l2": probe.l2} if asked.l2 is None else {}
    chosen["gradient_norm"] = float(f"{probe.gradient_norm:.2g}")
    if not probe.converged:
        chosen[WARNING] = f"not the minimum, given up after {probe.iterations} iterations"
    return Score("logistic", probe.accuracy(features.queries, features.query_labels), protocol, chosen=chosen)


def _held_out(count: int) -> Tensor:
    """Choose the training images that choose: a tenth of them."""
    _check_count(count)
    held_out = torch.zeros(count, dtype=torch.bool)
    held_out[torch.from_numpy(permutation(SPLIT_SEED, Purpose.PROBE, 0, 0, count)[: count // _FEWEST])] = True
    return held_out


def _check_count(count: int) -> None:
    if count < _FEWEST:
        raise FullrankError(
            f"{count} training images are too few to hold a tenth of them out: give {_FEWEST} at least, or "
            "--logistic.l2"
        )
