"""k nearest neighbours of a frozen encoder's representations."""

from __future__ import annotations

from fullrank.data.images import SAMPLED
from fullrank.errors import FullrankError
from fullrank.evaluation.options import EvaluateOptions
from fullrank.evaluation.task import LabeledFeatures, Task
from fullrank.measure.probes.knn import LEFT_OUT, best_k, knn_accuracies, knn_protocol, leave_one_out
from fullrank.measure.scores import Score


def check_knn(task: Task, options: EvaluateOptions) -> None:
    """Refuse more neighbours than there are training images."""
    count, k = len(task.train), options.knn_options.k
    if k is not None and k > count:
        raise FullrankError(f"knn.k={k} neighbours are more than the {count} labeled training images")
    if k is None and count < 2:
        raise FullrankError("one labeled training image leaves no k to choose: give more, or --knn.k 1")


def knn(task: Task, options: EvaluateOptions) -> Score:
    """Score a frozen encoder by k-NN.

    Raises:
        FullrankError: There are fewer training images than neighbours asked for.
    """
    check_knn(task, options)
    how = options.knn_options
    most = min(how.most, len(task.train) - 1) if how.k is None else how.k
    features = LabeledFeatures(*(tensor.to(task.device) for tensor in task.features))
    bank, labels = features.bank, features.bank_labels
    k: int | str
    if how.k is not None:
        k, ks = how.k, [how.k]
    elif how.choose == "leave-one-out":
        at_random = f" {SAMPLED}" if len(bank) > LEFT_OUT else ""
        k = f"1 to {most}, the best by leave-one-out over {min(LEFT_OUT, len(bank))} training images{at_random}"
        ks = [best_k(leave_one_out(bank, labels, ks=range(1, most + 1), vote=how.vote, temperature=how.temperature))]
    else:
        k, ks = f"1 to {most}, the best on the held-out labels, which it has seen", list(range(1, most + 1))
    accuracies = knn_accuracies(*features, ks=ks, vote=how.vote, temperature=how.temperature)
    chosen = best_k(accuracies)
    protocol = {
        **task.protocol,
        "bank": len(bank),
        "queries": len(features.queries),
        **knn_protocol(k, vote=how.vote, temperature=how.temperature),
    }
    return Score("knn", accuracies[chosen], protocol, chosen={} if how.k is not None else {"k": chosen})
