"""Shapes: what a setting or a field of a file may be, written as a type, and the one line that says so.

Settings of runs and of commands (dataclasses), arguments, configuration files and the small files of a run's folder are
all checked by `fit`. A shape is a type: `int`, `str | None`, `Literal["a", "b"]`, `list[...]`, `dict[str, ...]`, a
dataclass for a section and a `TypedDict` for a record, with `Annotated[int, Range(1, 10)]` for a range and
`Annotated[str, METHODS]` for a name in a registry. A number must be finite, within `Any` too, unless its shape is
`object` or `Number`. Fields that a record's shape does not name are kept: a newer fullrank may have written them.
"""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

from fullrank.errors import FullrankError, nearest, shown
from fullrank.registry import Registry
from fullrank.text import listing


class Range(NamedTuple):
    """The numbers from `low` to `high`, which NaN and infinity never are.

    >>> print(Range(0, 1, above=True))
    above 0 and at most 1
    """

    low: float
    high: float
    above: bool = False
    """Leaves out `low` itself."""
    below: bool = False
    """Leaves out `high` itself."""
    why: str = ""

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        return not (self.above and value == self.low) and not (self.below and value == self.high)

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:,}"
        return f"{low} and {'below' if self.below else 'at most'} {self.high:,}"

    def check(self, field: str, value: Any) -> None:
        """Raise `FullrankError` where a number, or one of several, is out of the range."""
        for each in value if isinstance(value, tuple) else (value,):
            if each not in self:
                why = f" ({self.why})" if self.why else ""
                raise ShapeError(f"{field} must be {self}, got {shown(each)}{why}")


Step = Annotated[int, Range(0, 2**53)]
"""Finished gradient steps; above the largest, which none comes near, a float skips whole numbers."""
Number = Annotated[float, "any"]
"""A measured value, which may be no number where it could not be measured."""


class Protocol(TypedDict, total=False):
    """What is reckoned with of how a score was taken; the rest is compared and shown."""

    n: Step
    subset: float


class ShapeError(FullrankError):
    """Say which setting or field is not as it should be, and what it is."""

    value: Any = None  # what is of another kind than it should be
    expected = ""  # that kind, in words; empty where it is of that kind, and wrong otherwise
    hint = ""  # the nearest word, of a few, or what else to do

    @classmethod
    def kind(cls, value: Any, expected: str, name: str, hint: str = "") -> ShapeError:
        """Make the error for a value of another kind."""
        error = cls(f"{name} must be {expected}, got {shown(value)}{hint}")
        error.value, error.expected, error.hint = value, expected, hint
        return error


_WORDS = {str: "text", bool: "true or false", int: "a whole number", type(None): "null", dict: "a record in braces"}


def fit(value: Any, shape: Any, name: str = "it", *, finite: bool = True) -> Any:
    """Return a value as its shape has it: a whole number as a float where it should be one, a list as a tuple.

    `name` is what an error calls it. A number must be finite where no range says otherwise, but for `finite=False`.

    Raises:
        ShapeError: It is not of that shape.
        FullrankError: There is no such name in a registry.

    >>> fit({"step": 3}, dict[str, Step])
    {'step': 3}
    >>> fit({"step": "3"}, dict[str, Step])
    Traceback (most recent call last):
    ...
    fullrank.shapes.ShapeError: step must be a whole number, got '3'; it is text: leave out the quotes
    """
    if _is_scalar_of_numpy(value) and shape is not object:
        value = value.item()
    origin, inner = typing.get_origin(shape), typing.get_args(shape)
    if origin is Annotated:
        return _fit_annotated(value, shape, name, finite)
    if origin in (typing.Union, types.UnionType):
        return _fit_one_of(value, inner, name, finite)
    if origin is Literal:
        if value in inner:
            return value
        hint = nearest(value, list(map(str, inner))) if isinstance(value, str) else ""
        raise ShapeError.kind(value, f"one of {', '.join(map(str, inner))}", name, hint)
    if origin is tuple and isinstance(value, (list, tuple)) and (len(value) == len(inner) or inner[-1] is ...):
        shapes = inner if inner[-1] is not ... else inner[:1] * len(value)
        return tuple(fit(each, own, name, finite=finite) for each, own in zip(value, shapes, strict=True))
    if origin is list:
        if not isinstance(value, list):
            raise ShapeError.kind(value, "a list", name)
        return [fit(each, inner[0], f"{name}[{place}]") for place, each in enumerate(value)]
    if origin is dict or typing.is_typeddict(shape):
        return _fit_record(value, shape, name)
    if dataclasses.is_dataclass(shape) and isinstance(value, typing.cast(type, shape)):
        check_fields(value, f"{name}.")
        return value
    return _fit_plain(value, shape, name, finite)


