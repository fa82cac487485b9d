import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from fullrank.errors import FullrankError
from fullrank.measure.probes import knn_accuracy, knn_predict


def features(count, width=8, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("k", [1, 5, 20])
def test_knn_is_the_majority_of_scikit_learns_neighbours(k):
    bank, queries = features(300), features(1500, seed=1)
    labels = torch.randint(0, 4, (300,), generator=torch.Generator().manual_seed(2))
    neighbours = NearestNeighbors(n_neighbors=k, metric="cosine").fit(bank.double().numpy())
    found = neighbours.kneighbors(queries.double().numpy(), return_distance=False)
    expected = torch.mode(labels[torch.from_numpy(found)], dim=1).values  # of equal counts, the smallest
    assert torch.equal(knn_predict(bank, labels, queries, k=k), expected)


def test_ties_go_to_the_smallest_label():
    bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    assert knn_predict(bank, torch.tensor([2, 1, 0]), torch.tensor([[1.0, 0.0]]), k=2).item() == 1


def test_accuracy_is_a_share():
    bank = torch.eye(4)
    assert knn_accuracy(bank, torch.arange(4), bank, torch.tensor([0, 1, 2, 0]), k=1) == 0.75


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be from 1 to the bank's 10 images, got 0"),
        ({"k": 11}, "k must be from 1 to the bank's 10 images, got 11"),
        ({"queries": features(3, 5)}, r"matrices of one width, got shapes \(10, 8\) and \(3, 5\)"),
        ({"bank_labels": torch.full((10,), -1)}, "one label of at least 0 a row"),
        ({"bank_labels": torch.zeros(9, dtype=torch.int64)}, "got 9 labels for 10 rows"),
    ],
)
def test_errors(change, message):
    arguments = {
        "bank": features(10),
        "bank_labels": torch.zeros(10, dtype=torch.int64),
        "queries": features(3),
        "k": 1,
        **change,
    }
    with pytest.raises(FullrankError, match=message):
        knn_predict(**arguments)
