"""A ranking in the terminal: a table of the runs, one of the scores, and what follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fullrank.measure.forecast.agreement import FEWEST_RESAMPLED, Agreement, Interval
from fullrank.ranking.names import FEATURES
from fullrank.ranking.result import Forecasted, Ranked, Ranking, Standing
from fullrank.ranking.words import about, group_title, names_of, percent
from fullrank.score_names import title
from fullrank.text import capital

NONE = "–"
_MOST_SCORES = 5  # asked for, that have a column beside the others in a terminal; the page has all


def show(ranking: Ranking, console: Console) -> None:
    """Print a ranking."""
    console.print(_runs(ranking))
    if ranking.scores:
        console.print()
        console.print(_scores(ranking))
    console.print()
    if len(ranking.asked) > _MOST_SCORES:
        console.print(f"{len(ranking.asked) - _MOST_SCORES} more scores are in the page (--out) and in --json.")
    for clause in ranking.said:
        console.print(Text(f"{capital(clause)}."))
    for names, protocol in protocols(ranking):
        facts = ", ".join(f"{key} {_plain(value)}" for key, value in protocol.items())
        console.print(Text(f"{capital(names)}: {facts}", style="dim"))


def protocols(ranking: Ranking) -> list[tuple[str, Mapping[str, Any]]]:
    """Return how the loss, AUC and the accuracy were measured: what all runs share, then what is some runs' own."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    for name in FEATURES:
        taken = [
            (each.candidate.name, score.protocol)
            for each in ranking.standings
            if (score := each.candidate.scores.get(name))
        ]
        if not taken:
            continue
        first = taken[0][1]
        shared = {key: value for key, value in first.items() if all(own.get(key, NONE) == value for _, own in taken)}
        found.append((title(name), shared))
        own_parts: dict[str, tuple[list[str], dict[str, Any]]] = {}
        for who, protocol in taken:
            own = {key: value for key, value in protocol.items() if key not in shared}
            if own:
                own_parts.setdefault(repr(own), ([], own))[0].append(who)
        found += [(f"{title(name)} of {names_of(names)}", own) for names, own in own_parts.values()]
    if ranking.accuracy is not None:
        found.append((title(ranking.accuracy), ranking.accuracy_protocol))
    return found


def headings(ranking: Ranking, most: int | None = None) -> dict[str, str]:
    """Return the columns there are something for: a key of `cells`, and the heading.

    Args:
        ranking: What they are of.
        most: How many scores that were asked for have a column; all of them where None.
    """
    found = {"rank": "rank", "number": "no.", "name": "run", "step": "step", "width": "D"}
    if len({each.candidate.run for each in ranking.standings}) == 1:
        found.pop("step")  # its name says it
    found |= {"heldout_loss": "loss", "auc": "AUC", "front": "front"}
    found |= {_key(name): title(name) for name in ranking.asked[:most]}
    if any(each.forecast for each in ranking.standings):
        found["forecast"] = "forecast, 95 %"
    if ranking.accuracy is not None:
        found["accuracy"] = title(ranking.accuracy).removesuffix(" accuracy")
    if len({each.candidate.run for each in ranking.standings}) < len(ranking.standings):
        found["weights"] = "weights"
    return found


def cells(each: Standing) -> dict[str, str]:
    """Return a run's row."""
    candidate = each.candidate
    loss, auc = (candidate.scores.get(name) for name in FEATURES)
    return {
        "rank": NONE if each.rank is None else str(each.rank),
        "number": str(each.number),
        "name": candidate.name,
        "step": f"{candidate.step:,}",
        "width": NONE if candidate.width is None else f"{candidate.width:,}",
        "heldout_loss": NONE if loss is None else f"{loss.value:.4f}" if abs(loss.value) < 10 else f"{loss.value:.2f}",
        "auc": NONE if auc is None else f"{auc.value:.4f}",
        "front": NONE if each.front is None else str(each.front),
        "forecast": forecast(each.forecast),
        "accuracy": NONE if each.accuracy is None else percent(each.accuracy.value),
        "weights": NONE if candidate.checkpoint is None else "kept",
        **{_key(name): f"{score.value:.4g}" for name, score in candidate.scores.items()},
    }


