"""The nearest rows of a bank by cosine similarity: exact, in blocks, with ties that are defined.

Finding the largest of a row of similarities takes two quick steps: the maximum of every group of rows that follow one
another in the bank, and then, of the k groups whose maxima are largest, the k largest rows. No other group can hold
one of them, for each of those k has a row that comes before all of its rows.

Cosines of features that vary little about a large mean are all 1 to float32, and an encoder that nearly collapsed would
look worse than it is. So where directions lie near a common one, m, all are seen from there, u' = u - m: as u_q.u_h =
u_q.m + m.u_h' + u_q'.u_h', the order of the h is that of the last two, whose digits are of the directions' spread.

Legend: h: (N, D) bank; q: (Q, D) queries; u: their directions, of norm 1; g: rows of a group; G: groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor

from fullrank.errors import FullrankError
from fullrank.measure.checks import as_matrix, check_finite
from fullrank.numerics import exact_arithmetic, l2_normalize

_BANK_ROWS, _BANK_ENTRIES = 2**16, 2**26  # of a block of the bank; its normalized copy takes 256 MiB at most
_SIMILARITIES = {"cpu": 2**24, "cuda": 2**27}  # of a block of queries to one of the bank: 64 MiB, 512 MiB
_NEAR = 0.99  # cosine to the common direction from which most rows are near it: of 1 less it, 1e-5 is rounding
_SAMPLE = 1024  # rows of the bank whose common direction that is
_ENTRIES = {"cpu": 2**16, "cuda": 2**24}  # of a float64 block
_LAST = 2**32 - 1  # a key has 32 bits for the row


@exact_arithmetic()
def neighbors(bank: Tensor, queries: Tensor, *, k: int, leave_out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Find the k rows of a bank that are nearest to each query in cosine similarity, in float32's digits of its spread.

    Of equally similar rows the one that stands first in the bank is nearer. A row of zeros has similarity 0 to all. The
    size of blocks bounds memory, and decides between rows that rounding alone tells apart, and nothing else.

    `bank` is `(N, D)`, `queries` `(Q, D)`, on the same device. `leave_out`, `(Q,)` int64, is the row of the bank that
    is no neighbor of each query, such as itself: k is in [1, N], or then in [1, N - 1]. Returns similarities `(Q, k)`
    float64, descending, and rows of the bank `(Q, k)` int64.
    """
    bank, queries = as_matrix(bank), as_matrix(queries)
    if bank.shape[1] != queries.shape[1]:
        got = f"{tuple(bank.shape)} and {tuple(queries.shape)}"
        raise FullrankError(f"bank and queries must be matrices of one width, got shapes {got}")
    most = len(bank) - (leave_out is not None)
    if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= most:
        raise FullrankError(f"k must be from 1 to the bank's {most} images, got {k!r}")
    rows = max(1, min(_BANK_ROWS, _BANK_ENTRIES // bank.shape[1]))
    held = max(1, _SIMILARITIES.get(bank.device.type, 2**24) // min(rows, len(bank)))
    point = _common_direction(bank)
    best = torch.empty(len(queries), 0, dtype=torch.int64, device=bank.device)
    for first in range(0, len(bank), rows):
        block = bank[first : first + rows]
        found = _similarities(block, queries, point, leave_out, first, k, held)
        keys = [_nearest_keys(similarity, first, len(block), k) for similarity in found]
        best = torch.cat([best, torch.cat(keys)], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    near = torch.cat([directions @ point for directions in _directions(queries)])
    return _similarity_of(best) + near[:, None], _row_of(best)


def _similarities(
    block: Tensor, queries: Tensor, point: Tensor, leave_out: Tensor | None, first: int, k: int, held: int
) -> Iterator[Tensor]:
    """Give the similarities of queries, `held` at a time, to a block of the bank, less u_q.m, `(q, g, G)`.

    Row j g + r of the block is at [:, r, j], so that the maxima of groups are those of whole rows of memory. Rows that
    fill the last group up, and those that are left out, are -inf. The memory is used again for the next.
    """
    g = max(1, math.isqrt(len(block) // k))  # balances the maxima, n / g, and what is looked at within groups, k g
    missing = -len(block) % g
    seen, along = _seen_from(point, block)
    grouped = F.pad(seen, (0, 0, 0, missing)).view(-1, g, block.shape[1]).transpose(0, 1)
    grouped = grouped.reshape(-1, block.shape[1])
    along = F.pad(along, (0, missing)).view(-1, g).T.reshape(-1)
    memory = grouped.new_empty(min(held, len(queries)), len(grouped))
    for start in range(0, len(queries), held):
        q, _ = _seen_from(point, queries[start : start + held])
        similarity = torch.addmm(along, q, grouped.T, out=memory[: len(q)]).view(len(q), g, -1)
        if missing:
            similarity[:, g - missing :, -1] = -torch.inf
        if leave_out is not None:
            row = leave_out[start : start + held].to(block.device) - first
            here = ((row >= 0) & (row < len(block))).nonzero().squeeze(1)
            similarity[here, row[here] % g, row[here] // g] = -torch.inf
        yield similarity


def _nearest_keys(similarity: Tensor, first: int, n: int, k: int) -> Tensor:
    """Return the keys of the k largest of `(q, g, G)` similarities, or of all `n`, in any order."""
    _, g, groups = similarity.shape
    chosen = torch.arange(groups, device=similarity.device)[None]
    if g > 1:
        maxima = _keys(similarity.amax(dim=1), chosen)
        chosen = _row_of(maxima.topk(min(k, groups), dim=1, sorted=False).values)
        similarity = similarity.gather(2, chosen[:, None].expand(-1, g, -1))
    rows = first + chosen[:, None] * g + torch.arange(g, device=chosen.device)[:, None]
    keys = _keys(similarity, rows).flatten(1)
    return keys.topk(min(k, n, keys.shape[1]), dim=1, sorted=False).values


def _keys(similarity: Tensor, row: Tensor) -> Tensor:
    """Return int64 numbers that are ordered as (similarity, then the first row): no two are equal."""
    bits = (similarity + 0.0).view(torch.int32)  # -0.0 becomes 0.0
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # negative floats are ordered the other way round
    return (ordered.long() << 32) + (_LAST - row)


def _row_of(keys: Tensor) -> Tensor:
    return _LAST - (keys & _LAST)


def _similarity_of(keys: Tensor) -> Tensor:
    ordered = (keys >> 32).int()
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)


def _common_direction(bank: Tensor) -> Tensor:
    """Return m, `(D,)` float64, the median direction of a sample, where most of it is near; else 0."""
    sample = torch.cat(list(_directions(bank[:: -(-len(bank) // _SAMPLE)])))
    common = l2_normalize(sample.sort(dim=0).values[len(sample) // 2], dim=0)
    return common * ((sample @ common).median() > _NEAR)


def _seen_from(point: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the directions of rows less m, `(n, D)`, and m times these, `(n,)`, in float32."""
    seen, along = x.new_empty(x.shape, dtype=torch.float32), x.new_empty(len(x), dtype=torch.float32)
    start = 0
    for directions in _directions(x):
        moved = directions.sub_(point)
        stop = start + len(moved)
        seen[start:stop], along[start:stop] = moved, moved @ point
        start = stop
    if not bool(torch.isfinite(seen.sum())):
        check_finite(x)
    return seen, along


def _directions(x: Tensor) -> Iterator[Tensor]:
    """Walk over the rows divided by their norms, in float64 blocks, which a core's cache holds; rows of zeros stay."""
    for block in x.split(max(1, _ENTRIES.get(x.device.type, 2**16) // x.shape[1])):
        yield l2_normalize(block.double())
