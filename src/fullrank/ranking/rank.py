"""The walk from run folders to a ranking: read, group what can be compared, rank, fit or apply a forecast."""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from fullrank.errors import FullrankError
from fullrank.files import check_output
from fullrank.measure.forecast import agreement, fronts
from fullrank.measure.forecast.agreement import FEWEST
from fullrank.measure.protocols import ACCURACIES, DIM, FINGERPRINT, WIDTH, comparable, split
from fullrank.measure.scores import Score, kind_of
from fullrank.ranking.candidates import (
    FEATURES,
    FORECAST,
    FRONT,
    Candidate,
    Forecasted,
    Labels,
    features_of,
    open_candidates,
)
from fullrank.ranking.forecast import Forecast, read_forecast
from fullrank.ranking.options import RankOptions
from fullrank.ranking.result import Group, Ranked, Ranking, about, refusal, unlike
from fullrank.text import Progress, grouped, listing, no_progress


def rank(
    paths: Sequence[str | Path], options: RankOptions | None = None, *, progress: Progress = no_progress
) -> Ranking:
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
    wanted = options.accuracy if applied is None else applied.accuracy
    meant = max((each for each in every if wanted in (None, each.name)), key=lambda each: len(each.values))
    known = [meant, *(each for each in every if each.name != meant.name and each.values)]
    candidates = [
        replace(
            each,
            accuracy=meant.values.get(each.name),
            accuracies={own.name: own.values[each.name] for own in known if each.name in own.values},
        )
        for each in candidates
    ]
    forecasts = {} if applied is None else _apply(applied, candidates, str(options.forecast))
    groups: list[Group] = []
    numbers, alike = itertools.count(1), _groups(candidates)
    for members, facts in zip(alike, _abouts(FEATURES, alike), strict=True):
        fitted, why = _fit(members, meant) if applied is None else (None, "")
        if fitted is not None:
            forecasts |= dict(zip(_names(members), fitted.of(features_of(members)), strict=True))
        told = [replace(each, group=len(groups), forecast=forecasts.get(each.name)) for each in members]
        placed, ranked_by = _in_order(told, applied or fitted)
        groups.append(
            Group(
                members=tuple(replace(each, number=next(numbers)) for each in placed),
                ranked_by=ranked_by,
                letter=_letter(len(groups)) if len(members) > 1 < len(alike) else "",
                about=facts,
                forecast=fitted,
                unfitted=why,
            )
        )
    compared = {each.name for group in groups for each in group.members}
    ranking = Ranking(
        groups=tuple(groups),
        unranked=tuple(replace(each, number=next(numbers)) for each in candidates if each.name not in compared),
        labels=tuple(known),
        applied=applied,
        asked=asked,
        wanted=options.accuracy,
    )
    ranking = replace(ranking, scores=tuple(_agreements(ranking.standings)))
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


