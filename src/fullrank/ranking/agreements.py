"""How well each score ranks the labelled candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fullrank.errors import FullrankError
from fullrank.measure.forecast import agreement
from fullrank.measure.forecast.agreement import FEWEST
from fullrank.measure.protocols import split
from fullrank.measure.scores import kind_of
from fullrank.ranking.groups import abouts
from fullrank.ranking.names import FEATURES, FORECAST, FRONT
from fullrank.ranking.result import Forecasted, Ranked, Standing


def agreements(standings: Sequence[Standing]) -> tuple[Ranked, ...]:
    """Say how well each score ranks the labelled standings, where it can be compared between them."""
    candidates = [each.candidate for each in standings]
    labelled = [i for i, each in enumerate(standings) if each.accuracy is not None]
    rows: list[Ranked] = []
    for name in (FORECAST, FRONT):
        groups: dict[int | None, list[int]] = {}
        for i in labelled:
            if getattr(standings[i], name) is not None and standings[i].group is not None:
                groups.setdefault(standings[i].group, []).append(i)
        several = [group for group in groups.values() if len(group) >= FEWEST]
        for about, group in zip(abouts(FEATURES, several, candidates), several, strict=True):
            values = [
                one.value if isinstance(one := getattr(standings[i], name), Forecasted) else float(one) for i in group
            ]
            rows.append(_ranked(name, group, values, standings, about))
    for name in dict.fromkeys(name for i in labelled for name in candidates[i].scores):
        having = [i for i in labelled if name in candidates[i].scores]
        protocols = [candidates[i].scores[name].protocol for i in having]
        found = [
            [having[place] for place in group]
            for group in split(name, protocols, [candidates[i].width for i in having])
        ]
        several = [group for group in found if len(group) >= FEWEST]
        for about, group in zip(abouts((name,), found, candidates), found, strict=True):
            if group in several:
                values = [candidates[i].scores[name].taken for i in group]
                rows.append(_ranked(name, group, values, standings, about))
    return tuple(rows)


def _ranked(
    name: str,
    group: Sequence[int],
    values: Sequence[float],
    standings: Sequence[Standing],
    about: Mapping[str, Any],
) -> Ranked:
    accuracy = [each.taken for i in group if (each := standings[i].accuracy) is not None]
    try:
        found, why = agreement(values, accuracy, direction=kind_of(name).direction), ""
    except FullrankError as error:
        found, why = None, str(error)
    return Ranked(name, tuple(group), found, why, about)
