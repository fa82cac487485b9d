"""Labels: columns of them, and the one rule by which those of two sets are matched.

The labels of a set are numbers, names, or numbers that have names:

* class folders and columns of text have names, numbered here in alphabetical order, which means nothing;
* columns of integers, truth values, whole floats or whole decimals are numbers;
* Hugging Face's `ClassLabel` and torchvision's sets are numbers, and say which name each has.

`match_labels` matches two sets by name where both have names; by number where both are numbers (of which one may have
names); and names of digits alone against numbers by what they say: "10" is 10. Anything else is refused.

NaN, null, empty text and -1 mean that an image has no label. A column that holds no classes (shares, lists, dates,
other negative numbers) is left out, and that is said.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from fullrank.errors import FullrankError
from fullrank.text import few

if TYPE_CHECKING:
    from fullrank.data.images import Images


class Labels(NamedTuple):
    """The labels of a set, or of a part of it."""

    values: np.ndarray  # `(N,)` int64, -1 for an image that has none
    classes: tuple[str, ...] | None  # the names of 0, 1, ..., where they have names
    numbered: bool  # whether the numbers are the set's own, not made here from names


def match_labels(images: Images, reference: Images) -> Tensor | None:
    """Return the labels of one set, the held-out images, in the numbers of another; -1 where an image has none.

    An image of a class that the other set does not have gets a number that the other set does not have either, so that
    it is never classified right; were it left out, an accuracy would rise as training images lose classes.

    Raises:
        FullrankError: One set has names and the other numbers.
    """
    if images.labels is None or reference.labels is None or not bool((images.labels >= 0).any()):
        return images.labels
    if images.classes is None and reference.classes is None:
        return images.labels
    if images.classes is not None and reference.classes is not None:
        ours: Sequence[Any] = [_plain(name) for name in images.classes]
        theirs: dict[Any, int] = {_plain(name): index for index, name in enumerate(reference.classes)}
    else:
        named, other = (images, reference) if images.classes is not None else (reference, images)
        assert named.classes is not None
        numbers = [int(name) if name.isascii() and name.isdigit() else None for name in named.classes]
        if None in numbers or len(set(numbers)) < len(numbers) or max(n for n in numbers if n is not None) >= 2**62:
            if images.numbered and reference.numbered:
                return images.labels
            raise FullrankError(
                f"the labels of {named.name} are names ({few(named.classes)}) and those of {other.name} numbers "
                f"({few(_numbers(other))}), which cannot be matched: give both names, or both numbers"
            )
        if images.numbered and reference.numbered:
            seen = _numbers(other)
            differ = any(number >= len(numbers) or numbers[number] != number for number in seen)
            as_numbers, as_names = max(seen, default=-1) < len(numbers), set(seen) <= set(numbers)
            if differ and as_numbers and as_names:
                raise FullrankError(
                    f"the labels of {other.name} ({few(seen)}) may be the numbers of the classes of {named.name}, or "
                    f"their names ({few(named.classes)}), which are other classes: give both sets the names"
                )
            if as_numbers and not as_names:
                return images.labels
        if named is reference:
            ours, theirs = _numbers(other), {number: index for index, number in enumerate(numbers)}
        else:
            ours, theirs = numbers, {number: number for number in _numbers(other)}
    unknown = 1 + max(int(reference.labels.max()), len(reference.classes or ()) - 1)
    found = torch.tensor([theirs.get(each, unknown) for each in ours], dtype=torch.int64)
    place = images.labels if images.classes is not None else torch.searchsorted(torch.tensor(ours), images.labels)
    return torch.where(images.labels < 0, -1, found[place.clamp(min=0)])


def _numbers(images: Images) -> list[int]:
    """Return the different labels, ascending, without -1."""
    assert images.labels is not None
    return [number for number in images.labels.unique().tolist() if number >= 0]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)  # some systems write accents apart


def read_labels(column: Any, names: Sequence[str] | None, where: str) -> Labels | None:
    """Turn a pyarrow column, called `where`, into labels; None where it holds no classes, which is said.

    `names` are those of its numbers, where the file states them.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if pa.types.is_null(kind):
        return None
    if str(kind) in ("string", "large_string", "string_view"):
        return name_classes([value or "" for value in column.to_pylist()])
    try:
        values = _whole(column, kind)
    except ValueError as error:
        print(f"{where}: {error}: its images are taken without labels", file=sys.stderr)
        return None
    missing = int((values == -1).sum())
    if 0 < missing < len(values):
        print(f"{where}: {missing} of {len(values)} images have no label (null or -1)", file=sys.stderr)
    if names and values.max(initial=-1) < len(names) and len(set(names)) == len(names):
        return Labels(values, tuple(names), numbered=True)
    return Labels(values, None, numbered=True)


def _whole(column: Any, kind: Any) -> np.ndarray:
    """Return a column of numbers as int64, missing ones -1; raise `ValueError` where they are no classes."""
    largest = np.iinfo(np.int64).max
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        floats = np.asarray(column.cast(pa.float64()).fill_null(np.nan), dtype=np.float64)
        there = floats[~np.isnan(floats)]
        if not bool(np.isfinite(there).all()) or bool((there != np.rint(there)).any()) or (np.abs(there) > 2**53).any():
            raise ValueError("holds numbers that are not whole")
        values = np.where(np.isnan(floats), -1, floats).astype(np.int64)
    elif pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        if pa.types.is_uint64(kind) and (pc.max(column).as_py() or 0) > largest:
            raise ValueError(f"holds {pc.max(column).as_py()}, which is more than 2^63 - 1")
        values = np.asarray(column.cast(pa.int64()).fill_null(-1), dtype=np.int64)
    else:
        raise ValueError(f"holds {kind}, not numbers or names of classes")
    if (values < -1).any():
        raise ValueError(f"holds {values.min()}, and numbers of classes are at least 0, or -1 for none")
    return values


def name_classes(texts: Sequence[str]) -> Labels:
    """Number names in alphabetical order, as torchvision's `ImageFolder` does; an empty one is none."""
    values = np.array([_plain(text) for text in texts], dtype=str)
    numbers, there = np.full(len(values), -1), values != ""
    classes, numbers[there] = np.unique(values[there], return_inverse=True)
    return Labels(numbers, tuple(classes.tolist()), numbered=False)


def join_labels(parts: Sequence[Labels | None], files: Sequence[str]) -> Labels | None:
    """Put the labels of a set's files together; None where a file has none, which is said where others have."""
    there = [part for part in parts if part is not None]
    if len(there) < len(parts):
        if there:
            missing = files[next(i for i, part in enumerate(parts) if part is None)]
            print(f"{missing} has no labels, so those of the other files are left out", file=sys.stderr)
        return None
    first = {part.numbered: file for file, part in reversed([*zip(files, there, strict=True)])}
    if len(first) > 1:
        named, number = first[False], first[True]
        raise FullrankError(f"the labels of {named} are names and those of {number} numbers: write them alike")
    values = np.concatenate([part.values for part in there])
    if len({part.classes for part in there}) == 1:
        return Labels(values, *there[0][1:])
    if all(part.classes is not None for part in there):  # other numbers for the same names
        return name_classes([(part.classes or ())[each] if each >= 0 else "" for part in there for each in part.values])
    return Labels(values, None, numbered=True)


def class_names(metadata: dict[bytes, bytes] | None, column: str) -> list[str] | None:
    """Return the names that Hugging Face's metadata in a parquet schema give to a column's numbers, if it does."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        names = features[column]["names"]
    except (KeyError, TypeError, ValueError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
