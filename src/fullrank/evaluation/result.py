"""What an evaluation found, and says: every score beside how it was taken, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fullrank.documents import Document, Look, Part, Shown, Table, Words, unreadable
from fullrank.documents.scores import how_measured
from fullrank.measure.scores import Score, kind_of
from fullrank.training.scores import WARNING

_SHARES = ("best_over_epochs",)


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """What was found out about one run.

    Attributes:
        name: What it was given as, or so much of its end as tells it from the others.
        run: The run's folder; None for a checkpoint file.
        step: Gradient steps of its checkpoint; None of what is no run.
        scores: One for each probe, by its name; empty where labels are missing.
        missing: What keeps it from being scored; empty where nothing does.
        skipped: Names of the images that could not be read.
        unkept: Why a run's scores could not be kept in its folder; empty where they were.
    """

    name: str
    run: Path | None
    step: int | None
    scores: Mapping[str, Score]
    missing: str = ""
    skipped: tuple[str, ...] = ()
    unkept: str = ""

    def __repr__(self) -> str:
        scores = ", ".join(f"{s.kind.title} {s.text}" for s in self.scores.values())
        return f"Evaluation({self.name!r}): {scores or self.missing}"

    def document(self) -> Document:
        """Return what `fullrank evaluate` says of it."""
        return document([self])

    def rows(self) -> list[dict[str, Any]]:
        """Return the scores, a row each, with what was chosen on the way."""
        return [{"score": score.name, "value": score.value, **score.chosen} for score in self.scores.values()]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        run, scores = self.run and str(self.run), [score.as_dict() for score in self.scores.values()]
        return {**asdict(self), "run": run, "scores": scores, "skipped": list(self.skipped)}


def document(found: Sequence[Evaluation]) -> Document:
    """Say what was found."""
    name = " and ".join(each.name for each in found) if len(found) < 3 else f"{len(found)} runs"
    return Document("evaluation", name, list(_parts(found)), {"evaluated": [each.as_dict() for each in found]})


def _parts(found: Sequence[Evaluation]) -> Iterator[Part]:
    taken = [(each, score) for each in found for score in each.scores.values()]
    rows = []
    for each, score in taken:
        step = "–" if each.step is None else f"{each.step:,}"
        probe = score.kind.title.split()[0]  # the protocol has it in full
        rows.append([each.name, step, probe, score.text, _chosen(score)])
    if rows:
        header = ["run", "steps", "probe", "value", "chosen"]
        yield Table("Scores", header, rows, text=(2, 4), captioned=False)
    yield from how_measured((each.name, score) for each, score in taken)
    for index, each in enumerate(found):
        look = Look(each.name, index)
        for score in each.scores.values():
            if warning := score.chosen.get(WARNING):
                yield Words(f"{score.kind.title}: {warning}", "warning", look)
        yield from unreadable(each.skipped, look)
        if said := f"not scored: {each.missing}" if each.missing else each.unkept:
            yield Words(said, "warning", look)


def _chosen(score: Score) -> str:
    return ", ".join(
        f"{key} {kind_of('knn').write(value) if key in _SHARES else value}"
        for key, value in score.chosen.items()
        if key != WARNING
    )
