"""Writing files: a reader, or a command that was killed, finds the old file or the whole new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fullrank.errors import FullrankError


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files may not be UTF-8


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file of bytes atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
