"""Small helpers for sentences and names."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

K = TypeVar("K", bound=Hashable)
P = TypeVar("P", str, Path)
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


def no_progress(what: str, done: int, total: int) -> None:
    """Tell nobody of progress."""


def plain_console(*, stderr: bool = False) -> Console:
    """Give a console that shows text as it is: brackets in a path are no markup, and numbers have no colors."""
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False)


def watched(console: Console) -> bool:
    """Say whether somebody sees a console change: rich takes a pipe for a terminal where a notebook set FORCE_COLOR."""
    return console.is_terminal and console.file.isatty()


def listing(items: Sequence[str], most: int | None = None) -> str:
    """Join with commas and a last "and"; of more than `most` the last ones are counted.

    >>> listing(["a", "b", "c"]), listing(["a", "b", "c", "d"], 3)
    ('a, b and c', 'a, b and 2 more')
    """
    if most is not None and len(items) > most:
        items = [*items[: most - 1], f"{len(items) - most + 1} more"]
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def few(names: Sequence[object], most: int = 3) -> str:
    """Name the first of several, and count the others.

    >>> few(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def grouped(pairs: Iterable[tuple[K, str]]) -> dict[K, list[str]]:
    """Return the names that share a reason, by the reason.

    >>> grouped([("no loss", "a"), ("no AUC", "b"), ("no loss", "c")])
    {'no loss': ['a', 'c'], 'no AUC': ['b']}
    """
    found: dict[K, list[str]] = {}
    for why, name in pairs:
        found.setdefault(why, []).append(name)
    return found


def capital(text: str) -> str:
    """Start a sentence; k-NN keeps its k."""
    return text if text.startswith("k-NN") else text[:1].upper() + text[1:]


def tails(paths: Sequence[PurePath]) -> list[str]:
    """Name paths by their last part, with as many parts before it as it takes to tell them apart.

    >>> tails([PurePath("runs/a/step.pt"), PurePath("runs/b/step.pt"), PurePath("x.npy")])
    ['a/step.pt', 'b/step.pt', 'x.npy']
    """

    def tail(own: tuple[str, ...]) -> str:
        for depth in range(1, len(own)):
            if sum(other.parts[-depth:] == own[-depth:] for other in paths) == 1:
                return "/".join(own[-depth:])
        return str(PurePath(*own))

    return [tail(path.parts) for path in paths]


def expanded(path: str | PurePath) -> Path:
    """Return a path, at whose beginning ~ is the home folder; a name that begins so and is no user's stays.

    >>> expanded("~nobody of that name/~x").parts
    ('~nobody of that name', '~x')
    """
    return Path(os.path.expanduser(path))


def once(names: Iterable[P]) -> list[P]:
    """Leave out what is named before, by whatever path.

    >>> once(["runs/a", "resnet18", "runs/../runs/a/"])
    ['runs/a', 'resnet18']
    """
    found: dict[Path, P] = {}
    for name in names:
        found.setdefault(expanded(name).resolve(), name)
    return list(found.values())


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turn a nested mapping into one of dotted names.

    >>> flatten({"steps": 5, "optim": {"base_lr": 0.3}})
    {'steps': 5, 'optim.base_lr': 0.3}
    """
    flat: dict[str, Any] = {}
    for key, value in config.items():
        nested = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat


def duration(seconds: float) -> str:
    """Write a duration with two units at most.

    >>> duration(61.2), duration(7261), duration(8.25)
    ('1 min 1 s', '2 h 1 min', '8.2 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
