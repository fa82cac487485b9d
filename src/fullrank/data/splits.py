"""What looks like several splits of one set, and which files are hidden: neither is what a user means by a set.

Folders named train and test (val, valid, dev, eval, ..., with numbers, or beside the same words: `train2017`,
`seg_train` and `seg_test`) are splits; so is one such folder that holds folders of images itself, for a class of that
name (CIFAR-100 has `train`) holds images. Of parquet files, any two that name different splits are.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePath

from fullrank.data.decoding import printable
from fullrank.errors import FullrankError

_KINDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("unlabeled", "unlabelled"), "unlabeled"),
    **dict.fromkeys(("test", "testing"), "test"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("eval", "evaluation"), "eval"),
    **dict.fromkeys(("holdout", "heldout"), "held out"),
    "dev": "dev",
}
_HELD_OUT = ("test", "val", "eval", "dev", "held out")
_SYSTEM = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}


def hidden(name: str) -> bool:
    """Whether a file or folder is a system's own, not a user's: a leading dot, or what archives and servers leave."""
    return name.startswith(".") or name.lower() in _SYSTEM


def _kind(name: str) -> tuple[str, str] | None:
    """Return which split a name names, and the other words of it; None where it names none."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").lower()  # trainA, TestData
    name = re.sub(r"held[- ]out", "heldout", name)
    name = re.sub(r"\b(train|training|test|testing|val|valid|validation|dev|eval)(sets?|data|images)\b", r"\1 \2", name)
    words = re.findall("[a-z]+", name)
    kinds = [word for word in words if word in _KINDS]
    return (_KINDS[kinds[0]], " ".join(word for word in words if word != kinds[0])) if kinds else None


def split_of(file: PurePath) -> str:
    """Return the split that a relative path names, by the file's name or a folder's; an empty string where none."""
    parts = [file.stem, *reversed(file.parent.parts)]
    return next((found[0] for part in parts if (found := _kind(part))), "")


def check_rows(values: Sequence[str], shown: str) -> None:
    """Raise `FullrankError` where the rows of one file are of several splits, as a column of it says."""
    found = {kind[0]: value for value in values if (kind := _kind(value))}
    if len(found) > 1:
        splits = ", ".join(map(printable, sorted(found.values())))
        raise FullrankError(f"{shown} holds rows of the splits {splits}: write one file for each, and give one of them")


def check_folders(
    name: str, root: Path, tree: Mapping[str, Collection[str]], images: Collection[str], flag: str
) -> None:
    """Raise `FullrankError` where a folder of images looks like several splits, or like one among other folders.

    Paths are relative to `root`: `tree` has the names of each folder's folders, its own under "", and `images` those
    that hold images themselves. `flag` is what the set is given to.
    """
    for folder, children in sorted(tree.items()):
        kinds = {child: found for child in sorted(children) if (found := _kind(child))}
        exact = [child for child, (_, rest) in kinds.items() if not rest]
        splits = [
            child
            for child, (kind, rest) in kinds.items()
            if any(other != kind and words == rest for other, words in kinds.values())
        ]
        if not splits and (folder == "" or len(children) > 1):
            nested = [c for c in exact if tree.get(os.path.join(folder, c)) and os.path.join(folder, c) not in images]
            splits = exact if folder == "" and len(exact) == len(children) else nested
        if splits:
            chosen = _choose({child: kinds[child][0] for child in splits}, flag)
            where = printable(name) if folder == "" else f"{printable(name)}, in {printable(folder)},"
            what = f"holds the splits {', '.join(map(printable, splits))}, not images"
            one = shlex.quote(printable(root / folder / chosen))
            raise FullrankError(f"{where} {what}: give one of them, such as {flag} {one}")


def check_files(name: str, files: Sequence[Path], flag: str) -> None:
    """Raise `FullrankError` where two parquet files name different splits, or only some name one to be held out."""
    common = os.path.commonpath([str(file.parent) for file in files])
    by_kind: dict[str, list[Path]] = {}
    for file in files:
        by_kind.setdefault(split_of(file.relative_to(common)), []).append(file)
    if len(by_kind) < 2 or ("" in by_kind and len(by_kind) == 2 and not set(by_kind) & set(_HELD_OUT)):
        return
    named = {kind: group for kind, group in by_kind.items() if kind}
    chosen = named[_choose({kind: kind for kind in named}, flag)]
    shown = ", ".join(printable(group[0].name) for group in by_kind.values())
    what, one = f"holds the files of several splits ({shown})", shlex.quote(printable(_pattern(chosen, files)))
    raise FullrankError(f"{printable(name)} {what}: give one of them, such as {flag} {one}")


def _choose(kinds: Mapping[str, str], flag: str) -> str:
    """Return the split that is most likely meant."""
    wanted = ("train",) if flag == "--images" else _HELD_OUT
    return next((child for kind in wanted for child, own in kinds.items() if own == kind), next(iter(kinds)))


def _pattern(chosen: Sequence[Path], files: Sequence[Path]) -> str:
    """Return a path or a pattern that means some files and no others; the first of them where there is none."""
    if len(chosen) > 1:
        start = os.path.commonprefix([str(file) for file in chosen])  # noqa: RUF071 - of characters
        if sum(str(file).startswith(start) for file in files) == len(chosen):
            return f"{glob.escape(start)}*{chosen[0].suffix}"
        if len({file.parent for file in chosen}) == 1 and chosen[0].parent != files[0].parent:
            return str(chosen[0].parent)
    return str(chosen[0])


def glob_files(pattern: str) -> list[Path]:
    """Return the visible files that match a pattern, sorted; what exists of its path means itself, brackets and all."""
    path, rest = Path(pattern), []
    while not path.exists() and path != path.parent:
        rest.append(path.name)
        path = path.parent
    found = glob.glob(os.path.join(glob.escape(str(path)), *reversed(rest)))
    return sorted(Path(match) for match in found if not hidden(Path(match).name))


def list_shards(pattern: str) -> list[Path]:
    """Return the files that a pattern with braces names, as a shell's: `{000..146}`, `{a,b}`; all must exist."""
    files = [Path(each) for each in _expand(pattern)]
    missing = [printable(file) for file in files if not file.is_file()]
    if missing:
        raise FullrankError(f"{len(missing)} of {len(files)} files of {printable(pattern)} are missing: {missing[0]}")
    return files


def _expand(pattern: str) -> list[str]:
    found = re.search(r"\{([^{}]*)\}", pattern)
    if found is None:
        return [pattern]
    first, dots, last = found[1].partition("..")
    numbers = dots and first.isdecimal() and last.isdecimal() and len(last) < 8
    parts = [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)] if numbers else found[1].split(",")
    return [each for part in parts for each in _expand(pattern[: found.start()] + part + pattern[found.end() :])]
