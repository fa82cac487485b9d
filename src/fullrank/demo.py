"""`fullrank demo`: the main job on a laptop: two orders, equal steps; a table and a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.console import Console

from fullrank.config import TrainConfig
from fullrank.documents import Table
from fullrank.documents.terminal import grid
from fullrank.files import check_empty, numbered
from fullrank.measure.scores import title
from fullrank.report.document import write_report
from fullrank.text import plain_console
from fullrank.training.loop import train
from fullrank.training.presets import preset
from fullrank.training.progress import say
from fullrank.training.runs import RunRecord, read_run
from fullrank.training.scores import latest, recorded

ORDERS: tuple[Literal["multiple-pass", "hybrid"], ...] = ("multiple-pass", "hybrid")


def demo(
    out: Path | None, *, full: bool = False, config: TrainConfig | None = None, console: Console | None = None
) -> int:
    """Train both orders, print their scores, and write a report to a folder, `runs/demo` when None, numbered if taken.

    With `full`, where the order matters (`simsiam-collapse-short`), not on digits; a configuration replaces either.

    Returns:
        The exit code: 0, or 128 + N when signal N stopped it.
    """
    console = console or plain_console()
    config = config or preset("simsiam-collapse-short" if full else "simsiam-digits")
    if out is not None:
        check_empty(out)
    folder = out or next(each for each in numbered(Path("runs/demo")) if not each.exists())
    say(console, f"SimSiam on {config.images}, {config.steps:,} steps with each order: {' and '.join(ORDERS)}")
    for order in ORDERS:
        finished = train(replace(config, order=order, out=str(folder / order)), console=console)
        if not finished.complete:
            return 128 + finished.signal
    paths = [folder / order for order in ORDERS]
    runs = [read_run(path) for path in paths]
    console.print(grid(_table(runs)))
    say(
        console,
        "AUC is of the cumulative singular values of the representation: lower is less collapsed. One seed: "
        "differences of a point or two mean nothing.",
    )
    say(console, f"report: {write_report(paths, folder / 'report.html')}")
    return 0


def _table(runs: list[RunRecord]) -> Table:
    shown = ("heldout_loss", "knn", "auc", "rankme_centered")
    first, *_ = runs
    scores = {str(run.config["order"]): latest(run) for run in runs}
    scores["random weights"] = recorded(first, 0) or {}
    rows = [[name, *(own[score].text for score in shown)] for name, own in scores.items()]
    note = "Random weights are the initial ones: a ResNet's residual branches start off, which makes AUC higher."
    return Table("After training, and before it", ["order", *(title(name) for name in shown)], rows, note)
