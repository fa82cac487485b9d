"""k nearest neighbours: do images of one class lie together in a frozen representation?

Neighbours are found once for the largest k; each smaller k is a vote of the first of them.

Legend: h: (N, D) representations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from fullrank.data.images import sample
from fullrank.errors import FullrankError
from fullrank.measure.probes.neighbours import neighbours

Vote = Literal["majority", "weighted"]

TEMPERATURE = 0.07
"""Of weighted votes (Wu et al. 2018)."""
LEFT_OUT = 10_000
"""Images that `leave_one_out` asks; the standard error of an accuracy is half a percent at most."""

_QUERIES = 4096  # whose votes are counted at a time


def knn_predictions(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    *,
    k: int,
    vote: Vote = "majority",
    temperature: float = TEMPERATURE,
    leave_out: Tensor | None = None,
) -> Tensor:
    """Predict labels by a vote of the 1, 2, ..., k rows of a bank that are nearest in cosine similarity.

    A majority vote counts neighbours; in a weighted vote one of similarity s counts exp(s / T). Of labels with equal
    votes the smallest wins, and of equally similar rows those that stand first in the bank vote.

    Args:
        bank: `(N, D)` labelled representations.
        bank_labels: `(N,)` int64, at least 0.
        queries: `(Q, D)` representations.
        k: The most neighbours that vote, in [1, N], or [1, N - 1] where a row is left out.
        vote: How they do.
        temperature: T of a weighted vote, above 0.
        leave_out: `(Q,)` int64, the row of the bank that does not vote for each query.

    Returns:
        `(Q, k)` int64, on the device of the queries: column j is the vote of j + 1 neighbours.

    Raises:
        FullrankError: The shapes do not fit, a label is negative, features hold NaN or infinity, or k or T is out of
            range.

    Reference:
        Li et al. 2022, section 5.1 (majority); Wu et al. 2018, arXiv 1805.01978, section 3.4 (weighted, k = 200).
    """
    for name, given in (("bank", bank), ("bank_labels", bank_labels), ("queries", queries)):
        if not isinstance(given, Tensor):
            raise FullrankError(f"{name} must be a tensor, got {type(given).__name__}: use torch.as_tensor")
    if len(bank_labels) != len(bank) or bool((bank_labels < 0).any()):
        raise FullrankError(
            f"the bank needs one label of at least 0 a row, got {len(bank_labels)} labels for {len(bank)} rows"
        )
    if not temperature > 0:
        raise FullrankError(f"the temperature of a weighted vote must be above 0, got {temperature}")
    similarity, nearest = (found.cpu() for found in neighbours(bank, queries, k=k, leave_out=leave_out))
    labels = bank_labels.cpu()[nearest]  # counted on a CPU: sums on a GPU have no fixed order
    if vote == "majority":
        weights = torch.ones_like(similarity, dtype=torch.float64)
    else:
        # of the nearest 1: a factor that all share decides nothing, and cannot overflow
        weights = ((similarity - similarity[:, :1]).double() / temperature).exp()
    classes = int(bank_labels.max()) + 1
    blocks = zip(labels.split(_QUERIES), weights.split(_QUERIES), strict=True)
    return torch.cat([_leaders(*block, classes) for block in blocks]).to(queries.device)


def _leaders(labels: Tensor, weights: Tensor, classes: int) -> Tensor:
    """Return who leads after each vote, `(q, k)`: only the label that was just voted for can overtake."""
    everyone = torch.arange(len(labels))
    votes = torch.zeros(len(labels), classes, dtype=torch.float64)
    leader, most = torch.full_like(everyone, classes), torch.zeros(len(labels), dtype=torch.float64)
    leaders = torch.empty_like(labels)
    for j, (label, weight) in enumerate(zip(labels.unbind(1), weights.unbind(1), strict=True)):
        count = votes[everyone, label] + weight
        votes[everyone, label] = count
        leads = (count > most) | ((count == most) & (label < leader))
        leader, most = torch.where(leads, label, leader), torch.where(leads, count, most)
        leaders[:, j] = leader
    return leaders


def knn_predict(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    *,
    k: int = 20,
    vote: Vote = "majority",
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Predict labels, `(Q,)` int64, by a vote of k neighbours: the last column of `knn_predictions`."""
    return knn_predictions(bank, bank_labels, queries, k=k, vote=vote, temperature=temperature)[:, -1]


