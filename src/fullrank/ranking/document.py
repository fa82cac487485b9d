"""What `fullrank rank` has to say: the runs, best first, what follows, loss against AUC, and each score's worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from fullrank.documents import Document, Fields, Fold, Heading, Only, Part, Picture, Points, Table, Words
from fullrank.measure.forecast.agreement import FEWEST_RESAMPLED, Interval
from fullrank.measure.scores import kind_of, title
from fullrank.ranking import figures
from fullrank.ranking.candidates import FEATURES
from fullrank.ranking.result import Forecasted, Group, Ranked, Ranking, Standing
from fullrank.ranking.words import about, group_title, names_of
from fullrank.text import capital, grouped

NONE = "–"
_MOST_SCORES = 2  # asked for, that have a column beside the others in a terminal; the page has all


def document(ranking: Ranking) -> Document:
    """Say what was found; the same ranking makes the same document."""
    runs = {each.candidate.run for each in ranking.standings}
    count = len(ranking.standings)
    name = f"{count} runs {'ranked' if any(each.rank for each in ranking.standings) else 'side by side'}"
    if len(runs) == 1:
        (folder,) = runs
        name = f"{count} steps of {folder.name}" if count > 1 else folder.name
    return Document("ranking", name, list(_parts(ranking)), ranking.as_dict())


def _parts(ranking: Ranking) -> Iterator[Part]:
    said = Points([f"{capital(clause)}." for clause in ranking.said])
    how = _protocols(ranking)
    yield Only("page", [said, Heading("Ranking")])
    yield from _runs(ranking)
    if ranking.scores:
        yield Only("terminal", [_scores(ranking)])
    if len(ranking.asked) > _MOST_SCORES:
        more = f"{len(ranking.asked) - _MOST_SCORES} more scores are in the page (--out) and in --json."
        yield Only("terminal", [Words(more, "hint")])
    yield Only("terminal", [said, *how])
    yield Only("page", list(_page(ranking, how)))


def _runs(ranking: Ranking) -> Iterator[Part]:
    """Give a table for each group, and one of what is not ranked."""
    ranked = [group for group in ranking.groups if len(group.members) > 1]
    for group in ranked:
        if len(ranking.groups) > 1:
            yield Words(f"{group_title(group)}:" if group.letter else "")
        yield from _table(ranking, [ranking.standings[i] for i in group.members], "Runs, best first")
    if others := [each for each in ranking.standings if each.rank is None]:
        if ranked:
            yield Words("Not ranked against any other:")
        yield from _table(ranking, others, "Runs that are not ranked")


def _table(ranking: Ranking, standings: Sequence[Standing], name: str) -> Iterator[Part]:
    notes = []
    if any(each.forecast and each.forecast.left_out for each in standings):
        notes.append("* forecast by a fit without this run")
    if any(each.forecast and each.forecast.extrapolates for each in standings):
        notes.append("~ beyond the fitted runs' range")
    shown: Sequence[tuple[Literal["terminal", "page"], int | None]] = (("terminal", _MOST_SCORES), ("page", None))
    for where, most in shown:
        columns = _columns(ranking, most)
        if where == "terminal":
            columns.pop("number")  # it names runs in figures
        rows = [[_cells(each).get(key, NONE) for key in columns] for each in standings]
        text = [place for place, key in enumerate(columns) if key in ("name", "weights")]
        made = Table(name, list(columns.values()), rows, "; ".join(notes), text=text, names=0, captioned=False)
        yield Only(where, [made])


def _columns(ranking: Ranking, most: int | None) -> dict[str, str]:
    """Return the columns there are something for: a key of `_cells`, and the heading; of scores, `most` at most."""
    runs = len({each.candidate.run for each in ranking.standings})
    found = {"rank": "rank", "number": "no.", "name": "run", "step": "step", "width": "D"}
    if runs == 1:
        found.pop("step")  # its name says it
    found |= {"heldout_loss": "loss", "auc": "AUC", "front": "front"}
    if any(each.forecast for each in ranking.standings):
        found["forecast"] = "forecast, 95 %"
    if ranking.accuracy is not None:
        found["accuracy"] = title(ranking.accuracy).removesuffix(" accuracy")
    found |= {f"score {name}": title(name) for name in ranking.asked[:most]}
    if runs < len(ranking.standings):
        found["weights"] = "weights"
    return found


def _cells(each: Standing) -> dict[str, str]:
    """Return a run's row, but for what it lacks."""
    candidate = each.candidate
    found = {
        "rank": each.rank,
        "number": each.number,
        "name": candidate.name,
        "step": f"{candidate.step:,}",
        "width": None if candidate.width is None else f"{candidate.width:,}",
        **{name: candidate.scores[name].text for name in FEATURES if name in candidate.scores},
        "front": each.front,
        "forecast": forecast(each.forecast),
        "accuracy": None if each.accuracy is None else each.accuracy.text,
        "weights": None if candidate.checkpoint is None else "kept",
        **{f"score {name}": score.text for name, score in candidate.scores.items()},
    }
    return {key: str(value) for key, value in found.items() if value is not None}


def forecast(found: Forecasted | None) -> str:
    r"""Write a forecast with its interval; `~` where it extrapolates, `*` where the run has labels and was left out.

    >>> forecast(Forecasted(0.412, 0.38, 0.444, left_out=False, outside=("auc",)))
    '~41.2\xa0% [38.0, 44.4]'
    """
    if found is None:
        return NONE
    mark = "*" if found.left_out else "~" if found.outside else ""
    return f"{mark}{kind_of('forecast').write(found.value)} [{100 * found.lower:.1f}, {100 * found.upper:.1f}]"


