"""Ctrl-C, SIGTERM and others: let the step end and be saved."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from fullrank.data.batches import STOPPING

T = TypeVar("T")


@dataclass
class Caught:
    """The signal that was noted."""

    signal: int = 0  # its number; 0 where there was none
    _raised: bool = False

    def unless(self, function: Callable[[], T]) -> T | None:
        """Call a function that nothing depends on unless it ends; give it up, and return None, as a signal comes."""
        try:
            self._raised = True
            self._check()
            return function()
        except KeyboardInterrupt:
            return None
        finally:
            self._raised = False

    def _check(self) -> None:
        if self._raised and self.signal:
            raise KeyboardInterrupt


@contextmanager
def caught_signals(*, second_kills: bool = True) -> Iterator[Caught]:
    """Note the first signal of `STOPPING` instead of dying of it. The second kills, unless `second_kills` is false.

    torchrun passes on the one that it got, and a scheduler or a terminal may have sent it to its processes too.
    """
    caught = Caught()

    def note(number: int, _: object) -> None:
        caught.signal = caught.signal or number
        if second_kills:
            for each in STOPPING:
                signal.signal(each, signal.SIG_DFL)
        caught._check()

    hung_up = signal.getsignal(signal.SIGHUP) != signal.SIG_IGN  # not so below nohup
    with _handled(note, *(each for each in STOPPING if hung_up or each != signal.SIGHUP)):
        yield caught


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does: who stops on one stops on the other."""

    def interrupt(_: int, __: object) -> None:
        raise KeyboardInterrupt

    with _handled(interrupt, signal.SIGTERM):
        yield


@contextmanager
def _handled(handler: Callable[[int, Any], None], *numbers: signal.Signals) -> Iterator[None]:
    before: dict[signal.Signals, Any] = {}
    with suppress(ValueError):  # not in the main thread, as in some notebooks: leave the signals alone
        for number in numbers:
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
