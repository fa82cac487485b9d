import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from tests.measure.probes.exact import naive, signs, told_apart

from fullrank.data.images import sample
from fullrank.errors import FullrankError
from fullrank.measure.probes import (
    knn_accuracies,
    knn_accuracy,
    knn_predictions,
    knn_protocol,
    leave_one_out,
)


def features(count, width=8, seed=0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def classes(count, many=4, seed=2):
    return torch.randint(0, many, (count,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("vote", "temperature"), [("majority", 0.07), ("weighted", 0.07), ("weighted", 0.5)])
@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_predictions_are_scikit_learns(k, vote, temperature):
    bank, queries, labels = features(300), features(1500, seed=1), classes(300)
    clear = told_apart(bank, queries, k)
    assert int(clear.sum()) > 1200
    theirs = KNeighborsClassifier(
        k,
        metric="cosine",
        algorithm="brute",
        weights="uniform" if vote == "majority" else lambda distance: np.exp((1 - distance) / temperature),
    ).fit(bank.double().numpy(), labels.numpy())
    expected = torch.from_numpy(theirs.predict(queries.double().numpy()))
    found = knn_predictions(bank, labels, queries, k=k, vote=vote, temperature=temperature)[:, -1]
    assert torch.equal(found[clear], expected[clear])


@pytest.mark.parametrize("vote", ["majority", "weighted"])
def test_many_k_are_each_k_alone_and_ties_go_to_the_smallest_label(vote):
    bank, queries, labels = signs(120, 0), signs(400, 1), classes(120)
    many = knn_predictions(bank, labels, queries, k=40, vote=vote, temperature=0.5)
    similarity, nearest = naive(bank, queries, 40)
    weights = torch.ones_like(similarity) if vote == "majority" else (2 * (similarity - similarity[:, :1])).exp()
    votes = (torch.nn.functional.one_hot(labels[nearest], 4) * weights[:, :, None]).cumsum(dim=1)
    assert torch.equal(many, votes.argmax(dim=2))  # argmax is the first of equal maxima
    for k in (1, 2, 7, 40):
        assert torch.equal(
            knn_predictions(bank, labels, queries, k=k, vote=vote, temperature=0.5)[:, -1], many[:, k - 1]
        )
    tied = (votes == votes.amax(dim=2, keepdim=True)).sum(dim=2) > 1
    assert int(tied.sum()) > (1000 if vote == "majority" else 20)


def test_a_weighted_vote_about_a_large_mean_knows_differences_that_float32_cosines_do_not():
    bank, queries, labels = features(300).double() + 1e4, features(300, seed=1).double() + 1e4, classes(300)
    found = knn_predictions(bank, labels, queries, k=20, vote="weighted", temperature=1e-9)[:, -1]
    mean = bank.mean(dim=0)  # u . v = 1 - |u - v|^2 / 2, without the digits that 1 takes
    u, v = (x / x.norm(dim=1, keepdim=True) - mean / mean.norm() for x in (bank, queries))
    order = (-(torch.cdist(v, u) ** 2) / 2).sort(dim=1, descending=True)
    weights = ((order.values - order.values[:, :1]) / 1e-9).exp()[:, :20]
    votes = (torch.nn.functional.one_hot(labels[order.indices[:, :20]], 4) * weights[:, :, None]).sum(dim=1)
    best = votes.topk(2, dim=1).values
    clear = best[:, 0] - best[:, 1] > 0.01 * best[:, 0]
    assert int(clear.sum()) > 250
    assert torch.equal(found[clear], votes.argmax(dim=1)[clear])


def test_a_cold_weighted_vote_is_that_of_the_nearest():
    bank, queries, labels = features(300), features(500, seed=1), classes(300)
    cold = knn_predictions(bank, labels, queries, k=100, vote="weighted", temperature=1e-9)[:, -1]
    assert torch.equal(cold, knn_predictions(bank, labels, queries, k=1)[:, 0])


def test_leave_one_out_is_that():
    bank, labels = features(60), classes(60)
    found = leave_one_out(bank, labels, ks=[9, 1, 4])
    for k in (1, 4, 9):
        right = 0
        for i in range(60):
            rest = torch.arange(60) != i
            right += int(knn_predictions(bank[rest], labels[rest], bank[i : i + 1], k=k)[0, -1]) == int(labels[i])
        assert found[k] == pytest.approx(right / 60, abs=1e-12)
    assert list(found) == [1, 4, 9]
    asked = sample(torch.arange(60), 7)  # some, at random, are asked of the whole bank
    predictions = knn_predictions(bank, labels, bank[asked], k=4, leave_out=asked)[:, 3]
    assert leave_one_out(bank, labels, ks=[4], images=7)[4] == pytest.approx(
        float((predictions == labels[asked]).double().mean())
    )


def test_accuracies_of_many_k():
    bank, queries, labels, answers = features(100), features(50, seed=1), classes(100), classes(50, seed=3)
    found = knn_accuracies(bank, labels, queries, answers, ks=(20, 1))
    assert found == {k: knn_accuracy(bank, labels, queries, answers, k=k) for k in (1, 20)}


def test_a_protocol_has_a_temperature_where_it_means_something():
    assert knn_protocol(20) == {"similarity": "cosine", "k": 20, "vote": "majority", "ties": "smallest label"}
    assert knn_protocol(200, vote="weighted", temperature=0.1)["temperature"] == 0.1


@pytest.mark.gpu
def test_a_gpu_predicts_the_same():
    bank, queries, labels = signs(3000, 0), signs(500, 1), classes(3000)
    for vote in ("majority", "weighted"):
        found = knn_predictions(bank.cuda(), labels.cuda(), queries.cuda(), k=50, vote=vote)
        assert found.is_cuda
        assert torch.equal(found.cpu(), knn_predictions(bank, labels, queries, k=50, vote=vote))


def test_ties_go_to_the_smallest_label():
    bank = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    assert knn_predictions(bank, torch.tensor([2, 1, 0]), torch.tensor([[1.0, 0.0]]), k=2)[:, -1].item() == 1


def test_accuracy_is_a_share():
    bank = torch.eye(4)
    assert knn_accuracy(bank, torch.arange(4), bank, torch.tensor([0, 1, 2, 0]), k=1) == 0.75


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be from 1 to the bank's 10 images, got 0"),
        ({"k": 11}, "k must be from 1 to the bank's 10 images, got 11"),
        ({"queries": features(3, 5)}, r"matrices of one width, got shapes \(10, 8\) and \(3, 5\)"),
        (
            {"bank_labels": torch.full((10,), -1)},
            "bank's labels must be one whole number of at least 0 for each of 10 rows, got .* the least -1",
        ),
        ({"temperature": 0.0, "vote": "weighted"}, "temperature of a weighted vote must be above 0, got 0.0"),
        ({"bank_labels": torch.zeros(9, dtype=torch.int64)}, r"for each of 10 rows, got shape \(9,\)"),
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
        knn_predictions(**arguments)
