"""Where small files are read (YAML, JSON, arrays), checked against their record's shape, and where all are written."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fullrank.errors import FullrankError, shown
from fullrank.shapes import ShapeError, fit

PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".tar")
"""Suffixes of files that `torch.save` writes; `.pth.tar` is one of them. The first is that of checkpoints of ours."""


def check_backbone(name: str, backbone: str | None) -> None:
    """Raise `FullrankError` where nobody says what network a file, no checkpoint of ours, has weights of."""
    if backbone is None:
        raise FullrankError(
            f"{name} is not a checkpoint of ours: if it holds weights, say whose, as in --backbone resnet50, or "
            "for a module of your own call fullrank.inspect(model, loader) in Python; if it holds features, save them "
            "with numpy.save"
        )


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[None]:
    """Turn whatever is wrong with reading `path` into one line, a `FullrankError`, that says what to do."""
    try:
        yield
        return
    except ShapeError as error:
        reason = str(error)
    except FullrankError:
        raise
    except OSError as error:
        what = error.strerror or str(error)
        raise FullrankError(f"cannot read {path}: {what}; {remedy}") from None
    except UnicodeDecodeError as error:
        reason = f"it is no UTF-8 text ({error.reason} at byte {error.start})"
    except RecursionError:
        reason = "it is nested too deep"
    except (yaml.YAMLError, ValueError, TypeError, KeyError, OverflowError, AttributeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    raise FullrankError(f"{path} is damaged: {reason}; {remedy}") from None


def read_json(path: Path, shape: Any, remedy: str, load: Callable[[str], Any] = json.loads) -> Any:
    """Read a JSON file of one record; `remedy` is what to do where it cannot be read, or is not of that shape."""
    with reading(path, remedy):
        found = load(path.read_text(encoding="utf-8"))
        fit(found, shape)
    return found


read_yaml = partial(read_json, load=yaml.safe_load)
"""Read a YAML file of one record, as `read_json` does a JSON file."""


def read_json_lines(path: Path, check_one: Callable[[Any], None], remedy: str) -> list[dict[str, Any]]:
    """Read a file of one JSON record a line; a last line that a kill cut short is left out, and no other."""
    if not path.exists():
        return []
    records = []
    with reading(path, remedy):
        lines = path.read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines, start=1):
            try:
                if not line:
                    if number < len(lines):
                        raise ShapeError("it is empty")
                    continue
                found = json.loads(line)
                check_one(found)
            except json.JSONDecodeError:
                if number == len(lines):  # no newline after it: it was being written
                    break
                raise ShapeError(f"line {number} is not a record: {shown(line)}") from None
            except ShapeError as error:
                raise ShapeError(f"line {number}: {error}") from None
            records.append(found)
    return records


def read_arrays(path: Path, remedy: str, **arrays: tuple[Any, int]) -> tuple[np.ndarray, ...]:
    """Read arrays of a .safetensors file, of finite numbers; each is named with its kind of number and dimensions."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    with reading(path, remedy):
        try:
            path.open("rb").close()  # whose error is plain where it cannot be read
            tensors = load_file(path)
        except SafetensorError as error:
            raise ShapeError(str(error)) from None
        for name, (kind, dims) in arrays.items():
            if name not in tensors:
                raise ShapeError(f"{name} is missing")
            array = tensors[name]
            if array.ndim != dims or not np.issubdtype(array.dtype, kind):
                raise ShapeError(f"{name} must be of {kind.__name__} in {dims} dimensions, got {array.dtype} "
                                 f"{array.shape}")  # fmt: skip
            if not np.isfinite(array).all():
                raise ShapeError(f"{name} must be finite numbers, got {array[~np.isfinite(array)][0]}")
    return tuple(tensors[name] for name in arrays)


def check_empty(path: Path, *, hidden: bool = False) -> None:
    """Raise `FullrankError` unless `path` can be made a folder, or is an empty one, but for `hidden` files."""
    if not path.exists():
        check_output(path)
    elif not path.is_dir() or any(not (hidden and each.name.startswith(".")) for each in path.iterdir()):
        raise FullrankError(f"{path} exists and is not an empty folder: choose another --out")


def numbered(path: Path) -> Iterator[Path]:
    """Give a path, then with the numbers from 2 behind its name, for one to be taken that is free."""
    yield path
    yield from (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))


def check_output(path: Path, flag: str = "--out") -> None:
    """Raise `FullrankError` where nothing can be made at `path`: before any long work begins. Makes nothing itself."""
    nearest = next(each for each in Path(os.path.abspath(path)).parents if os.path.exists(each))
    if not nearest.is_dir():
        raise FullrankError(f"cannot write {path}: {nearest} is no folder; choose another {flag}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise FullrankError(f"cannot write {path}: {nearest} cannot be written to; choose another {flag}")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not.

    The bytes are on the disk (fsync) before the name changes, so a reader sees the old file or the whole new one.
    A link is followed and stays a link. A device or a pipe cannot be replaced: it is given itself, to be written into.
    """
    if path.is_dir():
        raise FullrankError(f"{path} is a folder, and a file is to be written: give a file's name")
    if path.exists() and not path.is_file():  # asked before links are followed: /dev/stdout may lead to a nameless pipe
        try:  # without waiting: a pipe that nobody reads would hold the command for ever
            held = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            raise FullrankError(f"cannot write into {path}: {error.strerror}; a pipe needs a reader first") from None
        try:
            yield path
        finally:
            os.close(held)
        return
    path = Path(os.path.realpath(path))
    temporary = temporary_beside(path)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # some file systems, as of a network or of FUSE, cannot force a folder to the disk
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def temporary_beside(path: Path) -> Path:
    """Return a hidden path beside `path` that nobody else takes: processes of two machines may have one number."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


@contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Let one process, of all machines, at a time run a block, by a lock on a file that is made and stays.

    On a file system that knows no locks nobody waits.
    """
    with ExitStack() as held:
        with suppress(OSError):
            # to be written: NFS locks nothing else for one process alone, and no folder
            file = held.enter_context(open(lock, "w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # names of files may not be UTF-8


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file of bytes atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
