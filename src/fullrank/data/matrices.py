"""Feature matrices in files, `(N, D)`: walked over in blocks of rows, never held whole.

`open_matrix` reads three formats, each one that any program can write and that holds no code:

| file           | the matrix                                                                                    |
|----------------|-----------------------------------------------------------------------------------------------|
| `.npy`         | a NumPy array of two dimensions, in C or Fortran order and either byte order                  |
| `.safetensors` | the only tensor of more than one number a row, or the one that `key` names                    |
| `.parquet`     | a column of lists of equal length, or else all of floating-point numbers but labels and index |

Where two may be the features, neither is taken unless it is named.
"""

from __future__ import annotations

import tokenize
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.lib import format as npy
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fullrank.data.images import LABEL_COLUMNS
from fullrank.errors import FullrankError, nearest, reason
from fullrank.measure.checks import BLOCK_ENTRIES, DTYPES
from fullrank.text import few

_SHOWN = 8
_MANY = 32  # more tensors than this in one file are a model's weights
# columns that are no features though they hold floating-point numbers, as pandas makes of classes where one lacks
_LABELS = (*LABEL_COLUMNS, "target", "targets")
_WEIGHT_NAMES = (".weight", ".bias", ".running_mean")

# what safetensors and pyarrow call numbers' types, where it is not numpy's name
_NAMES = {f"{short}{bits}": f"{name}{bits}" for short, name in (("F", "float"), ("I", "int")) for bits in (16, 32, 64)}
_NAMES |= {"BF16": "bfloat16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}
_NAMES |= {"halffloat": "float16", "float": "float32", "double": "float64"}

_LOAD_TENSOR = 'torch.load("{name}", weights_only=True).numpy()'
_LOADS = {
    ".npz": 'np.load("{name}")["NAME OF THE ARRAY"]',
    ".csv": 'np.loadtxt("{name}", delimiter=",")',
    ".tsv": 'np.loadtxt("{name}", delimiter="\\t")',
    ".txt": 'np.loadtxt("{name}")',
    **dict.fromkeys((".pt", ".pth"), _LOAD_TENSOR),
}


@dataclass(frozen=True)
class FeatureFile:
    """A feature matrix in a file. NaN and infinity are left to whoever measures it."""

    path: Path
    key: str | None  # the tensor or column that is the matrix, or None where the file holds nothing else
    shape: tuple[int, int]  # N rows and D columns, both at least 1
    dtype: str  # name of its numbers' type, such as `float32`
    _walk: Callable[[int], Iterator[Tensor]] = field(repr=False)
    ignored: tuple[str, ...] = ()  # columns or tensors of the file that are left out, such as labels

    def blocks(self, rows: int | None = None) -> Iterator[Tensor]:
        """Walk over all rows in order, in blocks `(n, D)` of so many rows: about 4 million numbers when None.

        Each is a copy in the machine's byte order.
        """
        return self._walk(rows or max(1, BLOCK_ENTRIES // self.shape[1]))


def open_matrix(path: Path | str, *, key: str | None = None) -> FeatureFile:
    """Open a feature matrix without reading its numbers; of a file that holds several, the one that `key` names.

    Raises:
        FullrankError: There is no such file, it is of another format or damaged, or what it holds is not one matrix of
            at least one row and one column.
    """
    path = Path(path)
    readers = {".npy": _open_npy, ".safetensors": _open_safetensors, ".parquet": _open_parquet}
    suffix, formats = path.suffix.lower(), ", ".join(readers)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FullrankError(f"{path} {what}: give a file of features, {formats}")
    if suffix in readers:
        return readers[suffix](path, key)
    how = f'np.save("features.npy", {_LOADS.get(suffix, "features").format(name=path.name)})'
    message = f"{path} is none of the formats that features are read from, {formats}: convert it, {how}"
    if suffix in (".pkl", ".pickle", ".joblib"):
        message += " in the program that made it (opening a pickle runs what is in it)"
    elif suffix in (".pt", ".pth", ".ckpt", ".bin", ".tar"):
        message += "; if it holds weights, give --backbone NAME"
    raise FullrankError(message)


def _checked(path: Path, key: str | None, shape: tuple[int, ...], dtype: str) -> tuple[int, int]:
    """Return `shape` as (N, D); raise `FullrankError` where it is no matrix's, or its numbers are not measured."""
    name = f"{path}, {key!r}," if key is not None else f"{path}"
    if dtype not in DTYPES:
        how = "take their real part or their modulus" if dtype[0].lower() == "c" else "convert them to float32"
        raise FullrankError(f"{name} holds {dtype}: features are real numbers of one of {', '.join(DTYPES)}; {how}")
    if len(shape) != 2:
        do = {
            0: "that is a single number",
            1: "if that is one column, reshape(-1, 1)",
            3: "pool it, as in features.mean(axis=1) of (N, tokens, D), or flatten each row",
            4: "pool it, as in features.mean(axis=(2, 3)) of (N, D, H, W), or flatten each row",
        }.get(len(shape), "pool it, or flatten each row")
        raise FullrankError(f"{name} has shape {shape}, features are a matrix (N, D): {do}")
    if 0 in shape:
        raise FullrankError(f"{name} is empty, shape {shape}: give at least one row and one column")
    return int(shape[0]), int(shape[1])


def _damaged(path: Path, error: BaseException) -> FullrankError:
    kind = path.suffix.lower()
    return FullrankError(f"{path} cannot be read as {kind}, it is damaged or cut short: {reason(error)}")


def _open_npy(path: Path, key: str | None) -> FeatureFile:
    def walk(rows: int) -> Iterator[Tensor]:
        array = _map_npy(path)
        native = array.dtype.newbyteorder("=")
        for start in range(0, len(array), rows):
            yield torch.from_numpy(np.array(array[start : start + rows], dtype=native, order="C"))

    if key is not None:
        raise FullrankError(f"{path} holds one array without a name: leave out --key {key}")
    array = _map_npy(path)
    return FeatureFile(path, None, _checked(path, None, array.shape, array.dtype.name), array.dtype.name, walk)


def _map_npy(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        start = file.read(len(npy.MAGIC_PREFIX))
    if start and start != npy.MAGIC_PREFIX[: len(start)]:
        pickled = "was not opened (a pickle would run what is in it)"
        raise FullrankError(f"{path} is not a NumPy array in spite of its name, and {pickled}: save one with np.save")
    try:
        array = npy.open_memmap(path, mode="r")
    except (ValueError, OverflowError, SyntaxError, tokenize.TokenError) as error:
        if "Python objects" in str(error):
            do = 'rows may differ in length; save np.stack(rows).astype("float32")'
            raise FullrankError(f"{path} is an array of Python objects, which are not read: {do}") from None
        raise _damaged(path, error) from None
    if more := path.stat().st_size - array.offset - array.nbytes:
        where = f"{path} goes on for {more:,} bytes after its array of shape {array.shape}"
        raise FullrankError(f"{where}: it holds several arrays, or is damaged; save one array with np.save")
    return array


def _open_safetensors(path: Path, key: str | None) -> FeatureFile:
    def walk(rows: int) -> Iterator[Tensor]:
        try:
            with safe_open(path, framework="pt") as file:
                matrix = file.get_slice(key)
                for start in range(0, shapes[key][0], rows):
                    yield matrix[start : start + rows].clone()  # not a map of a file that may be cut short later
        except SafetensorError as error:
            raise _damaged(path, error) from None

    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
            shapes = {name: tuple(found.get_shape()) for name, found in slices.items()}
            codes = {name: found.get_dtype() for name, found in slices.items()}
    except SafetensorError as error:
        raise _damaged(path, error) from None
    listed = few([f"{name} {shape}" for name, shape in shapes.items()], _SHOWN)
    if key is None:
        if len(shapes) > _MANY or any(len(shape) > 3 or name.endswith(_WEIGHT_NAMES) for name, shape in shapes.items()):
            do = "--backbone NAME to measure the model on images, or --key NAME if one of them is a matrix of features"
            raise FullrankError(f"{path} looks like a model's weights ({listed}): give {do}")
        wide = [name for name, shape in shapes.items() if shape[1:] not in ((), (1,))] or [*shapes]
        if not wide:
            raise FullrankError(f"{path} holds no tensor: expected a matrix (N, D)")
        if len(wide) > 1:
            raise FullrankError(f"{path} holds {len(wide)} tensors ({listed}): name the matrix (N, D) with --key NAME")
        (key,) = wide  # its shape may be refused below
    elif key not in shapes:
        raise FullrankError(f"{path} has no tensor {key!r}{nearest(key, shapes)} (it holds {listed})")
    dtype = _NAMES.get(codes[key], codes[key])
    ignored = tuple(name for name in shapes if name != key)
    return FeatureFile(path, key, _checked(path, key, shapes[key], dtype), dtype, walk, ignored)


def _open_parquet(path: Path, key: str | None) -> FeatureFile:
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None
    if twice := [name for name, times in Counter(schema.names).items() if times > 1]:
        raise FullrankError(f"{path} has several columns named {twice[0]!r}: rename or drop them")
    of_lists = _column_of_lists(path, schema, key)
    left_out = {*_LABELS, *_index_columns(schema)}
    floating = [each.name for each in schema if pa.types.is_floating(each.type) and each.name not in left_out]
    chosen = floating if of_lists is None else [of_lists]
    if not chosen:
        columns = few([f"{each.name}: {each.type}" for each in schema], _SHOWN) or "no columns"
        raise FullrankError(f"{path} has no column of lists of numbers, nor any of floating-point numbers ({columns})")
    dtype = _one_dtype(path, schema, chosen)
    width = len(chosen) if of_lists is None else getattr(schema.field(of_lists).type, "list_size", 0)
    if not width and count:  # as long as the first row is
        _, (first,) = next(_batches(path, chosen, 1))
        width = len(first.flatten())
    if key is None and of_lists is not None and 0 < width <= len(floating):
        what = (
            f"lists of {width} numbers, {of_lists!r}, and {len(floating)} columns of numbers ({few(floating, _SHOWN)})"
        )
        raise FullrankError(f"{path} has a column of {what}: give --key {of_lists}, or drop that column")

    def walk(rows: int) -> Iterator[Tensor]:
        for start, columns in _batches(path, chosen, rows):
            if of_lists is None:
                block = np.stack([column.to_numpy(zero_copy_only=False) for column in columns], axis=1)
            else:
                block = _list_rows(path, of_lists, columns[0], width, start).copy()  # not the file's own memory
            yield torch.from_numpy(block)

    ignored = tuple(name for name in schema.names if name not in chosen)
    return FeatureFile(path, of_lists, _checked(path, of_lists, (count, width), dtype), dtype, walk, ignored)


def _column_of_lists(path: Path, schema: pa.Schema, key: str | None) -> str | None:
    """Return the column of lists of numbers that `key` names, else the only one; None where there is none."""
    lists = [each.name for each in schema if _holds_numbers(each.type)]
    shown = few(lists, _SHOWN)
    if key is None:
        if len(lists) > 1:
            raise FullrankError(f"{path} has {len(lists)} columns of lists ({shown}): name one with --key NAME")
        if not lists:
            return None
        (key,) = lists
    if key not in schema.names:
        known = few(schema.names, _SHOWN)
        raise FullrankError(f"{path} has no column {key!r}{nearest(key, schema.names)} ({known})")
    if key not in lists:
        do = f"name a column of lists ({shown})" if lists else "leave out --key to take all columns of numbers"
        raise FullrankError(f"{path}, column {key!r} holds {schema.field(key).type}, not lists of numbers: {do}")
    if not _is_list_of_numbers(schema.field(key).type):
        what = f"holds {schema.field(key).type}, features are one list of numbers a row"
        raise FullrankError(f"{path}, column {key!r} {what}: pool each row, or flatten it, and write a list")
    return key


def _one_dtype(path: Path, schema: pa.Schema, columns: Sequence[str]) -> str:
    """Return the name of the type that all columns' numbers have, or raise `FullrankError`."""
    kinds: dict[str, str] = {}  # of each type, the first column
    for name in columns:
        kind = schema.field(name).type
        kind = str(kind.value_type if _is_list_of_numbers(kind) else kind)
        kinds.setdefault(_NAMES.get(kind, kind), name)
    if len(kinds) > 1:
        found = ", ".join(f"{name!r} is {kind}" for kind, name in kinds.items())
        do = "convert all columns to one, or drop those that are no features"
        raise FullrankError(f"{path} mixes types ({found}), and a spectrum has one: {do}")
    return next(iter(kinds))


def _is_list(kind: Any) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _is_number(kind: Any) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


def _is_list_of_numbers(kind: Any) -> bool:
    return _is_list(kind) and _is_number(kind.value_type)


def _holds_numbers(kind: Any) -> bool:
    """Say whether it is a list of numbers, or one of lists, or a tensor, which need to be pooled first."""
    kind = getattr(kind, "storage_type", kind)
    return _is_list(kind) and (_is_number(kind.value_type) or _holds_numbers(kind.value_type))


def _index_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that pandas wrote its index to."""
    try:
        return [each for each in schema.pandas_metadata["index_columns"] if isinstance(each, str)]
    except (KeyError, TypeError, ValueError):
        return []


def _batches(path: Path, names: Sequence[str], rows: int) -> Iterator[tuple[int, list[pa.Array]]]:
    """Read some columns in batches of at most `rows` rows, each with the number of its first row in the file."""
    start = 0
    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            for batch in file.iter_batches(batch_size=rows, columns=list(names), use_threads=False):
                # by name: the file's order of columns wins over the order asked for
                columns = [batch.column(name) for name in names]
                for name, column in zip(names, columns, strict=True):
                    if column.null_count:
                        row = start + int(np.asarray(column.is_null()).argmax())
                        what = f"has no value in row {row} (null; pandas writes NaN so)"
                        raise FullrankError(f"{path}, column {name!r} {what}: drop the row or fill it")
                yield start, columns
                start += len(batch)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from None


def _list_rows(path: Path, name: str, column: pa.Array, width: int, start: int) -> np.ndarray:
    """Return a batch of a column of lists as `(n, width)`; `start` is its first row's number in the file."""
    lengths = np.asarray(pc.list_value_length(column))
    if (lengths != width).any():
        row = int((lengths != width).argmax())
        what = f"has {lengths[row]} numbers in row {start + row} and {width} in row 0"
        raise FullrankError(f"{path}, column {name!r} {what}: pool each row of the matrix to one length")
    values = column.flatten()
    if values.null_count:
        row, place = divmod(int(np.asarray(values.is_null()).argmax()), width)
        what = f"lacks number {place} of row {start + row} (null)"
        raise FullrankError(f"{path}, column {name!r} {what}: drop the row or fill it")
    return values.to_numpy(zero_copy_only=False).reshape(-1, width)
