"""Parquet files with Hugging Face's image schema, of any size.

What takes at most 2 GB, and a quarter of the free memory, is held there, encoded. Of larger sets the encoded images are
copied once, file by file, to a folder of caches on disk, for a parquet file cannot be read row by row.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fullrank.data.decoding import printable
from fullrank.data.encoded import EncodedImages, HeldImages, StoredImages, indexed
from fullrank.data.images import IMAGE_COLUMNS, LABEL_COLUMNS
from fullrank.data.labels import Labels, class_names, join_labels, read_labels
from fullrank.data.memory import available_memory, gigabytes
from fullrank.data.splits import check_rows
from fullrank.errors import FullrankError, reason

_HELD = 2e9  # bytes of encoded images that are held in memory at most


def open_parquet(name: str, files: Sequence[Path], cache: Path) -> EncodedImages:
    """Open the images in parquet files, in their order; those of too many to hold are copied to the folder `cache`."""
    chunks: list[Any] = []
    labels, stored = [], []
    large = sum(_guarded(file, _size) for file in files) > min(_HELD, available_memory() / 4)
    for file in files:
        if large:
            stored.append(indexed(file, cache, partial(_copy, file), copied=True))
        labels.append(_guarded(file, _read, None if large else chunks.append))
    joined = join_labels(labels, [printable(file) for file in files])
    images: EncodedImages = StoredImages(name, stored, joined) if large else HeldImages(name, chunks, joined)
    if not len(images):
        raise FullrankError(f"no images in {printable(name)}: its {len(files)} parquet file(s) have no rows")
    return images


def _guarded(file: Path, read: Callable[..., Any], *arguments: Any) -> Any:
    """Call `read` with a file, and name the file in what goes wrong."""
    shown = printable(file)
    try:
        return read(file, *arguments)
    except MemoryError:  # ArrowMemoryError is one
        raise FullrankError(f"{shown} does not fit into memory, or is damaged: write smaller row groups") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise FullrankError(f"{shown} cannot be read as parquet: {reason(error)}") from None


def _size(file: Path) -> int:
    """Return the bytes that a file's images and labels take in memory."""
    about, ours = pq.read_metadata(file), (*IMAGE_COLUMNS, *LABEL_COLUMNS)
    groups = (about.row_group(i) for i in range(about.num_row_groups))
    columns = (group.column(i) for group in groups for i in range(group.num_columns))
    return sum(each.total_uncompressed_size for each in columns if each.path_in_schema.split(".")[0] in ours)


def _copy(file: Path, copy: Path) -> Any:
    """Write a file's encoded images one after the other, and return where each lies."""
    shown, folder = printable(file), printable(copy.parent)
    size, free = _size(file), shutil.disk_usage(copy.parent).free
    if size > free:
        needs = f"{gigabytes(size)} in {folder}, and {gigabytes(free)} are free"
        raise FullrankError(f"the encoded images of {shown} need {needs}: name a place on another disk (--data-dir)")
    print(f"copying {gigabytes(size)} of encoded images from {shown} to {folder}, once", file=sys.stderr)
    offsets, lengths, end = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], 0
    with open(copy, "wb") as out:

        def take(column: Any) -> None:
            nonlocal end
            _, starts, data = column.buffers()
            at = np.frombuffer(starts, np.int64)[column.offset : column.offset + len(column) + 1]
            lengths.append(np.where(np.asarray(column.is_null()), -1, np.diff(at)))
            offsets.append(end + at[:-1] - at[0])
            try:
                end += out.write(memoryview(data)[at[0] : at[-1]]) if data else 0
            except OSError as error:
                raise FullrankError(f"{folder} cannot be written: {error.strerror}") from None

        _guarded(file, _read, take)
    return pa.table({"offset": np.concatenate(offsets), "length": np.concatenate(lengths)})


def _read(file: Path, take: Callable[[Any], Any] | None) -> Labels | None:
    """Return a file's labels, and give its encoded images, a piece at a time, to `take`."""
    shown = printable(file)
    with pq.ParquetFile(file, buffer_size=2**20, pre_buffer=False) as parquet:  # else a whole file is kept
        schema = parquet.schema_arrow
        names = ", ".join(schema.names)
        image, label = (
            next((column for column in usual if column in schema.names), None)
            for usual in (IMAGE_COLUMNS, LABEL_COLUMNS)
        )
        for column in (image, label):
            if schema.names.count(column) > 1:
                raise FullrankError(f"{shown} has the columns {names}: '{column}' more than once, leave one")
        for column in ("split", "subset"):
            if schema.names.count(column) == 1:
                check_rows(list(map(str, parquet.read(columns=[column]).column(column).unique().to_pylist())), shown)
        fields = schema.field(image).type if image is not None else None
        if fields is None or not pa.types.is_struct(fields) or [f.name for f in fields].count("bytes") != 1:
            wanted = "Hugging Face's image schema, a column 'image' that holds 'bytes' and 'path'"
            raise FullrankError(f"{shown} has the columns {names}: expected {wanted}")
        kind = fields.field("bytes").type
        if pa.types.is_nested(kind) or not ("binary" in str(kind) or pa.types.is_null(kind)):
            found = f"holds {kind} in the column '{image}' where encoded images should be"
            raise FullrankError(f"{shown} {found}: write the bytes of PNG or JPEG files as binary")
        labels = []
        columns = ([image] if take else []) + ([label] if label else [])
        # a row group at once would fail where its images take over 2 GB: pyarrow cannot put nested chunks together
        for batch in parquet.iter_batches(batch_size=256, columns=columns) if columns else ():
            if take is not None:
                take(pc.struct_field(batch.column(image), "bytes").cast(pa.large_binary()))
            if label is not None:
                labels.append(batch.column(label))
        if label is None:
            return None
        whole = pa.chunked_array(labels, schema.field(label).type)
        return read_labels(whole, class_names(schema.metadata, label), f"{shown}, column '{label}'")
