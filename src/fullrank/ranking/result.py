"""What a ranking found, for tables, pages and programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fullrank.documents import Document, Shown
from fullrank.measure.forecast import Agreement
from fullrank.measure.scores import kind_of
from fullrank.ranking.candidates import FORECAST, Candidate
from fullrank.ranking.forecast import Forecast


@dataclass(frozen=True, eq=False)
class Group:
    """Candidates whose held-out losses and whose AUCs can be compared."""

    members: tuple[int, ...]  # places among the standings, best first
    # pairs of members, as places among the standings, that dominance leaves open
    undecided: tuple[tuple[int, int], ...]
    ranked_by: str  # "forecast" or "front"; empty for one that is alone
    letter: str = ""  # A, B and so on, for groups of several where there is more than one group; else empty
    # what tells it from the other groups, such as {"D": 128}; empty for a single group
    about: Mapping[str, Any] = field(default_factory=dict)
    forecast: Forecast | None = None  # fitted on its labeled members; else `unfitted` says why not
    unfitted: str = ""


@dataclass(frozen=True, eq=False)
class Ranked:
    """How well one score ranks the labeled candidates."""

    # the score; "front" and "forecast" for what `fullrank rank` itself says, the forecast being leave-one-out
    name: str
    members: tuple[int, ...]  # places among the standings
    agreement: Agreement | None  # none where it could not be taken, and `why`
    why: str = ""
    # what tells these from others that have the score; empty where there are none
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Shown):
    """What `fullrank rank` found.

    Attributes:
        standings: Groups in turn, each best first; then what is not ranked.
        groups: In the order of their standings.
        accuracy: The accuracy's name; None where no candidate has one.
        applied: The forecast that was read from a file.
        scores: How well each score ranks the labeled candidates.
        asked: The scores that were asked for beside held-out loss and AUC.
        wanted: The accuracy that was asked for.
        otherwise: Candidates whose accuracy was measured otherwise than the others', and was left out.
    """

    standings: tuple[Candidate, ...]
    groups: tuple[Group, ...]
    accuracy: str | None
    accuracy_protocol: Mapping[str, Any]
    applied: Forecast | None
    scores: tuple[Ranked, ...]
    asked: tuple[str, ...] = ()
    wanted: str | None = None
    otherwise: tuple[str, ...] = ()

    @cached_property
    def said(self) -> list[str]:
        """What follows, what does not, and what is missing, in clauses."""
        from fullrank.ranking.words import said

        return said(self)

    @property
    def best(self) -> Path:
        """The run, or checkpoint, that stands first: nothing that it can be compared with is better in loss and AUC.

        Several may be first where loss and AUC leave it open; `standings` has them all.
        """
        first = self.standings[0]
        return first.checkpoint or first.run

    def __repr__(self) -> str:
        places = ", ".join(f"{'-' if s.rank is None else s.rank} {s.name} at step {s.step}" for s in self.standings)
        return f"Ranking: {'; '.join((places, *self.said))}"

    def document(self) -> Document:
        """Return what `fullrank rank` says."""
        from fullrank.ranking.document import document

        return document(self)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row each, in the order of the ranking."""
        return [
            {
                "name": each.name,
                "step": each.step,
                "rank": each.rank,
                "front": each.front,
                "forecast": each.value(FORECAST),
                "accuracy": each.accuracy and each.accuracy.value,
                **{name: score.value for name, score in each.scores.items()},
            }
            for each in self.standings
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        names = [each.name for each in self.standings]

        def of(members: Sequence[int]) -> list[str]:
            return [names[i] for i in members]

        accuracy = {"name": self.accuracy, "protocol": dict(self.accuracy_protocol)}
        return {
            "accuracy": None if self.accuracy is None else accuracy,
            "ranked": [each.as_dict() for each in self.standings],
            "groups": [
                {
                    "letter": group.letter,
                    "members": of(group.members),
                    "about": dict(group.about),
                    "ranked_by": group.ranked_by,
                    "undecided": [of(pair) for pair in group.undecided],
                    "forecast": group.forecast and group.forecast.as_dict(),
                    "alone": {
                        name: {"r2": fit.r2, "leave_one_out_r2": fit.leave_one_out_r2}
                        for name, fit in (group.forecast.alone if group.forecast else {}).items()
                    },
                    "unfitted": group.unfitted,
                }
                for group in self.groups
            ],
            "applied": self.applied and self.applied.as_dict(),
            "scores": [
                {**asdict(row), "direction": kind_of(row.name).direction, "members": of(row.members)}
                for row in self.scores
            ],
            "said": self.said,
        }
