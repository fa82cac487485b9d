import io
import os
import tracemalloc
import urllib.error
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fullrank.data.cache import cache_all
from fullrank.data.images import (
    ArrayImages,
    FileImages,
    UnreadableImageError,
    match_labels,
    open_images,
    same_images,
    sample,
)
from fullrank.data.memory import gigabytes
from fullrank.errors import FullrankError


def picture(value, size=(6, 5)):
    return Image.fromarray(np.full((*size, 3), value, np.uint8))


def encoded(value):
    buffer = io.BytesIO()
    picture(value).save(buffer, format="PNG")
    return buffer.getvalue()


def write_parquet(path, values, labels=None, column="image"):
    rows = pa.array([{"bytes": encoded(v), "path": f"{v}.png"} for v in values])
    table = {column: rows} if labels is None else {column: rows, "label": pa.array(labels)}
    pq.write_table(pa.table(table), path)


@pytest.fixture
def folder(tmp_path):
    for name, values in (("cat", (1, 2)), ("dog", (3,))):
        (tmp_path / name).mkdir()
        for value in values:
            picture(value).save(tmp_path / name / f"{value}.png")
    return tmp_path


def test_digits_are_split_without_overlap():
    train, held_out = open_images("digits"), open_images("digits", split="eval")
    assert (len(train), len(held_out)) == (1438, 359)
    assert train.read(0).shape == (3, 8, 8)
    assert train.read(0).dtype == torch.uint8
    assert int(torch.stack([train.read(i) for i in range(20)]).max()) == 255
    assert len(set(train.labels.tolist())) == len(set(held_out.labels.tolist())) == 10
    assert train.fingerprint() != held_out.fingerprint()


def test_a_folder_of_class_folders_has_labels(folder):
    images = open_images(str(folder))
    assert images.labels.tolist() == [0, 0, 1]
    assert [int(images.read(i)[0, 0, 0]) for i in range(3)] == [1, 2, 3]
    assert images.key(2).endswith("dog/3.png")
    assert images.read(0).shape == (3, 6, 5)


def test_a_flat_folder_and_a_single_class_have_no_labels(folder):
    assert open_images(str(folder / "cat")).labels is None
    picture(9).save(folder / "loose.png")
    mixed = open_images(str(folder))
    assert mixed.labels is None
    assert len(mixed) == 4


def test_grey_palette_and_cmyk_images_become_rgb(tmp_path):
    for mode in ("L", "P", "CMYK", "RGBA", "1"):
        suffix = "jpg" if mode == "CMYK" else "png"
        picture(200).convert(mode).save(tmp_path / f"{mode}.{suffix}")
    images = open_images(str(tmp_path))
    assert [tuple(images.read(i).shape) for i in range(5)] == [(3, 6, 5)] * 5


def test_parquet_file_folder_and_pattern(tmp_path):
    write_parquet(tmp_path / "a.parquet", (1, 2), [5, 0])
    write_parquet(tmp_path / "b.parquet", (3,), [7])
    one = open_images(str(tmp_path / "a.parquet"))
    assert (len(one), one.labels.tolist(), int(one.read(1)[0, 0, 0])) == (2, [5, 0], 2)
    for spec in (tmp_path, tmp_path / "*.parquet"):
        both = open_images(str(spec))
        assert both.labels.tolist() == [5, 0, 7]
        assert int(both.read(2)[0, 0, 0]) == 3
    assert "row 2" in both.key(2)
    assert both.select(torch.tensor([0])).footprint == both.footprint == f"{gigabytes(both.held.nbytes)} in memory"


def test_parquet_without_labels_and_with_names_for_labels(tmp_path):
    write_parquet(tmp_path / "a.parquet", (1, 2), column="img")
    assert open_images(str(tmp_path / "a.parquet")).labels is None
    write_parquet(tmp_path / "b.parquet", (1, 2, 3, 4), ["dog", "cat", None, "dog"])
    assert open_images(str(tmp_path / "b.parquet")).labels.tolist() == [1, 0, -1, 1]
    write_parquet(tmp_path / "c.parquet", (1, 2), [4, None])
    assert open_images(str(tmp_path / "c.parquet")).labels.tolist() == [4, -1]


