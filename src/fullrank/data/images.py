"""Image sets: names, folders, parquet files and datasets, behind one small interface.

`open_images` takes what a user writes after `--images`:

* the name of a registered source: `digits`, `cifar10`, ... (`fullrank.data.sources`), or one of your own.
* a folder of class folders (torchvision's `ImageFolder` layout), or a folder of images without labels.
* a parquet file, a folder of them or a pattern such as `data/train-*.parquet`, with Hugging Face's image schema
  (`parquet`); `hf://owner/name`, such a set on the Hugging Face hub (`hub`).
* WebDataset's tar shards: one, a folder, a pattern or `data/{000..146}.tar` (`shards`).

From Python it takes a torch `Dataset` or a Hugging Face `datasets.Dataset` too (`DatasetImages`).

Images are uint8 `(3, h, w)`; `decoding` says how others become so. Labels are optional everywhere; a label of -1 means
that this image has none, and `labels` says how those of two sets are matched.

Hidden files and folders, at any depth, are no images; what looks like several splits is refused (`splits`). A literal
path that exists is that path, whatever brackets and stars are in it.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import shlex
import sys
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from fullrank.data.decoding import Smaller, ahead, decode_file, printable, to_pixels, unreadable, whole
from fullrank.data.decoding import UnreadableImageError as UnreadableImageError
from fullrank.data.kept import Kept
from fullrank.data.labels import Labels, name_classes, read_labels
from fullrank.data.labels import match_labels as match_labels
from fullrank.data.memory import cores
from fullrank.data.randomness import Purpose, permutation
from fullrank.data.splits import check_files, check_folders, glob_files, hidden, list_shards
from fullrank.errors import FullrankError, choose, nearest
from fullrank.registry import SOURCES
from fullrank.text import expanded, listing

Split = Literal["train", "eval"]

# pictures that are no images in a folder, as in torchvision's, of which nobody would know
_OTHER_PICTURES = (".gif", ".jfif", ".jpe", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".tga", ".svg")
LARGE = (".parquet", ".tar")  # files that hold many images
IMAGE_COLUMNS, LABEL_COLUMNS = ("image", "img"), ("label", "labels", "fine_label")
DEFAULT_ROOT = "~/.cache/fullrank"  # where downloaded sets are kept
SAMPLE_SEED = 0  # of every sample of images that is measured or looked at: the same in every run, whatever its seed
SAMPLED = f"at random, seed {SAMPLE_SEED}"  # what a protocol says of such a sample
HASHED = 256  # images whose contents a fingerprint looks at
SEEN = "are the training images, of which each is its own nearest neighbor"  # said of held-out images
_MANY = 10_000
_ONE_AT_A_TIME = threading.RLock()  # torch promises nobody that a dataset may be read by several threads


class NoSplitError(FullrankError):
    """Report a source that has no held-out images."""


def sample(indices: Tensor, wanted: int) -> Tensor:
    """Return `wanted` of the indices at random, ascending, or all of them.

    Samples are nested: a larger one of the same indices contains a smaller one.
    """
    if wanted >= len(indices):
        return indices
    chosen = permutation(SAMPLE_SEED, Purpose.SAMPLE, 0, 0, len(indices))[:wanted]
    return indices[torch.from_numpy(np.sort(chosen))]


def in_common(fingerprints: Sequence[str]) -> list[str]:
    """Cut fingerprints to what all of them state, so that those of before, which say nothing of contents, compare.

    Those of two sets, joined by " / ", are cut one by one.

    >>> in_common(["38422ec901b53ebf", "38422ec901b53ebf-09edb0590630c4e0"])
    ['38422ec901b53ebf', '38422ec901b53ebf']
    """
    sets = [fingerprint.split(" / ") for fingerprint in fingerprints]
    if len({len(each) for each in sets}) > 1:
        return list(fingerprints)
    cut = [any("-" not in own for own in column) for column in zip(*sets, strict=True)]
    return [
        " / ".join(own.split("-")[0] if short else own for own, short in zip(each, cut, strict=True)) for each in sets
    ]


def same_images(one: str, other: str) -> bool:
    """Whether two fingerprints are of the same images, as far as both say."""
    return len(set(in_common([one, other]))) == 1


@dataclass(eq=False, repr=False)
class Images(ABC):
    """A sequence of images, some of which may turn out unreadable when they are read.

    A subclass says how to `read` an image; or how to `read_smaller`, where small ones are quicker to decode.
    """

    name: str  # what the user called the set
    labels: Tensor | None = None  # `(N,)` int64; None where there are none
    classes: tuple[str, ...] | None = None  # names of labels 0, 1, ..., if any; another set may number them otherwise
    _: KW_ONLY
    numbered: bool = True  # whether the labels are the set's own numbers; else they were made here from names
    size: tuple[int, int] | None = None  # rows and columns of every image, where known without reading them
    preferred_size: int | None = None  # the view size that suits the set
    footprint: str = ""  # what encoded images take, and where, such as `1.5 GB on disk`; empty where none are kept

    def label(self, labels: Labels | None) -> None:
        """Take labels, their names, and whether they are numbers of the set's own."""
        if labels is not None:
            self.labels, self.classes = torch.tensor(labels.values), labels.classes
            self.numbered = labels.numbered

    @abstractmethod
    def __len__(self) -> int: ...

    def read(self, index: int) -> Tensor:
        """Decode one image, `(3, h, w)` uint8, or raise `UnreadableImageError`."""
        return self.read_smaller(index, whole).image

    def read_smaller(self, index: int, most: Callable[[int, int], int]) -> Smaller:
        """Decode one image, smaller where that is quicker: `most` tells by how much, see `decode_file`."""
        image = self.read(index)
        return Smaller(image, image.shape[1], image.shape[2], 1)

    def key(self, index: int) -> str:
        """Return the name of one image, for messages."""
        return f"{self.name}[{index}]"

    @abstractmethod
    def listing(self) -> str:
        """Return a short hash that changes when images are added, removed or reordered."""

    def contents(self) -> str:
        """Return a short hash of what the images show, where `listing` does not say it; else an empty string."""
        return ""

    def fingerprint(self) -> str:
        """Return what images are recognized by: `listing`, and after a dash `contents`, which runs of before lack."""
        return "-".join(part for part in (self.listing(), self.contents()) if part)

    def select(self, indices: Tensor) -> Images:
        """Return the images at `indices`, `(n,)` int64, in that order."""
        return Selection(self, indices)


