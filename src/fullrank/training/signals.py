"""Ctrl-C and SIGTERM: let the step end and be saved."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def caught_signals(*, second_kills: bool = True) -> Iterator[dict[str, int]]:
    """Note the first SIGINT or SIGTERM instead of dying of it.

    Args:
        second_kills: Whether the second one kills. torchrun passes on the one that it got, and a scheduler or a
            terminal may have sent it to its processes too.
    """
    caught: dict[str, int] = {}
    before: dict[int, Any] = {}

    def note(number: int, _: object) -> None:
        caught.setdefault("signal", number)
        if second_kills:
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


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does: who stops on one stops on the other."""

    def interrupt(_: int, __: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