@pytest.mark.parametrize("column", ["label", "labels", "fine_label"])
def test_labels_of_parquet_stand_in_a_column_of_any_usual_name(tmp_path, column):
    write_parquet(tmp_path / "a.parquet", (1, 2), [4, 7])
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(table.rename_columns({"label": column}), tmp_path / "a.parquet")
    assert open_images(str(tmp_path / "a.parquet")).labels.tolist() == [4, 7]


def test_shared_cifar_reads(shared_data):
    images = open_images(str(shared_data / "cifar10" / "test.parquet"))
    assert len(images) == 10_000
    assert images.read(9_999).shape == (3, 32, 32)
    assert torch.bincount(images.labels).tolist() == [1000] * 10


def test_an_unreadable_image_is_named(folder):
    (folder / "cat" / "0.png").write_bytes(b"not an image")
    (folder / "dog" / "4.png").write_bytes(encoded(1)[:40])
    images = open_images(str(folder))
    for index, name in ((0, "cat/0.png"), (4, "dog/4.png")):
        with pytest.raises(UnreadableImageError, match=f"{name} cannot be decoded"):
            images.read(index)


def test_a_moved_folder_keeps_its_fingerprint_and_a_changed_one_does_not(folder, tmp_path):
    before = open_images(str(folder)).fingerprint()
    moved = folder.rename(tmp_path.parent / f"{tmp_path.name}-moved")
    assert open_images(str(moved)).fingerprint() == before
    picture(4).save(moved / "dog" / "4.png")
    assert open_images(str(moved)).fingerprint() != before


def test_two_links_to_one_folder_are_two_classes(folder):
    (folder / "alias").symlink_to(folder / "dog")
    (folder / "zebra").symlink_to(folder / "dog")
    images = open_images(str(folder))
    assert images.classes == ("alias", "cat", "dog", "zebra")
    assert images.labels.bincount().tolist() == [1, 2, 1, 1]


def test_a_link_that_leads_back_up_is_not_followed(folder):
    (folder / "cat" / "up").symlink_to(folder)
    assert len(open_images(str(folder))) == 3
    assert len(open_images(str(folder / "cat"))) == 3  # its two, and the dog's, through the link


def test_labels_of_two_sets_are_matched_by_name(folder, tmp_path):
    other = tmp_path / "other"
    for name in ("bird", "dog"):
        (other / name).mkdir(parents=True)
        picture(1).save(other / name / "1.png")
    train, held_out = open_images(str(folder)), open_images(str(other))
    assert held_out.labels.tolist() == [0, 1]
    assert match_labels(held_out, train).tolist() == [3, 1]  # the bird is of no class that is trained on
    with pytest.raises(FullrankError, match="labels of .* are names .cat, dog, other. and those of digits numbers"):
        match_labels(open_images("digits"), train)


def test_a_failing_disk_is_not_an_unreadable_image(folder, monkeypatch):
    def fail(*arguments):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("PIL.Image.open", fail)
    with pytest.raises(OSError, match="Input/output error"):
        open_images(str(folder)).read(0)


def test_a_selection_is_a_set_of_its_own(folder):
    images = open_images(str(folder))
    chosen = images.select(torch.tensor([2, 0]))
    assert (len(chosen), chosen.labels.tolist(), chosen.key(0)) == (2, [1, 0], images.key(2))
    assert int(chosen.read(0)[0, 0, 0]) == 3
    assert chosen.fingerprint() != images.fingerprint()
    array = ArrayImages("x", torch.arange(12, dtype=torch.uint8).view(2, 3, 1, 2), None)
    assert array.select(torch.tensor([1])).read(0).flatten().tolist() == [6, 7, 8, 9, 10, 11]


