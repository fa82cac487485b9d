"""What a person sees while a run trains: a live line in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fullrank.config import TrainConfig
from fullrank.text import Progress as Counted
from fullrank.text import duration, watched


class TrainingProgress:
    """Shows steps, images/s, loss and remaining time of one run, `done` of whose steps are done already."""

    def __init__(self, config: TrainConfig, name: str, done: int, console: Console) -> None:
        self.steps, self.batch_size, self.name, self.console = config.steps, config.batch_size, name, console
        self.first: tuple[int, float] | None = None  # step that was seen, and when
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[speed]:,.0f} images/s"),
            TextColumn("loss {task.fields[loss]:+.4f}"),
            TextColumn("{task.fields[remaining]} left"),
            console=console,
            disable=not watched(console),
        )
        self.task = self.bar.add_task(
            name, total=config.steps, completed=done, speed=0.0, loss=float("nan"), remaining="?"
        )

    def step(self, step: int) -> None:
        """Move the bar on."""
        self.first = self.first or (step, time.perf_counter())
        self.bar.update(self.task, completed=step)

    def log(self, step: int, loss: float, images_per_second: float, extra: str = "") -> None:
        """Show the latest figures."""
        first, began = self.first or (step, time.perf_counter())
        of_all = (time.perf_counter() - began) / (step - first) if step > first else self.batch_size / images_per_second
        remaining = duration(of_all * (self.steps - step))
        self.bar.update(self.task, completed=step, loss=loss, speed=images_per_second, remaining=remaining)
        if self.bar.disable:
            self.note(
                f"{self.name}  {step}/{self.steps} steps  {images_per_second:,.0f} images/s  loss {loss:+.4f}"
                f"{extra}  {remaining} left"
            )
            sys.stdout.flush()

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        say(self.console, text)


def say(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def drawn(progress: Progress) -> AbstractContextManager[Progress]:
    """Draw a progress display that is not disabled: rich before 15 ends one that is with an empty line."""
    return nullcontext(progress) if progress.disable else progress


@contextmanager
def counting(console: Console, *, shown: bool = True) -> Iterator[Counted]:
    """Show how far several pieces of work are, as it is told them one after another; nothing where nobody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with drawn(
        Progress(*columns, console=console, disable=not (shown and watched(console)), transient=True)
    ) as progress:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done)

        yield show