def _page(ranking: Ranking, how: Sequence[Fields]) -> Iterator[Part]:
    for index, group in enumerate(ranking.groups):
        if len(group.members) > 1:
            yield Heading(group_title(group) if group.letter else "Loss, AUC and accuracy")
            yield from _pictures(ranking, index, group)
    if ranking.scores:
        table = _scores(ranking)
        yield Heading(table.title)
        yield table
        yield Words(
            "Kendall's tau-b is 1 where each better score goes with a better accuracy. Intervals: the middle 95 % of "
            "2,000 bootstrap samples of the runs.",
            "hint",
        )
        if why := [f"{_score_name(row)}: {row.why}" for row in _by_agreement(ranking) if row.why]:
            yield Fold("Scores that do not rank these runs", [Points(why)])
    yield Heading("What was compared")
    yield Fold("How each score was measured", how)
    places = {each.candidate.name: str(each.candidate.checkpoint or each.candidate.run) for each in ranking.standings}
    yield Fold("Where each run is", [Fields(places)])


def _pictures(ranking: Ranking, index: int, group: Group) -> Iterator[Picture]:
    standings = [ranking.standings[i] for i in group.members]
    accuracy = None if ranking.accuracy is None else title(ranking.accuracy)
    color = f" The color is the {accuracy}; hollow points have no labels." if accuracy else ""
    said = [
        f"{each.number}: {', '.join(each.candidate.scores[name].text for name in FEATURES)}, front {each.front}."
        for each in standings
    ]
    yield Picture(
        f"loss-auc-{index}",
        "Held-out loss against AUC",
        "Numbered as in the table. Lower left is better; the dotted staircase is the first front: nothing lies below "
        f"and left of it.{color}",
        partial(figures.loss_against_auc, standings, accuracy),
        label=f"Held-out loss and AUC of each run, by its number. {' '.join(said)}",
    )
    both = figures.with_both(standings)
    if accuracy is not None and both:
        by = "a fit without the run itself" if group.forecast is not None else "a fit on other runs"
        yield Picture(
            f"forecast-{index}",
            f"Forecast against measured {accuracy}",
            f"Each forecast is by {by}, with its 95 % interval; on the dotted line it is right. As [Li22] Fig. 4.",
            partial(figures.forecast_against_measured, both, accuracy),
            label=f"Forecast and measured {accuracy} of each run. "
            + " ".join(f"{one.number}: {forecast(one.forecast)}, {one.accuracy.text}." for one in both if one.accuracy),
        )


def _scores(ranking: Ranking) -> Table:
    """Return how well each score ranks the labeled runs."""
    some = any(row.agreement and row.agreement.kendall_interval for row in ranking.scores)
    suffix = ", 95 %" if some else f" (fewer than {FEWEST_RESAMPLED} runs: no intervals)"
    rows = []
    for row in _by_agreement(ranking):
        better, found = kind_of(row.name).direction, row.agreement
        values = [NONE, NONE]
        if found is not None:
            values = [
                coefficient(found.kendall, found.kendall_interval),
                coefficient(found.spearman, found.spearman_interval),
            ]
        rows.append([_score_name(row), "neither" if better == "none" else better, str(len(row.members)), *values])
    header = ["score", "better", "runs", f"Kendall tau-b{suffix}", f"Spearman rho{suffix}"]
    called = f"How well each score ranks by {title(str(ranking.accuracy))}"
    return Table(called, header, rows, text=[1], captioned=False)


def coefficient(value: float, interval: Interval | Sequence[float] | None, digits: int = 2) -> str:
    """Write a coefficient with its interval.

    >>> coefficient(0.5, (-0.25, 1.0)), coefficient(-1, None)
    ('0.50 [−0.25, 1.00]', '−1.00')
    """
    ends = f" [{number(interval[0], digits)}, {number(interval[1], digits)}]" if interval else ""
    return number(value, digits) + ends


def number(value: float, digits: int = 2) -> str:
    """Write a number with a minus sign, and none before a zero."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def _by_agreement(ranking: Ranking) -> list[Ranked]:
    """Return the scores, those first that rank best; then those without a direction, or without an answer."""

    def key(row: Ranked) -> tuple[int, float]:
        found = row.agreement
        return (2, 0.0) if found is None else (0 if found.directed else 1, -found.kendall)

    return sorted(ranking.scores, key=key)


def _score_name(row: Ranked) -> str:
    """Name a score, and which runs it ranks where they are not all that have it."""
    apart = about(row)
    return title(row.name) + (f" ({apart})" if apart else "")


def _protocols(ranking: Ranking) -> list[Fields]:
    """Return how the loss, AUC and the accuracy were measured: what all runs share, then what is some runs' own."""
    found: list[Fields] = []
    for name in FEATURES:
        taken: dict[str, Mapping[str, Any]] = {
            each.candidate.name: each.candidate.scores[name].protocol
            for each in ranking.standings
            if name in each.candidate.scores
        }
        if not taken:
            continue
        first = next(iter(taken.values()))
        shared = {k: value for k, value in first.items() if all(own.get(k, NONE) == value for own in taken.values())}
        found.append(Fields(shared, capital(title(name))))
        rest = {who: {k: value for k, value in own.items() if k not in shared} for who, own in taken.items()}
        for names in grouped((repr(own), who) for who, own in rest.items() if own).values():
            found.append(Fields(rest[names[0]], capital(f"{title(name)} of {names_of(names)}")))
    if ranking.accuracy is not None:
        found.append(Fields(ranking.accuracy_protocol, capital(title(ranking.accuracy))))
    return found
