import sys
from contextlib import contextmanager
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from tests.measure.probes.exact import naive, signs, told_apart

from fullrank.errors import FullrankError
from fullrank.measure.probes import neighbors


@contextmanager
def in_blocks(bank_rows, queries):
    """Look at so many rows of the bank, and so many queries, at a time."""
    home = sys.modules[neighbors.__module__]
    entries = {"cpu": queries * bank_rows}
    with patch.object(home, "_BANK_ROWS", bank_rows), patch.object(home, "_SIMILARITIES", entries):
        yield


@pytest.mark.parametrize("k", [1, 7, 60, 900])
@pytest.mark.parametrize("blocks", [(2**16, 2**16), (128, 50)])
def test_neighbors_are_scikit_learns(k, blocks):
    generator = torch.Generator().manual_seed(0)
    bank, queries = (torch.randn(n, 24, generator=generator, dtype=torch.float64) for n in (900, 200))
    with in_blocks(*blocks):
        similarity, nearest = neighbors(bank, queries, k=k)
    theirs = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(bank.numpy())
    distance, expected = map(torch.from_numpy, theirs.kneighbors(queries.numpy()))
    assert float((similarity.double() - (1 - distance)).abs().max()) < 5e-7
    clear = told_apart(bank, queries, k)
    assert int(clear.sum()) > {1: 190, 7: 190, 60: 190, 900: 50}[k]
    assert torch.equal(nearest[clear], expected[clear])


@settings(max_examples=150, deadline=None)
@given(
    n=st.integers(2, 150),
    q=st.integers(1, 12),
    k=st.integers(1, 12),
    bank_block=st.one_of(st.none(), st.integers(1, 160)),
    query_block=st.integers(1, 13),
    leaves=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_blocks_give_the_same_bits_and_ties_go_to_the_first_row(n, q, k, bank_block, query_block, leaves, seed):
    bank, queries = signs(n, seed), signs(q, seed + 1)  # so few dimensions that most similarities are tied
    leave_out = torch.randint(0, n, (q,), generator=torch.Generator().manual_seed(seed)) if leaves else None
    k = min(k, n - leaves)
    with in_blocks(bank_block or n, query_block):
        found = neighbors(bank, queries, k=k, leave_out=leave_out)
    expected = naive(bank, queries, k, leave_out)
    assert torch.equal(found[0].double(), expected[0])
    assert torch.equal(found[1], expected[1])


def test_lengths_do_not_matter():
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(100, 8, generator=generator), torch.randn(20, 8, generator=generator)
    expected = neighbors(bank, queries, k=5)
    lengths = 2.0 ** torch.randint(-100, 100, (100, 1), generator=generator)  # their squares are no float32
    for found in (
        neighbors(bank * lengths, queries * 2.0**90, k=5),
        neighbors(bank.double() * 2.0**600, queries.double() * 2.0**-600, k=5),
    ):
        assert torch.equal(found[1], expected[1])
        torch.testing.assert_close(found[0], expected[0])


@pytest.mark.parametrize("blocks", [(2**16, 2**16), (128, 50)])
@pytest.mark.parametrize("mean", [10.0, 1e3, 1e5])
def test_features_that_vary_little_about_a_large_mean_have_their_neighbors(mean, blocks):
    generator = torch.Generator().manual_seed(0)
    bank, queries = (mean + torch.randn(n, 24, generator=generator) for n in (900, 200))
    bank[::9], queries[3] = 0, 0  # have similarity 0 to all
    with in_blocks(*blocks):
        similarity, nearest = neighbors(bank, queries, k=7)
    exact = [x.double() / x.double().norm(dim=1, keepdim=True).clamp(min=1) for x in (bank, queries)]
    squared = torch.cdist(exact[1], exact[0], compute_mode="donot_use_mm_for_euclid_dist").square()
    same = nearest == squared.topk(7, largest=False).indices
    assert float(same[torch.arange(200) != 3].double().mean()) > 0.999
    cosines = (exact[1][:, None] * exact[0][nearest]).sum(dim=2)
    torch.testing.assert_close(similarity.double(), cosines, atol=2e-7, rtol=0)


def test_the_precision_that_others_asked_for_is_not_taken_and_is_put_back():
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(200, 64, generator=generator), torch.randn(30, 64, generator=generator)
    expected = neighbors(bank, queries, k=5)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        found = neighbors(bank, queries, k=5)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found[0], expected[0])


@pytest.mark.gpu
def test_a_gpu_finds_the_same():
    for bank, queries in ((signs(5000, 0), signs(300, 1)), (signs(70_000, 2), signs(40, 3))):
        found = neighbors(bank.cuda(), queries.cuda(), k=100, leave_out=torch.arange(len(queries)).cuda())
        expected = neighbors(bank, queries, k=100, leave_out=torch.arange(len(queries)))
        assert torch.equal(found[0].cpu(), expected[0])
        assert torch.equal(found[1].cpu(), expected[1])


def test_errors():
    bank = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(FullrankError, match="k must be from 1 to the bank's 3 images, got 4"):
        neighbors(bank, bank, k=4, leave_out=torch.arange(4))
    bad = bank.clone()
    bad[2, 1] = torch.nan
    for pair in ((bad, bank), (bank, bad)):
        with pytest.raises(FullrankError, match="NaN or infinity in 1 of 4 rows, first in row 2"):
            neighbors(*pair, k=1)
