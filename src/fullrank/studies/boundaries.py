"""What about chunks matters? Their number, the passes over a chunk at a time, and what is kept from one to the next."""

from collections.abc import Sequence
from dataclasses import replace

from fullrank.documents import Part, Words
from fullrank.studies.bases import MULTIPLE, short
from fullrank.studies.study import ACCURACY, Cell, Results, Scale, Study
from fullrank.studies.views import against_number, overview, through_training

CHUNKS: dict[Scale, tuple[int, ...]] = {"lab": (2, 5, 10, 20), "paper": (10, 100, 1000)}
BASE: dict[Scale, int] = {"lab": 10, "paper": 100}
ROUNDS = (2, 5)
RESETS = ("momentum", "statistics")
_ALL = f"1, {MULTIPLE}"
_NAMES = ("knn", "auc", "heldout_loss")


def _single(scale: Scale, chunks: int, rounds: int = 1, reset: str = "nothing") -> Cell:
    factors = {"chunks": str(chunks), "rounds": str(rounds), "reset": reset}
    config = replace(short(scale), order="single-pass", chunks=chunks, rounds=rounds)
    forgotten = {f"reset_{what}": what == reset for what in RESETS}
    return Cell(factors, replace(config, **forgotten))  # type: ignore[arg-type]


def _parts(results: Results, scale: Scale) -> Sequence[Part]:
    base, scores = str(BASE[scale]), (ACCURACY[scale], *_NAMES)
    numbers = results.where(rounds="1", reset="nothing")
    own = numbers.where(chunks=list(map(str, CHUNKS[scale])))
    return [
        Words(
            "Steps and visits of an image are equal everywhere. In several rounds the chunks are gone through as "
            "often, and the passes over a chunk are spread over so many visits. Momentum, or the running statistics of "
            "batch norm, are forgotten where a chunk begins; [Li22] keep both. Training normalizes by its batches and "
            "never reads running statistics, so resetting them leaves the weights as they are: that row is a check."
        ),
        overview(numbers, scores, rows=("chunks",)),
        overview(results.where(chunks=base, reset="nothing"), scores, rows=("rounds",)),
        overview(results.where(chunks=base, rounds="1"), scores, rows=("reset",)),
        *(against_number(own, name, "chunks", "chunks") for name in _NAMES),
        *(through_training(numbers, name, color="chunks") for name in ("knn", "auc")),
    ]


STUDY = Study(
    name="boundaries",
    title="Chunks and their boundaries",
    source="ours; [Li22] vary none of it",
    question="Do the number of chunks, the passes over a chunk at a time, or what is kept between them matter?",
    cells=lambda scale: [
        Cell({"chunks": _ALL, "rounds": "1", "reset": "nothing"}, short(scale)),
        *(_single(scale, chunks) for chunks in CHUNKS[scale]),
        *(_single(scale, BASE[scale], rounds=rounds) for rounds in ROUNDS),
        *(_single(scale, BASE[scale], reset=reset) for reset in RESETS),
    ],
    parts=_parts,
)
