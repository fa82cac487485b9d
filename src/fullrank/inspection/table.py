"""Inspections in the terminal: one table, a verdict each, and what can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fullrank.inspection.compare import comparison
from fullrank.inspection.encoders import OTHERS
from fullrank.inspection.result import Inspection, Scored
from fullrank.text import capital

KEY_SCORES = {"auc": "AUC", "rankme": "RankMe", "participation_ratio": "PR", "alpha_req": "alpha", "dead": "dead"}
"""Columns where there are too many X for a column each; the page has all scores."""
_MOST_COLUMNS = 3
_MOST_LINES = 3


def show(found: Sequence[Inspection], console: Console) -> None:
    """Print inspections: each at length where they are few, a line each where they are many."""
    few = len(found) <= _MOST_COLUMNS
    if few:
        for each in found:
            _heading(each, console)
        console.print()
    console.print(_scores_down(found) if few else _scores_across(found))
    for each in found:
        console.print()
        console.print(Text.assemble((f"{each.name}: ", "bold"), capital(each.verdict.text)))
        console.print(Text(f"  Confidence {each.verdict.confidence}: {each.verdict.certainty}."))
        if few:
            _details(each, console)
    if said := comparison(found):
        console.print()
        for sentence in said:
            console.print(Text(f"{capital(sentence)}."))


def _heading(each: Inspection, console: Console) -> None:
    facts = ", ".join(f"{key} {value}" for key, value in each.source.items())
    console.print(Text.assemble((each.name, "bold"), f"  {each.kind}: {facts}"))
    protocol = ", ".join(f"{key} {_plain(value)}" for key, value in each.spectrum.protocol.items())
    console.print(Text(f"  {protocol}", style="dim"))


def _details(each: Inspection, console: Console) -> None:
    if others := each.source.get(OTHERS):
        console.print(Text(f"  Other networks in the file fit as well: {others}; --prefix takes one of them"))
    for name in each.skipped[:_MOST_LINES]:
        console.print(Text(f"  Left out, it could not be read: {name}"))
    if len(each.skipped) > _MOST_LINES:
        console.print(Text(f"  ... and {len(each.skipped) - _MOST_LINES} more"))
    if not each.verdict.remedies or each.verdict.confidence == "low":
        return
    console.print(Text("  If it was trained without negatives, as SimSiam is, try to"))
    for remedy in each.verdict.remedies[:_MOST_LINES]:
        console.print(Text(f"  - {remedy.text} ({remedy.source})"))


def number(score: Scored | None) -> str:
    """Write a score's value with the digits that mean something.

    >>> from fullrank.inspection.result import Scored
    >>> number(Scored("dead", 3.0, "lower", "", {})), number(Scored("auc", 0.78512, "lower", "", {})), number(None)
    ('3', '0.785', '–')
    """
    if score is None or score.value is None:
        return "–"
    if score.name == "dead":
        return f"{score.value:,.0f}"
    size = abs(score.value)
    return f"{score.value:.1f}" if size >= 10 else f"{score.value:.2f}" if size >= 2 else f"{score.value:.3g}"


def _scores_down(found: Sequence[Inspection]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("score", no_wrap=True)
    for each in found:
        table.add_column(Text(each.name), justify="right", overflow="fold")
    table.add_column("better")
    for name in dict.fromkeys(name for each in found for name in each.scores):
        scores = [each.scores.get(name) for each in found]
        known = next(score for score in scores if score is not None)
        table.add_row(name, *map(number, scores), known.better)
    return table


def _scores_across(found: Sequence[Inspection]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column("", overflow="fold")
    for name in ("N", "D", *KEY_SCORES.values(), "verdict"):
        table.add_column(name, justify="left" if name == "verdict" else "right")
    for each in found:
        n = each.spectrum.protocol["n"]
        cells = [number(each.scores.get(name)) for name in KEY_SCORES]
        table.add_row(Text(each.name), f"{n:,}", f"{each.spectrum.dim:,}", *cells, each.verdict.level)
    return table


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1e}" if isinstance(value, float) and 0 < abs(value) < 1e-3 else str(value)
