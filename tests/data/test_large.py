import io
import json
import os
import tarfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fullrank.data import hub, parquet
from fullrank.data import shards as shards_module
from fullrank.data.batches import ViewLoader
from fullrank.data.encoded import HeldImages, StoredImages
from fullrank.data.images import open_images
from fullrank.data.memory import gigabytes
from fullrank.data.order import MultiplePass
from fullrank.data.views import recipe
from fullrank.errors import FullrankError


def encoded(value, kind="png", size=(6, 5)):
    pixels = np.random.default_rng(value).integers(0, 256, (*size, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def write_parquet(path, images, labels):
    rows = pa.array(
        [{"bytes": image, "path": None} for image in images], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    pq.write_table(pa.table({"image": rows, "label": labels}), path, row_group_size=7)


def write_tar(path, members):
    with tarfile.open(path, "w") as shard:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            shard.addfile(about, io.BytesIO(content))


@pytest.fixture
def on_disk(monkeypatch):
    """Every parquet set is too large to hold."""
    monkeypatch.setattr(parquet, "_HELD", 0)


@pytest.fixture
def sets(tmp_path):
    """Two parquet files; image 3 is damaged, image 12 has no bytes."""
    images = [encoded(value) for value in range(20)]
    images[3], images[12] = images[3][:60], None
    write_parquet(tmp_path / "a.parquet", images[:15], list(range(15)))
    write_parquet(tmp_path / "b.parquet", images[15:], [5] * 5)
    return tmp_path


def test_parquet_on_disk_is_the_same_set_as_in_memory(sets, monkeypatch, capsys):
    held = open_images(str(sets))
    monkeypatch.setattr(parquet, "_HELD", 0)
    for copies in (2, 0):  # the second time they are there
        stored = open_images(str(sets), root=str(sets / "cache"))
        assert capsys.readouterr().err.count("once") == copies
        assert isinstance(held, HeldImages)
        assert isinstance(stored, StoredImages)
        assert stored.fingerprint() == held.fingerprint()
        assert stored.labels.tolist() == held.labels.tolist()
        assert stored.footprint == f"{gigabytes(held.lengths.clip(min=0).sum())} on disk"
        for index in range(20):
            assert stored.encoded(index) == held.encoded(index)
            assert stored.key(index) == held.key(index)
    assert len(list((sets / "cache/large").iterdir())) == 4
    write_parquet(sets / "b.parquet", [encoded(1)] * 5, [5] * 5)
    assert open_images(str(sets), root=str(sets / "cache")).encoded(15) == encoded(1)


def test_views_from_disk_are_those_from_memory(sets, monkeypatch):
    held = open_images(str(sets))
    monkeypatch.setattr(parquet, "_HELD", 0)
    stored = open_images(str(sets), root=str(sets / "cache"))
    order = MultiplePass(20, 4, 10)
    loaders = [ViewLoader(i, order, recipe("simsiam"), 8, cache="stream", workers=2) for i in (held, stored)]
    for one, other in zip(*(loader(3) for loader in loaders), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.views[0], other.views[0])
        assert torch.equal(one.views[1], other.views[1])
    assert loaders[0].skipped == loaders[1].skipped != set()


def test_a_disk_that_is_full_is_named(sets, on_disk, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(
        FullrankError, match=r"images of .*a.parquet need .* MB in .*large, and 0.0 MB are free: .*--data-dir"
    ):
        open_images(str(sets), root=str(sets / "cache"))
    assert list((sets / "cache/large").iterdir()) == []


def test_a_file_that_takes_too_much_memory_is_named(sets, monkeypatch):
    def fail(*arguments, **options):
        raise pa.ArrowMemoryError("malloc of size 9999 failed")

    monkeypatch.setattr("pyarrow.parquet.ParquetFile", fail)
    with pytest.raises(
        FullrankError, match="a.parquet does not fit into memory, or is damaged: write smaller row groups"
    ):
        open_images(str(sets))


def test_a_cache_that_cannot_be_written_is_named(sets, on_disk):
    (sets / "file").write_text("")
    with pytest.raises(
        FullrankError, match="large, where the index of large sets is kept, cannot be written: Not a dir"
    ):
        open_images(str(sets), root=str(sets / "file"))


@pytest.fixture
def shards(tmp_path):
    """Three shards of four images; one image is damaged."""
    for shard in range(3):
        members = {}
        for number in range(4):
            value = 4 * shard + number
            image = encoded(value, "jpeg") if value != 6 else b"damaged"
            members |= {
                f"{value:04d}.jpg": image,
                f"{value:04d}.cls": str(value % 3).encode(),
                f"{value:04d}.json": b"{}",
            }
        write_tar(tmp_path / f"{shard:02d}.tar", members)
    return tmp_path


def test_tar_shards(shards):
    cache = str(shards / "cache")
    sets = [
        open_images(spec.format(shards), root=cache)
        for spec in ("{}", "{}/*.tar", "{}/{{00..02}}.tar", "{}/0{{0,1,2}}.tar")
    ]
    assert len({images.fingerprint() for images in sets}) == 1
    images = sets[0]
    assert images.labels.tolist() == [value % 3 for value in range(12)]
    assert images.encoded(9) == encoded(9, "jpeg")
    assert images.key(9) == f"{shards}/02.tar, 0009"
    loader = ViewLoader(images, MultiplePass(12, 4, 3), recipe("simsiam"), 8, cache="stream")
    assert len(list(loader(0))) == 3
    assert loader.skipped == {f"{shards}/01.tar, 0006"}
    assert open_images(str(shards / "00.tar"), root=cache).fingerprint() != images.fingerprint()


@pytest.mark.parametrize(
    ("members", "labels", "classes"),
    [
        (
            {"a.png": 1, "a.txt": b"dog", "b/c.d.png": 2, "c.png": 2, "b.webp": 3, "b.txt": b"cat\n"},
            [1, -1, 0],
            ("cat", "dog"),
        ),
        ({"a.png": 1, "a.json": json.dumps({"label": 4}).encode(), "b.png": 2}, [4, -1], None),
        ({"a.png": 1, "._a.png": b"x", "a.json": b"damaged", "a.txt": b"7"}, [7], None),
        ({"a.PNG": 1, "note.txt": b"7"}, None, None),
        ({"a.png": 1, "a.json": b'{"label": null}', "b.png": 2, "b.json": b'{"label": 3}'}, [-1, 3], None),
        ({"a.png": 1, "a.json": b'{"label": NaN}', "b.png": 2, "b.json": b'{"cls": 3.0}'}, [-1, 3], None),
        ({"a.png": 1, "a.json": b'{"label": true}', "b.png": 2, "b.json": b'{"label": false}'}, [1, 0], None),
        ({"a.png": 1, "a.json": b'{"label": 0.5}'}, [0], ("0.5",)),
        ({"a.png": 1, "a.cls": b"\xef\xbb\xbfdog", "b.png": 2, "b.cls": b"dog"}, [0, 0], ("dog",)),
        ({"a.bmp": 1, "b.tiff": 2, "c.ppm": 3}, None, None),
        ({"./a/b.png": 1, "@eaDir/b.png": 2, "a/.thumbs/b.png": 3, ".b.png": 4}, None, None),
    ],
)
def test_labels_of_tar_shards(tmp_path, members, labels, classes):
    write_tar(
        tmp_path / "x.tar", {n: encoded(v, n.split(".")[-1]) if isinstance(v, int) else v for n, v in members.items()}
    )
    images = open_images(str(tmp_path / "x.tar"), root=str(tmp_path))
    seen = [name for name in members if name.split(".")[-1].lower() not in ("txt", "json", "cls")]
    assert len(images) == len([name for name in seen if not name.startswith((".b", "._", "@", "a/.", "b/c.d"))])
    assert (None if images.labels is None else images.labels.tolist()) == labels
    assert images.classes == classes
    assert all(images.read(index).shape == (3, 6, 5) for index in range(len(images)))


def test_parts_of_images_in_tar_shards_are_left_out_and_that_is_said(tmp_path, capsys):
    write_tar(tmp_path / "x.tar", {"a.png": encoded(1), "a.seg.png": encoded(2), "b.v1.png": encoded(3)})
    assert len(open_images(str(tmp_path / "x.tar"), root=str(tmp_path))) == 1
    assert "x.tar: 2 files such as a.seg.png are left out" in capsys.readouterr().err


def test_a_mask_beside_an_image_in_tar_shards_is_no_image(tmp_path, capsys):
    members = {f"{name}.{kind}": encoded(value) for name in "ab" for kind, value in (("png", 9), ("jpg", 1))}
    write_tar(tmp_path / "x.tar", {**members, "a.cls": b"0", "b.cls": b"1"})
    images = open_images(str(tmp_path / "x.tar"), root=str(tmp_path))
    assert [images.encoded(index) for index in range(len(images))] == [encoded(1)] * 2
    assert "x.tar: 2 files such as a.png are left out" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
@pytest.mark.parametrize("name", ["b.png", "a.cls"])
def test_a_link_in_a_tar_shard_is_an_error(tmp_path, kind, name):
    """tar writes the second name of a file as a link: that image was left out, or its label."""
    write_tar(tmp_path / "x.tar", {"a.png": encoded(1)})
    with tarfile.open(tmp_path / "x.tar", "a") as shard:
        link = tarfile.TarInfo(name)
        link.type, link.linkname = kind, "a.png"
        shard.addfile(link)
    with pytest.raises(FullrankError, match=f"x.tar holds {name} as a link.*: .*--dereference --hard-dereference"):
        open_images(str(tmp_path / "x.tar"), root=str(tmp_path))


def test_lists_in_tar_shards_are_no_classes(tmp_path, capsys):
    labels = {f"{i}.json": json.dumps({"label": [i % 2, 3]}).encode() for i in range(4)}
    write_tar(tmp_path / "x.tar", {f"{i}.png": encoded(i) for i in range(4)} | labels)
    assert open_images(str(tmp_path / "x.tar"), root=str(tmp_path)).labels is None
    assert "x.tar: labels such as '[0, 3]' are no classes: its images are taken without" in capsys.readouterr().err


@pytest.mark.parametrize(("file", "left"), [("*.index", 0), ("*.index", 300), ("*.images", 100)])
def test_what_is_kept_of_a_large_set_and_was_cut_short_is_made_again(sets, on_disk, file, left):
    """As where the machine lost its power."""
    root = str(sets / "cache")
    before = open_images(str(sets), root=root)
    expected = [before.encoded(index) for index in range(20)]
    for kept in (sets / "cache/large").glob(file):
        kept.write_bytes(kept.read_bytes()[:left])
    again = open_images(str(sets), root=root)
    assert [again.encoded(index) for index in range(20)] == expected


@pytest.mark.parametrize("again", ["a.cls", "a.png"])
def test_a_name_that_is_twice_in_a_tar_shard_is_an_error(tmp_path, again):
    """The later label would be that of both images."""
    write_tar(tmp_path / "x.tar", {"a.png": encoded(1), "a.cls": b"0"})
    with tarfile.open(tmp_path / "x.tar", "a") as shard:
        shard.addfile(tarfile.TarInfo(again))
    with pytest.raises(FullrankError, match=f"x.tar holds {again} twice.*: give each image a name of its own"):
        open_images(str(tmp_path / "x.tar"), root=str(tmp_path))


def test_captions_in_tar_shards_are_no_classes(tmp_path, capsys):
    captions = {f"{i:03}.txt": f"a photo of thing {i % 110}".encode() for i in range(200)}  # as img2dataset has them
    write_tar(tmp_path / "x.tar", {f"{i:03}.png": encoded(i) for i in range(200)} | captions)
    assert open_images(str(tmp_path / "x.tar"), root=str(tmp_path)).labels is None
    said = (
        "x.tar: 110 texts beside 200 images, such as 'a photo of thing 0', are captions: its images are taken without"
    )
    assert said in capsys.readouterr().err
    numbers = {f"{i:03}.txt": b"%d" % i for i in range(200)}
    write_tar(tmp_path / "y.tar", {f"{i:03}.png": encoded(i) for i in range(200)} | numbers)
    assert open_images(str(tmp_path / "y.tar"), root=str(tmp_path)).labels.tolist() == list(range(200))


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_names_of_as_many_classes_as_images_are_no_captions(tmp_path, kind):
    names = [f"person {i}" for i in range(120)]
    write = (lambda name: json.dumps({"label": name}).encode()) if kind == "json" else str.encode
    members = {f"{i:03}.png": encoded(i) for i in range(120)} | {
        f"{i:03}.{kind}": write(n) for i, n in enumerate(names)
    }
    write_tar(tmp_path / "x.tar", members)
    images = open_images(str(tmp_path / "x.tar"), root=str(tmp_path))
    assert [images.classes[label] for label in images.labels] == names


def test_an_index_of_before_is_not_read(tmp_path, monkeypatch):
    write_tar(tmp_path / "x.tar", {"a.png": encoded(1), "b.png": encoded(2)})
    find = shards_module._index
    for version, count in ((1, 1), (2, 2)):
        monkeypatch.setattr(shards_module, "_VERSION", version)
        monkeypatch.setattr(shards_module, "_index", lambda *given, count=count: find(*given)[:count])
        assert len(open_images(str(tmp_path / "x.tar"), root=str(tmp_path))) == count


def test_bad_shards_are_one_clear_error(shards):
    cache = str(shards / "cache")
    whole = (shards / "01.tar").read_bytes()
    for left in (len(whole) - 10240, 3000, 700, 100):
        (shards / "01.tar").write_bytes(whole[:left])
        with pytest.raises(FullrankError, match="01.tar (was cut short|cannot be read as a tar shard)"):
            open_images(str(shards), root=cache)
    (shards / "01.tar").unlink()
    with pytest.raises(FullrankError, match="1 of 3 files of .* are missing: .*01.tar"):
        open_images(f"{shards}/{{00..02}}.tar", root=cache)
    with tarfile.open(shards / "01.tar", "w:gz"):
        pass
    with pytest.raises(FullrankError, match="01.tar cannot be read as a tar shard"):
        open_images(str(shards), root=cache)
    write_tar(shards / "x.tar", {"a.bin": b"x"})
    with pytest.raises(FullrankError, match="no images in .*x.tar: expected members ending in .jpg"):
        open_images(str(shards / "x.tar"), root=cache)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("change", ["deleted", "changed", "cut"])
def test_a_shard_that_changes_during_training_is_one_clear_error(shards, change, workers):
    images = open_images(str(shards), root=str(shards / "cache"))
    steps = ViewLoader(images, MultiplePass(12, 6, 40), recipe("simsiam"), 8, cache="stream", workers=workers)(0)
    next(steps)
    path = shards / "02.tar"
    if change == "deleted":
        path.unlink()
    elif change == "changed":
        os.utime(path, (1, 1))
    else:
        os.truncate(path, 3000)
    with pytest.raises(FullrankError, match=r"^[^\n]*02.tar (is gone|has changed)[^\n]*$"):
        list(steps)


def test_a_shard_that_changes_while_it_is_indexed_is_found_to_have_changed(tmp_path, monkeypatch):
    file, index = tmp_path / "00.tar", shards_module._index
    write_tar(file, {"a.png": encoded(1)})

    def changing(*arguments):
        found = index(*arguments)
        write_tar(file, {"longer.cls": b"1", "a.png": encoded(2)})
        return found

    monkeypatch.setattr(shards_module, "_index", changing)
    with pytest.raises(FullrankError, match=r"00.tar has changed"):
        open_images(str(file), root=str(tmp_path / "cache")).read(0)


def test_a_hub_without_a_network_is_one_quick_error(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    start = time.monotonic()
    with pytest.raises(FullrankError, match=r"^hf://someone/set cannot be had from the Hugging Face hub \([^\n]*$"):
        open_images("hf://someone/set")
    assert time.monotonic() - start < 10
    with pytest.raises(FullrankError, match="hf://someone names no set of the hub: write hf://owner/name"):
        open_images("hf://someone")


def test_a_hub_gives_the_files_of_one_split(sets, monkeypatch):
    files = [
        "README.md",
        "data/train-0.parquet",
        "data/train-1.parquet",
        "data/test-0.parquet",
        "data/validation-0.parquet",
    ]
    asked = []
    monkeypatch.setattr(hub, "_list", lambda repository, revision: files)
    monkeypatch.setattr(hub, "_snapshot", lambda repository, revision, chosen: asked.append(chosen) or sets)
    assert hub.download("hf://o/n", "train") == [sets / "data/train-0.parquet", sets / "data/train-1.parquet"]
    assert hub.download("hf://o/n", "eval") == [sets / "data/validation-0.parquet"]
    assert asked == [files[1:3], files[4:]]
    files[:] = ["a.parquet", "b.parquet"]
    assert len(open_images("hf://o/n")) == 20
    with pytest.raises(
        FullrankError, match="hf://o/n/other has no parquet files of the split train there: give others"
    ):
        open_images("hf://o/n/other")


def test_of_two_runs_that_copy_at_once_both_read_on(sets, on_disk, monkeypatch):
    cache, copy, opened = str(sets / "cache"), parquet._copy, []

    def slow(file, to):
        table = copy(file, to)
        if not opened:  # the other run begins later and is done first
            opened.append(None)
            opened[0] = open_images(str(sets), root=cache)
        return table

    monkeypatch.setattr(parquet, "_copy", slow)
    mine = open_images(str(sets), root=cache)
    assert [mine.encoded(index) == opened[0].encoded(index) for index in range(20)] == [True] * 20


def test_a_dry_run_says_what_streaming_takes(sets, on_disk, capsys):
    from fullrank.cli import main

    main(["train", "--images", str(sets), "--data-dir", str(sets / "cache"), "--image-size", "32", "--hold", "stream",
          "--steps", "4", "--batch-size", "4", "--monitor.num-images", "8", "--dry-run"])  # fmt: skip
    words = " ".join(capsys.readouterr().out.split())
    assert "MB on disk" in words
    assert "for each of 2 workers" in words
