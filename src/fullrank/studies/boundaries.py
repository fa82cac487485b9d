"""What about chunks matters? Their number, the passes over a chunk at a time, and what is kept from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fullrank.documents import Part, Words
from fullrank.studies.bases import ACCURACY, MULTIPLE, PROBES, simsiam, where
from fullrank.studies.study import Cell, Result, Scale, Study
from fullrank.studies.views import against_number, overview, through_training

CHUNKS: dict[Scale, tuple[int, ...]] = {"lab": (5, 10, 50), "paper": (10, 100, 1000)}
BASE: dict[Scale, int] = {"lab": 10, "paper": 100}
ROUNDS = (2, 5)
RESETS: dict[str, dict[str, Any]] = {
    "momentum": {"reset_momentum": True},
    "statistics": {"reset_statistics": True},
}


def cells(scale: Scale) -> list[Cell]:
    """Return one change at a time of single pass, and multiple passes for comparison."""
    base = simsiam(scale)

    def single(chunks: int = BASE[scale], rounds: int = 1, reset: str = "nothing") -> Cell:
        factors = {"chunks": str(chunks), "rounds": str(rounds), "reset": reset}
        changes: dict[str, Any] = {"chunks": chunks, "rounds": rounds, **RESETS.get(reset, {})}
        return Cell(factors, replace(base, order="single-pass", **changes), PROBES[scale])

    return [
        Cell({"chunks": _ALL, "rounds": "1", "reset": "nothing"}, base, PROBES[scale]),
        *(single(chunks) for chunks in CHUNKS[scale]),
        *(single(rounds=rounds) for rounds in ROUNDS),
        *(single(reset=reset) for reset in RESETS),
    ]


_ALL = f"1, {MULTIPLE}"
_NAMES = ("knn", "auc", "heldout_loss")


def parts(results: Sequence[Result], scale: Scale) -> list[Part]:
    """Return a table of each change."""
    base = str(BASE[scale])
    numbers = where(results, rounds="1", reset="nothing")
    rounds = where(results, chunks=base, reset="nothing")
    resets = where(results, chunks=base, rounds="1")
    scores = (ACCURACY[scale], *_NAMES)
    return [
        Words(
            "Steps and visits of an image are equal everywhere. In several rounds the chunks are gone through as "
            "often, and the passes over a chunk are spread over so many visits. Momentum, or the running statistics of "
            "batch norm, are forgotten where a chunk begins; [Li22] keep both. Training normalises by its batches and "
            "never reads running statistics, so resetting them leaves the weights as they are: that row is a check."
        ),
        overview(numbers, scores, rows=("chunks",)),
        overview(rounds, scores, rows=("rounds",)),
        overview(resets, scores, rows=("reset",)),
        *(
            against_number(
                where(numbers, chunks=[str(chunks) for chunks in CHUNKS[scale]]),
                name,
                of=lambda cell: cell.config.chunks,
                label="chunks",
                logarithmic=True,
            )
            for name in _NAMES
        ),
        *(through_training(numbers, name, colour="chunks") for name in ("knn", "auc")),
    ]


STUDY = Study(
    name="boundaries",
    title="Chunks and their boundaries",
    source="ours; [Li22] vary none of it",
    question="Do the number of chunks, the passes over a chunk at a time, or what is kept between them matter?",
    cells=cells,
    parts=parts,
)