class Derived(Images):
    """Another set in another form: all that is not said anew is that set's."""

    def __init__(self, base: Images) -> None:
        self.base = base
        super().__init__(**{each.name: getattr(base, each.name) for each in fields(Images)})

    def __len__(self) -> int:
        return len(self.base)

    def key(self, index: int) -> str:
        """Return the name that the image has in the other set."""
        return self.base.key(index)

    def listing(self) -> str:
        """Return the other set's."""
        return self.base.listing()

    def contents(self) -> str:
        """Return the other set's."""
        return self.base.contents()


class Selection(Derived):
    """Some of the images of another set."""

    def __init__(self, base: Images, indices: Tensor) -> None:
        super().__init__(base)
        self.indices = indices
        self.labels = None if base.labels is None else base.labels[indices]

    def __len__(self) -> int:
        return len(self.indices)

    def read_smaller(self, index: int, most: Callable[[int, int], int]) -> Smaller:
        """Decode one image of the selection."""
        return self.base.read_smaller(int(self.indices[index]), most)

    def key(self, index: int) -> str:
        """Return the name that the image has in the whole set."""
        return self.base.key(int(self.indices[index]))

    def listing(self) -> str:
        """Hash the other set's together with the chosen indices."""
        return digest(self.base.listing().encode(), self.indices.numpy().tobytes())


