"""A ranking in sentences: what is ahead, what cannot be decided or compared, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from fullrank.documents import coefficient, field_list, number, value_text
from fullrank.measure.protocols import COUNT, WIDTH, differences
from fullrank.measure.scores import SCORES, title
from fullrank.ranking.candidates import FEATURES, Candidate
from fullrank.ranking.forecast import Forecast
from fullrank.text import grouped, listing

if TYPE_CHECKING:
    from fullrank.ranking.result import Group, Ranked, Ranking

_MOST_NAMED = 4


def about(group: Group | Ranked) -> str:
    """Say what sets a group apart, such as `D 128`; empty for the only one."""
    return field_list(group.about)


def unlike(name: str, protocols: Sequence[Mapping[str, Any]], widths: Sequence[int | None]) -> dict[str, list[Any]]:
    """Name what keeps scores apart, as `differences` does; but the number of images follows the width."""
    found = differences(name, protocols, widths)
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
        if different := unlike(name, protocols, [forecast.width, candidate.width]):
            each = [f"{field} {' and '.join(map(value_text, values))}" for field, values in different.items()]
            return f"{title(name)} was measured otherwise than when it was fitted, {listing(each)}"
    return ""


def said(ranking: Ranking) -> list[str]:
    """Put a ranking in clauses."""
    names = [each.name for each in ranking.standings]
    found = [*_apart(ranking, names)]
    for group in ranking.groups:
        if len(group.members) > 1:
            found += [f"{group.letter}: {each}" if group.letter else each for each in _of_group(group, ranking, names)]
    return [*found, *_applied(ranking), *_labels(ranking), *_missing(ranking)]


def _apart(ranking: Ranking, names: Sequence[str]) -> Iterator[str]:
    if len(names) == 1:
        yield "one run alone is compared with nothing: give several, or a run of which several steps were measured"
    several = [f"{each.letter}, {len(each.members)} runs ({about(each)})" for each in ranking.groups if each.letter]
    lone = [f"{names[each.members[0]]} ({about(each)})" for each in ranking.groups if len(each.members) == 1]
    if several:
        yield f"these runs cannot all be compared, so each group is ranked by itself: {'; '.join(several)}"
    if lone and len(ranking.groups) > 1:
        yield f"these cannot be compared with any other, so they have no rank: {'; '.join(lone)}"
    if len(ranking.groups) > 1:
        yield (
            "held-out losses compare only between equal losses, settings, images and views, and AUCs only at one width "
            "D, measured alike (--scores auc --images NAME measures them anew, alike)"
        )


def _of_group(group: Group, ranking: Ranking, names: Sequence[str]) -> Iterator[str]:
    noise = SCORES["auc"].noise
    first = [names[i] for i in group.members if ranking.standings[i].front == 1]
    n, pairs = len(group.members), len(group.members) * (len(group.members) - 1) // 2
    auc = {i: ranking.standings[i].scores["auc"].taken for i in group.members}
    close = [(i, j) for i, j in combinations(group.members, 2) if abs(auc[i] - auc[j]) < noise]
    if len(first) == 1:
        yield f"lowest of {n} in both held-out loss and AUC: {first[0]}"
    else:
        yield (
            f"no run of the {n} is lowest in both held-out loss and AUC: dominance cannot choose between the "
            f"{len(first)} on the first front ({listing(first, _MOST_NAMED)})"
        )
    if group.undecided and pairs > 1:
        yield f"dominance decides {pairs - len(group.undecided)} of {pairs} pairs; in the others loss and AUC disagree"
    if close:
        which = "all" if len(close) == pairs else f"{len(close)} of {pairs}"
        yield f"the AUCs of {which} pairs lie no further apart than two seeds ({noise})"
    labeled = any(ranking.standings[i].accuracy for i in group.members)
    if group.forecast is None and labeled and ranking.applied is None:
        yield f"no forecast: {group.unfitted}"
    if group.forecast is None:
        return
    fit = group.forecast.fit
    terms = [
        f"{coefficient(value, ends)} {name}"
        for name, value, *ends in zip(fit.names, fit.coefficients[1:], fit.lower[1:], fit.upper[1:], strict=True)
    ]
    shares = {"both": fit, **{f"{title(name)} alone": one for name, one in group.forecast.alone.items()}}
    worth = [f"{what} {number(one.r2)}, {number(one.leave_one_out_r2)}" for what, one in shares.items()]
    yield (
        f"{title(group.forecast.accuracy)} = {number(fit.coefficients[0])} + {' + '.join(terms)}, 95 % intervals, "
        f"fitted on {len(group.forecast.runs)} runs ([Li22] had 22). R² and leave-one-out R²: {'; '.join(worth)}"
    )
    if fit.leave_one_out_r2 <= 0:
        yield "the forecast is no better than the mean accuracy: it is shown, and does not decide the ranks"
    if len(names) > len({each.run for each in ranking.standings}):
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
        protocols = [forecast.accuracy_protocol, ranking.accuracy_protocol]
        if different := differences(ranking.accuracy, protocols, []):
            yield (
                f"the {title(ranking.accuracy)} shown was measured otherwise than the one that is forecast "
                f"({listing(list(different))})"
            )


def _labels(ranking: Ranking) -> Iterator[str]:
    meant = str(ranking.accuracy)
    asked = ranking.wanted or (ranking.applied.accuracy if ranking.applied and ranking.others else None)
    missing = [each.name for each in ranking.standings if each.accuracy is None]
    measure = f"`fullrank evaluate RUN{f' --{asked}' if asked else ''}` measures it"
    for name, others in ranking.otherwise.items():
        if others:
            yield (
                f"the {title(name)} of {listing(others, _MOST_NAMED)} was measured otherwise than that of the others "
                "and was left out"
            )
    if len(missing) == len(ranking.standings):
        what = title(asked) if asked else "labels"
        yield f"no run has {what}, so nothing says how good this ranking is: {measure}"
        return
    if ranking.others and ranking.scores:
        flags = " or ".join(f"--accuracy {name}" for name in ranking.others)
        yield f"what is forecast, and what scores are compared with, is the {title(meant)}; {flags} takes another"
    without = [name for name in missing if name not in ranking.otherwise.get(meant, ())]
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
