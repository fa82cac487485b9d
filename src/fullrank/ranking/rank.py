"""The walk from run folders to a ranking: read, group what can be compared, rank, fit or apply a forecast."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fullrank.errors import FullrankError, check_words
from fullrank.files import check_output
from fullrank.measure.forecast import LinearFit, fit_linear, fronts, undecided
from fullrank.measure.forecast.linear import Prediction
from fullrank.ranking.agreements import agreements
from fullrank.ranking.candidates import FEATURES, FORECAST, FRONT, Candidate, open_candidates
from fullrank.ranking.groups import Labels, choose_labels, features_of, groups_of
from fullrank.ranking.options import RankOptions
from fullrank.ranking.result import Forecasted, Group, Ranking, Standing
from fullrank.ranking.saved import TITLES, Forecast, read_forecast, write_forecast
from fullrank.ranking.words import about, refusal, said
from fullrank.text import grouped, listing

if TYPE_CHECKING:
    from fullrank.inspection.inspect import Progress


def rank(
    paths: Sequence[str | Path],
    options: RankOptions | None = None,
    *,
    progress: Progress = lambda what, done, total: None,
) -> Ranking:
    """Rank runs, or checkpoints, without labels; and forecast their accuracy where that can be done.

    Args:
        paths: Run folders; or checkpoints in them; or one run folder, for its measured steps.
        options: How.
        progress: Told how far the work is, where scores are measured anew.

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
    labels = choose_labels(candidates, options.accuracy if applied is None else applied.accuracy)
    forecasts = {} if applied is None else _apply(applied, candidates, str(options.forecast))
    groups: list[Group] = []
    standings: list[Standing] = []
    members, apart = groups_of(candidates)
    for places, facts in zip(members, apart, strict=True):
        fit = _fit(candidates, places, labels) if applied is None else _Fit()
        forecasts |= fit.forecasts
        order, group = _rank(places, candidates, forecasts, applied or fit.forecast, start=len(standings))
        for i, front, place in order:
            number = len(standings) + 1
            standings.append(
                Standing(candidates[i], number, len(groups), front, place, forecasts.get(i), labels.values[i])
            )
        letter = _letter(len(groups)) if len(places) > 1 < len(members) else ""
        groups.append(
            replace(group, letter=letter, about=facts, forecast=fit.forecast, alone=fit.alone, unfitted=fit.why)
        )
    ranked = {i for places in members for i in places}
    for i, each in enumerate(candidates):
        if i not in ranked:
            standings.append(Standing(each, len(standings) + 1, None, None, None, None, labels.values[i]))
    ranking = Ranking(
        standings=tuple(standings),
        groups=tuple(groups),
        accuracy=labels.name,
        accuracy_protocol=labels.protocol,
        applied=applied,
        scores=agreements(standings),
        said=(),
        asked=asked,
    )
    if options.fit is not None:
        write_forecast(_the_fit(ranking, options.accuracy), options.fit)
    left_out = [candidates[i].name for i in labels.left_out]
    return replace(ranking, said=tuple(said(ranking, asked=options.accuracy, otherwise=left_out)))


def _check(options: RankOptions) -> Forecast | None:
    """Raise `FullrankError` where options contradict each other; return the forecast that is to be applied."""
    check_words(options)
    if options.fit is not None and options.forecast is not None:
        raise FullrankError("--fit writes a forecast and --forecast reads one: give one of them")
    if options.fit is not None:
        check_output(options.fit, "--fit")
        if options.fit.is_dir():
            raise FullrankError(f"{options.fit} is a folder: name the file to write the fit to, such as forecast.json")
    for flag, value in (("images", options.images), ("limit", options.limit)):
        if value is not None and options.scores is None:
            raise FullrankError(f"--{flag} is for the scores that --scores measures: give it too, or leave this out")
    applied = None if options.forecast is None else read_forecast(options.forecast)
    if applied is not None and options.accuracy not in (None, applied.accuracy):
        raise FullrankError(
            f"{options.forecast} forecasts {applied.accuracy} accuracy, not {options.accuracy}: leave out --accuracy"
        )
    return applied


