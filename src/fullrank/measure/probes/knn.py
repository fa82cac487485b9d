"""k nearest neighbors: do images of one class lie together in a frozen representation?

Neighbors are found once for the largest k; each smaller k is a vote of the first of them.

Legend: h: (N, D) representations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

import torch
from torch import Tensor

from fullrank.config import Count
from fullrank.data.images import sample
from fullrank.errors import FullrankError, choose
from fullrank.measure.checks import Array, as_labels, as_matrix
from fullrank.measure.probes.neighbors import neighbors
from fullrank.numerics import exact_arithmetic
from fullrank.shapes import fit

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["best_k", "knn_accuracies", "knn_accuracy", "knn_predictions", "knn_protocol", "leave_one_out"]

Vote = Literal["majority", "weighted"]


class Voting(TypedDict, total=False):
    """How neighbors vote: see `knn_predictions`."""

    vote: Vote
    temperature: float


TEMPERATURE = 0.07  # of weighted votes (Wu et al. 2018)
LEFT_OUT = 10_000  # images that `leave_one_out` asks; the standard error of an accuracy is half a percent at most
_QUERIES = 4096  # whose votes are counted at a time


@exact_arithmetic()
def knn_predictions(
    bank: Array,
    bank_labels: Array,
    queries: Array,
    *,
    k: int,
    vote: Vote = "majority",
    temperature: float = TEMPERATURE,
    leave_out: Tensor | None = None,
) -> Tensor:
    """Predict labels by a vote of the 1, 2, ..., k rows of a bank that are nearest in cosine similarity.

    A majority vote counts neighbors; in a weighted vote one of similarity s counts exp(s / T). Of labels with equal
    votes the smallest wins, and of equally similar rows those that stand first in the bank vote.

    Args:
        bank: `(N, D)` labeled representations.
        bank_labels: `(N,)`, a whole number of at least 0 each, of any type and size.
        queries: `(Q, D)` representations.
        k: The most neighbors that vote, in [1, N], or [1, N - 1] where a row is left out.
        vote: How they do.
        temperature: T of a weighted vote, above 0.
        leave_out: `(Q,)` int64, the row of the bank that does not vote for each query.

    Returns:
        `(Q, k)` int64, on the device of the queries: column j is the vote of j + 1 neighbors.

    Reference:
        Li et al. 2022, section 5.1 (majority); Wu et al. 2018, arXiv 1805.01978, section 3.4 (weighted, k = 200).
    """
    choose("vote", vote, get_args(Vote))
    if isinstance(temperature, str) or not temperature > 0:
        raise FullrankError(f"the temperature of a weighted vote must be above 0, got {temperature!r}")
    bank, queries = as_matrix(bank), as_matrix(queries)
    known = as_labels(bank_labels, len(bank), "the bank's labels").cpu()
    similarity, nearest = (found.cpu() for found in neighbors(bank, queries, k=k, leave_out=leave_out))
    labels = known[nearest]  # counted on a CPU: sums on a GPU have no fixed order
    if vote == "majority":
        weights = torch.ones_like(similarity, dtype=torch.float64)
    else:
        # of the nearest 1: a factor that all share decides nothing, and cannot overflow
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
    blocks = zip(labels.split(_QUERIES), weights.split(_QUERIES), strict=True)
    return torch.cat([_leaders(*block) for block in blocks]).to(queries.device)


def _leaders(labels: Tensor, weights: Tensor) -> Tensor:
    """Return who leads after each vote, `(q, k)`: only the label that was just voted for can overtake."""
    everyone = torch.arange(len(labels))
    votes = torch.zeros(labels.shape, dtype=torch.float64)
    leader, most = labels[:, 0], votes[:, 0].clone()
    leaders = torch.empty_like(labels)
    places = _places(labels)
    for j, (label, weight) in enumerate(zip(labels.unbind(1), weights.unbind(1), strict=True)):
        count = votes[everyone, places[:, j]] + weight
        votes[everyone, places[:, j]] = count
        leads = (count > most) | ((count == most) & (label < leader))
        leader, most = torch.where(leads, label, leader), torch.where(leads, count, most)
        leaders[:, j] = leader
    return leaders


def _places(labels: Tensor) -> Tensor:
    """Number the labels of each row, `(q, k)`, in [0, k): so that memory knows nothing of the size of a label."""
    ordered, order = labels.sort(dim=1)
    places = torch.zeros_like(labels)
    places[:, 1:] = (ordered[:, 1:] != ordered[:, :-1]).cumsum(dim=1)
    return torch.empty_like(places).scatter_(1, order, places)


@exact_arithmetic()
def knn_accuracy(
    bank: Array, bank_labels: Array, queries: Array, query_labels: Array, *, k: int = 20, **voting: Unpack[Voting]
) -> float:
    """Return the share of queries whose label a vote of k neighbors gets right, in [0, 1].

    Labels are those of `knn_predictions`. A query of a class that the bank lacks counts as wrong.
    """
    return knn_accuracies(bank, bank_labels, queries, query_labels, ks=[k], **voting)[k]


@exact_arithmetic()
def knn_accuracies(
    bank: Array, bank_labels: Array, queries: Array, query_labels: Array, *, ks: Iterable[int], **voting: Unpack[Voting]
) -> dict[int, float]:
    """Return, for each k, the share of queries whose label is predicted right; the work is that of the largest k."""
    ks = _numbers(ks)
    queries = as_matrix(queries)
    wanted = as_labels(query_labels, len(queries), "the queries' labels")
    predictions = knn_predictions(bank, bank_labels, queries, k=ks[-1], **voting)
    return _shares(predictions, wanted, ks)


@exact_arithmetic()
def leave_one_out(
    bank: Array, bank_labels: Array, *, ks: Iterable[int], images: int = LEFT_OUT, **voting: Unpack[Voting]
) -> dict[int, float]:
    """Return, for each k, the share of the bank's own images that the rest of the bank predicts right.

    This is what k is chosen by. With a part of the bank held out instead, the rest would be a smaller bank, and that
    wants a smaller k; here the bank is the one that k is used with, but for one image.

    Args are those of `knn_predictions`, each k in [1, N - 1]; `images` of them are predicted, drawn at random.
    """
    ks = _numbers(ks)
    fit(images, Count, "images")
    bank = as_matrix(bank)
    known = as_labels(bank_labels, len(bank), "the bank's labels")
    asked = sample(torch.arange(len(bank)), images).to(bank.device)
    predictions = knn_predictions(bank, known, bank[asked], k=ks[-1], leave_out=asked, **voting)
    return _shares(predictions, known.to(asked.device)[asked], ks)


def best_k(accuracies: Mapping[int, float]) -> int:
    """Return the k of the highest accuracy; the smallest of several.

    >>> best_k({1: 0.5, 5: 0.75, 20: 0.75})
    5
    """
    return max(sorted(accuracies), key=lambda k: accuracies[k])  # max keeps the first of equals


def knn_protocol(k: int | str, *, vote: Vote = "majority", temperature: float = TEMPERATURE) -> dict[str, Any]:
    """Say how k neighbors vote, or how k is chosen, in the words of every k-NN score."""
    weights = {"temperature": temperature} if vote == "weighted" else {}
    return {"similarity": "cosine", "k": k, "vote": vote, **weights, "ties": "smallest label"}


def _numbers(ks: Iterable[int]) -> list[int]:
    numbers = list(ks)
    if not numbers:
        raise FullrankError("k must be at least 1, got none")
    return sorted(fit(k, Count, "k") for k in numbers)


def _shares(predictions: Tensor, labels: Tensor, ks: list[int]) -> dict[int, float]:
    right = (predictions == labels.to(predictions.device)[:, None]).double().mean(dim=0)
    return {k: float(right[k - 1]) for k in ks}
