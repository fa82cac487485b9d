"""A ranking in sentences: what is ahead, what cannot be decided or compared, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from fullrank.measure.forecast.linear import MUCH_INFLATION, fewest
from fullrank.measure.protocols import COUNT, WIDTH, differences
from fullrank.measure.scores import SCORES, title
from fullrank.ranking.candidates import FEATURES, Candidate
from fullrank.ranking.saved import Forecast
from fullrank.text import grouped, listing

if TYPE_CHECKING:
    from fullrank.ranking.result import Group, Ranked, Ranking

_PUBLISHED_RUNS = 22
_MOST_NAMED = 4
_FEWEST = fewest(len(FEATURES))


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
        if different := _differences(name, protocols, [forecast.width, candidate.width]):
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
    names = [each.candidate.name for each in ranking.standings]
    found = [*_apart(ranking, names)]
    for group in ranking.groups:
        if len(group.members) > 1:
            found += [f"{group.letter}: {each}" if group.letter else each for each in _of_group(group, ranking, names)]
    found += _unfitted(ranking)
    found += _applied(ranking)
    found += _labels(ranking, asked, otherwise)
    found += _steps(ranking)
    found += _missing(ranking)
    return found


def _apart(ranking: Ranking, names: Sequence[str]) -> Iterator[str]:
    """Say that there are groups, and why."""
    if len(names) == 1:
        yield "one run alone is compared with nothing: give several, or a run of which several steps were measured"
    if len(ranking.groups) < 2:
        return
    several = [f"{each.letter}, {len(each.members)} runs ({about(each)})" for each in ranking.groups if each.letter]
    lone = [f"{names[each.members[0]]} ({about(each)})" for each in ranking.groups if not each.letter]
    if several:
        yield f"these runs cannot all be compared, so each group is ranked by itself: {'; '.join(several)}"
    if lone:
        yield f"these cannot be compared with any other, so they have no rank: {'; '.join(lone)}"
    able = [ranking.standings[i].candidate for group in ranking.groups for i in group.members]
    widths = [each.width for each in able]
    loss, auc = (_differences(name, [each.scores[name].protocol for each in able], widths) for name in FEATURES)
    if auc.pop(WIDTH, None):
        yield "AUC depends on the width D: its floor is (D+1)/(2D), and dead directions that only fill up D raise it"
    if loss:
        yield (
            "held-out losses compare only where the loss, its settings, its images and views are the same, and here "
            f"they differ in {listing(list(loss))}"
        )
    if auc:
        yield (
            "AUCs compare only where they were measured on the same images in the same way, and here they differ in "
            f"{listing(list(auc))} (--scores auc --images NAME measures them anew, alike)"
        )


def _of_group(group: Group, ranking: Ranking, names: Sequence[str]) -> Iterator[str]:
    noise = SCORES["auc"].noise
    first = [names[i] for i in group.members if ranking.standings[i].front == 1]
    n, pairs = len(group.members), len(group.members) * (len(group.members) - 1) // 2
    decided = pairs - len(group.undecided)
    auc = {i: ranking.standings[i].candidate.scores["auc"].taken for i in group.members}
    close = [(i, j) for i, j in combinations(group.members, 2) if abs(auc[i] - auc[j]) < noise]
    if len(first) == 1:
        best = "" if len(close) == pairs else ", and so the best, label-free"
        yield f"lowest of {n} in both held-out loss and AUC{best}: {first[0]}"
    else:
        yield (
            f"no run of the {n} is lowest in both held-out loss and AUC: {len(first)} are on the first front, and "
            f"dominance cannot choose between them ({names_of(first)})"
        )
    if group.undecided and pairs > 1:
        other = "other" if len(group.undecided) == 1 else f"other {len(group.undecided)}"
        which = ""
        if len(group.undecided) <= _MOST_NAMED:
            which = ": " + ", ".join(f"{names[a]} and {names[b]}" for a, b in group.undecided)
        yield f"dominance decides {decided} of {pairs} pairs; in the {other} loss and AUC do not agree{which}"
    if len(close) == pairs:
        apart = max(auc.values()) - min(auc.values())
        yield f"all AUCs lie within {apart:.3f}, no further apart than two seeds ({noise})"
    elif near := len(set(close) - set(group.undecided)):
        yield f"the AUCs of {near} of the {decided} decided pairs lie no further apart than two seeds ({noise})"
    if group.ranked_by == "forecast":
        yield "ranks follow the forecast, and dominance is what can be said without it"
    if group.forecast is not None:
        yield from _fit(group, group.forecast)


def _fit(group: Group, forecast: Forecast) -> Iterator[str]:
    fit = forecast.fit
    terms = [
        f"{'−' if value < 0 else '+'} {abs(value):.3g} {name} {_signed(f'[{low:.3g}, {high:.3g}]')}"
        for name, value, low, high in zip(fit.names, fit.coefficients[1:], fit.lower[1:], fit.upper[1:], strict=True)
    ]
    alone = [
        f"{title(name)} alone: {one.r2:.2f}, {_signed(f'{one.leave_one_out_r2:.2f}')}"
        for name, one in group.alone.items()
    ]
    yield (
        f"{title(forecast.accuracy)} = {fit.coefficients[0]:.3g} {' '.join(terms)}, 95 % intervals, fitted on "
        f"{len(forecast.runs)} runs ([Li22] had {_PUBLISHED_RUNS}): R² {fit.r2:.2f}, leave-one-out "
        f"{_signed(f'{fit.leave_one_out_r2:.2f}')} ({'; '.join(alone)})"
    )
    if fit.leave_one_out_r2 <= 0:
        yield "the forecast is no better than the mean accuracy: it is shown, and does not decide the ranks"
    if (fit.upper[1:] < 0).all():
        yield "both coefficients are negative beyond their intervals, as in [Li22]"
    elif wrong := [name for name, value in zip(fit.names, fit.coefficients[1:], strict=True) if value > 0]:
        yield f"unlike in [Li22], the coefficient of {listing(wrong)} is positive"
    if fit.inflation.max() >= MUCH_INFLATION:
        yield (
            f"held-out loss and AUC nearly say the same here (variance inflation {fit.inflation.max():.0f}): what each "
            "of them does is uncertain"
        )


def _unfitted(ranking: Ranking) -> Iterator[str]:
    """Say why groups with labels have no forecast; of those with too few, once."""
    few: list[tuple[str, int]] = []
    for group in ranking.groups:
        labeled = sum(ranking.standings[i].accuracy is not None for i in group.members)
        if ranking.applied is not None or group.forecast is not None or not labeled or len(group.members) < 2:
            continue
        if labeled < _FEWEST:
            few.append((group.letter, labeled))
        else:
            yield f"no forecast{f' for {group.letter}' if group.letter else ''}: {group.unfitted}"
    if few:
        of = f" for {listing([letter for letter, _ in few])}" if few[0][0] else ""
        yield (
            f"no forecast{of}: it takes {_FEWEST} runs with labels that can be compared, so that a fit without one of "
            f"them still leaves an error to judge it by, and there are {listing([str(labeled) for _, labeled in few])}"
        )


def _applied(ranking: Ranking) -> Iterator[str]:
    forecast = ranking.applied
    if forecast is None:
        return
    model = f"forecast of {title(forecast.accuracy)} by a model of {len(forecast.runs)}"
    if any(each.forecast and each.forecast.left_out for each in ranking.standings):
        yield f"{model} runs, some of which are among these: theirs are leave-one-out"
    else:
        fit = forecast.fit
        yield f"{model} other runs (R² {fit.r2:.2f}, leave-one-out {fit.leave_one_out_r2:.2f})"
    without = [each.candidate for each in ranking.standings if each.forecast is None]
    for why, names in grouped((refusal(forecast, each), each.name) for each in without).items():
        yield f"no forecast for {names_of(names)}: {why}"
    if ranking.accuracy is not None:
        protocols = [forecast.accuracy_protocol, ranking.accuracy_protocol]
        if different := differences(ranking.accuracy, protocols, []):
            yield (
                f"the {title(ranking.accuracy)} shown was measured otherwise than the one that is forecast "
                f"({listing(list(different))})"
            )


def _labels(ranking: Ranking, asked: str | None, otherwise: Sequence[str]) -> Iterator[str]:
    missing = [each.candidate.name for each in ranking.standings if each.accuracy is None]
    if len(missing) == len(ranking.standings):
        what = f"no run has a {title(asked)}" if asked else "no run has labels"
        flag = f" --{asked}" if asked else ""
        yield f"{what}, so nothing says how good this ranking is: `fullrank evaluate RUN{flag}` measures it"
    else:
        if otherwise:
            yield (
                f"the {title(str(ranking.accuracy))} of {names_of(otherwise)} was measured otherwise than that of the "
                "others and was left out"
            )
        without = [name for name in missing if name not in otherwise]
        if without and asked:
            yield f"no {title(asked)} is known for {names_of(without)}: `fullrank evaluate RUN --{asked}` measures it"
    far = [each.candidate.name for each in ranking.standings if each.forecast and each.forecast.extrapolates]
    if far:
        yield (
            f"the forecast of {names_of(far)} reaches beyond the fitted runs' range (~): a line need not go on straight"
        )


def _steps(ranking: Ranking) -> Iterator[str]:
    """Say what comes of several steps of one run."""
    if len(ranking.standings) == len({each.candidate.run for each in ranking.standings}):
        return
    if any(group.forecast is not None for group in ranking.groups):
        yield "steps of one run are alike, so that intervals, which take them for independent, are too narrow"
    gone = [each.candidate.name for each in ranking.standings if each.candidate.checkpoint is None]
    if gone:
        yield (
            f"the weights of {names_of(gone)} were not kept (--keep-checkpoints 0 keeps all, at every "
            "--checkpoint-every steps)"
        )


def _missing(ranking: Ranking) -> Iterator[str]:
    def reasons() -> Iterator[tuple[str, str]]:
        for each in ranking.standings:
            if lacking := [title(name) for name in FEATURES if name not in each.candidate.scores]:
                yield f"not ranked, for want of {listing(lacking)}", each.candidate.name
            for clause in each.candidate.missing:
                yield clause, each.candidate.name

    for clause, names in grouped(reasons()).items():
        yield f"{clause}: {names_of(names)}"


def _differences(name: str, protocols: Sequence[Any], widths: Sequence[int | None]) -> dict[str, list[Any]]:
    """Name what keeps scores apart; the number of images follows the width."""
    found = differences(name, protocols, widths)
    if WIDTH in found:
        found.pop(COUNT, None)
    return found


def _signed(text: str) -> str:
    return text.replace("-", "−")


def _plain(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