def knn_accuracy(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    k: int = 20,
    vote: Vote = "majority",
    temperature: float = TEMPERATURE,
) -> float:
    """Return the share of queries whose label `knn_predict` gets right, in [0, 1]."""
    return knn_accuracies(bank, bank_labels, queries, query_labels, ks=[k], vote=vote, temperature=temperature)[k]


def knn_accuracies(
    bank: Tensor,
    bank_labels: Tensor,
    queries: Tensor,
    query_labels: Tensor,
    *,
    ks: Iterable[int],
    vote: Vote = "majority",
    temperature: float = TEMPERATURE,
) -> dict[int, float]:
    """Return, for each k, the share of queries whose label is predicted right; the work is that of the largest k."""
    ks = sorted(ks)
    predictions = knn_predictions(bank, bank_labels, queries, k=_largest(ks), vote=vote, temperature=temperature)
    return _shares(predictions, query_labels, ks)


def leave_one_out(
    bank: Tensor,
    bank_labels: Tensor,
    *,
    ks: Iterable[int],
    vote: Vote = "majority",
    temperature: float = TEMPERATURE,
    images: int = LEFT_OUT,
) -> dict[int, float]:
    """Return, for each k, the share of the bank's own images that the rest of the bank predicts right.

    This is what k is chosen by. With a part of the bank held out instead, the rest would be a smaller bank, and that
    wants a smaller k; here the bank is the one that k is used with, but for one image.

    Args:
        bank: `(N, D)` labelled representations.
        bank_labels: `(N,)` int64, at least 0.
        ks: Numbers of neighbours, in [1, N - 1].
        vote: As in `knn_predictions`.
        temperature: As in `knn_predictions`.
        images: So many of them are asked, at random.
    """
    ks = sorted(ks)
    asked = sample(torch.arange(len(bank)), images).to(bank.device)
    predictions = knn_predictions(
        bank, bank_labels, bank[asked], k=_largest(ks), vote=vote, temperature=temperature, leave_out=asked
    )
    return _shares(predictions, bank_labels.to(asked.device)[asked], ks)


def best_k(accuracies: Mapping[int, float]) -> int:
    """Return the k of the highest accuracy; the smallest of several.

    >>> best_k({1: 0.5, 5: 0.75, 20: 0.75})
    5
    """
    return max(sorted(accuracies), key=lambda k: accuracies[k])  # max keeps the first of equals


def knn_protocol(k: int | str, *, vote: Vote = "majority", temperature: float = TEMPERATURE) -> dict[str, Any]:
    """Say how neighbours vote, in the words of every k-NN score.

    Args:
        k: The number of neighbours, or how it is chosen.
        vote: As in `knn_predictions`.
        temperature: As in `knn_predictions`.
    """
    weights = {"temperature": temperature} if vote == "weighted" else {}
    return {"similarity": "cosine", "k": k, "vote": vote, **weights, "ties": "smallest label"}


def _largest(ks: list[int]) -> int:
    if not ks or ks[0] < 1:
        raise FullrankError(f"k must be at least 1, got {ks[0] if ks else 'none'}")
    return ks[-1]


def _shares(predictions: Tensor, labels: Tensor, ks: list[int]) -> dict[int, float]:
    right = (predictions == torch.as_tensor(labels, device=predictions.device)[:, None]).double().mean(dim=0)
    return {k: float(right[k - 1]) for k in ks}
