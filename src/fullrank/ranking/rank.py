"""The walk from run folders to a ranking: read, group what can be compared, rank, fit or apply a forecast."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fullrank.errors import FullrankError, check_words
from fullrank.files import check_output
from fullrank.measure.forecast import LinearFit, fit_linear, fronts, undecided
from fullrank.ranking.agreements import agreements
from fullrank.ranking.candidates import Candidate, open_candidates
from fullrank.ranking.groups import features_of, groups_of
from fullrank.ranking.labels import Labels, choose_labels
from fullrank.ranking.names import FEATURES, FORECAST, FRONT, TITLES
from fullrank.ranking.options import Options
from fullrank.ranking.result import Forecasted, Group, Ranking, Standing
from fullrank.ranking.saved import Forecast, read_forecast, write_forecast
from fullrank.ranking.words import about, refusal, said
from fullrank.text import listing

if TYPE_CHECKING:
    from fullrank.inspection.inspect import Progress


class _Fit(NamedTuple):
    """A fitted forecast, each feature's alone, or why there is none."""

    forecast: Forecast | None
    alone: dict[str, LinearFit]
    why: str


def rank(
    paths: Sequence[str | Path],
    options: Options | None = None,
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
    options = options or Options()
    check_words(options)
    if options.fit is not None and options.forecast is not None:
        raise FullrankError("--fit writes a forecast and --forecast reads one: give one of them")
    if options.fit is not None:
        check_output(Path(options.fit), "--fit")
    for flag, value in (("images", options.images), ("limit", options.limit)):
        if value is not None and options.scores is None:
            raise FullrankError(f"--{flag} is for the scores that --scores measures: give it too, or leave this out")
    applied = None if options.forecast is None else read_forecast(options.forecast)
    if applied is not None and options.accuracy not in (None, applied.accuracy):
        raise FullrankError(
            f"{options.forecast} forecasts {applied.accuracy} accuracy, not {options.accuracy}: leave out --accuracy"
        )
    candidates = open_candidates(paths)
    asked: tuple[str, ...] = ()
    if options.scores is not None:
        from fullrank.ranking.scores import score_names, with_scores  # needs timm, which takes seconds to import

        asked = tuple(name for name in score_names(options.scores) if name not in FEATURES)
        candidates = with_scores(candidates, options, progress)
    labels = choose_labels(candidates, applied.accuracy if applied is not None else options.accuracy)
    forecasts = {} if applied is None else _apply(applied, candidates, str(options.forecast))
    groups: list[Group] = []
    standings: list[Standing] = []
    members, apart = groups_of(candidates)
    for places, facts in zip(members, apart, strict=True):
        fit = _fit(candidates, places, labels) if applied is None else _Fit(None, {}, "")
        if fit.forecast is not None:
            forecasts |= _from_fit(fit.forecast.fit, candidates, places, labels)
        group, own = _rank(places, candidates, labels, forecasts, applied or fit.forecast, start=len(standings))
        standings += [replace(each, group=len(groups)) for each in own]
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
        _write(ranking, options)
    left_out = [candidates[i].name for i in labels.left_out]
    return replace(ranking, said=tuple(said(ranking, asked=options.accuracy, otherwise=left_out)))


def _rank(
    places: Sequence[int],
    candidates: Sequence[Candidate],
    labels: Labels,
    forecasts: Mapping[int, Forecasted],
    used: Forecast | None,
    *,
    start: int,
) -> tuple[Group, list[Standing]]:
    """Rank the members of a group: by their forecasts where these are worth it, else by their fronts.

    Args:
        places: The members, among the candidates.
        candidates: All of them.
        labels: Their accuracies.
        forecasts: Of those that have one.
        used: The model that made them.
        start: How many standings there are before theirs.

    Returns:
        The group, and its standings, best first.
    """
    costs = features_of(candidates, places)
    front = fronts(costs)
    by_forecast = used is not None and used.fit.leave_one_out_r2 > 0 and all(i in forecasts for i in places)
    keys = [-forecasts[i].value if by_forecast else float(f) for i, f in zip(places, front, strict=True)]
    alone = len(places) == 1
    order = sorted(range(len(places)), key=keys.__getitem__)
    standings = [
        Standing(
            candidate=candidates[places[one]],
            number=start + at + 1,
            group=None,
            front=None if alone else int(front[one]),
            rank=None if alone else 1 + sum(key < keys[one] for key in keys),
            forecast=forecasts.get(places[one]),
            accuracy=labels.values[places[one]],
        )
        for at, one in enumerate(order)
    ]
    place_of = {one: start + at for at, one in enumerate(order)}
    pairs = [(place_of[a], place_of[b]) for a, b in undecided(costs)]
    group = Group(
        letter="",
        members=tuple(range(start, start + len(places))),
        about={},
        undecided=tuple(sorted((min(pair), max(pair)) for pair in pairs)),
        forecast=None,
        alone={},
        unfitted="",
        ranked_by="" if alone else FORECAST if by_forecast else FRONT,
    )
    return group, standings


def _fit(candidates: Sequence[Candidate], places: Sequence[int], labels: Labels) -> _Fit:
    """Fit a forecast on the labelled members of a group, or say why not."""
    labelled = [i for i in places if labels.values[i] is not None]
    if not labelled:
        return _Fit(None, {}, "none has labels")
    x, y = features_of(candidates, labelled), [one.taken for i in labelled if (one := labels.values[i]) is not None]
    try:
        fit = fit_linear(x, y, TITLES)
    except FullrankError as error:
        return _Fit(None, {}, str(error))
    first = candidates[labelled[0]]
    forecast = Forecast(
        fit=fit,
        runs=tuple(candidates[i].name for i in labelled),
        accuracy=str(labels.name),
        accuracy_protocol=labels.protocol,
        protocols={name: first.scores[name].protocol for name in FEATURES},
        width=first.width,
    )
    alone = {name: fit_linear(x[:, [j]], y, TITLES[j : j + 1]) for j, name in enumerate(FEATURES)}
    return _Fit(forecast, alone, "")


def _from_fit(
    fit: LinearFit, candidates: Sequence[Candidate], places: Sequence[int], labels: Labels
) -> dict[int, Forecasted]:
    """Return what a fit says of a group: of its labelled members, what a fit without each says."""
    labelled = [i for i in places if labels.values[i] is not None]
    found = dict(zip(labelled, _forecasts(fit, None), strict=True))
    others = [i for i in places if i not in found]
    if others:
        found |= dict(zip(others, _forecasts(fit, features_of(candidates, others)), strict=True))
    return found


def _forecasts(fit: LinearFit, features: np.ndarray | None) -> list[Forecasted]:
    """Return forecasts at some features; None for the runs that the fit was made on, each left out."""
    made = fit.left_out if features is None else fit.predict(features)
    return [
        Forecasted(float(value), float(low), float(high), left_out=features is None, outside=outside)
        for value, low, high, outside in zip(made.value, made.lower, made.upper, made.outside, strict=True)
    ]


def _apply(forecast: Forecast, candidates: Sequence[Candidate], file: str) -> dict[int, Forecasted]:
    """Forecast the accuracy of the candidates that were measured as the fitted runs were.

    Raises:
        FullrankError: There are none.
    """
    found: dict[int, Forecasted] = {}
    refused: dict[str, list[str]] = {}
    for i, each in enumerate(candidates):
        if why := refusal(forecast, each):
            refused.setdefault(why, []).append(each.name)
            continue
        x = features_of(candidates, [i])
        own = np.flatnonzero((forecast.fit.features == x).all(axis=1))
        found[i] = _forecasts(forecast.fit, None)[own[0]] if len(own) else _forecasts(forecast.fit, x)[0]
    if not found:
        each_why = "; ".join(f"{listing(names)}: {why}" for why, names in refused.items())
        raise FullrankError(f"{file} cannot forecast any of these runs, which were measured otherwise ({each_why})")
    return found


def _write(ranking: Ranking, options: Options) -> None:
    """Write the fit to a file.

    Raises:
        FullrankError: There is none, or more than one.
    """
    assert options.fit is not None
    fitted = [group for group in ranking.groups if group.forecast is not None]
    if len(fitted) == 1 and fitted[0].forecast is not None:
        write_forecast(fitted[0].forecast, options.fit)
        return
    if len(fitted) > 1:
        each = "; ".join(about(group) for group in fitted)
        raise FullrankError(
            f"--fit writes one model, and these runs make {len(fitted)}, which cannot be compared ({each}): give the "
            "runs of one of them"
        )
    wanted = "labels" if options.accuracy is None else f"a {options.accuracy} accuracy"
    if not any(each.accuracy for each in ranking.standings):
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