def _fit_annotated(value: Any, shape: Any, name: str, finite: bool) -> Any:
    checks = [each for each in shape.__metadata__ if isinstance(each, (Range, Registry))]
    value = fit(value, shape.__origin__, name, finite=finite and not checks and shape != Number)
    for check in checks:
        if value is not None:
            value = check.canonical(value) if isinstance(check, Registry) else value
            check.check(name, value)
    return value


def _fit_record(value: Any, shape: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise ShapeError.kind(value, _WORDS[dict], name)
    within = "" if name == "it" else f"{name}."
    if not typing.is_typeddict(shape):
        of_keys, of_values = typing.get_args(shape)
        return {
            fit(key, of_keys, f"a key of {name}"): fit(each, of_values, f"{within}{key}") for key, each in value.items()
        }
    shapes = fields(shape)
    if missing := [key for key in shapes if key in shape.__required_keys__ and key not in value]:
        raise ShapeError(f"{within}{missing[0]} is missing")
    return {key: fit(each, shapes.get(key, Any), f"{within}{key}") for key, each in value.items()}


def _fit_one_of(value: Any, options: tuple[Any, ...], name: str, finite: bool) -> Any:
    if value is None and type(None) in options:  # as most settings are: no error is made for each option before it
        return None
    wrong: list[ShapeError] = []
    for option in options:
        try:
            return fit(value, option, name, finite=finite)
        except ShapeError as error:
            wrong.append(error)
    for each in wrong:
        if not each.expected or each.value is not value:  # it is of the right kind, but not all right
            raise each
    hint = "".join(dict.fromkeys(each.hint for each in wrong))
    raise ShapeError.kind(value, " or ".join(each.expected for each in wrong), name, hint)


def _fit_plain(value: Any, shape: Any, name: str, finite: bool) -> Any:
    if shape is object:
        return value
    if shape is Any:
        if isinstance(value, (dict, list)):
            fit(value, dict[Any, Any] if isinstance(value, dict) else list[Any], name)
        return fit(value, float, name) if isinstance(value, float) else value
    if shape is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or (finite and not abs(value) < 1e300):
            raise ShapeError.kind(value, "a finite number" if finite else "a number", name, _hint(value))
        if isinstance(value, int) and abs(value) >= 1e300:  # which no float holds
            return math.inf if value > 0 else -math.inf
        return float(value)
    if shape is str and isinstance(value, os.PathLike):
        return os.fspath(value)
    if shape is Path and isinstance(value, str):
        return Path(value)
    plain = typing.get_origin(shape) is None  # Python 3.10 takes tuple[int] for a type too
    if plain and isinstance(value, shape) and (shape is bool) == isinstance(value, bool):
        return value
    hint = _hint(value) if shape in (int, bool) else ""
    raise ShapeError.kind(value, _WORDS.get(shape) or (shape.__name__ if plain else str(shape)), name, hint)


def _hint(value: Any) -> str:
    """Say what to do where a number, or yes or no, is given as text, as YAML reads `'0.1'`."""
    text = value.strip().lower() if isinstance(value, str) else ""
    with suppress(ValueError):
        if text in ("true", "false") or math.isfinite(float(text)):
            return "; it is text: leave out the quotes"
    return ""


def _is_scalar_of_numpy(value: Any) -> bool:
    """Say whether it is a number such as np.int64, which is no int, without importing NumPy."""
    return type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0


@cache
def fields(kind: Any) -> dict[str, Any]:
    """Return the shape of each field of a dataclass or a record, or of each argument of a function."""
    return typing.get_type_hints(kind, include_extras=True)


def check_fields(options: Any, prefix: str = "") -> None:
    """Check every field of a dataclass, and of those in it, and give each the value that its shape has for it.

    An error has `prefix` before the field's name.
    """
    kind: Any = type(options)
    for name, shape in fields(kind).items():
        given = getattr(options, name)
        value = fit(given, shape, f"{prefix}{name}")
        # 0 stays 0 where 0.0 is the same; numbers of NumPy, in records too, are made Python's
        if value != given or _is_scalar_of_numpy(given) or isinstance(given, dict):
            object.__setattr__(options, name, value)


def check_meant(
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    meant: Mapping[str, Collection[str]],
    here: Collection[str],
    *,
    flags: bool = False,
) -> None:
    """Raise `FullrankError` where an option is set that would have no effect.

    Args:
        given: Options and their values.
        defaults: The values of those that are not set.
        meant: To what, in the plural, each option means something; one that is not named means something to all.
        here: What of it there is.
        flags: Whether an error calls an option as the command line does.
    """
    for name, whom in meant.items():
        if name in given and given[name] != defaults[name] and not set(whom) & set(here):
            called = f"--{name.replace('_', '-')}" if flags else name
            raise FullrankError(f"{called} is for {listing([*whom])}, and there is none here: leave it out")


class Checked:
    """Base of a dataclass whose fields are checked when it is made."""

    def __post_init__(self) -> None:
        check_fields(self)