def test_what_cannot_be_opened_says_what_to_do(tmp_path, folder, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but no more")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "text.parquet")
    pq.write_table(pa.table({"image": pa.array([], pa.struct([("bytes", pa.binary())]))}), tmp_path / "none.parquet")
    (tmp_path / "set" / "train" / "cat").mkdir(parents=True)
    (tmp_path / "set" / "val").mkdir()
    (tmp_path / "hub" / "data").mkdir(parents=True)
    (tmp_path / "hub" / "data" / "train-0.parquet").touch()
    for spec, message in (
        ("cifra10", "no images at 'cifra10'.*did you mean 'cifar10'"),
        (str(tmp_path / "missing"), "neither a path that exists"),
        (str(tmp_path / "empty"), "no images in .*empty: expected files ending in"),
        (str(tmp_path / "notes.txt"), "is one file, and not a parquet file"),
        (str(tmp_path / "broken.parquet"), "broken.parquet cannot be read as parquet"),
        (str(tmp_path / "text.parquet"), "has the columns text: expected .* column 'image'"),
        (str(tmp_path / "none.parquet"), "no images in .*none.parquet"),
        (str(tmp_path / "*.nothing"), "no file matches"),
        (str(tmp_path / "hub"), "no images in .*; for its .parquet .* give their folder, --images .*hub/data$"),
        (str(tmp_path / "set"), "holds the splits train, val, not images: give one of them"),
    ):
        with pytest.raises(FullrankError, match=message):
            open_images(spec)


def test_a_named_set_without_a_network_says_what_to_do(tmp_path, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(FullrankError, match="cifar10 is not in .* and could not be downloaded .*no route"):
        open_images("cifar10", root=str(tmp_path))


def test_cifar_from_disk_through_torchvision(tmp_path, monkeypatch):
    class FakeCifar:
        def __init__(self, root, train, download):
            self.data = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
            self.targets = [3, 1]

    monkeypatch.setattr("torchvision.datasets.CIFAR10", FakeCifar)
    images = open_images("cifar10", root=str(tmp_path))
    assert images.read(0).shape == (3, 4, 5)
    assert images.read(0)[:, 0, 1].tolist() == [3, 4, 5]
    assert images.labels.tolist() == [3, 1]


DEEP = np.arange(20, 236, dtype=np.uint8).reshape(12, 18)


@pytest.mark.parametrize(
    ("name", "array", "mode"),
    [
        ("a.png", DEEP.astype(np.uint16) * 257, None),
        ("a.tif", DEEP.astype(np.uint16) * 257, None),
        ("big.tif", (DEEP.astype(np.uint16) * 257).astype(">u2"), "I;16B"),
        ("a.pgm", DEEP.astype(np.uint16) * 257, None),
        ("float.tif", (DEEP / 255).astype(np.float32), None),
    ],
)
def test_deep_greys_are_scaled_not_clipped(tmp_path, name, array, mode):
    image = Image.fromarray(array) if mode is None else Image.frombytes(mode, DEEP.shape[::-1], array.tobytes())
    if name == "a.pgm":  # older Pillow reads these and does not write them
        (tmp_path / name).write_bytes(b"P5 18 12 65535\n" + array.astype(">u2").tobytes())
    else:
        image.save(tmp_path / name)
    pixels = open_images(str(tmp_path)).read(0)
    assert (pixels == torch.from_numpy(DEEP)).all()
    assert pixels.shape == (3, 12, 18)


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (DEEP.astype(np.int32) * 257, "integers that are signed or of 32 bits: save it in 8 or 16 bits"),
        (DEEP.astype(np.float32), "floats from 20 to 235: save it in 8 or 16 bits, or from 0 to 1"),
        (np.full((3, 3), np.nan, np.float32), "floats from nan"),
    ],
)
def test_values_that_nobody_knows_the_white_of_are_refused_by_name(tmp_path, array, fault):
    Image.fromarray(array).save(tmp_path / "x.tif")
    with pytest.raises(UnreadableImageError, match=f"x.tif cannot be decoded: it holds {fault}"):
        open_images(str(tmp_path)).read(0)


