"""`fullrank demo`: the main job on a laptop: two orders, equal steps, handwritten digits; a table and a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from fullrank.config import TrainConfig
from fullrank.errors import FullrankError
from fullrank.report.page import write_report
from fullrank.training.loop import train
from fullrank.training.presets import preset
from fullrank.training.runs import RunRecord, read_run

ORDERS: tuple[Literal["multiple-pass", "hybrid"], ...] = ("multiple-pass", "hybrid")


def demo(out: Path | None, *, config: TrainConfig | None = None, console: Console | None = None) -> int:
    """Train both orders, print their scores, and write a report.

    Args:
        out: The folder; `runs/demo`, numbered if taken, when None.
        config: What to train, but for the order; the digits preset when None.
        console: Where to write.

    Returns:
        The exit code: 0, or 128 + N when signal N stopped it.
    """
    console = console or Console(markup=False, highlight=False)
    config = config or preset("simsiam-digits")
    folder = _free_folder(out)
    console.print(
        f"SimSiam on scikit-learn's handwritten digits, {config.steps} steps with each order: {' and '.join(ORDERS)}",
        highlight=False,
    )
    for order in ORDERS:
        finished = train(replace(config, order=order, out=str(folder / order)), console=console)
        if not finished.complete:
            return 128 + (finished.signal or 0)
    paths = [folder / order for order in ORDERS]
    runs = [read_run(path) for path in paths]
    console.print(_table(runs))
    console.print(
        "AUC is of the cumulative singular values of the representation: lower is less collapsed. One seed: "
        "differences of a point or "
        "two mean nothing.",
        highlight=False,
    )
    report = write_report(paths, folder / "report.html")
    console.print(f"report: {report}", soft_wrap=True, highlight=False)
    return 0


def _free_folder(out: Path | None) -> Path:
    if out is not None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise FullrankError(f"{out} exists and is not an empty folder: choose another --out")
        return out
    folder, number = Path("runs/demo"), 1
    while folder.exists():
        number += 1
        folder = Path(f"runs/demo-{number}")
    return folder


def _table(runs: list[RunRecord]) -> Table:
    table = Table(title="after training, and before it", title_justify="left")
    for heading in ("order", "held-out loss", "k-NN", "AUC", "RankMe"):
        table.add_column(heading, justify="left" if heading == "order" else "right")
    last = [run.of_kind("measure")[-1] for run in runs]
    for name, record in [
        *((run.config["order"], record) for run, record in zip(runs, last, strict=True)),
        ("(random weights)", runs[0].of_kind("measure")[0]),
    ]:
        table.add_row(
            name,
            f"{record['heldout_loss']:+.4f}",
            f"{record['knn']:.1%}",
            f"{record['auc']:.3f}",
            f"{record['rankme']:.1f}",
        )
    return table
