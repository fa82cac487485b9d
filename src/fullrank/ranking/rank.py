"""The walk from run folders to a ranking: read, group what can be compared, rank, fit or apply a forecast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fullrank.errors import FullrankError
from fullrank.measure.forecast import LinearFit, agreement, fit_linear, fronts, undecided
from fullrank.measure.protocols import ACCURACIES, COUNT, WIDTH, differences, split
from fullrank.ranking.candidates import Candidate, Measured, open_candidates
from fullrank.ranking.names import FEATURES, TITLES, title
from fullrank.ranking.options import Options
from fullrank.ranking.result import Forecasted, Group, Ranked, Ranking, Standing
from fullrank.ranking.saved import Forecast, read_forecast, write_forecast
from fullrank.ranking.words import refusal, said
from fullrank.text import listing

if TYPE_CHECKING:
    from fullrank.inspection.inspect import Progress

FRONT, FORECAST = "front", "forecast"
_FEWEST_RANKED = 3


class Labels(NamedTuple):
    """The accuracy that is meant.

    Attributes:
        name: `linear`, `logistic` or `knn`; None where no candidate has any.
        protocol: How it was measured.
        values: One for each candidate; None where it has none, or one that was measured otherwise.
        left_out: Candidates whose accuracy of that name was measured otherwise.
    """

    name: str | None
    protocol: Mapping[str, Any]
    values: list[Measured | None]
    left_out: list[int]


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
    if options.fit is not None and options.forecast is not None:
        raise FullrankError("--fit writes a forecast and --forecast reads one: give one of them")
    for flag, value in (("images", options.images), ("limit", options.limit)):
        if value is not None and options.scores is None:
            raise FullrankError(f"--{flag} is for the scores that --scores measures: give it too, or leave this out")
    applied = None if options.forecast is None else read_forecast(options.forecast)
    if applied is not None and options.accuracy not in (None, applied.accuracy):
        raise FullrankError(
            f"{options.forecast} forecasts {applied.accuracy} accuracy, not {options.accuracy}: leave out --accuracy"
        )
    candidates = open_candidates(paths)
    if options.scores is not None:
        from fullrank.ranking.scores import with_scores  # needs timm, which takes seconds to import

        candidates = with_scores(candidates, options, progress)
    labels = choose_labels(candidates, applied.accuracy if applied is not None else options.accuracy)
    forecasts = {} if applied is None else _apply(applied, candidates, str(options.forecast))
    groups: list[Group] = []
    standings: list[Standing] = []
    members, abouts = _groups(candidates)
    for places, about in zip(members, abouts, strict=True):
        fit = _fit(candidates, places, labels) if applied is None else _Fit(None, {}, "")
        if fit.forecast is not None:
            forecasts |= _from_fit(fit.forecast.fit, candidates, places, labels)
        group, own = _rank(places, candidates, labels, forecasts, applied or fit.forecast, start=len(standings))
        standings += [replace(each, group=len(groups)) for each in own]
        groups.append(replace(group, about=about, forecast=fit.forecast, alone=fit.alone, unfitted=fit.why))
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
        scores=_agreements(standings),
        said=(),
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
    costs = _features(candidates, places)
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
    group = Group(
        members=tuple(range(start, start + len(places))),
        about={},
        undecided=tuple(sorted(tuple(sorted((place_of[a], place_of[b]))) for a, b in undecided(costs))),  # type: ignore[misc]
        forecast=None,
        alone={},
        unfitted="",
        ranked_by="" if alone else FORECAST if by_forecast else FRONT,
    )
    return group, standings


def choose_labels(candidates: Sequence[Candidate], asked: str | None) -> Labels:
    """Choose the accuracy that most candidates have, measured in one way; of equally many the one that says most.

    Args:
        candidates: Runs, of which any may have labels.
        asked: The accuracy that is meant; None for any.
    """
    chosen = Labels(None, {}, [None] * len(candidates), [])
    best = 0
    for name in ACCURACIES if asked is None else (asked,):
        taken = [(i, one) for i, each in enumerate(candidates) for one in each.labelled.get(name, ())]
        for group in split(name, [one.protocol for _, one in taken], [None] * len(taken)):
            values: list[Measured | None] = [None] * len(candidates)
            for i, one in reversed([taken[place] for place in group]):
                values[i] = one
            found = [one for one in values if one is not None]
            if len(found) > best:
                best = len(found)
                otherwise = sorted({i for i, _ in taken if values[i] is None})
                chosen = Labels(name, found[0].protocol, values, otherwise)
    return chosen


def _groups(candidates: Sequence[Candidate]) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """Return groups whose held-out losses and AUCs can be compared, lone ones last, and what sets them apart."""
    able = [i for i, each in enumerate(candidates) if all(name in each.scores for name in FEATURES)]
    widths = [candidates[i].width for i in able]
    label: dict[int, tuple[int, ...]] = dict.fromkeys(able, ())
    for name in FEATURES:
        protocols = [candidates[i].scores[name].protocol for i in able]
        for number, group in enumerate(split(name, protocols, widths)):
            for place in group:
                label[able[place]] += (number,)
    groups: dict[tuple[int, ...], list[int]] = {}
    for i in able:
        groups.setdefault(label[i], []).append(i)
    members = sorted(groups.values(), key=lambda group: len(group) == 1)
    return members, _abouts(FEATURES, members, candidates)


def _abouts(
    names: Sequence[str], groups: Sequence[Sequence[int]], candidates: Sequence[Candidate]
) -> list[dict[str, Any]]:
    """Say for each group in what its scores were measured unlike those of the others."""
    found: list[dict[str, Any]] = [{} for _ in groups]
    if len(groups) < 2:
        return found
    for name in names:
        for field, values in _fields(name, groups, candidates).items():
            key = field if field in (WIDTH, "loss") else f"{title(name)}: {field}"
            for about, value in zip(found, values, strict=True):
                about[key] = value
    return found


def _fields(name: str, groups: Sequence[Sequence[int]], candidates: Sequence[Candidate]) -> dict[str, list[Any]]:
    """Return the fields that keep a score of some groups from being compared, with each group's value."""
    firsts = [candidates[group[0]] for group in groups]
    everyone = [candidates[i] for group in groups for i in group]
    different = differences(name, [each.scores[name].protocol for each in everyone], [each.width for each in everyone])
    found = {
        field: [
            each.width if field == WIDTH else each.scores[name].protocol.get(field, 1.0 if field == "subset" else None)
            for each in firsts
        ]
        for field in different
    }
    if WIDTH in found and len(set(zip(found[WIDTH], found.get(COUNT, found[WIDTH]), strict=True))) == len(
        set(found[WIDTH])
    ):
        found.pop(COUNT, None)  # the number of images follows the width
    if len(losses := found.get("loss", [])) > 1 and len(set(losses)) == len(losses):
        return {"loss": losses}  # each loss has settings of its own
    return found