def test_alpha_and_exif_are_as_torchvision_loads_them(tmp_path):
    from torchvision.datasets.folder import default_loader

    clear = np.random.default_rng(0).integers(0, 255, (4, 6, 4), dtype=np.uint8)
    Image.fromarray(clear).save(tmp_path / "rgba.png")
    Image.fromarray(clear).convert("LA").save(tmp_path / "la.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(clear[..., :3]).save(tmp_path / "turned.jpg", exif=exif)
    palette = Image.fromarray(clear[..., 0]).convert("P")
    palette.save(tmp_path / "palette.png", transparency=bytes(range(256)))
    images = open_images(str(tmp_path))
    for index in range(len(images)):
        pixels = images.read(index).permute(1, 2, 0).numpy()
        assert pixels.shape == (4, 6, 3)
        if "palette" not in images.key(index):  # of which torchvision's loader warns
            assert (pixels == np.asarray(default_loader(images.key(index)))).all()


@pytest.mark.parametrize("files", [["a.tar"], ["a.parquet"], ["a.tar", "a.parquet"]])
def test_files_of_many_images_beside_others_are_refused(folder, files):
    """As a class folder beside the archive that it came from, of which nobody would know that it alone was taken."""
    for file in files:
        (folder / file).touch()
    with pytest.raises(FullrankError, match=r"holds images in several forms .*\*\.") as caught:
        open_images(str(folder))
    assert all(f"1 {Path(file).suffix} file" in str(caught.value) for file in files)


def test_files_of_many_images_below_are_left_out_and_that_is_said(folder, capsys):
    (folder / "cat" / "a.tar").touch()
    assert len(open_images(str(folder))) == 3
    assert "1 .tar files are left out" in capsys.readouterr().err


def test_a_run_below_the_images_has_none_of_them(folder, monkeypatch):
    """`fullrank train --images .` writes one there: its samples.png would be an image, and runs a class."""
    monkeypatch.chdir(folder)
    before = open_images(".").fingerprint()
    run = folder / "runs" / "images-simsiam"
    run.mkdir(parents=True)
    for name in ("config.yaml", "metrics.jsonl"):
        (run / name).touch()
    picture(1).save(run / "samples.png")
    assert open_images(".").classes == ("cat", "dog")
    assert open_images(".").fingerprint() == before


def test_one_class_whose_accents_are_written_in_two_ways_is_one(tmp_path):
    """As after copies from two systems."""
    for name in ("cafe\u0301", "caf\u00e9", "z"):
        (tmp_path / name).mkdir()
        picture(1).save(tmp_path / name / "1.png")
    images = open_images(str(tmp_path))
    assert (images.labels.tolist(), images.classes) == ([0, 0, 1], ("caf\u00e9", "z"))


def test_what_is_hidden_is_no_image_at_any_depth(folder):
    for hidden in (".ipynb_checkpoints", "cat/.thumbs", "__MACOSX/cat", "cat/@eaDir/1.png"):
        (folder / hidden).mkdir(parents=True)
        picture(9).save(folder / hidden / "copy.png")
    picture(9).save(folder / "cat" / "._1.png", format="PNG")
    images = open_images(str(folder))
    assert (len(images), images.classes) == (3, ("cat", "dog"))
    hidden_root = folder.rename(folder.parent / f".{folder.name}")
    assert len(open_images(str(hidden_root))) == 3  # what is asked for by name is not hidden


def test_pictures_that_are_no_images_are_left_out_and_that_is_said(tmp_path, capsys):
    for name in ("a/1.png", "b/2.png", "b/3.gif", "b/4.gif", "b/5.JFIF", "b/notes.txt", "b/.6.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    assert len(open_images(str(tmp_path))) == 2
    assert f"{tmp_path}: 2 .gif and 1 .jfif files are left out: images end in .jpg " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("folders", "given"),
    [
        (("train/a", "test/a", "val/a", "other/a"), "train"),
        (("Training/a", "Validation/a"), "Training"),
        (("train2017", "val2017", "annotations"), "train2017"),
        (("seg_train/a", "seg_test/a", "seg_pred"), "seg_train"),
        (("images/train", "images/val"), "images/train"),
        (("bottle/train/good", "bottle/test/good", "cable/train/good"), "bottle/train"),
        (("train/a", "train/b", "leftovers"), "train"),
        (("train",), "train"),
        (("trainA/a", "trainB/a", "testA/a", "testB/a"), "trainA"),
        (("trainset/a", "testset/a"), "trainset"),
    ],
)
def test_what_looks_like_splits_is_refused_with_the_line_that_picks_one(tmp_path, folders, given):
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
        picture(1).save(tmp_path / name / "1.png")
    with pytest.raises(FullrankError, match=f"the splits .*such as --images {tmp_path}/{given}$"):
        open_images(str(tmp_path))


@pytest.mark.parametrize(
    "folders", [("train", "bus", "car"), ("valid", "invalid"), ("train_station", "test_tube"), ("a/train", "b/train")]
)
def test_classes_that_are_called_like_splits_are_classes(tmp_path, folders):
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
        picture(1).save(tmp_path / name / "1.png")
    assert open_images(str(tmp_path)).classes == tuple(sorted({name.split("/")[0] for name in folders}))


@pytest.mark.parametrize(
    ("files", "given"),
    [
        (("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"), "train-0000*.parquet"),
        (("set-train", "set-validation"), "set-train.parquet"),
        (("part-0", "test"), "test.parquet"),
    ],
)
def test_parquet_files_of_several_splits_are_refused(tmp_path, files, given):
    for name in files:
        write_parquet(tmp_path / f"{name}.parquet", (1,), [0])
    for spec in (tmp_path, tmp_path / "*.parquet"):
        with pytest.raises(FullrankError, match="files of several splits") as error:
            open_images(str(spec))
        assert str(error.value).endswith(f"--images {tmp_path}/{given}") or f"'{tmp_path}/{given}'" in str(error.value)
    assert len(open_images(f"{tmp_path}/{given}")) == max(1, sum(name.startswith("train-") for name in files))


def test_a_file_whose_rows_are_of_several_splits_is_refused(tmp_path):
    write_parquet(tmp_path / "x.parquet", (1, 2), [0, 1])
    table = pq.read_table(tmp_path / "x.parquet")
    pq.write_table(table.append_column("split", pa.array(["train", "test"])), tmp_path / "x.parquet")
    with pytest.raises(FullrankError, match=r"x.parquet holds rows of the splits test, train: write one file for each"):
        open_images(str(tmp_path / "x.parquet"))
    pq.write_table(table.append_column("split", pa.array(["train", "train"])), tmp_path / "x.parquet")
    assert len(open_images(str(tmp_path / "x.parquet"))) == 2


def test_a_path_that_exists_is_that_path_brackets_and_all(tmp_path):
    (tmp_path / "a[1]*").mkdir()
    write_parquet(tmp_path / "a[1]*" / "x.parquet", (1, 2))
    for spec in ("a[1]*", "a[1]*/x.parquet", "a[1]*/*.parquet"):
        assert len(open_images(str(tmp_path / spec))) == 2


def test_a_single_class_is_labelled_where_it_is_held_out(folder, tmp_path):
    (tmp_path / "few" / "dog").mkdir(parents=True)
    picture(3).save(tmp_path / "few" / "dog" / "x.png")
    assert open_images(str(tmp_path / "few")).labels is None
    held_out = open_images(str(tmp_path / "few"), split="eval")
    assert match_labels(held_out, open_images(str(folder / ".." / folder.name))).tolist() == [1]


def test_names_that_are_not_utf8_can_be_printed(tmp_path):
    root = os.fsencode(tmp_path) + b"/c\xe9"
    os.makedirs(root)
    with open(root + b"/caf\xe9.png", "wb") as file:
        file.write(b"damaged")
    images = open_images(os.fsdecode(root))
    assert images.key(0).endswith(r"c\xe9/caf\xe9.png")
    assert images.name.encode().endswith(rb"c\xe9")
    with pytest.raises(UnreadableImageError, match=r"caf\\xe9.png cannot be decoded"):
        images.read(0)


def test_a_pipe_among_images_is_named_and_waits_for_nobody(folder):
    os.mkfifo(folder / "dog" / "0.png")
    images = open_images(str(folder))
    images.fingerprint()
    with pytest.raises(UnreadableImageError, match=r"0.png cannot be decoded: it is no regular file"):
        images.read(2)


def test_the_fingerprint_of_a_million_files_takes_little_memory(tmp_path):
    images = FileImages("x", tmp_path, [f"{tmp_path}/{number:08}.jpg" for number in range(50_000)], None)
    tracemalloc.start()
    try:
        images.contents()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 200 * len(images)


def test_a_fingerprint_tells_other_pictures_of_the_same_names(folder, tmp_path):
    before = open_images(str(folder))
    was = before.fingerprint()
    other = Image.fromarray(np.full((6, 5, 3), 77, np.uint8))
    size = (folder / "cat" / "1.png").stat().st_size
    other.save(folder / "cat" / "1.png")
    data = (folder / "cat" / "1.png").read_bytes()
    (folder / "cat" / "1.png").write_bytes(data.ljust(size, b"\0"))
    after = open_images(str(folder))
    assert before.listing() == after.listing()
    assert (folder / "cat" / "1.png").stat().st_size == size
    assert not same_images(was, after.fingerprint())
    assert same_images(before.listing(), after.fingerprint())  # of a run of before: names are all that it knows
    write_parquet(tmp_path / "a.parquet", (1, 2), [0, 1])
    write_parquet(tmp_path / "b.parquet", (1, 2), [1, 1])
    write_parquet(tmp_path / "c.parquet", (1, 3), [0, 1])
    a, b, c = (open_images(str(tmp_path / f"{name}.parquet")) for name in "abc")
    assert a.listing() == b.listing()
    assert len({a.fingerprint(), b.fingerprint(), c.fingerprint()}) == 3
    assert a.select(torch.tensor([0])).fingerprint() != c.select(torch.tensor([0])).fingerprint()


def test_fingerprints_compare_as_far_as_all_of_them_say():
    assert same_images("a-1 / b-2", "a / b-2")
    assert not same_images("a-1 / b-2", "a / b-3")
    assert not same_images("a-1", "a-1 / b-2")
    assert not same_images("a", "b-1")


def test_a_sample_is_random_nested_and_ascending():
    alternating = torch.arange(240)
    some, more = sample(alternating, 20), sample(alternating, 60)
    assert len(set((some % 12).tolist())) > 7  # a stride of 12 would see one class
    assert set(some.tolist()) < set(more.tolist())
    assert some.tolist() == sorted(some.tolist())
    assert sample(alternating, 240).tolist() == sample(alternating, 1000).tolist() == list(range(240))


def struct(values, kind):
    return pa.array(
        [{"bytes": value, "path": None} for value in values], pa.struct([("bytes", kind), ("path", pa.string())])
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            pa.table({"image": struct([5], pa.int64())}),
            "holds int64 in the column 'image' where encoded images should be",
        ),
        (
            pa.table({"image": struct([[5]], pa.list_(pa.uint8()))}),
            "holds list<.*> in the column 'image' where encoded",
        ),
        (pa.table([struct([b""], pa.binary())] * 2, ["image", "image"]), "image, image: 'image' more than once"),
        (
            pa.table([struct([b""], pa.binary()), pa.array([0]), pa.array([1])], ["image", "label", "label"]),
            "'label' more than once",
        ),
        (pa.table({"image": pa.array([{"path": "a.png"}])}), "expected Hugging Face's image schema"),
    ],
)
def test_parquet_that_is_well_formed_and_no_images_is_refused(tmp_path, table, message):
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(FullrankError, match=message):
        open_images(str(tmp_path / "x.parquet"))


