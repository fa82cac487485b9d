"""Images in encoded form: held in memory, or on disk and read one at a time.

On disk a set of any size takes some thirty bytes of memory an image. An index says where in which file each image
lies. It is built once and kept in a folder of caches, under a name that follows from the file's path, size and time of
change. Images are read, not mapped into memory: the pages of a map would count as the process's memory.
"""

from __future__ import annotations

import hashlib
import io
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyarrow import feather

from fullrank.data.decoding import Smaller, UnreadableImageError, decode_file, printable
from fullrank.data.images import HASHED, Images, digest, sample
from fullrank.data.labels import Labels
from fullrank.data.memory import gigabytes
from fullrank.errors import FullrankError
from fullrank.files import temporary_beside


class EncodedImages(Images):
    """Images whose encoded bytes can be had one by one."""

    def __init__(self, name: str, lengths: np.ndarray, labels: Labels | None) -> None:
        super().__init__(name)
        self.lengths = lengths  # how many bytes each image has, `(N,)` int64; -1 where the set holds none for it
        self.label(labels)

    @abstractmethod
    def encoded(self, index: int) -> bytes | None:
        """Return the bytes of one image, None where the set holds none for it."""

    def __len__(self) -> int:
        return len(self.lengths)

    def read_smaller(self, index: int, most: Callable[[int, int], int]) -> Smaller:
        """Decode one image."""
        encoded = self.encoded(index)
        if encoded is None:
            raise UnreadableImageError(f"{self.key(index)} holds no bytes")
        return decode_file(io.BytesIO(encoded), self.key(index), most)

    def key(self, index: int) -> str:
        """Return the set's name and the row."""
        return f"{self.name}, row {index}"

    def listing(self) -> str:
        """Hash the encoded sizes of all images."""
        return digest(self.lengths)

    def contents(self) -> str:
        """Hash the bytes of 256 images at random, and the labels of all."""
        chosen = sample(torch.arange(len(self)), HASHED).tolist()
        labels = b"" if self.labels is None else self.labels.numpy().tobytes()
        return digest(b"".join(hashlib.sha256(self.encoded(index) or b"").digest() for index in chosen), labels)


class HeldImages(EncodedImages):
    """Encoded images in memory: pyarrow arrays of large binary, one after the other, shared by forked workers."""

    def __init__(self, name: str, chunks: Sequence[Any], labels: Labels | None) -> None:
        self.held = pa.chunked_array(chunks, pa.large_binary())
        super().__init__(name, np.asarray(pc.binary_length(self.held).fill_null(-1)), labels)
        self.footprint = f"{gigabytes(self.held.nbytes)} in memory"

    def encoded(self, index: int) -> bytes | None:
        """Return the bytes of one image."""
        return self.held[index].as_py()


class Stored(NamedTuple):
    """Where the images of one file lie."""

    file: Path  # the file that holds their bytes
    stamp: tuple[int, int]  # its size and time of change when the index was made
    index: Any  # a pyarrow table with the int64 columns `offset` and `length` (-1 where there are no bytes)


class StoredImages(EncodedImages):
    """Encoded images in files on disk; `names` is a pyarrow `ChunkedArray`, where images have names."""

    def __init__(self, name: str, parts: Sequence[Stored], labels: Labels | None, names: Any = None) -> None:
        self._offsets, lengths = (
            np.concatenate([part.index.column(column).to_numpy() for part in parts]) for column in ("offset", "length")
        )
        super().__init__(name, lengths, labels)
        self._files = [(part.file, part.stamp) for part in parts]
        self._first = np.cumsum([0, *(len(part.index) for part in parts)])
        self._names = names
        self.footprint = f"{gigabytes(lengths.clip(min=0).sum())} on disk"

    def encoded(self, index: int) -> bytes | None:
        """Read the bytes of one image."""
        (file, before), length = self._file(index), int(self.lengths[index])
        if length < 0:
            return None
        try:
            with open(file, "rb", buffering=0) as opened:
                if stamp(opened.fileno()) != before:
                    what = f"{printable(file)} has changed since it was opened"
                    raise FullrankError(f"{what}: put the former file back, or start anew")
                return os.pread(opened.fileno(), length, int(self._offsets[index]))
        except FileNotFoundError:
            raise FullrankError(f"{printable(file)} is gone, and images in it are needed: put it back") from None
        except OSError as error:
            raise FullrankError(f"{self.key(index)} cannot be read: {error.strerror}") from None

    def _file(self, index: int) -> tuple[Path, tuple[int, int]]:
        return self._files[int(np.searchsorted(self._first, index, side="right")) - 1]

    def key(self, index: int) -> str:
        """Return the file and the image's name in it; without names, the set's name and the row."""
        if self._names is None:
            return super().key(index)
        return f"{printable(self._file(index)[0])}, {self._names[index].as_py()}"

    def listing(self) -> str:
        """Hash the encoded sizes, and the names where images have them."""
        names = [] if self._names is None else ["\n".join(self._names.to_pylist()).encode()]
        return digest(self.lengths, *names)


def stamp(file: Path | int) -> tuple[int, int]:
    """Return what changes with a file: its size and time of change in nanoseconds."""
    about = os.stat(file)
    return about.st_size, about.st_mtime_ns


def indexed(file: Path, cache: Path, build: Callable[[Path], Any], *, copied: bool = False, version: int = 0) -> Stored:
    """Return where the images of a file lie, found once and kept in the folder of caches.

    `build` makes the index; where images are `copied`, it also writes their bytes to the path that it is called with.
    Another `version` of it finds other things, and what was kept of an earlier one is not read.
    """
    before = stamp(file)  # so that a file which changes while it is indexed is found to have changed
    about = (str(file.resolve()), *before, *([version] if version else []))
    name = hashlib.sha256(repr(about).encode()).hexdigest()[:16]
    index, copy = cache / f"{name}.index", cache / f"{name}.images" if copied else None
    if _kept(index, copy) is None:
        new_index, new_copy = temporary_beside(index), temporary_beside(copy or index)
        try:
            cache.mkdir(parents=True, exist_ok=True)
            try:
                feather.write_feather(build(new_copy), str(new_index))
                if _kept(index, copy) is None:  # else another run was quicker, and reads it
                    if copy is not None:
                        os.replace(new_copy, copy)
                    os.replace(new_index, index)  # the last: where it is, all is
            finally:
                for path in (new_index, new_copy):
                    path.unlink(missing_ok=True)
        except OSError as error:
            what = f"{printable(cache)}, where the index of large sets is kept, cannot be written: {error.strerror}"
            raise FullrankError(f"{what}: name another place (--data-dir)") from None
    where, made = (file, before) if copy is None else (copy, stamp(copy))
    return Stored(where, made, _kept(index, copy))


def _kept(index: Path, copy: Path | None) -> Any | None:
    """Return an index that is kept; None where it or the copy is not there, or was cut short when the power failed."""
    try:
        table = feather.read_table(str(index), memory_map=False)
        ends = pc.max(pc.add(table.column("offset"), table.column("length"))).as_py() or 0
        return table if copy is None or copy.stat().st_size >= ends else None
    except (OSError, pa.ArrowInvalid):
        return None
