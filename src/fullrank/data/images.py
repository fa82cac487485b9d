"""Image sets: names, folders and parquet files, behind one small interface.

`open_images` takes what a user writes after `--images`:

* `digits`: scikit-learn's 1,797 handwritten digits, 8 x 8; needs no network. Every fifth image is held out.
* `cifar10`, `cifar100`, `stl10`, `places365`: through torchvision, downloaded once where there is a network.
* a folder of class folders (torchvision's `ImageFolder` layout), or a folder of images without labels.
* a parquet file, a folder of them or a pattern such as `data/train-*.parquet`, with Hugging Face's image schema
  (`parquet`); `hf://owner/name`, such a set on the Hugging Face hub (`hub`).
* WebDataset's tar shards: one, a folder, a pattern or `data/{000..146}.tar` (`shards`).

Images are uint8 `(3, h, w)`; `decoding` says how others become so. Labels are optional everywhere; a label of -1 means
that this image has none, and `labels` says how those of two sets are matched.

Hidden files and folders, at any depth, are no images; what looks like several splits is refused (`splits`). A literal
path that exists is that path, whatever brackets and stars are in it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from fullrank.data.decoding import UnreadableImageError as UnreadableImageError
from fullrank.data.decoding import decode_file, printable
from fullrank.data.labels import match_labels as match_labels
from fullrank.data.randomness import Purpose, permutation
from fullrank.data.splits import check_files, check_folders, glob_files, hidden, list_shards
from fullrank.errors import FullrankError, choose, nearest

Split = Literal["train", "eval"]

NAMES = ("digits", "cifar10", "cifar100", "stl10", "places365")

LARGE = (".parquet", ".tar")
"""Files that hold many images."""

DEFAULT_ROOT = "~/.cache/fullrank"
"""Where downloaded sets are kept."""

SAMPLE_SEED = 0
"""Of every sample of images that is measured or looked at: the same in every run, whatever its seed."""
SAMPLED = f"at random, seed {SAMPLE_SEED}"
"""What a protocol says of such a sample."""

_HASHED = 256
"""Files whose bytes a fingerprint looks at; of the others it takes names and sizes."""


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


class Images(ABC):
    """A sequence of images, some of which may turn out unreadable when they are read.

    Attributes:
        name: What the user called the set.
        labels: `(N,)` int64, or None.
        classes: The names of labels 0, 1, ..., where the set has names; two sets may number them differently.
        numbered: Whether the labels are the set's own numbers; else they were made here from names.
        size: Rows and columns of every image where that is known without reading them, else None.
        preferred_size: The view size that suits the set, else None.
    """

    name: str
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None
    numbered: bool = True
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

    @property
    def encoded_bytes(self) -> int:
        """What encoded images take in memory."""
        return 0

    @property
    def stored_bytes(self) -> int:
        """What encoded images take on disk, where they are read one at a time."""
        return 0

    @abstractmethod
    def listing(self) -> str:
        """Return a short hash that changes when images are added, removed or reordered."""

    def contents(self) -> str:
        """Return a short hash of what the images show, where `listing` does not say it; else an empty string."""
        return ""

    def fingerprint(self) -> str:
        """Return what images are recognised by: `listing`, and after a dash `contents`, which runs of before lack."""
        return "-".join(part for part in (self.listing(), self.contents()) if part)

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
        self.numbered = base.numbered
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

    @property
    def encoded_bytes(self) -> int:
        """What encoded images of the whole set take in memory."""
        return self.base.encoded_bytes

    @property
    def stored_bytes(self) -> int:
        """What encoded images of the whole set take on disk."""
        return self.base.stored_bytes

    def listing(self) -> str:
        """Hash the base's listing together with the chosen indices."""
        return _digest(self.base.listing().encode(), self.indices.numpy().tobytes())

    def contents(self) -> str:
        """Return the base's."""
        return self.base.contents()


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

    def listing(self) -> str:
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
        *,
        numbered: bool = False,
    ) -> None:
        self.name = name
        self.root = root
        self.classes = classes
        self.numbered = numbered
        self._contents = ""
        # one array rather than a million strings: forked workers share it without copying
        prefix = f"{root}{os.sep}"
        self.paths = np.array([os.fsencode(path.removeprefix(prefix)) for path in paths])
        self.labels = None if labels is None else torch.tensor(labels, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> Tensor:
        """Open and decode one file."""
        path = self.root / os.fsdecode(self.paths[index])
        return decode_file(path, self.key(index))

    def key(self, index: int) -> str:
        """Return the path, printable."""
        return printable(self.root / os.fsdecode(self.paths[index]))

    def listing(self) -> str:
        """Hash the names, relative to the folder, so that a moved folder keeps its fingerprint."""
        return _digest(b"\n".join(self.paths.tolist()))

    def contents(self) -> str:
        """Hash the sizes of all files, and the bytes of 256 at random."""
        if not self._contents:
            root = os.fsencode(self.root)
            chosen = sample(torch.arange(len(self)), _HASHED).numpy()
            with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
                sizes = pool.map(_size_of, (os.path.join(root, path) for path in self.paths), chunksize=1024)
                hashes = pool.map(_hash_of, (os.path.join(root, path) for path in self.paths[chosen]))
                self._contents = _digest(np.array(list(sizes), dtype=np.int64), b"".join(hashes))
        return self._contents


def open_images(spec: str, *, split: Split = "train", root: str = DEFAULT_ROOT, former: bool = False) -> Images:
    """Open an image set.

    Args:
        spec: What the module says.
        split: Which part of a named set; a path means all that lies there. What is trained on in a single class folder
            has no labels, what is held out has.
        root: Where downloaded sets and the indices of large ones are kept.
        former: See it as runs did that were started before hidden folders and splits were told.

    Raises:
        FullrankError: There is no such set, nothing in it, it cannot be had without a network, or it looks like
            several splits.
    """
    choose("split", split, get_args(Split))
    if not spec.strip():
        raise FullrankError("the name of the images is empty: name a set, a folder or parquet files")
    if spec == "digits":
        return _digits(split)
    if spec in NAMES:
        return _from_torchvision(spec, split, Path(root).expanduser())
    if spec.startswith("hf://"):
        from fullrank.data.hub import download

        return _from_files(spec, download(spec, split), root)
    path, shown = Path(spec).expanduser(), printable(spec)
    flag = "--images" if split == "train" else "--eval-images"
    try:
        if path.is_file():
            if path.suffix not in LARGE:
                raise FullrankError(
                    f"{shown} is one file, and not a parquet file or a tar shard: give a folder of images, or .parquet "
                    "or .tar files"
                )
            return _from_files(shown, [path], root)
        if path.is_dir():
            return _from_folder(shown, path, flag, root, former=former)
        if "{" in spec and "}" in spec:
            return _from_files(shown, list_shards(str(path)), root)
        if any(character in spec for character in "*?["):
            matches = glob_files(str(path))
            if not matches:
                raise FullrankError(
                    f"no file matches {shown!r}: check the pattern, and quote it so that the shell leaves it alone"
                )
            if not former:
                check_files(shown, matches, flag)
            return _from_files(shown, matches, root)
    except (PermissionError, NotADirectoryError) as error:
        raise FullrankError(f"cannot read the images at {shown}: {error.strerror}") from None
    except (ValueError, OSError) as error:  # a NUL in the path, or a path that is too long
        if isinstance(error, FullrankError) or (isinstance(error, OSError) and path.exists()):
            raise
    raise FullrankError(
        f"no images at {shown!r}: it is neither a path that exists nor a known set{nearest(spec, NAMES)} "
        f"(known: {', '.join(NAMES)}; or a folder of images, or .parquet or .tar files)"
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
        paths, labels = zip(*found.imgs, strict=True)
        return FileImages(name, root, paths, labels, _names_of(found), numbered=True)
    pixels = torch.from_numpy(np.asarray(found.data))
    if pixels.shape[-1] == 3:  # CIFAR keeps channels last, STL-10 first
        pixels = pixels.permute(0, 3, 1, 2).contiguous()
    numbers = torch.as_tensor(np.asarray(found.labels if name == "stl10" else found.targets), dtype=torch.int64)
    images = ArrayImages(name, pixels, numbers)
    images.classes = _names_of(found)
    return images


def _names_of(found: Any) -> tuple[str, ...] | None:
    """Return the class names of a set of torchvision's, which has them."""
    return tuple(getattr(found, "classes", ())) or None


def _from_folder(name: str, root: Path, flag: str, cache: str, *, former: bool) -> Images:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    for kind in LARGE:
        large = sorted(path for path in root.glob(f"*{kind}") if former or not hidden(path.name))
        if large:
            if not former:
                check_files(name, large, flag)
            return _from_files(name, large, cache)
    found: dict[str, list[str]] = {}
    tree: dict[str, list[str]] = {}
    holding = set()
    for where, folders, files in _walk(root, former=former):
        below = os.path.relpath(where, root) if where != str(root) else ""
        tree[below] = folders
        pictures = [file for file in files if file.lower().endswith(IMG_EXTENSIONS) and not file.startswith(".")]
        if pictures:
            holding.add(below)
            top = below.split(os.sep)[0]
            found.setdefault(top, []).extend(os.path.join(where, file) for file in pictures)
    if not former:
        check_folders(name, root, tree, holding, flag)
    if not found:
        raise FullrankError(
            f"no images in {name}: expected files ending in {' '.join(IMG_EXTENSIONS)}, in class folders or all in one"
        )
    found = {folder: sorted(found[folder]) for folder in sorted(found)}
    paths = [path for group in found.values() for path in group]
    # Files beside the class folders belong to no class, and one class says nothing, but of images that are held out:
    # then the folders are not labels.
    labelled = "" not in found and (len(found) > 1 or (flag == "--eval-images" and not former))
    if "" in found and len(found) > 1:
        print(
            f"{name}: {len(found[''])} images lie beside its folders, so these are not taken for labels",
            file=sys.stderr,
        )
    labels = [label for label, group in enumerate(found.values()) for _ in group] if labelled else None
    return FileImages(name, root, paths, labels, tuple(found) if labelled else None, numbered=not labelled)


def _walk(root: Path, *, former: bool) -> Iterator[tuple[str, list[str], list[str]]]:
    """Walk a folder and what lies below, without what is hidden, class folders in their order.

    Symbolic links are followed, but into no folder that was seen before: a link may lead back up.
    """

    def visible(folder: str, depth: int) -> bool:
        return (depth > 0 or not folder.startswith(".")) if former else not hidden(folder)

    own = [entry for entry in os.scandir(root) if not entry.is_dir()]
    tops = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and visible(entry.name, 0))
    yield str(root), tops, [entry.name for entry in own if entry.is_file()]
    seen = {os.path.realpath(root)}
    for top in tops:
        for where, folders, files in os.walk(os.path.join(root, top), followlinks=True):
            real = os.path.realpath(where)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = [folder for folder in folders if visible(folder, 1)]
            yield where, folders, files


def _from_files(name: str, files: Sequence[Path], root: str) -> Images:
    """Open parquet files, or tar shards."""
    cache = Path(root).expanduser() / "large"
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


def _digest(*parts: bytes | np.ndarray) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        view = memoryview(part).cast("B")  # type: ignore[arg-type] # no copy: it may be a whole set
        hashed.update(len(view).to_bytes(8, "little"))
        hashed.update(view)
    return hashed.hexdigest()[:16]
