"""Ctrl-C and SIGTERM: let the step end and be saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def caught_signals() -> Iterator[dict[str, int]]:
    """Note the first SIGINT or SIGTERM instead of dying of it; the second one kills."""
    caught: dict[str, int] = {}
    before: dict[int, Any] = {}

    def note(number: int, _: object) -> None:
        caught["signal"] = number
        for each in before:
            signal.signal(each, signal.SIG_DFL)

    try:
        for each in (signal.SIGINT, signal.SIGTERM):
            before[each] = signal.signal(each, note)
    except ValueError:  # not in the main thread, as in some notebooks: leave the signals alone
        pass
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
