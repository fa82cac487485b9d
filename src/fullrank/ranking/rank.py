"""The walk from run folders to a ranking: read, group what can be compared, rank, fit or apply a forecast."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from fullrank.errors import FullrankError
from fullrank.files import check_output
from fullrank.measure.forecast import agreement, fronts, undecided
from fullrank.measure.forecast.agreement import FEWEST
from fullrank.measure.protocols import ACCURACIES, FINGERPRINT, WIDTH, comparable, split
from fullrank.measure.scores import Score, kind_of
from fullrank.ranking.candidates import FEATURES, FORECAST, FRONT, Candidate, Forecasted, open_candidates
from fullrank.ranking.forecast import Forecast, read_forecast
from fullrank.ranking.options import RankOptions
from fullrank.ranking.result import Group, Ranked, Ranking, about, refusal, unlike
from fullrank.text import Progress, grouped, listing, untold


def rank(paths: Sequence[str | Path], options: RankOptions | None = None, *, progress: Progress = untold) -> Ranking:
    """Rank runs, checkpoints in them, or the measured steps of one; forecast their accuracy where that can be done.

    Raises:
        FullrankError: A run cannot be read, or a forecast that was asked for cannot be fitted, read or applied.
    """
    options = options or RankOptions()
    applied = _check(options)
    candidates = open_candidates(paths)
    asked: tuple[str, ...] = ()
    if options.scores is not None:
        from fullrank.ranking.scores import score_names, with_scores  # needs timm, which takes seconds to import

        names = score_names(options.scores)
        asked = tuple(name for name in names if name not in FEATURES)
        candidates = with_scores(candidates, names, options, progress)
    every = [choose_labels(candidates, name) for name in ACCURACIES if options.accuracy in (None, name)]
    labels = meant_of(every, options.accuracy if applied is None else applied.accuracy)
    known = [labels, *(each for each in every if each.name != labels.name and each.having)]

    def standing(i: int, **place: Any) -> Candidate:
        accuracies = {each.name: one for each in known if (one := each.values[i]) is not None}
        number, accuracy = len(standings) + 1, labels.values[i]
        return replace(candidates[i], number=number, accuracy=accuracy, accuracies=accuracies, **place)

    forecasts = {} if applied is None else _apply(applied, candidates, str(options.forecast))
    groups: list[Group] = []
    standings: list[Candidate] = []
    members = _groups(candidates)
    for places, facts in zip(members, _abouts(FEATURES, members, candidates), strict=True):
        fitted, why = _fit(candidates, places, labels) if applied is None else (None, "")
        if fitted is not None:
            labeled = [i for i in places if labels.values[i] is not None]
            forecasts |= dict(zip(labeled, fitted.left_out, strict=True))
            if others := [i for i in places if i not in labeled]:
                forecasts |= dict(zip(others, fitted.predict(_features(candidates, others)), strict=True))
        costs, start, used = _features(candidates, places), len(standings), applied or fitted
        front = fronts(costs)
        trusted = used is not None and used.fit.leave_one_out_r2 > 0 and all(i in forecasts for i in places)
        keys = np.array([-forecasts[i].value for i in places]) if trusted else front
        order, ranks = np.argsort(keys, kind="stable"), rankdata(keys, method="min")
        alone = len(places) == 1  # with nobody to be ranked against
        for one in order:
            i = places[one]
            place = {} if alone else {"front": int(front[one]), "rank": int(ranks[one])}
            standings.append(standing(i, **place, group=len(groups), forecast=forecasts.get(i)))
        groups.append(
            Group(
                members=tuple(range(start, len(standings))),
                undecided=tuple((start + a, start + b) for a, b in undecided(costs[order])),
                ranked_by="" if alone else FORECAST if trusted else FRONT,
                letter=_letter(len(groups)) if len(places) > 1 < len(members) else "",
                about=facts,
                forecast=fitted,
                unfitted=why,
            )
        )
    for i in sorted(set(range(len(candidates))) - {i for places in members for i in places}):
        standings.append(standing(i))
    ranking = Ranking(
        standings=tuple(standings),
        groups=tuple(groups),
        accuracy=labels.name if labels.having else None,
        accuracy_protocol=labels.protocol,
        others={each.name: each.protocol for each in known[1:]},
        applied=applied,
        scores=tuple(_agreements(standings)),
        asked=asked,
        wanted=options.accuracy,
        otherwise={each.name: tuple(candidates[i].name for i in each.left_out) for each in known},
    )
    if options.fit is not None:
        _the_fit(ranking).write(options.fit)
    return ranking


def _check(options: RankOptions) -> Forecast | None:
    """Raise `FullrankError` where options contradict each other; return the forecast that is to be applied."""
    if options.fit is not None and options.forecast is not None:
        raise FullrankError("--fit writes a forecast and --forecast reads one: give one of them")
    if options.fit is not None:
        check_output(options.fit, "--fit")
        if options.fit.is_dir():
            raise FullrankError(f"{options.fit} is a folder: name the file to write the fit to, such as forecast.json")
    for flag in ("images", "limit", "device"):
        if options.scores is None and getattr(options, flag) != getattr(RankOptions, flag):
            raise FullrankError(f"--{flag} is for the scores that --scores measures: give it too, or leave this out")
    applied = None if options.forecast is None else read_forecast(options.forecast)
    if applied is not None and options.accuracy not in (None, applied.accuracy):
        raise FullrankError(
            f"{options.forecast} forecasts {applied.accuracy} accuracy, not {options.accuracy}: leave out --accuracy"
        )
    return applied


def _groups(candidates: Sequence[Candidate]) -> list[list[int]]:
    """Return groups whose held-out losses and AUCs can be compared, lone ones last."""
    able = [i for i, each in enumerate(candidates) if all(name in each.scores for name in FEATURES)]
    protocols = {name: [candidates[i].scores[name].protocol for i in able] for name in FEATURES}
    groups = comparable(protocols, [candidates[i].width for i in able])
    return sorted(([able[place] for place in group] for group in groups), key=lambda group: len(group) == 1)


def _abouts(
    names: Iterable[str], groups: Sequence[Sequence[int]], candidates: Sequence[Candidate]
) -> list[dict[str, Any]]:
    """Return for each group the fields in which its scores were measured unlike those of the others."""
    firsts = [candidates[group[0]] for group in groups]
    found: list[dict[str, Any]] = [{} for _ in groups]
    for name in names:
        protocols, widths = [each.scores[name].protocol for each in firsts], [each.width for each in firsts]
        for field in unlike(name, protocols, widths):
            default = 1.0 if field == "subset" else None
            values = widths if field == WIDTH else [protocol.get(field, default) for protocol in protocols]
            if len({repr(value) for value in values}) == 1:  # two sets of images of one name
                values = [protocol.get(FINGERPRINT) for protocol in protocols]
            for own, value in zip(found, values, strict=True):
                own.setdefault(field, value)
    return found


class Labels(NamedTuple):
    """One accuracy, of the candidates that have it."""

    name: str  # `linear`, `logistic` or `knn`
    protocol: Mapping[str, Any]  # how it was measured
    values: list[Score | None]  # one for each candidate; None where it has none, or one that was measured otherwise
    left_out: list[int]  # candidates whose accuracy of that name was measured otherwise

    @property
    def having(self) -> int:
        """How many candidates have it."""
        return sum(value is not None for value in self.values)


def choose_labels(candidates: Sequence[Candidate], name: str) -> Labels:
    """Choose the way in which an accuracy was measured of most candidates."""
    taken = [(i, one) for i, each in enumerate(candidates) for one in each.labeled.get(name, ())]
    groups = split(name, [one.protocol for _, one in taken], [None] * len(taken))
    firsts = [dict(reversed([taken[place] for place in group])) for group in groups]
    first = max(firsts, key=len, default={})
    protocol = first[min(first)].protocol if first else {}
    otherwise = sorted({i for i, _ in taken if i not in first})
    return Labels(name, protocol, [first.get(i) for i in range(len(candidates))], otherwise)


def meant_of(every: Sequence[Labels], asked: str | None) -> Labels:
    """Choose the accuracy that is meant: the one asked for, or that of most candidates; of equals what says most."""
    return max((each for each in every if asked in (None, each.name)), key=lambda each: each.having)


def _features(candidates: Sequence[Candidate], places: Sequence[int]) -> np.ndarray:
    """Return the held-out loss and AUC of some candidates, `(n, 2)`."""
    return np.array([[candidates[i].scores[name].taken for name in FEATURES] for i in places])


def _fit(candidates: Sequence[Candidate], places: Sequence[int], labels: Labels) -> tuple[Forecast | None, str]:
    """Fit a forecast on the labeled members of a group, or say why not."""
    labeled = {i: one.taken for i in places if (one := labels.values[i]) is not None}
    if not labeled:
        return None, "none has labels"
    first = candidates[min(labeled)]
    forecast = Forecast(
        runs=tuple(candidates[i].name for i in labeled),
        features=_features(candidates, list(labeled)),
        accuracies=np.array(list(labeled.values())),
        accuracy=labels.name,
        accuracy_protocol=labels.protocol,
        protocols={name: first.scores[name].protocol for name in FEATURES},
        width=first.width,
    )
    try:
        return (forecast, "") if forecast.fit else (None, "")
    except FullrankError as error:
        return None, str(error)


def _apply(forecast: Forecast, candidates: Sequence[Candidate], file: str) -> dict[int, Forecasted]:
    """Forecast the accuracy of the candidates that were measured as the fitted runs were; there must be one."""
    refused = {i: why for i, each in enumerate(candidates) if (why := refusal(forecast, each))}
    able = [i for i in range(len(candidates)) if i not in refused]
    if not able:
        whys = grouped((why, candidates[i].name) for i, why in refused.items())
        each_why = "; ".join(f"{listing(names)}: {why}" for why, names in whys.items())
        raise FullrankError(f"{file} cannot forecast any of these runs, which were measured otherwise ({each_why})")
    x = _features(candidates, able)
    found = dict(zip(able, forecast.predict(x), strict=True))
    for i, row in zip(able, x, strict=True):  # a fitted run is told what a fit without it says
        if len(own := np.flatnonzero((forecast.features == row).all(axis=1))):
            found[i] = forecast.left_out[own[0]]
    return found


def _agreements(standings: Sequence[Candidate]) -> Iterable[Ranked]:
    """Say how well each score ranks the labeled standings, where it can be compared between them."""
    labeled = [i for i, each in enumerate(standings) if each.accuracy is not None]
    for name in dict.fromkeys([FORECAST, FRONT, *(name for i in labeled for name in standings[i].scores)]):
        values = {i: value for i in labeled if (value := standings[i].value(name)) is not None}
        having = list(values)
        own = name in (FORECAST, FRONT)  # which are of one group each
        taken = [{"group": standings[i].group} if own else standings[i].scores[name].protocol for i in having]
        places = split(name, taken, [None if own else standings[i].width for i in having])
        alike = [[having[place] for place in group] for group in places if len(group) >= FEWEST or not own]
        for apart, group in zip(_abouts(FEATURES if own else (name,), alike, standings), alike, strict=True):
            if len(group) >= FEWEST:
                accuracy = [one.taken for i in group if (one := standings[i].accuracy) is not None]
                try:
                    found = agreement([values[i] for i in group], accuracy, direction=kind_of(name).direction)
                    yield Ranked(name, tuple(group), found, about=apart)
                except FullrankError as error:
                    yield Ranked(name, tuple(group), None, str(error), apart)


def _the_fit(ranking: Ranking) -> Forecast:
    """Return the one fit there is; none, or more than one, is an error."""
    fitted = [group for group in ranking.groups if group.forecast is not None]
    if len(fitted) > 1:
        each = "; ".join(about(group) for group in fitted)
        raise FullrankError(
            f"--fit writes one model, and these runs make {len(fitted)}, which cannot be compared ({each}): give the "
            "runs of one of them"
        )
    if fitted and fitted[0].forecast is not None:
        return fitted[0].forecast
    if not any(each.accuracy for each in ranking.standings):
        wanted = "labels" if ranking.wanted is None else f"a {ranking.wanted} accuracy"
        why = f"no run has {wanted}; `fullrank evaluate RUN` measures it"
    elif not ranking.groups:
        why = "no run has both a held-out loss and an AUC"
    else:
        why = max(ranking.groups, key=lambda group: len(group.members)).unfitted
    raise FullrankError(f"--fit has nothing to write: {why}")


def _letter(number: int) -> str:
    """Return A to Z, then A2 and so on."""
    turn, place = divmod(number, len(string.ascii_uppercase))
    return string.ascii_uppercase[place] + (str(turn + 1) if turn else "")
