"""What `fullrank evaluate` has to say: every score beside how it was taken, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fullrank.documents import Document, Fields, Only, Part, Table, Words
from fullrank.documents.looks import Look
from fullrank.evaluation.result import Evaluation
from fullrank.measure.scores import Score, kind_of, title
from fullrank.training.scores import WARNING

_MOST_LINES = 3
_SHARES = ("best_over_epochs",)


def document(found: Sequence[Evaluation]) -> Document:
    """Say what was found."""
    name = " and ".join(each.name for each in found) if len(found) < 3 else f"{len(found)} runs"
    return Document("evaluation", name, list(_parts(found)), {"evaluated": [each.as_dict() for each in found]})


def _parts(found: Sequence[Evaluation]) -> Iterator[Part]:
    protocols: list[tuple[str, Mapping[str, Any]]] = []
    rows = []
    for each in found:
        for score in each.scores.values():
            taken = (score.name, score.protocol)
            if taken not in protocols:
                protocols.append(taken)
            short = title(score.name).split()[0]  # the protocol has it in full
            note = f"[{protocols.index(taken) + 1}]"
            rows.append(
                [each.name, "–" if each.step is None else f"{each.step:,}", short, score.text, _chosen(score), note]
            )
    if rows:
        header = ["run", "steps", "probe", "value", "chosen", "protocol"]
        yield Table("Scores", header, rows, text=(2, 4), captioned=False)
    for number, (name, protocol) in enumerate(protocols, start=1):
        yield Fields(protocol, f"[{number}] {title(name)}")
    for index, each in enumerate(found):
        look = Look(each.name, index)
        for score in each.scores.values():
            if warning := score.chosen.get(WARNING):
                yield Words(f"{title(score.name)}: {warning}", "warning", look)
        for key in each.skipped[:_MOST_LINES]:
            yield Words(f"left out, it could not be read: {key}", "hint", look)
        if len(each.skipped) > _MOST_LINES:
            yield Only("terminal", [Words(f"... and {len(each.skipped) - _MOST_LINES} more", "hint", look)])
        if each.missing:
            yield Words(f"not scored: {each.missing}", "warning", look)


def _chosen(score: Score) -> str:
    return ", ".join(
        f"{key} {kind_of('knn').write(value) if key in _SHARES else value}"
        for key, value in score.chosen.items()
        if key != WARNING
    )