def _rank(
    places: Sequence[int],
    candidates: Sequence[Candidate],
    forecasts: Mapping[int, Forecasted],
    used: Forecast | None,
    *,
    start: int,
) -> tuple[list[tuple[int, int | None, int | None]], Group]:
    """Rank a group by its forecasts if these are worth it, else by fronts: members, fronts and ranks; and the group."""
    costs = features_of(candidates, places)
    front = fronts(costs)
    by_forecast = used is not None and used.fit.leave_one_out_r2 > 0 and all(i in forecasts for i in places)
    keys = [-forecasts[i].value if by_forecast else float(f) for i, f in zip(places, front, strict=True)]
    alone = len(places) == 1
    order = sorted(range(len(places)), key=keys.__getitem__)
    place_of = {one: start + at for at, one in enumerate(order)}
    pairs = [sorted((place_of[a], place_of[b])) for a, b in undecided(costs)]
    group = Group(
        members=tuple(range(start, start + len(places))),
        undecided=tuple(sorted((a, b) for a, b in pairs)),
        ranked_by="" if alone else FORECAST if by_forecast else FRONT,
    )
    if alone:
        return [(places[0], None, None)], group
    return [(places[one], int(front[one]), 1 + sum(key < keys[one] for key in keys)) for one in order], group


@dataclass
class _Fit:
    """A fitted forecast, what it says of each member of its group, each feature's fit alone; or why there is none."""

    forecast: Forecast | None = None
    forecasts: dict[int, Forecasted] = field(default_factory=dict)
    alone: dict[str, LinearFit] = field(default_factory=dict)
    why: str = ""


def _fit(candidates: Sequence[Candidate], places: Sequence[int], labels: Labels) -> _Fit:
    """Fit a forecast on the labeled members of a group, or say why not."""
    labeled = [i for i in places if labels.values[i] is not None]
    if not labeled:
        return _Fit(why="none has labels")
    x, y = features_of(candidates, labeled), [one.taken for i in labeled if (one := labels.values[i]) is not None]
    try:
        fit = fit_linear(x, y, TITLES)
    except FullrankError as error:
        return _Fit(why=str(error))
    first = candidates[labeled[0]]
    forecast = Forecast(
        fit=fit,
        runs=tuple(candidates[i].name for i in labeled),
        accuracy=str(labels.name),
        accuracy_protocol=labels.protocol,
        protocols={name: first.scores[name].protocol for name in FEATURES},
        width=first.width,
    )
    # of a labeled run, what a fit without it says
    found = dict(zip(labeled, _forecasts(fit.left_out, left_out=True), strict=True))
    if others := [i for i in places if i not in found]:
        made = _forecasts(fit.predict(features_of(candidates, others)), left_out=False)
        found |= dict(zip(others, made, strict=True))
    alone = {name: fit_linear(x[:, [j]], y, TITLES[j : j + 1]) for j, name in enumerate(FEATURES)}
    return _Fit(forecast, found, alone)


def _forecasts(made: Prediction, *, left_out: bool) -> list[Forecasted]:
    return [
        Forecasted(float(value), float(low), float(high), left_out, outside)
        for value, low, high, outside in zip(made.value, made.lower, made.upper, made.outside, strict=True)
    ]


def _apply(forecast: Forecast, candidates: Sequence[Candidate], file: str) -> dict[int, Forecasted]:
    """Forecast the accuracy of the candidates that were measured as the fitted runs were; there must be one."""
    fit = forecast.fit
    refused = {i: why for i, each in enumerate(candidates) if (why := refusal(forecast, each))}
    able = [i for i in range(len(candidates)) if i not in refused]
    if not able:
        whys = grouped((why, candidates[i].name) for i, why in refused.items())
        each_why = "; ".join(f"{listing(names)}: {why}" for why, names in whys.items())
        raise FullrankError(f"{file} cannot forecast any of these runs, which were measured otherwise ({each_why})")
    x = features_of(candidates, able)
    found = dict(zip(able, _forecasts(fit.predict(x), left_out=False), strict=True))
    unseen = _forecasts(fit.left_out, left_out=True)
    for i, row in zip(able, x, strict=True):  # a fitted run is told what a fit without it says
        if len(own := np.flatnonzero((fit.features == row).all(axis=1))):
            found[i] = unseen[own[0]]
    return found


def _the_fit(ranking: Ranking, accuracy: str | None) -> Forecast:
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
        wanted = "labels" if accuracy is None else f"a {accuracy} accuracy"
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
