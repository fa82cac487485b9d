import io
import urllib.error

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fullrank.data.images import ArrayImages, UnreadableImageError, match_labels, open_images
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


def test_parquet_without_labels_and_with_names_for_labels(tmp_path):
    write_parquet(tmp_path / "a.parquet", (1, 2), column="img")
    assert open_images(str(tmp_path / "a.parquet")).labels is None
    write_parquet(tmp_path / "b.parquet", (1, 2, 3, 4), ["dog", "cat", None, "dog"])
    assert open_images(str(tmp_path / "b.parquet")).labels.tolist() == [1, 0, -1, 1]
    write_parquet(tmp_path / "c.parquet", (1, 2), [4, None])
    assert open_images(str(tmp_path / "c.parquet")).labels.tolist() == [4, -1]


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


def test_a_link_that_leads_back_up_is_followed_once(folder):
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
    for spec, message in (
        ("cifra10", "no images at 'cifra10'.*did you mean 'cifar10'"),
        (str(tmp_path / "missing"), "neither a path that exists"),
        (str(tmp_path / "empty"), "no images in .*empty: expected files ending in"),
        (str(tmp_path / "notes.txt"), "is one file, and not a parquet file"),
        (str(tmp_path / "broken.parquet"), "broken.parquet cannot be read as parquet"),
        (str(tmp_path / "text.parquet"), "has the columns text: expected .* column 'image'"),
        (str(tmp_path / "none.parquet"), "no images in .*none.parquet"),
        (str(tmp_path / "*.nothing"), "no file matches"),
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
