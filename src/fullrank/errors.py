"""The exception that means "you can mend this": the command line prints it without a traceback."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from typing import Any


class FullrankError(ValueError):
    """Report bad input: what was wrong, the value it had, and what to do.

    It is a `ValueError`, so library users catch it as they would any bad argument.
    """


class OtherProcessError(FullrankError):
    """Stop a process because of an error that the main process of its run reports."""


def env_count(variable: str, default: int) -> int:
    """Read a whole number from an environment variable; one that is unset or empty has the default."""
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    if not text.isdecimal():
        raise FullrankError(f"{variable}={text!r} is not a whole number: unset it, or start with torchrun")
    return int(text)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint such as `; did you mean 'simsiam'?` for a misspelt name, or an empty string.

    >>> nearest("simsaim", ["simsiam", "byol"])
    "; did you mean 'simsiam'?"
    """
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def shown(value: Any) -> str:
    """Return a value as an error shows it: on one line, and not all of a long one."""
    if isinstance(value, int) and value.bit_length() > 256:  # Python refuses to write very long ones in decimals
        return f"a number of {value.bit_length()} bits"
    text = " ".join((type(value).__name__ if isinstance(value, (dict, list)) and value else repr(value)).split())
    return text if len(text) <= 80 else f"{text[:80]}..."


def reason(error: BaseException) -> str:
    """Return the first line of what another library's exception says, or its type where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def choose(name: str, value: object, known: Sequence[object]) -> None:
    """Raise `FullrankError`, which names the nearest, unless a word is one of a few."""
    if value not in known:
        hint = nearest(str(value), map(str, known))
        raise FullrankError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}{hint}")
