"""How well each score ranks the labeled candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fullrank.errors import FullrankError
from fullrank.measure.forecast import agreement
from fullrank.measure.forecast.agreement import FEWEST
from fullrank.measure.protocols import split
from fullrank.measure.scores import kind_of
from fullrank.ranking.candidates import FEATURES, FORECAST, FRONT
from fullrank.ranking.groups import abouts
from fullrank.ranking.result import Forecasted, Ranked, Standing


def agreements(standings: Sequence[Standing]) -> tuple[Ranked, ...]:
    """Say how well each score ranks the labeled standings, where it can be compared between them."""
    candidates = [each.candidate for each in standings]
    labeled = [i for i, each in enumerate(standings) if each.accuracy is not None]
    rows: list[Ranked] = []
    for name in (FORECAST, FRONT):
        groups: dict[int | None, list[int]] = {}
        for i in labeled:
            if getattr(standings[i], name) is not None and standings[i].group is not None:
                groups.setdefault(standings[i].group, []).append(i)
        several = [group for group in groups.values() if len(group) >= FEWEST]
        for about, group in zip(abouts(FEATURES, several, candidates), several, strict=True):
            found = [getattr(standings[i], name) for i in group]
            values = [one.value if isinstance(one, Forecasted) else float(one) for one in found]
            rows.append(_ranked(name, group, values, standings, about))
    for name in dict.fromkeys(name for i in labeled for name in candidates[i].scores):
        having = [i for i in labeled if name in candidates[i].scores]
        protocols = [candidates[i].scores[name].protocol for i in having]
        places = split(name, protocols, [candidates[i].width for i in having])
        alike = [[having[place] for place in group] for group in places]
        for about, group in zip(abouts((name,), alike, candidates), alike, strict=True):
            if len(group) >= FEWEST:
                values = [candidates[i].scores[name].taken for i in group]
                rows.append(_ranked(name, group, values, standings, about))
    return tuple(rows)


def _ranked(
    name: str, group: Sequence[int], values: Sequence[float], standings: Sequence[Standing], about: Mapping[str, Any]
) -> Ranked:
    accuracy = [each.taken for i in group if (each := standings[i].accuracy) is not None]
    try:
        found, why = agreement(values, accuracy, direction=kind_of(name).direction), ""
    except FullrankError as error:
        found, why = None, str(error)
    return Ranked(name, tuple(group), found, why, about)