class ArrayImages(Images):
    """Images that already lie in memory: `(N, 3, H, W)` uint8, or any sizes in one buffer."""

    def __init__(self, name: str, pixels: Tensor | Kept, labels: Tensor | None = None, **about: Any) -> None:
        size = None if isinstance(pixels, Kept) else (pixels.shape[2], pixels.shape[3])
        super().__init__(name, labels, size=size, **about)
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, index: int) -> Tensor:
        """Return one image."""
        return self.pixels[index]

    def listing(self) -> str:
        """Hash the pixels."""
        if isinstance(self.pixels, Kept):
            kept = self.pixels.to(torch.device("cpu"))
            return digest(*(part.contiguous().numpy() for part in (kept.pixels, kept.heights, kept.widths)))
        return digest(str(tuple(self.pixels.shape)).encode(), self.pixels.contiguous().numpy())


class FileImages(Images):
    """Image files, decoded when read."""

    def __init__(self, name: str, root: Path, paths: Sequence[str], labels: Labels | None) -> None:
        super().__init__(name)
        self.label(labels)
        self.root, self._contents = root, ""
        # one array rather than a million strings: forked workers share it without copying
        prefix = f"{root}{os.sep}"
        self.paths = np.array([os.fsencode(path.removeprefix(prefix)) for path in paths])

    def __len__(self) -> int:
        return len(self.paths)

    def read_smaller(self, index: int, most: Callable[[int, int], int]) -> Smaller:
        """Open and decode one file."""
        return decode_file(self.root / os.fsdecode(self.paths[index]), self.key(index), most)

    def key(self, index: int) -> str:
        """Return the path, printable."""
        return printable(self.root / os.fsdecode(self.paths[index]))

    def listing(self) -> str:
        """Hash the names, relative to the folder, so that a moved folder keeps its fingerprint."""
        return digest(b"\n".join(self.paths.tolist()))

    def contents(self) -> str:
        """Hash the sizes of all files, and the bytes of 256 at random."""
        if not self._contents:
            root = os.fsencode(self.root)

            def sizes(first: int) -> list[int]:
                return [_size_of(os.path.join(root, path)) for path in self.paths[first : first + _MANY]]

            def hashed(index: int) -> bytes:
                return _hash_of(os.path.join(root, self.paths[index]))

            # some thousand files for each task, which costs more than to ask for the size of one
            found = [size for part in ahead(sizes, range(0, len(self), _MANY), cores()) for size in part]
            hashes = b"".join(ahead(hashed, sample(torch.arange(len(self)), HASHED).tolist(), cores()))
            self._contents = digest(np.array(found, dtype=np.int64), hashes)
        return self._contents


