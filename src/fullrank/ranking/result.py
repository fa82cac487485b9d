"""What a ranking found, for tables, pages and programs, and in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from fullrank.documents import Document, Shown, coefficient, field_list, number, value_text
from fullrank.measure.forecast import Agreement, undecided
from fullrank.measure.protocols import COUNT, WIDTH, differences
from fullrank.measure.scores import SCORES, kind_of, title
from fullrank.ranking.candidates import FEATURES, FORECAST, Candidate, Labels, features_of
from fullrank.ranking.forecast import Forecast
from fullrank.text import grouped, listing

_MOST_NAMED = 4


@dataclass(frozen=True, eq=False)
class Group:
    """Candidates whose held-out losses and whose AUCs can be compared."""

    members: tuple[Candidate, ...]  # best first
    ranked_by: str  # "forecast" or "front"; empty for one that is alone
    letter: str = ""  # A, B and so on, for groups of several where there is more than one group; else empty
    # what tells it from the other groups, such as {"D": 128}; empty for a single group
    about: Mapping[str, Any] = field(default_factory=dict)
    forecast: Forecast | None = None  # fitted on its labeled members; else `unfitted` says why not
    unfitted: str = ""

    @cached_property
    def undecided(self) -> list[tuple[str, str]]:
        """Pairs of members, by name, that dominance leaves open."""
        names = [each.name for each in self.members]
        return [(names[i], names[j]) for i, j in undecided(features_of(self.members))]


@dataclass(frozen=True, eq=False)
class Ranked:
    """How well one score ranks the labeled candidates."""

    # the score; "front" and "forecast" for what `fullrank rank` itself says, the forecast being leave-one-out
    name: str
    members: tuple[str, ...]  # the candidates' names
    agreement: Agreement | None  # none where it could not be taken, and `why`
    why: str = ""
    # what tells these from others that have the score; empty where there are none
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Shown):
    """What `fullrank rank` found.

    Attributes:
        groups: What can be compared, lone ones last.
        unranked: What has no held-out loss or no AUC.
        labels: The accuracy that is meant, though no candidate may have it; then the others that candidates have.
        applied: The forecast that was read from a file.
        scores: How well each score ranks the labeled candidates.
        asked: The scores that were asked for beside held-out loss and AUC.
        wanted: The accuracy that was asked for.
    """

    groups: tuple[Group, ...]
    unranked: tuple[Candidate, ...]
    labels: tuple[Labels, ...]
    applied: Forecast | None
    scores: tuple[Ranked, ...] = ()
    asked: tuple[str, ...] = ()
    wanted: str | None = None

    @property
    def accuracy(self) -> str | None:
        """The name of the accuracy that is meant; None where no candidate has it."""
        meant = self.labels[0]
        return meant.name if meant.values else None

    @cached_property
    def standings(self) -> tuple[Candidate, ...]:
        """Groups in turn, each best first; then what is not ranked."""
        return (*(each for group in self.groups for each in group.members), *self.unranked)

    @cached_property
    def said(self) -> list[str]:
        """What follows, what does not, and what is missing, in clauses."""
        found = [*_apart(self)]
        for group in self.groups:
            if len(group.members) > 1:
                found += [f"{group.letter}: {each}" if group.letter else each for each in _of_group(group, self)]
        return [*found, *_applied(self), *_labels(self), *_missing(self)]

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
                **{name: score.value for name, score in each.accuracies.items()},
                **{name: score.value for name, score in each.scores.items()},
            }
            for each in self.standings
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        accuracy = {"name": self.accuracy, "protocol": dict(self.labels[0].protocol)}
        return {
            "accuracy": None if self.accuracy is None else accuracy,
            "ranked": [each.as_dict() for each in self.standings],
            "groups": [
                {
                    "letter": group.letter,
                    "members": [each.name for each in group.members],
                    "about": dict(group.about),
                    "ranked_by": group.ranked_by,
                    "undecided": group.undecided,
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
                {**asdict(row), "direction": kind_of(row.name).direction, "members": list(row.members)}
                for row in self.scores
            ],
            "said": self.said,
        }


def about(group: Group | Ranked) -> str:
    """Say what sets a group apart, such as `D 128`; empty for the only one."""
    return field_list(group.about)


def unlike(name: str, protocols: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Name what keeps scores apart, as `differences` does; but the number of images follows the width."""
    found = differences(name, protocols)
    if WIDTH in found:
        found.pop(COUNT, None)
    return found


def refusal(forecast: Forecast, candidate: Candidate) -> str:
    """Say why a forecast cannot be applied to a run; empty where it can."""
    missing = [title(name) for name in FEATURES if name not in candidate.scores]
    if missing:
        return f"no {listing(missing)}"
    for name in FEATURES:
        protocols = [forecast.protocols[name], candidate.scores[name].protocol]
        if different := unlike(name, protocols):
            each = [f"{field} {' and '.join(map(value_text, values))}" for field, values in different.items()]
            return f"{title(name)} was measured otherwise than when it was fitted, {listing(each)}"
    return ""


def _apart(ranking: Ranking) -> Iterator[str]:
    if len(ranking.standings) == 1:
        yield "one run alone is compared with nothing: give several, or a run of which several steps were measured"
    several = [f"{each.letter}, {len(each.members)} runs ({about(each)})" for each in ranking.groups if each.letter]
    lone = [f"{each.members[0].name} ({about(each)})" for each in ranking.groups if len(each.members) == 1]
    if several:
        yield f"these runs cannot all be compared, so each group is ranked by itself: {'; '.join(several)}"
    if lone and len(ranking.groups) > 1:
        yield f"these cannot be compared with any other, so they have no rank: {'; '.join(lone)}"
    if len(ranking.groups) > 1:
        yield (
            "held-out losses compare only between equal losses, settings, images and views, and AUCs only at one width "
            "D, measured alike (--scores auc --images NAME measures them anew, alike)"
        )


