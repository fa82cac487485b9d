"""One self-contained HTML page about a ranking: who is ahead, loss against AUC, the forecast, each score's worth."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from fullrank.ranking.result import Group, Ranking, Standing
from fullrank.ranking.table import (
    NONE,
    by_agreement,
    cells,
    coefficient_headings,
    coefficients,
    direction,
    headings,
    protocols,
    score_name,
)
from fullrank.ranking.words import group_title
from fullrank.report import scatter
from fullrank.report.html import check_page, document, figure, scalar
from fullrank.score_names import title
from fullrank.text import capital
from fullrank.training.runs import write_text


def write_ranking(ranking: Ranking, out: Path) -> Path:
    """Write one page about a ranking.

    Args:
        ranking: What was found.
        out: Where the page goes; its folder is made if need be.

    Returns:
        `out`.

    Raises:
        FullrankError: `out` is a folder, or cannot be written.
    """
    check_page(out)
    write_text(out, render(ranking))
    return out


def render(ranking: Ranking) -> str:
    """Return the page as HTML; the same ranking gives the same text."""
    runs = {each.candidate.run for each in ranking.standings}
    count = len(ranking.standings)
    how = "ranked" if any(each.rank for each in ranking.standings) else "side by side"
    name = f"{count} runs {how}"
    if len(runs) == 1:
        (folder,) = runs
        name = f"{count} steps of {folder.name}" if count > 1 else folder.name
    header = f'<ul class="compare">{"".join(f"<li>{escape(capital(one))}.</li>" for one in ranking.said)}</ul>'
    sections = [_runs(ranking), *(_figures(ranking, i, group) for i, group in enumerate(ranking.groups))]
    return document("ranking", name, header, [*sections, _scores(ranking), _protocols(ranking)])


def _runs(ranking: Ranking) -> str:
    columns = headings(ranking)
    parts = []
    several = len(ranking.groups) > 1
    ranked = [group for group in ranking.groups if len(group.members) > 1]
    for group in ranked:
        above = f"<h3>{escape(group_title(group))}</h3>\n" if several else ""
        parts.append(above + _table(columns, [ranking.standings[i] for i in group.members], "Runs, best first"))
    others = [each for each in ranking.standings if each.rank is None]
    if others:
        above = "<h3>Not ranked against any other</h3>\n" if ranked else ""
        parts.append(above + _table(columns, others, "Runs that are not ranked"))
    notes = []
    if any(each.forecast and each.forecast.left_out for each in ranking.standings):
        notes.append("* forecast by a fit without this run")
    if any(each.forecast and each.forecast.outside and not each.forecast.left_out for each in ranking.standings):
        notes.append("~ beyond the fitted runs' range")
    note = f'<p class="hint">{escape("; ".join(notes))}</p>\n' if notes else ""
    return f"<section>\n<h2>Ranking</h2>\n{''.join(parts)}{note}</section>\n"


def _table(columns: dict[str, str], standings: Sequence[Standing], label: str) -> str:
    rows = [[cells(each).get(key, NONE) for key in columns] for each in standings]
    return _grid(list(columns.values()), rows, label)


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]], label: str) -> str:
    """A table with a heading for each column; all plain text."""
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return (
        f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0"><table class="grid">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _figures(ranking: Ranking, index: int, group: Group) -> str:
    if len(group.members) < 2:
        return ""
    standings = [ranking.standings[i] for i in group.members]
    accuracy = None if ranking.accuracy is None else title(ranking.accuracy)
    colour = f" The colour is the {accuracy}; hollow points have no labels." if accuracy else ""
    pictures = [
        figure(
            scatter.loss_against_auc(standings, key=f"loss-auc-{index}", accuracy=accuracy),
            "<b>Held-out loss against AUC</b>, numbered as in the table. Lower left is better; the dotted staircase is "
            f"the first front: nothing lies below and left of it.{escape(colour)}",
        )
    ]
    if accuracy is not None:
        by = "a fit without the run itself" if group.forecast is not None else "a fit on other runs"
        pictures.append(
            figure(
                scatter.forecast_against_measured(standings, key=f"forecast-{index}", accuracy=accuracy),
                f"<b>Forecast against measured {escape(accuracy)}</b>. Each forecast is by {by}, with its 95 % "
                "interval; on the dotted line it is right. As [Li22] Fig. 4.",
            )
        )
    above = escape(group_title(group)) if group.letter else "Loss, AUC and accuracy"
    return f'<section>\n<h2>{above}</h2>\n<div class="plots">\n{"".join(pictures)}</div>\n</section>\n'


def _scores(ranking: Ranking) -> str:
    if not ranking.scores:
        return ""
    rows = by_agreement(ranking)
    names = [score_name(row) for row in rows]
    body = [
        [name, direction(row), str(len(row.members)), *coefficients(row.agreement)]
        for name, row in zip(names, rows, strict=True)
    ]
    headers = ["score", "better", "runs", *coefficient_headings(ranking)]
    picture = figure(
        scatter.correlations(rows, names, key="correlations"),
        "<b>Kendall tau-b</b> with the accuracy: 1 where each better score goes with a better accuracy. Bars: the "
        "middle 95 % of 2,000 bootstrap samples of the runs. Grey: scores of which neither lower nor higher is better.",
    )
    why = "".join(
        f"<li>{escape(name)}: {escape(row.why)}</li>" for name, row in zip(names, rows, strict=True) if row.why
    )
    gaps = f"<details><summary>Scores that do not rank these runs</summary><ul>{why}</ul></details>\n" if why else ""
    above = f"How well each score ranks by {escape(title(str(ranking.accuracy)))}"
    return (
        f"<section>\n<h2>{above}</h2>\n{_grid(headers, body, 'Rank correlations')}{gaps}"
        f'<div class="plots">\n{picture}</div>\n</section>\n'
    )


def _protocols(ranking: Ranking) -> str:
    parts = []
    for name, protocol in protocols(ranking):
        items = "".join(f"<dt>{escape(str(key))}</dt><dd>{scalar(value)}</dd>" for key, value in protocol.items())
        body = f"<dl>{items}</dl>" if items else '<p class="hint">The runs name no protocol.</p>'
        parts.append(f"<h3>{escape(capital(name))}</h3>{body}")
    places = "".join(
        f"<dt>{escape(each.candidate.name)}</dt><dd>{escape(str(each.candidate.checkpoint or each.candidate.run))}</dd>"
        for each in ranking.standings
    )
    how = f"<details><summary>How each score was measured</summary>{''.join(parts)}</details>"
    where = f"<details><summary>Where each run is</summary><dl>{places}</dl></details>"
    return f"<section>\n<h2>What was compared</h2>\n{how}\n{where}\n</section>\n"
