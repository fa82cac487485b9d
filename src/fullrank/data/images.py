"""Image sets: names, folders and parquet files, behind one small interface.

`open_images` takes what a user writes after `--images`:

* `digits`: scikit-learn's 1,797 handwritten digits, 8 x 8; needs no network. Every fifth image is held out.
* `cifar10`, `cifar100`, `stl10`, `places365`: through torchvision, downloaded once where there is a network.
* a folder of class folders (torchvision's `ImageFolder` layout), or a folder of images without labels.
* a parquet file, a folder of them or a pattern such as `data/train-*.parquet`, with Hugging Face's image schema.

Images are uint8 `(3, h, w)`. Labels are optional everywhere; a label of -1 means that this image has none.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fullrank.errors import FullrankError, nearest

Split = Literal["train", "eval"]

NAMES = ("digits", "cifar10", "cifar100", "stl10", "places365")

DEFAULT_ROOT = "~/.cache/fullrank"
"""Where downloaded sets are kept."""

_SPLIT_FOLDERS = {"train", "val", "valid", "validation", "test"}


class UnreadableImageError(FullrankError):
    """Report an image that cannot be decoded, by name."""


class Images(ABC):
    """A sequence of images, some of which may turn out unreadable when they are read.

    Attributes:
        name: What the user called the set.
        labels: `(N,)` int64, or None.
        classes: The names of labels 0, 1, ..., where the set has names; two sets may number them differently.
        size: Rows and columns of every image where that is known without reading them, else None.
        preferred_size: The view size that suits the set, else None.
    """

    name: str
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None
    size: tuple[int, int] | None = None
    preferred_size: int | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Tensor:
        """Decode one image, `(3, h, w)` uint8.

        Raises:
            UnreadableImageError: It cannot be decoded.
        """

    @abstractmethod
    def key(self, index: int) -> str:
        """Return the name of one image, for messages."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a short hash that changes when images are added, removed or reordered."""

    def select(self, indices: Tensor) -> Images:
        """Return the images at `indices`, `(n,)` int64, in that order."""
        return Selection(self, indices)


class Selection(Images):
    """Some of the images of another set."""

    def __init__(self, base: Images, indices: Tensor) -> None:
        self.base = base
        self.indices = indices
        self.name = base.name
        self.labels = None if base.labels is None else base.labels[indices]
        self.classes = base.classes
        self.size = base.size
        self.preferred_size = base.preferred_size

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, index: int) -> Tensor:
        """Decode one image of the selection."""
        return self.base.read(int(self.indices[index]))

    def key(self, index: int) -> str:
        """Return the name that the image has in the whole set."""
        return self.base.key(int(self.indices[index]))

    def fingerprint(self) -> str:
        """Hash the base's fingerprint together with the chosen indices."""
        return _digest(self.base.fingerprint().encode(), self.indices.numpy().tobytes())


class ArrayImages(Images):
    """Images that already lie in memory, `(N, 3, H, W)` uint8."""

    def __init__(self, name: str, pixels: Tensor, labels: Tensor | None, preferred_size: int | None = None) -> None:
        self.name = name
        self.pixels = pixels
        self.labels = labels
        self.size = (pixels.shape[2], pixels.shape[3])
        self.preferred_size = preferred_size

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int) -> Tensor:
        """Return one image."""
        return self.pixels[index]

    def key(self, index: int) -> str:
        """Return the set's name and the index."""
        return f"{self.name}[{index}]"

    def fingerprint(self) -> str:
        """Hash the pixels."""
        return _digest(str(tuple(self.pixels.shape)).encode(), self.pixels.contiguous().numpy())