def _key(score: str) -> str:
    return f"score {score}"


def forecast(found: Forecasted | None) -> str:
    """Write a forecast with its interval; `~` where it extrapolates, `*` where the run has labels and was left out.

    >>> forecast(Forecasted(0.412, 0.38, 0.444, left_out=False, outside=("auc",)))
    '~41.2 % [38.0, 44.4]'
    """
    if found is None:
        return NONE
    mark = "*" if found.left_out else "~" if found.outside else ""
    return f"{mark}{percent(found.value)} [{100 * found.lower:.1f}, {100 * found.upper:.1f}]"


def coefficient(value: float, interval: Interval | None) -> str:
    """Write a rank correlation.

    >>> coefficient(0.5, (-0.25, 1.0)), coefficient(-1, None)
    ('+0.50 [-0.25, +1.00]', '-1.00')
    """
    return f"{value:+.2f}" + (f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else "")


def by_agreement(ranking: Ranking) -> list[Ranked]:
    """Return the scores, those first that rank best; then those without a direction, or without an answer."""

    def key(row: Ranked) -> tuple[int, float]:
        found = row.agreement
        return (2, 0.0) if found is None else (0 if found.directed else 1, -found.kendall)

    return sorted(ranking.scores, key=key)


def direction(row: Ranked) -> str:
    """Say which of a score's values are better."""
    word = row.better.partition(",")[0]
    return word if word in ("lower", "higher") else "neither"


def score_name(row: Ranked) -> str:
    """Name a score, and which runs it ranks where they are not all that have it."""
    apart = about(row)
    return title(row.name) + (f" ({apart})" if apart else "")


def _runs(ranking: Ranking) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    columns = headings(ranking, _MOST_SCORES)
    columns.pop("number")
    for key, heading in columns.items():
        table.add_column(heading, justify="left" if key in ("name", "weights") else "right", overflow="fold")
    last: int | None = None
    for each in ranking.standings:
        if len(ranking.groups) > 1 and each.group != last and each.rank is not None and each.group is not None:
            table.add_row("", Text(group_title(ranking.groups[each.group]), style="italic"))
        last = each.group
        row = cells(each)
        table.add_row(*(Text(row.get(key, NONE)) for key in columns))
    if any(each.forecast and each.forecast.left_out for each in ranking.standings):
        table.caption = "* forecast by a fit without this run"
        table.caption_justify = "left"
    return table


def _scores(ranking: Ranking) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column(f"how well it ranks by {title(str(ranking.accuracy))}", overflow="fold")
    for heading in ("better", "runs", *coefficient_headings(ranking)):
        table.add_column(heading, justify="left" if heading == "better" else "right")
    for row in by_agreement(ranking):
        table.add_row(Text(score_name(row)), direction(row), str(len(row.members)), *coefficients(row.agreement))
    return table


def coefficient_headings(ranking: Ranking) -> tuple[str, str]:
    """Name the two coefficients, and their intervals where some have them: few runs are not resampled."""
    some = any(row.agreement and row.agreement.kendall_interval for row in ranking.scores)
    suffix = ", 95 %" if some else f" (fewer than {FEWEST_RESAMPLED} runs: no intervals)"
    return f"Kendall tau-b{suffix}", f"Spearman rho{suffix}"


def coefficients(found: Agreement | None) -> Sequence[str]:
    """Write both coefficients."""
    if found is None:
        return NONE, NONE
    return (
        coefficient(found.kendall, found.kendall_interval),
        coefficient(found.spearman, found.spearman_interval),
    )


def _plain(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else "none" if value is None else str(value)
