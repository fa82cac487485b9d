"""A ranking in sentences: what is ahead, what cannot be decided or compared, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from fullrank.measure.forecast.linear import MUCH_INFLATION, fewest
from fullrank.measure.protocols import COUNT, WIDTH, differences
from fullrank.measure.scores import SCORES, title
from fullrank.ranking.candidates import Candidate
from fullrank.ranking.names import FEATURES
from fullrank.ranking.saved import Forecast
from fullrank.text import listing

if TYPE_CHECKING:
    from fullrank.ranking.result import Group, Ranked, Ranking

_EVALUATE = {"knn": "--knn", "linear": "--linear", "logistic": "--logistic"}
_PUBLISHED_RUNS = 22
_MOST_NAMED = 4


def names_of(names: Sequence[str]) -> str:
    """Name some runs, or count them where they are many.

    >>> names_of(["a", "b"]), names_of(["a", "b", "c", "d", "e"])
    ('a and b', 'a, b, c and 2 more')
    """
    if len(names) <= _MOST_NAMED:
        return listing(names)
    return f"{', '.join(names[: _MOST_NAMED - 1])} and {len(names) - _MOST_NAMED + 1} more"


def about(group: Group | Ranked) -> str:
    """Say what sets a group apart, such as `D 128`; empty for the only one."""
    return ", ".join(f"{key} {_plain(value)}" for key, value in group.about.items())


def group_title(group: Group) -> str:
    """Name a group and say what sets it apart, such as `A: D 128`; empty for the only one."""
    return f"{group.letter}: {about(group)}" if group.letter else about(group)


def refusal(forecast: Forecast, candidate: Candidate) -> str:
    """Say why a forecast cannot be applied to a run; empty where it can."""
    missing = [title(name) for name in FEATURES if name not in candidate.scores]
    if missing:
        return f"no {listing(missing)}"
    for name in FEATURES:
        protocols = [forecast.protocols[name], candidate.scores[name].protocol]
        if different := differences(name, protocols, [forecast.width, candidate.width]):
            if WIDTH in different:
                different.pop(COUNT, None)  # the number of images follows the width
            each = [
                f"{field} {_plain(values[0])} when it was fitted, {_plain(values[1])} here"
                if len(values) == 2
                else field
                for field, values in different.items()
            ]
            return f"{title(name)} was measured otherwise, {listing(each)}"
    return ""


def said(ranking: Ranking, *, asked: str | None, otherwise: Sequence[str]) -> list[str]:
    """Put a ranking in clauses.

    Args:
        ranking: What was found.
        asked: The accuracy that was asked for.
        otherwise: Runs whose accuracy was measured otherwise than the others', and was left out.
    """
    found = [*_apart(ranking)]
    for group in ranking.groups:
        if len(group.members) > 1:
            found += [f"{group.letter}: {clause}" if group.letter else clause for clause in _of_group(group, ranking)]
    found += _unfitted(ranking)
    found += _applied(ranking)
    found += _labels(ranking, asked, otherwise)
    found += _one_run(ranking)
    found += _missing(ranking)
    return found


def _apart(ranking: Ranking) -> list[str]:
    """Say that there are groups, and why."""
    if len(ranking.standings) == 1:
        return ["one run alone is compared with nothing: give several, or a run of which several steps were measured"]
    if len(ranking.groups) < 2:
        return []
    names = [each.candidate.name for each in ranking.standings]
    several = [
        f"{group.letter}, {len(group.members)} runs ({about(group)})" for group in ranking.groups if group.letter
    ]
    lone = [f"{names[group.members[0]]} ({about(group)})" for group in ranking.groups if not group.letter]
    found = []
    if several:
        found.append(f"these runs cannot all be compared, so each group is ranked by itself: {'; '.join(several)}")
    if lone:
        found.append(f"these cannot be compared with any other, so they have no rank: {'; '.join(lone)}")
    grouped = [ranking.standings[i].candidate for group in ranking.groups for i in group.members]
    widths = [each.width for each in grouped]
    loss, auc = (differences(name, [each.scores[name].protocol for each in grouped], widths) for name in FEATURES)
    if auc.pop(WIDTH, None):
        auc.pop(COUNT, None)  # the number of images follows the width
        found.append(
            "AUC depends on the width D: its floor is (D+1)/(2D), and dead directions that only fill up D raise it"
        )
    if loss:
        found.append(
            "held-out losses compare only where the loss, its settings, its images and views are the same, and here "
            f"they differ in {listing(list(loss))}"
        )
    if auc:
        found.append(
            "AUCs compare only where they were measured on the same images in the same way, and here they differ in "
            f"{listing(list(auc))} (--scores auc --images NAME measures them anew, alike)"
        )
    return found


def _of_group(group: Group, ranking: Ranking) -> list[str]:
    names = [each.candidate.name for each in ranking.standings]
    first = [i for i in group.members if ranking.standings[i].front == 1]
    n = len(group.members)
    pairs = n * (n - 1) // 2
    decided = pairs - len(group.undecided)
    auc = {i: ranking.standings[i].candidate.scores["auc"].taken for i in group.members}
    close = [(i, j) for i, j in combinations(group.members, 2) if abs(auc[i] - auc[j]) < SCORES["auc"].noise]
    found = []
    if len(first) == 1:
        best = "" if len(close) == pairs else ", and so the best, label-free"
        found.append(f"lowest of {n} in both held-out loss and AUC{best}: {names[first[0]]}")
    else:
        found.append(
            f"no run of the {n} is lowest in both held-out loss and AUC: {len(first)} are on the first front, and "
            f"dominance cannot choose between them ({names_of([names[i] for i in first])})"
        )
    if group.undecided and pairs > 1:
        found.append(
            f"dominance decides {decided} of {pairs} pairs; in the "
            f"{'other' if len(group.undecided) == 1 else f'other {len(group.undecided)}'} loss and AUC do not agree"
            + (f": {_pairs(group, names)}" if len(group.undecided) <= _MOST_NAMED else "")
        )
    if len(close) == pairs:
        apart = max(auc.values()) - min(auc.values())
        found.append(f"all AUCs lie within {apart:.3f}, no further apart than two seeds ({SCORES['auc'].noise})")
    elif near := len(set(close) - set(group.undecided)):
        of = f"the AUCs of {near} of the {decided} decided pairs"
        found.append(f"{of} lie no further apart than two seeds ({SCORES['auc'].noise})")
    if group.ranked_by == "forecast":
        found.append("ranks follow the forecast, and dominance is what can be said without it")
    if group.forecast is not None:
        found += _fit(group, group.forecast)
    return found


def _unfitted(ranking: Ranking) -> list[str]:
    """Say why groups with labels have no forecast; of those with too few, once."""
    few: list[tuple[str, int]] = []
    found = []
    for group in ranking.groups:
        labelled = sum(ranking.standings[i].accuracy is not None for i in group.members)
        if ranking.applied is not None or group.forecast is not None or not labelled or len(group.members) < 2:
            continue
        if labelled < fewest(len(FEATURES)):
            few.append((group.letter, labelled))
        else:
            found.append(f"no forecast{f' for {group.letter}' if group.letter else ''}: {group.unfitted}")
    if few:
        of = f" for {listing([letter for letter, _ in few])}" if few[0][0] else ""
        have = listing([str(labelled) for _, labelled in few])
        found.append(
            f"no forecast{of}: it takes {fewest(len(FEATURES))} runs with labels that can be compared, so that a fit "
            f"without one of them still leaves an error to judge it by, and there are {have}"
        )
    return found


def _pairs(group: Group, names: Sequence[str]) -> str:
    return ", ".join(f"{names[a]} and {names[b]}" for a, b in group.undecided)


def _fit(group: Group, forecast: Forecast) -> list[str]:
    fit = forecast.fit
    n = len(forecast.runs)
    terms = [
        f"{'−' if value < 0 else '+'} {abs(value):.3g} {name} {_interval(low, high)}"
        for name, value, low, high in zip(fit.names, fit.coefficients[1:], fit.lower[1:], fit.upper[1:], strict=True)
    ]
    found = [
        f"{title(forecast.accuracy)} = {fit.coefficients[0]:.3g} {' '.join(terms)}, 95 % intervals, fitted on {n} runs "
        f"([Li22] had {_PUBLISHED_RUNS}): R² {fit.r2:.2f}, leave-one-out {_signed(fit.leave_one_out_r2)} ("
        + "; ".join(
            f"{title(name)} alone: {one.r2:.2f}, {_signed(one.leave_one_out_r2)}" for name, one in group.alone.items()
        )
        + ")"
    ]
    if fit.leave_one_out_r2 <= 0:
        found.append("the forecast is no better than the mean accuracy: it is shown, and does not decide the ranks")
    if (fit.upper[1:] < 0).all():
        found.append("both coefficients are negative beyond their intervals, as in [Li22]")
    elif (fit.coefficients[1:] > 0).any():
        wrong = [name for name, value in zip(fit.names, fit.coefficients[1:], strict=True) if value > 0]
        found.append(f"unlike in [Li22], the coefficient of {listing(wrong)} is positive")
    if fit.inflation.max() >= MUCH_INFLATION:
        found.append(
            f"held-out loss and AUC nearly say the same here (variance inflation {fit.inflation.max():.0f}): what each "
            "of them does is uncertain"
        )
    return found


def _applied(ranking: Ranking) -> list[str]:
    if ranking.applied is None:
        return []
    forecast = ranking.applied
    found = [
        f"forecast of {title(forecast.accuracy)} by a model of {len(forecast.runs)} other runs (R² "
        f"{forecast.fit.r2:.2f}, leave-one-out {forecast.fit.leave_one_out_r2:.2f})"
        if not any(each.forecast and each.forecast.left_out for each in ranking.standings)
        else f"forecast of {title(forecast.accuracy)} by a model of {len(forecast.runs)} runs, some of which are "
        "among these: theirs are leave-one-out"
    ]
    refused: dict[str, list[str]] = {}
    for each in ranking.standings:
        if each.forecast is None:
            refused.setdefault(refusal(forecast, each.candidate), []).append(each.candidate.name)
    found += [f"no forecast for {names_of(names)}: {why}" for why, names in refused.items()]
    if ranking.accuracy is not None:
        protocols = [forecast.accuracy_protocol, ranking.accuracy_protocol]
        if different := differences(ranking.accuracy, protocols, []):
            found.append(
                f"the {title(ranking.accuracy)} shown was measured otherwise than the one that is forecast "
                f"({listing(list(different))})"
            )
    return found


def _labels(ranking: Ranking, asked: str | None, otherwise: Sequence[str]) -> list[str]:
    labelled = [each for each in ranking.standings if each.accuracy is not None]
    missing = [each.candidate.name for each in ranking.standings if each.accuracy is None]
    wanted = asked or ranking.accuracy
    found = []
    if not labelled:
        what = f"no run has a {title(asked)}" if asked else "no run has labels"
        flag = f" {_EVALUATE[asked]}" if asked else ""
        found.append(f"{what}, so nothing says how good this ranking is: `fullrank evaluate RUN{flag}` measures it")
    else:
        if otherwise:
            found.append(
                f"the {title(str(wanted))} of {names_of(otherwise)} was measured otherwise than that of the others and "
                "was left out"
            )
        without = [name for name in missing if name not in otherwise]
        if without and asked:
            found.append(
                f"no {title(asked)} is known for {names_of(without)}: `fullrank evaluate RUN {_EVALUATE[asked]}` "
                "measures it"
            )
    far = [each.candidate.name for each in ranking.standings if each.forecast and _extrapolates(each.forecast)]
    if far:
        found.append(
            f"the forecast of {names_of(far)} reaches beyond the fitted runs' range (~): a line need not go on straight"
        )
    undirected = [row.name for row in ranking.scores if row.agreement is not None and not row.agreement.directed]
    if undirected:
        found.append(
            f"neither lower nor higher is better by itself for {listing(list(dict.fromkeys(undirected)))}: the sign of "
            "the correlation is that of higher values, and no ranking follows"
        )
    return found


def _extrapolates(forecast: Any) -> bool:
    return bool(forecast.outside) and not forecast.left_out


def _one_run(ranking: Ranking) -> list[str]:
    runs = {each.candidate.run for each in ranking.standings}
    found = []
    if len(ranking.standings) > len(runs):
        if any(group.forecast is not None for group in ranking.groups):
            found.append(
                "steps of one run are alike, so that intervals, which take them for independent, are too narrow"
            )
        gone = [each.candidate.name for each in ranking.standings if each.candidate.checkpoint is None]
        if gone:
            found.append(
                f"the weights of {names_of(gone)} were not kept (--keep-checkpoints 0 keeps all, at every "
                "--checkpoint-every steps)"
            )
    return found


def _missing(ranking: Ranking) -> list[str]:
    found: dict[str, list[str]] = {}
    for each in ranking.standings:
        lacking = [title(name) for name in FEATURES if name not in each.candidate.scores]
        if lacking:
            found.setdefault(f"not ranked, for want of {listing(lacking)}", []).append(each.candidate.name)
        for clause in each.candidate.missing:
            found.setdefault(clause, []).append(each.candidate.name)
    return [f"{clause}: {names_of(names)}" for clause, names in found.items()]


def _interval(low: float, high: float) -> str:
    return f"[{low:.3g}, {high:.3g}]".replace("-", "−")


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _plain(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