def _groups(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """Return groups whose held-out losses and AUCs can be compared, lone ones last."""
    able = [each for each in candidates if all(name in each.scores for name in FEATURES)]
    groups = comparable([{name: each.scores[name].protocol for name in FEATURES} for each in able])
    return sorted(([able[place] for place in group] for group in groups), key=lambda group: len(group) == 1)


def _abouts(names: Iterable[str], groups: Sequence[Sequence[Candidate]]) -> list[dict[str, Any]]:
    """Return for each group the fields in which its scores were measured unlike those of the others."""
    firsts = [group[0] for group in groups]
    found: list[dict[str, Any]] = [{} for _ in groups]
    for name in names:
        protocols = [each.scores[name].protocol for each in firsts]
        for field in unlike(name, protocols):
            default = 1.0 if field == "subset" else None
            values = [protocol.get(DIM if field == WIDTH else field, default) for protocol in protocols]
            if len({repr(value) for value in values}) == 1:  # two sets of images of one name
                values = [protocol.get(FINGERPRINT) for protocol in protocols]
            for own, value in zip(found, values, strict=True):
                own.setdefault(field, value)
    return found


def choose_labels(candidates: Sequence[Candidate], name: str) -> Labels:
    """Choose the way in which an accuracy was measured of most candidates."""
    taken = [(each.name, one) for each in candidates for one in each.labeled.get(name, ())]
    values: dict[str, Score] = {}
    for group in split(name, [one.protocol for _, one in taken]):
        own: dict[str, Score] = {}
        for place in group:
            own.setdefault(*taken[place])
        values = own if len(own) > len(values) else values
    protocol = next((one.protocol for one in values.values()), {})
    return Labels(name, protocol, values, tuple(dict.fromkeys(who for who, _ in taken if who not in values)))


def _names(candidates: Iterable[Candidate]) -> list[str]:
    return [each.name for each in candidates]


def _in_order(members: Sequence[Candidate], forecast: Forecast | None) -> tuple[list[Candidate], str]:
    """Return the members of a group with their fronts and ranks, best first, and what they are ranked by."""
    if len(members) == 1:  # with nobody to be ranked against
        return [*members], ""
    front, told = fronts(features_of(members)), [each.forecast for each in members]
    trusted = forecast is not None and forecast.fit.leave_one_out_r2 > 0 and None not in told
    keys = [-each.value for each in told if each is not None] if trusted else front
    ranks, order = rankdata(keys, method="min"), np.argsort(keys, kind="stable")
    placed = [replace(members[i], front=int(front[i]), rank=int(ranks[i])) for i in order]
    return placed, FORECAST if trusted else FRONT


def _fit(members: Sequence[Candidate], labels: Labels) -> tuple[Forecast | None, str]:
    """Fit a forecast on the labeled members of a group, or say why not."""
    labeled = [each for each in members if each.accuracy is not None]
    if not labeled:
        return None, "none has labels"
    forecast = Forecast(
        runs=tuple(_names(labeled)),
        features=features_of(labeled),
        accuracies=np.array([labels.values[each.name].taken for each in labeled]),
        accuracy=labels.name,
        accuracy_protocol=labels.protocol,
        protocols={name: labeled[0].scores[name].protocol for name in FEATURES},
    )
    try:
        return (forecast, "") if forecast.fit else (None, "")
    except FullrankError as error:
        return None, str(error)


def _apply(forecast: Forecast, candidates: Sequence[Candidate], file: str) -> dict[str, Forecasted]:
    """Forecast the accuracy of the candidates that were measured as the fitted runs were; there must be one."""
    refused = {each.name: why for each in candidates if (why := refusal(forecast, each))}
    able = [each for each in candidates if each.name not in refused]
    if not able:
        whys = grouped((why, name) for name, why in refused.items())
        each_why = "; ".join(f"{listing(names)}: {why}" for why, names in whys.items())
        raise FullrankError(f"{file} cannot forecast any of these runs, which were measured otherwise ({each_why})")
    return dict(zip(_names(able), forecast.of(features_of(able)), strict=True))


def _agreements(standings: Sequence[Candidate]) -> Iterable[Ranked]:
    """Say how well each score ranks the labeled standings, where it can be compared between them."""
    labeled = [each for each in standings if each.accuracy is not None]
    for name in dict.fromkeys([FORECAST, FRONT, *(name for each in labeled for name in each.scores)]):
        having = [each for each in labeled if each.value(name) is not None]
        own = name in (FORECAST, FRONT)  # which are of one group each
        taken = [{"group": each.group} if own else each.scores[name].protocol for each in having]
        places = split(name, taken)
        alike = [[having[place] for place in group] for group in places if len(group) >= FEWEST or not own]
        for apart, group in zip(_abouts(FEATURES if own else (name,), alike), alike, strict=True):
            if len(group) >= FEWEST:
                accuracy = [each.accuracy.taken for each in group if each.accuracy is not None]
                values = [value for each in group if (value := each.value(name)) is not None]
                try:
                    found = agreement(values, accuracy, direction=kind_of(name).direction)
                    yield Ranked(name, tuple(_names(group)), found, about=apart)
                except FullrankError as error:
                    yield Ranked(name, tuple(_names(group)), None, str(error), apart)


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