def _features(candidates: Sequence[Candidate], places: Sequence[int]) -> np.ndarray:
    return np.array([[candidates[i].scores[name].value for name in FEATURES] for i in places])


def _fit(candidates: Sequence[Candidate], places: Sequence[int], labels: Labels) -> _Fit:
    """Fit a forecast on the labelled members of a group, or say why not."""
    labelled = [i for i in places if labels.values[i] is not None]
    if not labelled:
        return _Fit(None, {}, "none has labels")
    x, y = _features(candidates, labelled), np.array([_value(labels.values[i]) for i in labelled])
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
        found |= dict(zip(others, _forecasts(fit, _features(candidates, others)), strict=True))
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
        x = _features(candidates, [i])
        own = np.flatnonzero((forecast.fit.features == x).all(axis=1))
        found[i] = _forecasts(forecast.fit, None)[own[0]] if len(own) else _forecasts(forecast.fit, x)[0]
    if not found:
        each_why = "; ".join(f"{listing(names)}: {why}" for why, names in refused.items())
        raise FullrankError(f"{file} cannot forecast any of these runs, which were measured otherwise ({each_why})")
    return found


def _agreements(standings: Sequence[Standing]) -> tuple[Ranked, ...]:
    """Say how well each score ranks the labelled standings, where it can be compared between them."""
    candidates = [each.candidate for each in standings]
    labelled = [i for i, each in enumerate(standings) if each.accuracy is not None]
    rows: list[Ranked] = []
    for name, better in ((FORECAST, "higher"), (FRONT, "lower")):
        groups: dict[int | None, list[int]] = {}
        for i in labelled:
            if getattr(standings[i], name) is not None and standings[i].group is not None:
                groups.setdefault(standings[i].group, []).append(i)
        several = [group for group in groups.values() if len(group) >= _FEWEST_RANKED]
        for about, group in zip(_abouts(FEATURES, several, candidates), several, strict=True):
            values = [
                one.value if isinstance(one := getattr(standings[i], name), Forecasted) else float(one) for i in group
            ]
            rows.append(_ranked(name, better, group, values, standings, about))
    for name in dict.fromkeys(name for i in labelled for name in candidates[i].scores):
        having = [i for i in labelled if name in candidates[i].scores]
        protocols = [candidates[i].scores[name].protocol for i in having]
        found = [
            [having[place] for place in group]
            for group in split(name, protocols, [candidates[i].width for i in having])
        ]
        several = [group for group in found if len(group) >= _FEWEST_RANKED]
        for about, group in zip(_abouts((name,), found, candidates), found, strict=True):
            if group in several:
                scores = [candidates[i].scores[name] for i in group]
                values = [score.value for score in scores]
                rows.append(_ranked(name, scores[0].better, group, values, standings, about))
    return tuple(rows)


def _ranked(
    name: str,
    better: str,
    group: Sequence[int],
    values: Sequence[float],
    standings: Sequence[Standing],
    about: Mapping[str, Any],
) -> Ranked:
    accuracy = [_value(standings[i].accuracy) for i in group]
    try:
        found, why = agreement(values, accuracy, better=better), ""
    except FullrankError as error:
        found, why = None, str(error)
    return Ranked(name, better, tuple(group), found, why, about)


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
        each = "; ".join(", ".join(f"{key} {value}" for key, value in group.about.items()) for group in fitted)
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


def _value(score: Measured | None) -> float:
    assert score is not None
    return score.value