@pytest.mark.parametrize("options", [{"subsampling": s, "quality": q} for s in (0, 1, 2) for q in (30, 95)])
def test_jpegs_are_decoded_to_the_bits_of_pillow(tmp_path, options):
    pytest.importorskip("simplejpeg")
    smooth = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((101, 75))
    kinds = {"plain": {}, "progressive": {"progressive": True}, "gray": {}, "cmyk": {}}
    for name, more in kinds.items():
        image = smooth.convert({"gray": "L", "cmyk": "CMYK"}.get(name, "RGB"))
        image.save(tmp_path / f"{name}.jpg", **options, **more)
    images = open_images(str(tmp_path))
    for index, name in enumerate(sorted(kinds)):
        expected = np.array(Image.open(tmp_path / f"{name}.jpg").convert("RGB"))
        assert np.array_equal(images.read(index).permute(1, 2, 0).numpy(), expected)


def test_a_jpeg_that_is_cut_cannot_be_decoded(tmp_path):
    Image.fromarray(np.zeros((50, 40, 3), np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) * 9 // 10])
    with pytest.raises(UnreadableImageError, match="a.jpg cannot be decoded: .*[Tt]runcated"):
        open_images(str(tmp_path)).read(0)


class Pairs(torch.utils.data.Dataset):
    """Images of any kind, with labels or without, of which the third cannot be read."""

    def __init__(self, images, labels=None, form=tuple, **attributes):
        self.images, self.labels_, self.form = images, labels, form
        vars(self).update(attributes)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        if image is None:
            raise ValueError("broken")
        if self.labels_ is None:
            return image
        return {"image": image, "label": self.labels_[index]} if self.form is dict else (image, self.labels_[index])


def kinds():
    """One picture as PIL's image, arrays and tensors."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    return [Image.fromarray(pixels), pixels, tensor, tensor / 255, np.dstack([pixels, pixels[..., :1]])]


def test_a_dataset_of_any_kind_of_image():
    images = open_images(Pairs(kinds()))
    assert images.labels is None
    assert len({bytes(images.read(index).numpy().tobytes()) for index in range(5)}) == 1
    gray = open_images(Pairs([np.full((3, 2), 7, np.uint8), torch.full((1, 3, 2), 7, dtype=torch.uint8)]))
    assert torch.equal(gray.read(0), torch.full((3, 3, 2), 7, dtype=torch.uint8))
    assert torch.equal(gray.read(0), gray.read(1))


@pytest.mark.parametrize("form", [tuple, dict])
def test_a_datasets_labels_are_optional_and_what_cannot_be_read_is_named(form):
    pictures = [*kinds()[:2], None, *kinds()[:2]]
    images = open_images(Pairs(pictures, [1, torch.tensor(0), 2, np.int64(1), None], form))
    assert images.labels.tolist() == [1, 0, -1, 1, -1]
    assert open_images(Pairs(pictures, list("abcab"), form, classes=["x"])).classes == ("a", "b")
    named = open_images(Pairs(pictures, [0] * 5, form, targets=[2, 1, 0, 1, 2], classes=["a", "b", "c"]))
    assert (named.labels.tolist(), named.classes) == ([2, 1, 0, 1, 2], ("a", "b", "c"))
    with pytest.raises(UnreadableImageError, match=r"^Pairs\[2\] cannot be decoded: broken$"):
        images.read(2)
    assert cache_all(images)[1] == ["Pairs[2]"]


def test_a_datasets_fingerprint_is_of_its_length_labels_and_pixels():
    same = [open_images(Pairs(kinds()[:n], labels)).fingerprint() for n, labels in ((4, None), (4, None))]
    other = kinds()[:4]
    other[3] = torch.flip(other[3], dims=[2])
    prints = {
        same[0],
        open_images(Pairs(kinds()[:3])).fingerprint(),
        open_images(Pairs(kinds()[:4], [0, 0, 1, 1])).fingerprint(),
        open_images(Pairs(other)).fingerprint(),
    }
    assert same[0] == same[1]
    assert len(prints) == 4


@pytest.mark.parametrize("attribute", ["targets", "labels", None])
@pytest.mark.parametrize("array", [np.array, torch.tensor])
def test_labels_of_a_dataset_in_brackets_are_numbers_and_several_of_one_image_are_none(array, attribute, capsys):
    """MedMNIST's labels are `(N, 1)`; those of CelebA are forty to an image."""

    def labels(values):
        pairs = Pairs(kinds()[:3], [array(value) for value in values])
        if attribute is not None:
            setattr(pairs, attribute, array(values))
        return open_images(pairs).labels

    assert labels([[2], [0], [1]]).tolist() == [2, 0, 1]
    assert labels([2, 0, 1]).tolist() == [2, 0, 1]
    assert capsys.readouterr().err == ""
    assert labels([[0, 1, 1], [1, 0, 0], [0, 0, 1]]) is None
    assert "its images are taken without labels" in capsys.readouterr().err


def test_arrays_of_any_strides_are_images():
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    images = open_images(Pairs([picture[..., ::-1], picture[::-1, ::-1]]))  # of OpenCV, and turned
    assert torch.equal(images.read(0), torch.tensor(picture).permute(2, 0, 1).flip(0))
    assert torch.equal(images.read(1), torch.tensor(picture).permute(2, 0, 1).flip(1, 2))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (iter([1]), "a dataset with a length and items by index, got list_iterator; .*a DataLoader"),
        ({"train": [1], "test": [1]}, r"the images are a dictionary \(train, test\): give one of its sets"),
        (Pairs([]), "no images in Pairs: its length is 0"),
        (Pairs(kinds()[:2], [1, "a"]), "the labels of Pairs are no column of one type"),
    ],
)
def test_what_is_no_dataset_is_refused(given, message):
    with pytest.raises(FullrankError, match=message):
        open_images(given)