class DatasetImages(Images):
    """The images of a torch `Dataset`, or a Hugging Face `datasets.Dataset`: anything with a length and items by index.

    An item is an image, a pair of an image and its label, or a dictionary with `image` (or `img`) and perhaps `label`.
    An image is one of PIL's, an array `(H, W)` or `(H, W, C)`, or a tensor `(C, H, W)`: of uint8, or of floats in
    [0, 1]; alpha is left out. An item must be the same each time it is asked for, so leave random transforms out. One
    thread at a time asks for items; worker processes, with `cache=stream`, do it side by side.

    Labels come from the label column of a Hugging Face set, or from an attribute `targets` or `labels`, through
    `target_transform` where there is one, and else from one walk over all items; `classes`, or a `ClassLabel`, names
    them.

    Args:
        dataset: The images.
        name: What to call the set; the name of its class when left out.
    """

    def __init__(self, dataset: Any, name: str | None = None) -> None:
        self.dataset = dataset
        super().__init__(name or type(dataset).__name__)
        if not len(dataset):
            raise FullrankError(f"no images in {self.name}: its length is 0")
        self.label(self._labels())

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> Tensor:
        """Ask for one item, and take its image."""
        with unreadable(self.key(index)):
            image = self._item(index)[0]
            floats = isinstance(image, Tensor) and image.is_floating_point() and image.numel() > 0
            if not (floats and bool(image.isfinite().all())):
                return to_pixels(image)
        try:
            return to_pixels(image)
        except UnreadableImageError as error:  # a fault of the dataset: those that are in [0, 1] are no better
            raise FullrankError(
                f"{self.key(index)} is no image: {error}. Leave normalization out of the dataset; or give batches, "
                "such as a DataLoader's, to a network that takes them as they are"
            ) from None

    def listing(self) -> str:
        """Hash the length and the labels."""
        labels = b"" if self.labels is None else self.labels.numpy().tobytes()
        return digest(str(len(self)).encode(), labels)

    def contents(self) -> str:
        """Hash the pixels of 256 images at random."""
        hashed = []
        for index in sample(torch.arange(len(self)), HASHED).tolist():
            with suppress(UnreadableImageError):
                pixels = self.read(index)
                hashed.append(digest(str((index, *pixels.shape)).encode(), pixels.contiguous().numpy()).encode())
        return digest(*hashed)

    def _item(self, index: int) -> tuple[Any, Any]:
        """Return an item's image and label, None for none."""
        with _ONE_AT_A_TIME:
            item = self.dataset[index]
        if isinstance(item, Mapping):
            image, label = (next((each for each in of if each in item), None) for of in (IMAGE_COLUMNS, LABEL_COLUMNS))
            if image is None:
                raise FullrankError(f"it has {', '.join(map(str, item))}, and no 'image'")
            return item[image], item.get(label)
        return (*item[:2], None)[:2] if isinstance(item, (tuple, list)) else (item, None)

    def _labels(self) -> Labels | None:
        columns, names = (getattr(self.dataset, name, None) for name in ("features", "classes"))
        if isinstance(columns, Mapping):  # of a Hugging Face set
            column = next((each for each in LABEL_COLUMNS if each in columns), None)
            names = getattr(columns.get(column), "names", None)
            values = None if column is None else list(self.dataset[column])
        else:
            there = (getattr(self.dataset, each, None) for each in ("targets", "labels"))
            found = next((each for each in there if isinstance(each, Collection) and len(each) == len(self)), None)
            values = self._walk() if found is None else list(found)
            change = getattr(self.dataset, "target_transform", None)
            if found is not None and change is not None:  # the names are of the labels before
                values, names = [change(value) for value in found], None
        if values is None:
            return None
        try:
            column = pa.chunked_array([pa.array([_plain(value) for value in values])])
        except (pa.ArrowException, TypeError, OverflowError) as error:
            raise FullrankError(f"the labels of {self.name} are no column of one type: {error}") from None
        return read_labels(column, list(names) if names is not None else None, f"{self.name}, labels")

    def _walk(self) -> list[Any] | None:
        """Ask for all items, and return their labels; None where the first item that can be had has none."""
        labels: list[Any] = []
        for index in range(len(self)):
            try:
                labels.append(self._item(index)[1])
            except Exception:  # as unreadable as it will be when its image is asked for
                labels.append(None)
                continue
            if labels[-1] is None and not any(label is not None for label in labels):
                return None
            if index == 0 and len(self) > _MANY:
                print(f"{self.name}: reading {len(self):,} items for their labels; `targets` saves it", file=sys.stderr)
        return labels


def _plain(label: Any) -> Any:
    """Return a label as Python has it: one number where it is one, in however many brackets, else lists of them."""
    if not isinstance(label, (Tensor, np.ndarray, np.generic)):
        return label
    return label.item() if math.prod(label.shape) == 1 else label.tolist()


