"""k nearest neighbours: do images of one class lie together in a frozen representation?

Legend: h: (N, D) representations.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from fullrank.errors import FullrankError

_BLOCK = 1024  # queries at a time: bounds the memory to 1024 x N similarities


def knn_predict(bank: Tensor, bank_labels: Tensor, queries: Tensor, *, k: int = 20) -> Tensor:
    """Predict labels by an unweighted vote of the k bank rows nearest in cosine similarity ([Li22] section 5.1).

    Args:
        bank: `(N, D)` labelled representations.
        bank_labels: `(N,)` int64, at least 0.
        queries: `(Q, D)` representations.
        k: Neighbours that vote, in [1, N].

    Returns:
        `(Q,)` int64. Of labels with equally many votes the smallest wins.

    Raises:
        FullrankError: The widths differ, a label is negative, or k is out of range.
    """
    if bank.ndim != 2 or queries.ndim != 2 or bank.shape[1] != queries.shape[1]:
        raise FullrankError(
            f"bank and queries must be matrices of one width, got shapes {tuple(bank.shape)} and {tuple(queries.shape)}"
        )
    if len(bank_labels) != len(bank) or bool((bank_labels < 0).any()):
        raise FullrankError(
            f"the bank needs one label of at least 0 a row, got {len(bank_labels)} labels for {len(bank)} rows"
        )
    if not 1 <= k <= len(bank):
        raise FullrankError(f"k must be from 1 to the bank's {len(bank)} images, got {k}")
    bank = F.normalize(bank.float(), dim=1)
    classes = int(bank_labels.max()) + 1
    predictions = []
    for block in queries.split(_BLOCK):
        nearest = (F.normalize(block.float(), dim=1) @ bank.T).topk(k, dim=1).indices
        labels = bank_labels[nearest]
        votes = torch.zeros(len(block), classes, device=bank.device).scatter_add_(
            1, labels, torch.ones_like(labels, dtype=torch.float32)
        )
        predictions.append(votes.argmax(dim=1))  # the first of equal maxima
    return torch.cat(predictions)


def knn_accuracy(bank: Tensor, bank_labels: Tensor, queries: Tensor, query_labels: Tensor, *, k: int = 20) -> float:
    """Return the share of queries whose label `knn_predict` gets right, in [0, 1]."""
    return float((knn_predict(bank, bank_labels, queries, k=k) == query_labels).float().mean())
