"""WebDataset's tar shards (https://github.com/webdataset/webdataset), read at random.

Files of one name up to the first dot of their base name belong together: an image (`n01.jpg`, or another of `_IMAGE`)
and its label, `.cls` or `.txt` (a number or a name) or a field `label` or `cls` of a `.json`. So `n01.seg.png` is no
image but a part of n01, and so is `n01.png` beside `n01.jpg`: of several kinds the first in `_IMAGE` is the image, and
the others are said. Texts in `.txt` of which most images have their own, as img2dataset writes them, are captions and
no labels, which is said too; so are lists. A link, as tar writes the second name of a file, is refused. A shard's
headers are read once, to learn where each image lies. Compressed shards cannot be read at random and are refused.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fullrank.data.decoding import printable
from fullrank.data.encoded import StoredImages, indexed
from fullrank.data.labels import read_labels
from fullrank.data.splits import hidden
from fullrank.errors import FullrankError

_IMAGE = ("jpg", "jpeg", "png", "ppm", "bmp", "pgm", "tif", "tiff", "webp")
_LABEL = ("cls", "json", "txt")  # where a label is looked for, the first that is there
_COLUMNS = {"offset": pa.int64(), "length": pa.int64(), "name": pa.string(), "label": pa.string(), "free": pa.bool_()}
_CAPTIONS = 100  # different texts from which on, where most images have their own, they name no classes
_VERSION = 3  # of what `_index` finds, so that an index of before is made anew
_END = bytes(2 * tarfile.BLOCKSIZE)  # what ends an archive that was written to its end


def open_shards(name: str, files: Sequence[Path], cache: Path) -> StoredImages:
    """Open the images in tar shards, in their order; `cache` is the folder of indices."""
    parts = [indexed(file, cache, partial(_index, file), version=_VERSION) for file in files]
    names, texts, free = (
        pa.chunked_array([chunk for part in parts for chunk in part.index.column(column).chunks], _COLUMNS[column])
        for column in ("name", "label", "free")
    )
    if not len(names):
        raise FullrankError(f"no images in {printable(name)}: expected members ending in .{', .'.join(_IMAGE)}")
    labels = None
    if texts.null_count < len(texts):
        with contextlib.suppress(pa.ArrowInvalid):  # they are names
            texts = texts.cast(pa.int64())
        captions = texts.filter(free)
        different = len(captions.unique())
        lists = pa.types.is_string(texts.type) and pc.all(pc.match_substring_regex(texts, r"^[\[{].*[\]}]$")).as_py()
        if lists:
            what = f"labels such as {texts.drop_null()[0].as_py()[:60]!r} are no classes"
            print(f"{printable(name)}: {what}: its images are taken without labels", file=sys.stderr)
        elif pa.types.is_string(texts.type) and different > max(_CAPTIONS, (len(texts) - texts.null_count) / 2):
            what = f"{different:,} texts beside {len(texts):,} images, such as {captions[0].as_py()[:60]!r}"
            print(f"{printable(name)}: {what}, are captions: its images are taken without labels", file=sys.stderr)
        else:
            labels = read_labels(texts, None, printable(name))
    return StoredImages(name, parts, labels, names)


def _index(file: Path, copy: Path) -> Any:
    """Return where each image of a shard lies, its name and its label's text."""
    shown = printable(file)
    images: dict[str, dict[str, tuple[int, int]]] = {}  # of each name, the place of each kind
    others: list[str] = []
    labels: dict[str, dict[str, str]] = {}
    try:
        with tarfile.open(file, "r:") as shard:
            end, twice, linked = 0, "", ""
            for member in shard:
                end = member.offset_data + member.size
                shard.members.clear()  # type: ignore[attr-defined] # tarfile keeps all that it has seen
                if any(hidden(part) for part in member.name.split("/") if part not in (".", "..")):
                    continue
                folder, slash, base = member.name.rpartition("/")
                stem, _, kind = base.partition(".")
                key, kind = folder + slash + stem, kind.lower()
                if member.islnk() or member.issym():
                    linked = member.name if kind in (*_IMAGE, *_LABEL) else linked
                if not member.isfile() or not stem:
                    continue
                if kind in _IMAGE:
                    twice = member.name if kind in images.setdefault(key, {}) else twice
                    images[key][kind] = member.offset_data, member.size
                elif kind in _LABEL:
                    found = shard.extractfile(member)
                    text = found.read() if found else b""
                    twice = member.name if kind in labels.setdefault(key, {}) else twice
                    labels[key][kind] = text.decode("utf-8-sig", "replace").strip()
                elif kind.rpartition(".")[2] in _IMAGE:
                    others.append(member.name)
        with open(file, "rb") as opened:
            opened.seek(-(-end // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE)
            whole = opened.read(len(_END)) == _END
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise FullrankError(f"{shown} cannot be read as a tar shard: {error}") from None
    if not whole:
        raise FullrankError(f"{shown} was cut short: it has no end mark after {len(images)} images: copy it again")
    if twice:
        what = f"{shown} holds {printable(twice)} twice, and nobody knows whose label is whose"
        raise FullrankError(f"{what}: give each image a name of its own, and pack it anew")
    if linked:
        what = f"{shown} holds {printable(linked)} as a link to another file, which is not followed"
        raise FullrankError(f"{what}: pack it anew, with tar --dereference --hard-dereference")
    rows = [(*kinds[min(kinds, key=_IMAGE.index)], key) for key, kinds in images.items()]
    others += [f"{key}.{kind}" for key, kinds in images.items() for kind in sorted(kinds, key=_IMAGE.index)[1:]]
    if others:
        why = "in a tar shard what follows the first dot of a name says what a file is"
        print(f"{shown}: {len(others)} files such as {printable(others[0])} are left out: {why}", file=sys.stderr)
    columns = [*zip(*((*row, *_label(labels.get(row[2], {}))) for row in rows), strict=True)] or [()] * len(_COLUMNS)
    return pa.table({name: pa.array(column, _COLUMNS[name]) for name, column in zip(_COLUMNS, columns, strict=True)})


def _label(texts: dict[str, str]) -> tuple[str | None, bool]:
    """Return a label, and whether it is of a file that may as well hold a caption."""
    kind = next((kind for kind in _LABEL if kind in texts), None)
    if kind != "json":
        return texts.get(kind or ""), kind == "txt"
    try:
        fields = json.loads(texts["json"])
        label = next(fields[field] for field in ("label", "cls") if field in fields)
    except (ValueError, TypeError, StopIteration):
        return texts.get("txt"), "txt" in texts
    if isinstance(label, (bool, float)) and label == label // 1:  # truth values and whole floats are numbers
        label = int(label)
    return None if label is None or label != label else str(label), False