def open_images(spec: Any, *, split: Split = "train", root: str = DEFAULT_ROOT) -> Images:
    """Open an image set.

    Args:
        spec: What the module names.
        split: Which part of a source; a path or a dataset means all that there is. What is trained on in a single class
            folder has no labels, what is held out has.
        root: Where downloaded sets and the indices of large ones are kept.

    Raises:
        NoSplitError: The source has no such split.
        FullrankError: There is no such set, nothing in it, it cannot be had without a network, or it looks like
            several splits.
    """
    choose("split", split, get_args(Split))
    if not isinstance(spec, str):
        return _from_object(spec)
    if not spec.strip():
        raise FullrankError("the name of the images is empty: name a set, a folder or parquet files")
    if spec in SOURCES:
        if split == "train" and Path(spec).is_dir():
            print(f"images: the set {spec} is taken, and not the folder; give ./{spec} for that", file=sys.stderr)
        try:
            found = SOURCES[spec](split, root)
        except (FullrankError, OSError):
            raise
        except Exception as error:  # it is anybody's code
            what = " ".join(f"{type(error).__name__}: {error}".split())
            raise FullrankError(f"the source of images {spec!r} failed for its split {split!r}: {what}") from error
        if found is None:
            raise NoSplitError(f"{spec} has no images of the split {split!r}: give others")
        return _from_object(found, spec)
    if spec.startswith("hf://"):
        from fullrank.data.hub import download

        return _from_files(spec, download(spec, split), root)
    path, shown = expanded(spec), printable(spec)
    flag = "--images" if split == "train" else "--eval-images"
    try:
        if path.is_file():
            if path.suffix not in LARGE:
                what = f"{shown} is one file, and not a parquet file or a tar shard"
                raise FullrankError(f"{what}: give a folder of images, or .parquet or .tar files")
            return _from_files(shown, [path], root)
        if path.is_dir():
            return _from_folder(shown, path, flag, root)
        if "{" in spec and "}" in spec:
            return _from_files(shown, list_shards(str(path)), root)
        if any(character in spec for character in "*?["):
            if not (matches := glob_files(str(path))):
                raise FullrankError(f"no file matches {shown!r}: check the pattern, and quote it for the shell")
            check_files(shown, matches, flag)
            return _from_files(shown, matches, root)
    except (PermissionError, NotADirectoryError) as error:
        raise FullrankError(f"cannot read the images at {shown}: {error.strerror}") from None
    except (OSError, ValueError) as error:  # what no path can be: too long, or with a NUL in it
        if "\0" not in spec and getattr(error, "errno", None) != errno.ENAMETOOLONG:
            raise
    raise FullrankError(
        f"no images at {shown!r}: it is neither a path that exists nor a known set{nearest(spec, SOURCES)} "
        f"(known: {', '.join(SOURCES)}; or a folder of images, or .parquet or .tar files)"
    )


def _from_object(found: Any, name: str | None = None) -> Images:
    if isinstance(found, Images):
        return found
    if isinstance(found, Mapping):
        raise FullrankError(f"the images are a dictionary ({', '.join(map(str, found))}): give one of its sets")
    if not (hasattr(found, "__len__") and hasattr(found, "__getitem__")):
        what = f"a name, a path, or a dataset with a length and items by index, got {type(found).__name__}"
        raise FullrankError(f"images are {what}; an encoder also takes batches, as a DataLoader makes them")
    return DatasetImages(found, name)


