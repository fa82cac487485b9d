"""Image sets of the Hugging Face hub: `hf://owner/name`, or a part of one, `hf://owner/name/folder`.

The parquet files of a split are downloaded once to the hub's own cache (`HF_HOME`), and read as any others. A set that
has none of its own is taken as the hub has converted it. `huggingface_hub` comes with timm.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

from fullrank.data.splits import split_of
from fullrank.errors import FullrankError, reason

_CONVERTED = "refs/convert/parquet"
_PATIENCE = 8  # seconds to wait for the hub to answer
_WANTED = {"train": ("train",), "eval": ("val", "eval", "test", "dev", "held out")}


def download(spec: str, split: str) -> list[Path]:
    """Return the parquet files of one split of a set, or of a folder of it, downloaded where they are not yet.

    `eval` means the validation images, or test images where there are none.
    """
    owner, _, rest = spec.removeprefix("hf://").partition("/")
    name, _, folder = rest.partition("/")
    if not (owner and name):
        raise FullrankError(f"{spec} names no set of the hub: write hf://owner/name")
    repository = f"{owner}/{name}"
    try:
        for revision in (None, _CONVERTED):
            if chosen := _choose(_list(repository, revision), folder, split):
                root = _snapshot(repository, revision, chosen)
                return [root / file for file in chosen]
    except Exception as error:  # the hub's, httpx's or requests': each version raises others
        what = f"{spec} cannot be had from the Hugging Face hub ({reason(error)})"
        do = "check the name and the network, `hf auth login` if the set is gated, or give parquet files that are here"
        raise FullrankError(f"{what}: {do}") from None
    raise FullrankError(f"{spec} has no parquet files of the split {split}{' there' if folder else ''}: give others")


def _list(repository: str, revision: str | None) -> list[str]:
    """Return the files of a set; of its copy here where the hub cannot be reached."""
    try:
        found = HfApi().dataset_info(repository, revision=revision, timeout=_PATIENCE).siblings
        return [file.rfilename for file in found or ()]
    except HfHubHTTPError:  # the hub has answered
        raise
    except Exception as unreached:
        try:
            root = Path(snapshot_download(repository, repo_type="dataset", revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            raise unreached from None
        return [file.relative_to(root).as_posix() for file in root.rglob("*.parquet")]


def _snapshot(repository: str, revision: str | None, files: list[str]) -> Path:
    return Path(snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=files))


def _choose(files: list[str], folder: str, split: str) -> list[str]:
    """Return the parquet files of a split, sorted; all where none names a split."""
    groups: dict[str, list[str]] = {}
    for file in sorted(files):
        path = PurePosixPath(file)
        if path.suffix == ".parquet" and (not folder or path.is_relative_to(folder)):
            groups.setdefault(split_of(path), []).append(file)
    if list(groups) == [""]:
        return groups[""]
    return next((groups[kind] for kind in _WANTED[split] if kind in groups), [])
