"""Read parquet files with Hugging Face's image schema: encoded images and labels, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fullrank.data.decoding import printable
from fullrank.data.labels import Labels, class_names, join_labels, read_labels
from fullrank.data.memory import available_memory, gigabytes
from fullrank.data.splits import check_rows
from fullrank.errors import FullrankError

_IMAGE, _LABEL = ("image", "img"), ("label", "fine_label")


def read_parquet(name: str, files: Sequence[Path]) -> tuple[Any, Labels | None]:
    """Read the encoded images and the labels of parquet files.

    Args:
        name: What the user calls the set.
        files: In the order of the images.

    Returns:
        A pyarrow `ChunkedArray` of large binary, null where a row holds no bytes; and the labels, or None.

    Raises:
        FullrankError: A file is damaged, does not hold images as it should, or they do not fit into memory.
    """
    import pyarrow as pa

    chunks: list[Any] = []
    labels = []
    held = 0
    for file in files:
        shown = printable(file)
        try:
            held += _check_size(name, file, held)
            labels.append(_read(file, shown, chunks))
        except MemoryError:  # ArrowMemoryError is one
            raise FullrankError(
                f"{shown} does not fit into memory, or is damaged: unpack it to a folder of image files, which is read "
                "as it is needed"
            ) from None
        except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            raise FullrankError(f"{shown} cannot be read as parquet: {lines[0]}") from None
    if not sum(len(chunk) for chunk in chunks):
        raise FullrankError(f"no images in {printable(name)}: its {len(files)} parquet file(s) have no rows")
    return pa.chunked_array(chunks), join_labels(labels, [printable(file) for file in files])


def _check_size(name: str, file: Path, held: int) -> int:
    """Return the bytes that a file's columns take in memory; raise where they do not fit beside what is held."""
    import pyarrow.parquet as pq

    about = pq.read_metadata(file)
    size = 0
    for group in (about.row_group(i) for i in range(about.num_row_groups)):
        columns = (group.column(j) for j in range(group.num_columns))
        size += sum(
            column.total_uncompressed_size
            for column in columns
            if column.path_in_schema.split(".")[0] in (*_IMAGE, *_LABEL)
        )
    free = available_memory()  # what is held already is not free any more
    if size > 0.8 * free:
        raise FullrankError(
            f"the encoded images in {printable(name)} need over {gigabytes(held + size)} of memory, and "
            f"{gigabytes(free)} are free: unpack them to a folder of image files, which is read as it is needed, or "
            "give fewer files"
        )
    return size


def _read(file: Path, shown: str, chunks: list[Any]) -> Labels | None:
    """Add a file's encoded images to `chunks`, a piece at a time, and return its labels."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as parquet:
        schema = parquet.schema_arrow
        names = ", ".join(schema.names)
        image = next((column for column in _IMAGE if column in schema.names), None)
        label = next((column for column in _LABEL if column in schema.names), None)
        for column in (image, label):
            if column is not None and schema.names.count(column) > 1:
                raise FullrankError(f"{shown} has the columns {names}: '{column}' more than once, leave one")
        for column in ("split", "subset"):
            if schema.names.count(column) == 1:
                check_rows(list(map(str, parquet.read(columns=[column]).column(column).unique().to_pylist())), shown)
        fields = schema.field(image).type if image is not None else None
        if fields is None or not pa.types.is_struct(fields) or [f.name for f in fields].count("bytes") != 1:
            raise FullrankError(
                f"{shown} has the columns {names}: expected Hugging Face's image schema, a column 'image' that holds "
                "'bytes' and 'path'"
            )
        kind = fields.field("bytes").type
        if not ("binary" in str(kind) and not pa.types.is_nested(kind)) and not pa.types.is_null(kind):
            raise FullrankError(
                f"{shown} holds {kind} in the column '{image}' where encoded images should be: write the bytes of PNG "
                "or JPEG files as binary"
            )
        found = []
        # a row group at once would fail where its images take over 2 GB: pyarrow cannot put nested chunks together
        for batch in parquet.iter_batches(batch_size=1024, columns=[image, *([label] if label else [])]):
            chunks.append(pc.struct_field(batch.column(image), "bytes").cast(pa.large_binary()))
            if label is not None:
                found.append(batch.column(label))
        if label is None:
            return None
        column = pa.chunked_array(found, schema.field(label).type)
        return read_labels(column, class_names(schema.metadata, label), f"{shown}, column '{label}':")
