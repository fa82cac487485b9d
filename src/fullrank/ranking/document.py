"""What `fullrank rank` has to say: the runs, best first, what follows, loss against AUC, and each score's worth.

Points of figures carry the numbers that the page's table gives the runs. Reference: [Li22] Fig. 4, accuracy against its
forecast from held-out loss and AUC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from fullrank.documents import (
    COLORS,
    MISSING,
    Document,
    Fields,
    Fold,
    Heading,
    Only,
    Part,
    Picture,
    Points,
    Table,
    Words,
    coefficient,
)
from fullrank.documents.plots import REFERENCE, color_bar, single, style
from fullrank.documents.scores import Scored, how_measured, unspanned_note
from fullrank.measure.scores import Score, kind_of, title
from fullrank.ranking.candidates import FEATURES, Candidate, Forecasted
from fullrank.ranking.result import Group, Ranked, Ranking, about
from fullrank.text import capital

_POINT = 6.5  # points across
_UNLABELED = "#9a9a9a"
_MOST_SCORES = 2  # asked for, that have a column beside the others in a terminal; the page has all


def document(ranking: Ranking) -> Document:
    """Say what was found; the same ranking makes the same document."""
    runs = {each.run for each in ranking.standings}
    count = len(ranking.standings)
    name = f"{count} runs {'ranked' if any(each.rank for each in ranking.standings) else 'side by side'}"
    if len(runs) == 1:
        (folder,) = runs
        name = f"{count} steps of {folder.name}" if count > 1 else folder.name
    return Document("ranking", name, list(_parts(ranking)), ranking.as_dict())


def _parts(ranking: Ranking) -> Iterator[Part]:
    said = Points([f"{capital(clause)}." for clause in ranking.said])
    yield Only("page", [said, Heading("Ranking")])
    ranked = [group for group in ranking.groups if len(group.members) > 1]
    for group in ranked:
        if group.letter:
            yield Words(f"{group.letter}: {about(group)}:")
        yield from _table(ranking, group.members, "Runs, best first")
    if others := [each for each in ranking.standings if each.rank is None]:
        if ranked:
            yield Words("Not ranked against any other:")
        yield from _table(ranking, others, "Runs that are not ranked")
    if ranking.scores:
        yield Only("terminal", [_scores(ranking)])
    if len(ranking.asked) > _MOST_SCORES:
        more = f"{len(ranking.asked) - _MOST_SCORES} more scores are in the page (--out) and in --json."
        yield Only("terminal", [Words(more, "hint")])
    how = _how_measured(ranking)
    yield Only("terminal", [said, *how])
    yield Only("page", list(_page(ranking, how)))


def _table(ranking: Ranking, standings: Sequence[Candidate], name: str) -> Iterator[Part]:
    runs = {each.run for each in ranking.standings}
    columns = {"rank": "rank", "number": "no.", "name": "run"}
    columns |= {"step": "step"} if len(runs) > 1 else {}  # of one run its name says it
    columns |= {"width": "D", "heldout_loss": "loss", "auc": "AUC", "front": "front"}
    columns |= {"forecast": "forecast, 95 %"} if any(each.forecast for each in ranking.standings) else {}
    columns |= {each: title(each).removesuffix(" accuracy") for each in _accuracies(ranking)}
    columns |= {score: title(score) for score in ranking.asked}
    columns |= {"weights": "weights"} if len(runs) < len(ranking.standings) else {}
    marks = {_mark(each.forecast) for each in standings if each.forecast}
    notes = ["* forecast by a fit without this run"] if "*" in marks else []
    notes += ["~ beyond the fitted runs' range"] if "~" in marks else []
    notes += unspanned_note(map(_scored, standings), columns)
    # in a terminal without the numbers that name runs in figures, and most of the scores
    for where, out in (("terminal", {"number", *ranking.asked[_MOST_SCORES:]}), ("page", set())):
        shown = [key for key in columns if key not in out]
        rows = [[_cells(each).get(key, MISSING) for key in shown] for each in standings]
        text = [place for place, key in enumerate(shown) if key in ("name", "weights")]
        header, note = [columns[key] for key in shown], "; ".join(notes)
        yield Only(where, [Table(name, header, rows, note, text=text, names=0, captioned=False)])  # type: ignore[arg-type]


def _cells(each: Candidate) -> dict[str, str]:
    scored = _scored(each)
    found = {
        **{name: scored.cell(name) for name in each.scores},
        "rank": each.rank,
        "number": each.number,
        "name": each.name,
        "step": f"{each.step:,}",
        "width": each.width and f"{each.width:,}",
        "front": each.front,
        "forecast": each.forecast and _forecast(each.forecast),
        **{name: score.text for name, score in each.accuracies.items()},
        "weights": each.checkpoint and "kept",
    }
    return {key: str(value) for key, value in found.items() if value is not None}


def _scored(each: Candidate) -> Scored:
    return Scored(each.name, each.number, scores=each.scores)


def _mark(found: Forecasted) -> str:
    return "*" if found.left_out else "~" if found.outside else ""


def _forecast(found: Forecasted) -> str:
    return f"{_mark(found)}{kind_of('forecast').write(found.value)} [{100 * found.lower:.1f}, {100 * found.upper:.1f}]"


def _page(ranking: Ranking, how: Sequence[Fields]) -> Iterator[Part]:
    for index, group in enumerate(ranking.groups):
        if len(group.members) > 1:
            yield Heading(f"{group.letter}: {about(group)}" if group.letter else "Loss, AUC and accuracy")
            yield from _pictures(ranking, index, group)
    if ranking.scores:
        table = _scores(ranking)
        yield Heading(table.title)
        yield table
        if why := [f"{_score_name(row)}: {row.why}" for row in ranking.scores if row.why]:
            yield Fold("Scores that do not rank these runs", [Points(why)])
    yield Heading("What was compared")
    yield Fold("How each score was measured", how)
    places = {each.name: str(each.checkpoint or each.run) for each in ranking.standings}
    yield Fold("Where each run is", [Fields(places)])


def _pictures(ranking: Ranking, index: int, group: Group) -> Iterator[Picture]:
    accuracy = None if ranking.accuracy is None else title(ranking.accuracy)
    color = f" The color is the {accuracy}; hollow points have no labels." if accuracy else ""
    cells = [(each.number, _cells(each)) for each in group.members]
    said = [f"{number}: {own['heldout_loss']}, {own['auc']}, front {own['front']}." for number, own in cells]
    yield Picture(
        f"loss-auc-{index}",
        "Held-out loss against AUC",
        "Numbered as in the table. Lower left is better; the dotted staircase is the first front: nothing lies below "
        f"and left of it.{color}",
        partial(loss_against_auc, group.members, accuracy),
        label=f"Held-out loss and AUC of each run, by its number. {' '.join(said)}",
    )
    both = [each for each in group.members if each.forecast is not None and each.accuracy is not None]
    if accuracy is not None and both:
        by = "a fit without the run itself" if group.forecast is not None else "a fit on other runs"
        said = [f"{each.number}: {_cells(each)['forecast']}, {each.accuracy.text}." for each in both if each.accuracy]
        yield Picture(
            f"forecast-{index}",
            f"Forecast against measured {accuracy}",
            f"Each forecast is by {by}, with its 95 % interval; on the dotted line it is right. As [Li22] Fig. 4.",
            partial(forecast_against_measured, both, accuracy),
            label=f"Forecast and measured {accuracy} of each run. {' '.join(said)}",
        )


def _scores(ranking: Ranking) -> Table:
    """Return how well each score ranks the labeled runs: the best first, then those without a direction or answer."""

    def key(row: Ranked) -> tuple[int, float]:
        found = row.agreement
        return (2, 0.0) if found is None else (0 if found.directed else 1, -found.kendall)

    rows = []
    for row in sorted(ranking.scores, key=key):
        values = [MISSING, MISSING]
        if (found := row.agreement) is not None:
            kendall = coefficient(found.kendall, found.kendall_interval)
            values = [kendall, coefficient(found.spearman, found.spearman_interval)]
        rows.append([_score_name(row), kind_of(row.name).direction, str(len(row.members)), *values])
    return Table(
        f"How well each score ranks by {title(str(ranking.accuracy))}",
        ["score", "better", "runs", "Kendall tau-b", "Spearman rho"],
        rows,
        "1: each better score goes with a better accuracy. In brackets 95 % intervals by bootstrap, of enough runs.",
        text=[1],
        captioned=False,
    )


def _score_name(row: Ranked) -> str:
    """Name a score, and which runs it ranks where they are not all that have it."""
    return title(row.name) + (f" ({about(row)})" if row.about else "")


def _how_measured(ranking: Ranking) -> list[Fields]:
    scores = [(each.name, each.scores[name]) for name in FEATURES for each in ranking.standings if name in each.scores]
    found = how_measured(scores)
    for name, protocol in _accuracies(ranking).items():
        found += how_measured([("", Score(name, None, protocol))])
    return found


def _accuracies(ranking: Ranking) -> dict[str, Mapping[str, Any]]:
    """Return how each accuracy was measured that a run has: first the one that is meant."""
    return {each.name: each.protocol for each in ranking.labels if each.values}


@style()
def loss_against_auc(standings: Sequence[Candidate], accuracy: str | None) -> Figure:
    """Draw held-out loss against AUC, the first front as a staircase, the color of each point its accuracy."""
    x, y = (np.array([each.scores[name].taken for each in standings]) for name in FEATURES)
    first = sorted((i for i, each in enumerate(standings) if each.front == 1), key=lambda i: (x[i], y[i]))
    known = [each.accuracy.taken for each in standings if each.accuracy is not None]
    colors = ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, 32)))
    span = (100 * min(known), 100 * max(known)) if known else (0.0, 0.0)
    norm = Normalize(*span)
    figure, ax = single()
    for i, each in enumerate(standings):
        color: Any = _UNLABELED if each.accuracy is None else colors(norm(100 * each.accuracy.taken))
        face = "white" if each.accuracy is None and known else color
        ax.plot(x[i], y[i], "o", markersize=_POINT, color=color, markerfacecolor=face, zorder=3)
    ax.margins(0.1)
    low, high = ax.get_xlim(), ax.get_ylim()
    stairs_x, stairs_y = [x[i] for i in first], [y[i] for i in first]
    ax.step([stairs_x[0], *stairs_x, low[1]], [high[1], *stairs_y, stairs_y[-1]], where="post", **REFERENCE)
    ax.set_xlim(low)
    ax.set_ylim(high)
    ax.set_xlabel("held-out loss, lower is better")
    ax.set_ylabel("AUC, lower is better")
    if span[0] < span[1]:
        color_bar(ax, colors, norm, f"{accuracy} (%)")
    _number(ax, standings, x, y)
    return figure


@style()
def forecast_against_measured(standings: Sequence[Candidate], accuracy: str) -> Figure:
    """Draw forecasts with their intervals against measured accuracies, of standings that have both."""
    found = [each.forecast for each in standings if each.forecast is not None]
    x = np.array([100 * each.value for each in found])
    y = np.array([100 * each.accuracy.taken for each in standings if each.accuracy is not None])
    reach = np.array([[x[i] - 100 * each.lower, 100 * each.upper - x[i]] for i, each in enumerate(found)]).T
    figure, ax = single()
    ax.errorbar(x, y, xerr=reach, fmt="none", ecolor="#c4c4c4", elinewidth=1.0, zorder=2)
    ax.plot(x, y, "o", markersize=_POINT, color=COLORS[0], zorder=3)
    ax.margins(0.06)
    ends = min(x.min(), y.min()), max(x.max(), y.max())
    low, high = ax.get_xlim(), ax.get_ylim()
    ax.axline((ends[0], ends[0]), (ends[1], ends[1] + 1e-9), **REFERENCE)
    ax.set_xlim(low)
    ax.set_ylim(min(high[0], ends[0]), max(high[1], ends[1]))
    ax.set_xlabel(f"forecast {accuracy} (%), 95 % interval")
    ax.set_ylabel("measured (%)")
    _number(ax, standings, x, y)
    return figure


def _number(ax: Axes, standings: Sequence[Candidate], x: np.ndarray, y: np.ndarray) -> None:
    for each, at_x, at_y in zip(standings, x, y, strict=True):
        ax.annotate(str(each.number), (at_x, at_y), (5, 4), textcoords="offset points", fontsize=8, color="#333333")