def _from_folder(name: str, root: Path, flag: str, cache: str) -> Images:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    large = sorted(path for kind in LARGE for path in root.glob(f"*{kind}") if not hidden(path.name))
    others: Counter[str] = Counter()
    found: dict[str, list[str]] = {}
    tree: dict[str, list[str]] = {}
    holding, elsewhere = set(), []
    for where, folders, files in _walk(root):
        below = os.path.relpath(where, root) if where != str(root) else ""
        tree[below] = folders
        pictures = [file for file in files if file.lower().endswith(IMG_EXTENSIONS) and not file.startswith(".")]
        suffixes = (Path(file).suffix.lower() for file in files if not file.startswith("."))
        others.update(kind for kind in suffixes if kind in (*_OTHER_PICTURES, *LARGE))
        if pictures:
            holding.add(below)
            found.setdefault(below.split(os.sep)[0], []).extend(os.path.join(where, file) for file in pictures)
        elif any(file.lower().endswith(LARGE) for file in files):
            elsewhere.append(where)
    if large:
        forms = Counter(f"{path.suffix} file" for path in large)
        if len(forms) > 1 or found:
            forms["image file"] += sum(map(len, found.values()))
            held = listing([f"{count:,} {what}{'s' * (count > 1)}" for what, count in forms.items() if count])
            one = shlex.quote(f"{root}/*{large[0].suffix}")
            raise FullrankError(
                f"{name} holds images in several forms ({held}), of which a set has one: give those that are meant, "
                f"such as {flag} {one}, or move the others away"
            )
        check_files(name, large, flag)
        return _from_files(name, large, cache)
    check_folders(name, root, tree, holding, flag)
    kinds = " ".join(IMG_EXTENSIONS)
    if not found:
        what = f"expected files ending in {kinds}, in class folders or all in one"
        if elsewhere:
            what += f"; for its {' or '.join(LARGE)} files give their folder, {flag} {shlex.quote(min(elsewhere))}"
        raise FullrankError(f"no images in {name}: {what}")
    if others:
        counts = listing([f"{count:,} {kind}" for kind, count in sorted(others.items())])
        print(f"{name}: {counts} files are left out: images end in {kinds}", file=sys.stderr)
    found = {folder: sorted(found[folder]) for folder in sorted(found)}
    paths = [path for group in found.values() for path in group]
    # files beside the class folders belong to no class, and one class says nothing, but of images that are held out
    if "" in found and len(found) > 1:
        beside = len(found[""])
        print(f"{name}: {beside} images lie beside its folders, so these are not taken for labels", file=sys.stderr)
    if "" in found or (len(found) == 1 and flag != "--eval-images"):
        return FileImages(name, root, paths, None)
    labels = name_classes([folder for folder, group in found.items() for _ in group])
    return FileImages(name, root, paths, labels)


def _walk(root: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk a folder and what lies below, in order, without what is hidden.

    Symbolic links are followed, but for those that lead back up.
    """
    os.listdir(root)  # raises where it cannot be read, of which os.walk says nothing
    above: dict[str, set[str]] = {}  # of a folder, by its path: what it and those above it really are
    for where, folders, files in os.walk(root, followlinks=True):
        real, up = os.path.realpath(where), above.get(os.path.dirname(where), set())
        run = {"config.yaml", "metrics.jsonl"} <= {*files}  # one of ours, whose pictures are none of a user's set
        if run or real in up:
            folders.clear()
            continue
        above[where] = up | {real}
        folders[:] = sorted(folder for folder in folders if not hidden(folder))
        yield where, folders, files


def _from_files(name: str, files: Sequence[Path], root: str) -> Images:
    """Open parquet files, or tar shards."""
    cache = expanded(root) / "large"
    if all(file.suffix == ".tar" for file in files):
        from fullrank.data.shards import open_shards

        return open_shards(name, files, cache)
    from fullrank.data.parquet import open_parquet

    return open_parquet(name, files, cache)


def _size_of(path: bytes) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # it will be named when it is read
        return -1


def _hash_of(path: bytes) -> bytes:
    try:
        return hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).digest() if os.path.isfile(path) else b""
    except OSError:
        return b""


def digest(*parts: bytes | np.ndarray) -> str:
    """Return a short hash of several parts."""
    hashed = hashlib.sha256()
    for part in parts:
        view = memoryview(part.data if isinstance(part, np.ndarray) else part).cast("B")  # no copy of a whole set
        hashed.update(len(view).to_bytes(8, "little"))
        hashed.update(view)
    return hashed.hexdigest()[:16]