def test_a_dataset_that_normalizes_is_refused_whichever_images_lie_between_0_and_1():
    images = open_images(Pairs([torch.rand(3, 2, 2), torch.full((3, 2, 2), -1.5)], [0, 1]))
    with pytest.raises(FullrankError, match=r"^Pairs\[1\] is no image: .*-1.5.*Leave normalization out") as raised:
        cache_all(images)
    assert not isinstance(raised.value, UnreadableImageError)


def test_labels_of_a_dataset_go_through_its_target_transform():
    images = open_images(
        Pairs(
            kinds()[:3], [1, 1, 0], targets=[12, 13, 5], classes=list("abc"), target_transform=lambda label: label // 10
        )
    )
    assert (images.labels.tolist(), images.classes) == ([1, 1, 0], None)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.full((3, 2, 2), torch.nan), r"it holds floats from nan"),
        (torch.zeros(3, 0, 2), r"it has shape \(3, 0, 2\), not that of an image"),
        (np.zeros((2, 0, 3), np.uint8), r"it has shape \(3, 2, 0\), not that of an image"),
        (np.zeros((2, 2, 7), np.uint8), r"it has shape \(2, 2, 7\), not that of an image"),
        (np.zeros((2, 2, 3), np.int64), "it holds torch.int64, not uint8"),
        ("picture.png", "cannot be decoded"),
    ],
)
def test_items_that_are_no_images_are_named(image, message):
    with pytest.raises(UnreadableImageError, match=message):
        open_images(Pairs([image])).read(0)


@pytest.mark.parametrize(
    "spec", ["x" * 5000, "a\0b", "a\0b/*.tar", "x" * 5000 + "/*.tar"], ids=["long", "nul", "nul*", "long*"]
)
def test_what_no_path_can_be_is_no_images(spec):
    with pytest.raises(FullrankError, match=r"no images at|no file matches"):
        open_images(spec)
