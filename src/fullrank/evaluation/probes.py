"""The quick probes, on representations that are taken once: k nearest neighbors, and logistic regression."""

from __future__ import annotations

from typing import Any

import torch

from fullrank.data.images import SAMPLED
from fullrank.data.randomness import Purpose, permutation
from fullrank.errors import FullrankError
from fullrank.evaluation.options import EvaluateOptions
from fullrank.evaluation.task import Represented
from fullrank.measure.probes import choose_logistic, fit_logistic
from fullrank.measure.probes.knn import LEFT_OUT, best_k, knn_accuracies, knn_protocol, leave_one_out
from fullrank.measure.probes.logistic import L2_GRID
from fullrank.measure.scores import Score
from fullrank.training.scores import WARNING

SPLIT_SEED = 0
"""Which training images choose the regularization is the same for every run."""
_FEWEST = 10


def check_knn(count: int, options: EvaluateOptions) -> None:
    """Refuse more neighbors than the `count` training images."""
    k = options.knn_options.k
    if k is not None and k > count:
        raise FullrankError(f"knn.k={k} neighbors are more than the {count} labeled training images")
    if k is None and count < 2:
        raise FullrankError("one labeled training image leaves no k to choose: give more, or --knn.k 1")


def knn(of: Represented, options: EvaluateOptions) -> Score:
    """Score a frozen encoder by k-NN."""
    how, count = options.knn_options, len(of.bank[1])
    check_knn(count, options)  # some may have been unreadable
    vote: dict[str, Any] = {"vote": how.vote, "temperature": how.temperature}
    bank, labels, queries, answers = (tensor.to(of.device) for tensor in (*of.bank, *of.queries))
    ks = list(range(1, min(how.most, count - 1) + 1)) if how.k is None else [how.k]
    k: int | str = how.k or f"1 to {ks[-1]}, the best on the held-out labels, which it has seen"
    if how.k is None and how.choose == "leave-one-out":
        at_random = f" {SAMPLED}" if count > LEFT_OUT else ""
        k = f"1 to {ks[-1]}, the best by leave-one-out over {min(LEFT_OUT, count)} training images{at_random}"
        ks = [best_k(leave_one_out(bank, labels, ks=ks, **vote))]
    accuracies = knn_accuracies(bank, labels, queries, answers, ks=ks, **vote)
    chosen = best_k(accuracies)
    protocol = {**of.protocol, "bank": count, "queries": len(queries), **knn_protocol(k, **vote)}
    return Score("knn", accuracies[chosen], protocol, chosen={} if how.k is not None else {"k": chosen})


def check_logistic(count: int, options: EvaluateOptions) -> None:
    """Refuse training images, `count` of them, that are too few to choose the regularization on."""
    if options.logistic_options.l2 is None and count < _FEWEST:
        raise FullrankError(
            f"{count} training images are too few to hold a tenth of them out: give {_FEWEST} at least, or "
            "--logistic.l2"
        )


def logistic(of: Represented, options: EvaluateOptions) -> Score:
    """Score a frozen encoder by a logistic regression on its representations of training images."""
    asked, (bank, labels), (queries, answers) = options.logistic_options, of.bank, of.queries
    count, bank = len(bank), bank.to(of.device)
    check_logistic(count, options)  # some may have been unreadable
    until: dict[str, Any] = {"tolerance": asked.tolerance, "max_iterations": asked.max_iterations}
    protocol: dict[str, Any] = {
        **of.protocol,
        "probe": "multinomial logistic regression",
        "features": "standardized by the training images",
        "objective": "mean cross-entropy + l2 / 2 |W|^2",
        "gradient": f"of norm {asked.tolerance:g} at most",
        "bank": count,
        "queries": len(queries),
    }
    if asked.l2 is not None:
        probe = fit_logistic(bank, labels, l2=asked.l2, **until)
        protocol["l2"] = asked.l2
    else:
        held_out = torch.zeros(count, dtype=torch.bool)
        held_out[torch.from_numpy(permutation(SPLIT_SEED, Purpose.PROBE, 0, 0, count)[: count // _FEWEST])] = True
        probe, _ = choose_logistic(bank, labels, held_out, grid=L2_GRID, **until)
        protocol["l2"] = f"of {L2_GRID[-1]:g} to {L2_GRID[0]:g} by decades, the best"
        protocol["chosen on"] = f"a tenth of the training images (seed {SPLIT_SEED}), by accuracy; refitted to all"
    chosen: dict[str, Any] = {"l2": probe.l2} if asked.l2 is None else {}
    chosen["gradient_norm"] = float(f"{probe.gradient_norm:.2g}")
    if not probe.converged:
        chosen[WARNING] = f"not the minimum, given up after {probe.iterations} iterations"
    return Score("logistic", probe.accuracy(queries, answers), protocol, chosen=chosen)
