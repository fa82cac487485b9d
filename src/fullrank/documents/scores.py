"""Scores of several things side by side: a table, what can be compared and what not, and how each was measured."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fullrank.documents import MISSING, Cell, Fields, Hinted, Look, Table
from fullrank.measure import protocols
from fullrank.measure.scores import Score, kind_of, title
from fullrank.text import capital, grouped, listing

Row = Sequence[Cell]

UNSPANNED = "† counts as dead what so few images cannot span: go by the verdict, which leaves that out."


@dataclass(frozen=True)
class Scored(Look):
    """Something that has scores, beside others."""

    scores: Mapping[str, Score]

    def cell(self, name: str) -> str:
        """Write a score for a table; with a mark where `unspanned_note` has something to say of it."""
        score = self.scores.get(name)
        return MISSING if score is None else f"{score.text}{' †' * score.unspanned}"


def unspanned_note(of: Iterable[Scored], names: Collection[str]) -> list[str]:
    """Say below a table what the mark of `Scored.cell` means; nothing where no value has one."""
    marked = any(each.scores[name].unspanned for each in of for name in names if name in each.scores)
    return [UNSPANNED] if marked else []


def better(name: str) -> str:
    """Say which values of a score are better; an empty string where neither are by themselves."""
    direction = kind_of(name).direction
    if direction == "none":
        return ""
    return f"{direction} is better{', with a lower AUC' if name == 'heldout_loss' else ''}"


def score_table(
    of: Sequence[Scored],
    names: Iterable[str],
    above: Sequence[Sequence[Cell]] = (),
    below: Sequence[Sequence[Cell]] = (),
) -> Table:
    """Return scores, a row each, of things side by side; those that compare between different widths have a star."""
    mixed = len({score.protocol.get(protocols.DIM) for each in of for score in each.scores.values()} - {None}) > 1
    rows: list[Row] = []
    names = list(names)
    for name in names:
        kind = kind_of(name)
        hint = kind.range and f"range {kind.range}"
        star = " *" if mixed and not obstacle(of, name) else ""
        texts = [each.cell(name) for each in of]
        rows.append([Hinted(f"{kind.title}{star}", hint), *texts, kind.direction.replace("none", "neither")])
    notes = ["* can be compared here, between different widths D; the others cannot."] if mixed else []
    notes += unspanned_note(of, names)
    header: Row = ["score", *of, "better"]
    return Table("Scores", header, [*above, *rows, *below], " ".join(notes), text=[len(of) + 1], captioned=False)


def obstacle(of: Sequence[Scored], name: str) -> str:
    """Say why a score cannot be compared between these; an empty string when it can."""
    missing = [each.label for each in of if name not in each.scores or each.scores[name].value is None]
    if missing:
        return f"not measured for {listing(missing)}"
    return protocols.obstacle(name, [each.scores[name].protocol for each in of])


def comparison(of: Sequence[Scored], names: Collection[str]) -> list[str]:
    """Compare in sentences: what is best by which score, and what cannot be compared and why."""
    if len(of) < 2:
        return []
    why = {name: obstacle(of, name) for name in names if any(name in each.scores for each in of)}
    said = [protocols.ends(name, {each.label: each.scores[name].taken for each in of}) for name in why if not why[name]]
    refused = grouped((reason, title(name)) for name, reason in why.items() if reason)
    said += [f"{listing(titles)} cannot be compared: {reason}" for reason, titles in refused.items()]
    return [f"{capital(sentence)}." for sentence in said]


def how_measured(taken: Iterable[tuple[str, Score]]) -> list[Fields]:
    """Return each protocol once, titled by its scores, and by whom they are of where it is not everyone's.

    Scores come each with the name of what it is of.
    """
    shared: dict[str, tuple[dict, dict[str, None], dict[str, None]]] = {}
    everyone: dict[str, None] = {}
    for who, score in taken:
        fields = {key: value for key, value in score.protocol.items() if key != protocols.FINGERPRINT}
        _, titles, of = shared.setdefault(repr(sorted(fields.items(), key=repr)), (fields, {}, {}))
        titles[score.kind.title] = of[who] = everyone[who] = None
    return [
        Fields(fields, capital(", ".join(titles)) + ("" if len(of) == len(everyone) else f" of {listing(list(of))}"))
        for fields, titles, of in shared.values()
    ]
