"""Evaluations in the terminal: every score beside how it was taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fullrank.evaluation.result import EVALUATION, WARNING, Evaluation, Score

_MOST_LINES = 3
_LONG_NAME = 24
_SHARES = ("best_over_epochs",)


def show(found: Sequence[Evaluation], console: Console) -> None:
    """Print the scores of each run, then each protocol once, and what is missing."""
    scored = [each for each in found if each.scores]
    protocols: list[tuple[str, Mapping[str, Any]]] = []
    if scored:
        # Only what is chosen, and names too long for any table, give way where the terminal is narrow.
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("run", overflow="fold", no_wrap=all(len(each.name) <= _LONG_NAME for each in scored))
        for heading in ("steps", "score", "value"):
            table.add_column(heading, justify="left" if heading == "score" else "right", no_wrap=True)
        table.add_column("chosen", overflow="fold")
        table.add_column("protocol", no_wrap=True)
        for each in scored:
            for score in each.scores:
                taken = (score.name, score.protocol)
                if taken not in protocols:
                    protocols.append(taken)
                note = Text(f"[{protocols.index(taken) + 1}]")
                table.add_row(
                    Text(each.name), f"{each.step:,}", score.name, f"{score.value:.2%}", Text(_chosen(score)), note
                )
        console.print(table)
    for number, (name, protocol) in enumerate(protocols, start=1):
        words = ", ".join(f"{key} {value}" for key, value in protocol.items())
        console.print(Text(f"[{number}] {name}: {words}", style="dim"))
    for each in found:
        for score in each.scores:
            if warning := score.chosen.get(WARNING):
                console.print(Text(f"{each.name}: {score.name}: {warning}"))
        for key in each.skipped[:_MOST_LINES]:
            console.print(Text(f"{each.name}: left out, it could not be read: {key}"))
        if len(each.skipped) > _MOST_LINES:
            console.print(Text(f"{each.name}: ... and {len(each.skipped) - _MOST_LINES} more"))
        if each.forgotten:
            gone = (
                "1 score of another step is" if each.forgotten == 1 else f"{each.forgotten} scores of another step are"
            )
            console.print(Text(f"{each.name}: {gone} gone from {EVALUATION}"))
        if each.missing:
            console.print(Text(f"{each.name}: not scored: {each.missing}"))


def _chosen(score: Score) -> str:
    return ", ".join(
        f"{key} {format(value, '.2%') if key in _SHARES else value}"
        for key, value in score.chosen.items()
        if key != WARNING
    )