def _of_group(group: Group, ranking: Ranking) -> Iterator[str]:
    noise = SCORES["auc"].noise
    first = [each.name for each in group.members if each.front == 1]
    costs = [tuple(each) for each in features_of(group.members)]
    n, pairs = len(group.members), len(group.members) * (len(group.members) - 1) // 2
    aucs = [each.scores["auc"].taken for each in group.members]
    close = [(one, other) for one, other in combinations(aucs, 2) if abs(one - other) < noise]
    if len({cost for cost, each in zip(costs, group.members, strict=True) if each.front == 1}) == 1:
        alike = ", with equal numbers" if len(first) > 1 else ""
        yield f"lowest of {n} in both held-out loss and AUC: {listing(first, _MOST_NAMED)}{alike}"
    else:
        yield (
            f"no run of the {n} is lowest in both held-out loss and AUC: dominance cannot choose between the "
            f"{len(first)} on the first front ({listing(first, _MOST_NAMED)})"
        )
    if group.undecided and pairs > 1:
        why = "disagree" if len(set(costs)) == n else "disagree, or are equal"
        yield f"dominance decides {pairs - len(group.undecided)} of {pairs} pairs; in the others loss and AUC {why}"
    if close:
        which = "all" if len(close) == pairs else f"{len(close)} of {pairs}"
        yield f"the AUCs of {which} pairs lie no further apart than two seeds ({noise})"
    labeled = any(each.accuracy for each in group.members)
    if group.forecast is None and labeled and ranking.applied is None:
        yield f"no forecast: {group.unfitted}"
    if group.forecast is None:
        return
    fit = group.forecast.fit
    terms = [f"{coefficient(value, interval)} {name}" for name, value, interval in fit.slopes]
    shares = {"both": fit, **{f"{title(name)} alone": one for name, one in group.forecast.alone.items()}}
    worth = [f"{what} {number(one.r2)}, {number(one.leave_one_out_r2)}" for what, one in shares.items()]
    yield (
        f"{title(group.forecast.accuracy)} = {number(fit.coefficients[0])} + {' + '.join(terms)}, 95 % intervals, "
        f"fitted on {len(group.forecast.runs)} runs ([Li22] had 22). R² and leave-one-out R²: {'; '.join(worth)}"
    )
    if fit.leave_one_out_r2 <= 0:
        yield "the forecast is no better than the mean accuracy: it is shown, and does not decide the ranks"
    if len(ranking.standings) > len({each.run for each in ranking.standings}):
        yield "steps of one run are alike, so that intervals, which take them for independent, are too narrow"


def _applied(ranking: Ranking) -> Iterator[str]:
    forecast = ranking.applied
    if forecast is None:
        return
    fit = forecast.fit
    yield (
        f"forecast of {title(forecast.accuracy)} by a model of {len(forecast.runs)} runs (R² {number(fit.r2)}, "
        f"leave-one-out {number(fit.leave_one_out_r2)}); for one of these runs by a fit without it"
    )
    without = [each for each in ranking.standings if each.forecast is None]
    for why, names in grouped((refusal(forecast, each), each.name) for each in without).items():
        yield f"no forecast for {listing(names, _MOST_NAMED)}: {why}"
    if ranking.accuracy is not None:
        protocols = [forecast.accuracy_protocol, ranking.labels[0].protocol]
        if different := differences(ranking.accuracy, protocols):
            yield (
                f"the {title(ranking.accuracy)} shown was measured otherwise than the one that is forecast "
                f"({listing(list(different))})"
            )


def _labels(ranking: Ranking) -> Iterator[str]:
    meant, *others = ranking.labels
    asked = ranking.wanted or (ranking.applied.accuracy if ranking.applied and others else None)
    missing = [each.name for each in ranking.standings if each.accuracy is None]
    measure = f"`fullrank evaluate RUN{f' --{asked}' if asked else ''}` measures it"
    for each in ranking.labels:
        if each.left_out:
            yield (
                f"the {title(each.name)} of {listing(each.left_out, _MOST_NAMED)} was measured otherwise than that of "
                "the others and was left out"
            )
    if len(missing) == len(ranking.standings):
        what = title(asked) if asked else "labels"
        yield f"no run has {what}, so nothing says how good this ranking is: {measure}"
        return
    if others and ranking.scores:
        flags = " or ".join(f"--accuracy {each.name}" for each in others)
        yield f"what is forecast, and what scores are compared with, is the {title(meant.name)}; {flags} takes another"
    without = [name for name in missing if name not in meant.left_out]
    if without and asked:
        yield f"no {title(asked)} is known for {listing(without, _MOST_NAMED)}: {measure}"


def _missing(ranking: Ranking) -> Iterator[str]:
    reasons: list[tuple[str, str]] = []
    for each in ranking.standings:
        if lacking := [title(name) for name in FEATURES if name not in each.scores]:
            reasons.append((f"not ranked, for want of {listing(lacking)}", each.name))
        reasons += [(clause, each.name) for clause in each.missing]
    for clause, names in grouped(reasons).items():
        yield f"{clause}: {listing(names, _MOST_NAMED)}"