class FileImages(Images):
    """Image files, decoded when read."""

    def __init__(
        self,
        name: str,
        root: Path,
        paths: Sequence[str],
        labels: Sequence[int] | None,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        self.name = name
        self.root = root
        self.classes = classes
        # one array rather than a million strings: forked workers share it without copying
        prefix = f"{root}{os.sep}"
        self.paths = np.array([os.fsencode(path.removeprefix(prefix)) for path in paths])
        self.labels = None if labels is None else torch.tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> Tensor:
        """Open and decode one file."""
        path = self.root / os.fsdecode(self.paths[index])
        return _decode(path, self.key(index))

    def key(self, index: int) -> str:
        """Return the path."""
        return str(self.root / os.fsdecode(self.paths[index]))

    def fingerprint(self) -> str:
        """Hash the names, relative to the folder, so that a moved folder keeps its fingerprint."""
        return _digest(b"\n".join(self.paths.tolist()))


class ParquetImages(Images):
    """Encoded images in memory, from parquet files with Hugging Face's image schema."""

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        encoded: Any,
        labels: Tensor | None,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        self.name = name
        self.classes = classes
        self.files = files
        self.encoded = encoded  # a pyarrow ChunkedArray of binary: one buffer, shared by forked workers
        self.labels = labels

    def __len__(self) -> int:
        return len(self.encoded)

    def read(self, index: int) -> Tensor:
        """Decode one image."""
        encoded = self.encoded[index].as_py()
        if encoded is None:
            raise UnreadableImageError(f"{self.key(index)} holds no bytes")
        return _decode(io.BytesIO(encoded), self.key(index))

    def key(self, index: int) -> str:
        """Return the set's name and the row."""
        return f"{self.name}, row {index}"

    def fingerprint(self) -> str:
        """Hash the encoded sizes of all images."""
        import pyarrow.compute as pc

        return _digest(np.asarray(pc.binary_length(self.encoded).fill_null(-1)).tobytes())


def open_images(spec: str, *, split: Split = "train", root: str = DEFAULT_ROOT) -> Images:
    """Open an image set.

    Args:
        spec: A name of `NAMES`, a folder, a parquet file, or a pattern of parquet files.
        split: Which part of a named set; a path means all that lies there.
        root: Where downloaded sets are kept.

    Raises:
        FullrankError: There is no such set, nothing in it, it cannot be had without a network, or it is too large to
            hold.
    """
    if spec == "digits":
        return _digits(split)
    if spec in NAMES:
        return _from_torchvision(spec, split, Path(root).expanduser())
    path = Path(spec).expanduser()
    if any(character in spec for character in "*?[") and not path.exists():
        matches = sorted(Path(match) for match in glob.glob(str(path)))
        if not matches:
            raise FullrankError(
                f"no file matches {spec!r}: check the pattern, and quote it so that the shell leaves it alone"
            )
        return _from_parquet(spec, matches)
    if path.is_file():
        if path.suffix != ".parquet":
            raise FullrankError(
                f"{spec} is one file, and not a parquet file: give a folder of images, or .parquet files"
            )
        return _from_parquet(spec, [path])
    if path.is_dir():
        return _from_folder(spec, path)
    raise FullrankError(
        f"no images at {spec!r}: it is neither a path that exists nor a known set{nearest(spec, NAMES)} "
        f"(known: {', '.join(NAMES)}; or a folder of images, or .parquet files)"
    )


def _digits(split: Split) -> Images:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = torch.from_numpy(np.rint(digits.images * (255 / 16)).astype(np.uint8))
    held_out = torch.arange(len(pixels)) % 5 == 4
    chosen = held_out if split == "eval" else ~held_out
    labels = torch.from_numpy(digits.target.astype(np.int64))
    # 8 x 8 pixels are too few for a convolutional encoder's strides, so views are enlarged to 16 x 16
    return ArrayImages(
        "digits", pixels[chosen, None].expand(-1, 3, -1, -1).contiguous(), labels[chosen], preferred_size=16
    )


def _from_torchvision(name: str, split: Split, root: Path) -> Images:
    from torchvision import datasets

    train = split == "train"
    makers: dict[str, Callable[[bool], Any]] = {
        "cifar10": lambda download: datasets.CIFAR10(root, train=train, download=download),
        "cifar100": lambda download: datasets.CIFAR100(root, train=train, download=download),
        "stl10": lambda download: datasets.STL10(root, "train+unlabeled" if train else "test", download=download),
        "places365": lambda download: datasets.Places365(
            str(root / "places365"), "train-standard" if train else "val", small=True, download=download
        ),
    }
    make = makers[name]
    try:
        found = make(False)
    except (RuntimeError, FileNotFoundError):
        print(f"{name} is not in {root} yet: downloading it", flush=True)
        try:
            root.mkdir(parents=True, exist_ok=True)
            found = make(True)
        except (OSError, RuntimeError) as error:  # urllib's URLError is an OSError
            raise FullrankError(
                f"{name} is not in {root} and could not be downloaded ({error}): copy torchvision's files for it "
                f"there from a "
                "machine with a network, or give a folder or .parquet files to --images"
            ) from None
    if name == "places365":
        return FileImages(name, root, [path for path, _ in found.imgs], [label for _, label in found.imgs])
    pixels = torch.from_numpy(np.asarray(found.data))
    if pixels.shape[-1] == 3:  # CIFAR keeps channels last, STL-10 first
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
    labels = torch.as_tensor(np.asarray(found.labels if name == "stl10" else found.targets), dtype=torch.int64)
    return ArrayImages(name, pixels, labels)


def _from_folder(name: str, root: Path) -> Images:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    parquet = sorted(root.glob("*.parquet"))
    if parquet:
        return _from_parquet(name, parquet)
    folders = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    splits = [folder for folder in folders if folder.lower() in _SPLIT_FOLDERS]
    if splits and len(splits) == len(folders):
        raise FullrankError(
            f"{name} holds the splits {', '.join(splits)}, not images: give one of them, such as --images "
            f"{root / splits[0]}"
        )
    found: dict[str, list[str]] = {}
    seen = {os.path.realpath(root)}
    for folder in ["", *folders]:
        top = root / folder
        walk = _walk(top, seen) if folder else [(str(top), [], [e.name for e in top.iterdir() if e.is_file()])]
        paths = [
            os.path.join(where, file)
            for where, _, files in walk
            for file in files
            if file.lower().endswith(IMG_EXTENSIONS) and not file.startswith(".")
        ]
        if paths:
            found[folder] = sorted(paths)
    if not found:
        raise FullrankError(
            f"no images in {name}: expected files ending in {' '.join(IMG_EXTENSIONS)}, in class folders or all in one"
        )
    paths = [path for group in found.values() for path in group]
    # Files beside the class folders belong to no class, and one class says nothing: then the folders are not labels.
    labelled = "" not in found and len(found) > 1
    if "" in found and len(found) > 1:
        print(
            f"{name}: {len(found[''])} images lie beside its folders, so these are not taken for labels",
            file=sys.stderr,
        )
    labels = [label for label, group in enumerate(found.values()) for _ in group] if labelled else None
    return FileImages(name, root, paths, labels, tuple(found) if labelled else None)


def _walk(top: Path, seen: set[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk a folder through symbolic links, but into none that was seen before: a link may lead back up."""
    for where, folders, files in os.walk(top, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield where, folders, files


def _from_parquet(name: str, files: Sequence[Path]) -> Images:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from fullrank.data.memory import available_memory, gigabytes

    encoded, labels = [], []
    total = 0
    try:
        for file in files:
            parquet = pq.ParquetFile(file)
            schema = parquet.schema_arrow
            image = next((column for column in ("image", "img") if column in schema.names), None)
            if image is None or not pa.types.is_struct(schema.field(image).type):
                raise FullrankError(
                    f"{file} has the columns {', '.join(schema.names)}: expected Hugging Face's image schema, a "
                    f"column 'image' "
                    "that holds 'bytes' and 'path'"
                )
            total += sum(parquet.metadata.row_group(i).total_byte_size for i in range(parquet.num_row_groups))
            if total > 0.8 * available_memory():
                raise FullrankError(
                    f"the encoded images in {name} need over {gigabytes(total)} of memory, and "
                    f"{gigabytes(available_memory())} "
                    "are free: unpack them to a folder of image files, which is read as it is needed, or give fewer "
                    "files"
                )
            label = next((column for column in ("label", "fine_label") if column in schema.names), None)
            table = parquet.read([image, *([label] if label else [])])
            encoded.append(pc.struct_field(table[image], "bytes"))
            labels.append(_labels(table[label]) if label else None)
    except (pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, OSError) as error:
        raise FullrankError(f"{file} cannot be read as parquet: {str(error).splitlines()[0]}") from None
    chunks = [chunk.cast(pa.large_binary()) for column in encoded for chunk in column.chunks]
    if not sum(len(chunk) for chunk in chunks):
        raise FullrankError(f"no images in {name}: its {len(files)} parquet file(s) have no rows")
    found, classes = None, None
    if all(column is not None for column in labels):
        values = np.concatenate([column for column in labels if column is not None])
        if values.dtype.kind != "i":  # names: numbered in alphabetical order, as ImageFolder does
            named = values != ""
            numbers = np.full(len(values), -1)
            names, numbers[named] = np.unique(values[named], return_inverse=True)
            classes, values = tuple(names.tolist()), numbers
        found = torch.from_numpy(values.astype(np.int64))
    return ParquetImages(name, files, pa.chunked_array(chunks), found, classes)


def match_labels(images: Images, reference: Images) -> Tensor | None:
    """Return the labels of one set in the numbers of another, by the classes' names; -1 for a class it does not have.

    Sets without names, or with the same ones, keep their numbers.
    """
    if images.labels is None or images.classes is None or reference.classes is None:
        return images.labels
    number = {name: index for index, name in enumerate(reference.classes)}
    table = torch.tensor([*(number.get(name, -1) for name in images.classes), -1])  # the last row is for -1
    return table[images.labels]


def _labels(column: Any) -> np.ndarray:
    """Return a column of labels as int64, missing ones -1, or as text, missing ones empty."""
    import pyarrow as pa

    if pa.types.is_integer(column.type):
        return np.asarray(column.fill_null(-1)).astype(np.int64)
    return np.array(["" if value is None else str(value) for value in column.to_pylist()])


def _decode(file: Path | io.BytesIO, key: str) -> Tensor:
    try:
        with Image.open(file) as image:
            pixels = np.array(image.convert("RGB"))
    # PIL raises these, depending on format and damage; anything else is a fault of ours and should be seen
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise  # the disk or the network failed, not the image: leaving it out would silently change the run
        raise UnreadableImageError(f"{key} cannot be decoded: {error}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _digest(*parts: bytes | np.ndarray) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        view = memoryview(part).cast("B")  # type: ignore[arg-type] # no copy: it may be a whole set
        hashed.update(len(view).to_bytes(8, "little"))
        hashed.update(view)
    return hashed.hexdigest()[:16]
