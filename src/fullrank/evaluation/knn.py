"""k nearest neighbours of a frozen encoder's representations."""

from __future__ import annotations

from fullrank.evaluation.frozen import Frozen
from fullrank.evaluation.options import Options
from fullrank.evaluation.result import Score
from fullrank.measure.probes import knn_accuracy


def knn(frozen: Frozen, options: Options) -> Score:
    """Score a frozen encoder by k-NN.

    Raises:
        FullrankError: k is out of range.
    """
    features = frozen.features
    value = knn_accuracy(*features, k=options.knn_options.k)
    protocol = {
        **frozen.protocol,
        "k": options.knn_options.k,
        "vote": "majority",
        "ties": "smallest label",
        "similarity": "cosine",
        "bank": len(features.bank),
        "queries": len(features.queries),
    }
    return Score("knn", value, protocol)
