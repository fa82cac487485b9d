"""The exception that means "you can mend this": the command line prints it without a traceback."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any, Literal


class FullrankError(ValueError):
    """Report bad input: what was wrong, the value it had, and what to do.

    It is a `ValueError`, so library users catch it as they would any bad argument.
    """


class OtherProcessError(FullrankError):
    """Stop a process because of an error that the main process of its run reports."""


def count(variable: str, default: int) -> int:
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


def choose(name: str, value: object, known: Sequence[object]) -> None:
    """Check a word of a few.

    Raises:
        FullrankError: It is none of them; the message has the nearest.
    """
    if value not in known:
        hint = nearest(str(value), map(str, known))
        raise FullrankError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}{hint}")


def check_words(options: Any, prefix: str = "") -> None:
    """Check every field of a dataclass, and of those in it, that takes one of a few words.

    The command line does so as it parses; nobody does for who builds options in Python.

    Raises:
        FullrankError: A field has none of its words.
    """
    kind: Any = type(options)
    for name, known in _words(kind).items():
        choose(f"{prefix}{name}", getattr(options, name), known)
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            check_words(value, f"{prefix}{field.name.removesuffix('_options')}.")


@functools.cache
def _words(kind: type) -> dict[str, tuple[object, ...]]:
    """Return the words of a dataclass's fields that take only such, None among them where it is one."""
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
        words = [word for each in options if typing.get_origin(each) is Literal for word in typing.get_args(each)]
        if words:
            found[name] = (*words, *([None] if type(None) in options else []))
    return found
