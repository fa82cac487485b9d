"""What is taken as features, labels and options, and what is refused."""

import numpy as np
import pytest
import torch

import fullrank
from fullrank.errors import FullrankError
from fullrank.measure.monitor import MovingSpectrum
from fullrank.measure.probes import fit_logistic, knn_accuracy
from fullrank.measure.quality import alpha_req, feature_std

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
B = X + 3 * Y[:, None]


@pytest.mark.parametrize(
    "dtype",
    ["int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool", "float64", "float32", "float16"],
)
def test_labels_of_any_type(dtype):
    labels = Y.numpy().astype(dtype)
    for given in (labels, torch.from_numpy(labels), labels.tolist()):
        assert knn_accuracy(B, given, B, given, k=1) == 1.0
        assert fit_logistic(B, given, l2=1e-4).accuracy(B, given) > 0.95


@pytest.mark.parametrize("ids", [(0, 10**9), (7, 2**63 - 1)])
def test_labels_of_any_size(ids):
    labels = torch.tensor(ids)[Y]
    assert knn_accuracy(B, labels, B, labels, k=1) == 1.0
    assert fit_logistic(B, labels, l2=1e-4).accuracy(B, labels) > 0.95
    assert knn_accuracy(B, labels, B, torch.full((60,), 3), k=1) == 0  # of a class that the bank lacks


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (Y[:, None], r"got shape \(60, 1\): flatten them"),
        (Y[:1], r"each of 60 rows, got shape \(1,\)"),
        (Y - 1, "the least -1: leave out"),
        (Y.float() + 0.5, "must be whole numbers, got torch.float32"),
        (torch.full((60,), float("nan")), "must be whole numbers"),
        (np.full(60, 2**63, dtype=np.uint64), "got torch.uint64, the least -"),
        (Y.to(torch.complex64), "must be whole numbers, got torch.complex64"),
        (["a"] * 60, "must be whole numbers.*, one for each name"),
        (torch.eye(3)[Y % 3], r"got shape \(60, 3\): .*argmax\(1\)"),
    ],
)
def test_other_labels_are_refused_everywhere(labels, message):
    probe = fit_logistic(X, Y, l2=1e-2)
    for call in (
        lambda: knn_accuracy(X, labels, X, Y, k=1),
        lambda: knn_accuracy(X, Y, X, labels, k=1),
        lambda: fit_logistic(X, labels, l2=1e-2),
        lambda: probe.accuracy(X, labels),
    ):
        with pytest.raises(FullrankError, match=message):
            call()


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ma.masked_array(X.numpy(), X.numpy() > 2), "masked entries"),
        (X.to_sparse(), r"sparse, .* as .to_dense\(\)"),
        (X.to(torch.complex64), "must be real"),
        (X.to("meta"), "meta device"),
        (X.to(torch.float8_e4m3fn), "features are float8_e4m3fn: convert them to float32 first"),
        ([[1.0, 2.0], [3.0]], "matrix of numbers"),
        ("X", "matrix of numbers"),
    ],
)
def test_features_of_no_ordinary_kind_are_refused_everywhere(features, message):
    for call in (
        lambda: fullrank.spectrum(features),
        lambda: fullrank.SpectrumMetric(4).update(features),
        lambda: feature_std(features),
        lambda: knn_accuracy(features, Y, X, Y, k=1),
        lambda: fit_logistic(features, Y, l2=1e-2),
    ):
        with pytest.raises(FullrankError, match=message):
            call()


def test_lists_and_other_byte_orders_are_taken():
    want = fullrank.spectrum(X).auc
    for given in (X.tolist(), list(X), X.numpy().astype(">f4"), np.ma.masked_array(X.numpy())):
        assert fullrank.spectrum(given).auc == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fullrank.spectrum(X, center="no"), "center must be true or false, got 'no'"),
        (lambda: fullrank.SpectrumMetric(4, normalize="l2"), "normalize must be true or false"),
        (lambda: MovingSpectrum(4, center=1), "center must be true or false, got 1"),
        (lambda: feature_std(X, normalize=None), "normalize must be true or false"),
        (lambda: knn_accuracy(X, Y, X, Y, vote="weigthed"), "vote must be .*; did you mean 'weighted'"),
        (lambda: knn_accuracy(X, Y, X, Y, k=2.5), "k must be a whole number, got 2.5"),
        (lambda: alpha_req(X, first_rank=3, last_rank=4), "at least three ranks"),
    ],
)
def test_unknown_options_are_refused(call, message):
    with pytest.raises(FullrankError, match=message):
        call()


def test_the_power_law_is_of_ranks_counted_from_one():
    k = torch.arange(1, 151, dtype=torch.float64)
    bent = fullrank.Spectrum(torch.where(k == 10, 2.0, 1.0) * k**-0.5)
    assert alpha_req(bent, first_rank=11) == pytest.approx(1.0)  # as `np.arange(10, 100)` of places from 0
    assert alpha_req(bent) > 1.01
