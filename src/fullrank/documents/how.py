"""How scores were measured: each protocol once, with the scores that share it and whose they are."""

from __future__ import annotations

from collections.abc import Iterable

from fullrank.documents import Fields
from fullrank.measure.protocols import FINGERPRINT
from fullrank.measure.scores import Score
from fullrank.text import capital


def how_measured(taken: Iterable[tuple[str, Score]]) -> list[Fields]:
    """Return each protocol once, titled by its scores, and by whom they are of where it is not everyone's.

    Args:
        taken: Scores, each with the name of what it is of.
    """
    shared: dict[str, tuple[dict, dict[str, None], dict[str, None]]] = {}
    everyone: dict[str, None] = {}
    for who, score in taken:
        fields = {key: value for key, value in score.protocol.items() if key != FINGERPRINT}
        _, titles, of = shared.setdefault(repr(sorted(fields.items(), key=repr)), (fields, {}, {}))
        titles[score.kind.title] = of[who] = everyone[who] = None
    return [
        Fields(fields, capital(", ".join(titles)) + ("" if len(of) == len(everyone) else f" of {', '.join(of)}"))
        for fields, titles, of in shared.values()
    ]
