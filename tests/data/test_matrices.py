import json
import os
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors
import torch
from packaging.version import Version
from safetensors.torch import save_file

from fullrank.data.matrices import open_matrix
from fullrank.errors import FullrankError

MATRIX = np.random.default_rng(0).normal(size=(23, 5))


def joined(path, rows=7, key=None):
    """Walk over a file in small blocks and put them together, after checking what the file says of itself."""
    file = open_matrix(path, key=key)
    blocks = list(file.blocks(rows))
    assert all(len(block) <= rows for block in blocks)
    assert len(blocks) > 1
    assert all(block.is_contiguous() for block in blocks)
    whole = torch.cat(blocks)
    assert tuple(whole.shape) == file.shape
    assert whole.dtype == getattr(torch, file.dtype)
    return whole


def refused(path, message, key=None):
    with pytest.raises(FullrankError, match=message):
        list(open_matrix(path, key=key).blocks())


# .npy


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8", "bool", ">f4", ">f8", ">i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_in_any_order_and_byte_order(tmp_path, dtype, order):
    expected = np.asarray(MATRIX * 20 if np.dtype(dtype).kind != "u" else abs(MATRIX), dtype=dtype)
    np.save(tmp_path / "x.npy", np.asarray(expected, order=order))
    whole = joined(tmp_path / "x.npy")
    assert whole.numpy().tolist() == expected.tolist()


def test_a_block_is_a_copy_and_a_file_can_be_walked_twice(tmp_path):
    np.save(tmp_path / "x.npy", MATRIX)
    file = open_matrix(str(tmp_path / "x.npy"))
    next(file.blocks()).zero_()
    assert np.array_equal(torch.cat(list(file.blocks())).numpy(), MATRIX)
    assert np.array_equal(torch.cat(list(file.blocks(1))).numpy(), MATRIX)
    assert (file.key, file.shape, file.dtype, file.ignored) == (None, (23, 5), "float64", ())


def test_the_default_block_holds_about_four_million_numbers(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((9, 2**20), np.uint8))
    assert [len(block) for block in open_matrix(tmp_path / "x.npy").blocks()] == [4, 4, 1]


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_npy_files_that_hold_code_run_none_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Bomb()))
    np.save(tmp_path / "objects.npy", np.array([[Bomb()]], dtype=object), allow_pickle=True)
    refused(tmp_path / "pickle.npy", "pickle.npy is not a NumPy array in spite of its name, and was not opened")
    refused(tmp_path / "objects.npy", "array of Python objects, .*; save np.stack")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(3), r"has shape \(3,\), features are a matrix \(N, D\): .* reshape\(-1, 1\)"),
        (np.float32(3), r"has shape \(\), .* a single number"),
        (np.zeros((2, 3, 4)), r"has shape \(2, 3, 4\), .*: pool it, as in features.mean.axis=1. of .N, tokens, D."),
        (np.zeros((0, 4)), r"is empty, shape \(0, 4\)"),
        (np.zeros((4, 0)), r"is empty, shape \(4, 0\)"),
        (
            np.zeros((2, 2), complex),
            "holds complex128: .*; take their real part or their modulus",
        ),
        (np.zeros((2, 2), np.longdouble), "holds float128|holds float96|longdouble"),
        (np.zeros((2, 2), "u4"), "holds uint32"),
        (np.zeros((2, 2), "S3"), "holds bytes24"),
        (np.zeros(3, [("a", "f4")]), "holds void32"),
    ],
)
def test_npy_arrays_that_are_no_matrix(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array)
    refused(tmp_path / "x.npy", message)


def test_damaged_npy(tmp_path):
    np.save(tmp_path / "good.npy", MATRIX)
    good = (tmp_path / "good.npy").read_bytes()
    for damage in (
        good[:-1],
        good[:50],
        good[:3],
        b"",
        good.replace(b"(23, 5)", b"(23, 5["),
        good.replace(b"(23, 5)", b"(-3, 5)"),
        good.replace(b"'descr'", b"'descx'"),
    ):
        (tmp_path / "x.npy").write_bytes(damage)
        refused(tmp_path / "x.npy", "x.npy cannot be read as .npy, it is damaged or cut short")
    refused(tmp_path / "good.npy", "holds one array without a name: leave out --key x", key="x")


# .safetensors


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "int32", "uint8", "bool"])
def test_safetensors(tmp_path, dtype):
    expected = torch.from_numpy(MATRIX).mul(20).abs().to(getattr(torch, dtype))
    labels = {"labels": torch.arange(23), "y": torch.arange(23)[:, None]}
    save_file({"features": expected, **labels}, tmp_path / "x.safetensors")
    assert torch.equal(joined(tmp_path / "x.safetensors"), expected)
    assert open_matrix(tmp_path / "x.safetensors").key == "features"


def test_safetensors_with_several_matrices_wants_a_name(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"train": torch.ones(9, 2), "test": torch.zeros(9, 3)}, path)
    refused(path, r"holds 2 tensors \(test \(9, 3\), train \(9, 2\)\): name the matrix \(N, D\) with --key NAME")
    assert torch.equal(joined(path, 4, key="train"), torch.ones(9, 2))
    refused(path, r"has no tensor 'tain'; did you mean 'train'\? \(it holds test \(9, 3\), train", key="tain")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"x": torch.zeros(3)}, r"'x', has shape \(3,\)"),
        ({"x": torch.zeros(3), "y": torch.zeros(3)}, r"holds 2 tensors \(x \(3,\), y \(3,\)\): name the matrix"),
        ({"x": torch.zeros(3), "y": torch.zeros(3, 4, 5)}, r"'y', has shape \(3, 4, 5\), .*: pool it"),
        ({"labels": torch.zeros(3, 1), "x": torch.zeros(3, 4, 5)}, r"'x', has shape \(3, 4, 5\), .*: pool it"),
        (
            {"box": torch.zeros(3, 4), "x": torch.zeros(3, 4, 5)},
            r"holds 2 tensors \(box \(3, 4\), x \(3, 4, 5\)\): name",
        ),
        ({}, "holds no tensor: expected a matrix"),
        ({"x": torch.zeros(0, 3)}, "is empty"),
        pytest.param(
            {"x": torch.zeros(2, 3, dtype=torch.complex64)},
            "'x', holds C64: features are real numbers",
            marks=pytest.mark.skipif(Version(safetensors.__version__) < Version("0.7"), reason="it writes none"),
        ),
        ({"conv": torch.zeros(2, 3, 1, 1), "fc": torch.zeros(2, 3)}, "looks like a model's weights .*--backbone NAME"),
        ({"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}, "looks like a model's weights"),
        ({f"m{i}": torch.zeros(2, 3) for i in range(40)}, r"m15 \(2, 3\) and 32 more\): give --backbone NAME"),
    ],
)
def test_safetensors_that_hold_no_matrix(tmp_path, tensors, message):
    save_file(tensors, tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", message)


def test_a_matrix_among_weights_can_be_named(tmp_path):
    save_file({"fc.weight": torch.ones(9, 3), "conv": torch.zeros(2, 3, 1, 1)}, tmp_path / "x.safetensors")
    assert joined(tmp_path / "x.safetensors", 4, key="fc.weight").shape == (9, 3)
    refused(tmp_path / "x.safetensors", r"'conv', has shape \(2, 3, 1, 1\)", key="conv")


def test_damaged_safetensors(tmp_path):
    save_file({"x": torch.ones(9, 3)}, tmp_path / "good.safetensors")
    good = (tmp_path / "good.safetensors").read_bytes()
    for damage in (b"", good[:30], good[:-4], b"x" * 100):
        (tmp_path / "x.safetensors").write_bytes(damage)
        refused(tmp_path / "x.safetensors", "cannot be read as .safetensors, it is damaged or cut short")


def test_blocks_of_safetensors_outlive_the_file(tmp_path):
    save_file({"x": torch.ones(1000, 30)}, tmp_path / "x.safetensors")
    blocks = list(open_matrix(tmp_path / "x.safetensors").blocks(300))
    os.truncate(tmp_path / "x.safetensors", 10)  # reading a map of it would end the process
    assert torch.equal(torch.cat(blocks), torch.ones(1000, 30))


# .parquet


def write(path, columns, **options):
    pq.write_table(pa.table(columns), path, **options)
    return path


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float32(), 5),
        pa.large_list(pa.float64()),
        pa.list_(pa.float16()),
        pa.list_(pa.int64()),
        pa.list_(pa.uint8(), 5),
    ],
    ids=str,
)
def test_parquet_with_a_column_of_lists(tmp_path, kind):
    values = abs(MATRIX * 10).astype(kind.value_type.to_pandas_dtype())
    rows = pa.array(list(values), kind)
    path = write(tmp_path / "x.parquet", {"id": range(23), "h": rows, "score": MATRIX[:, 0]}, row_group_size=10)
    assert np.array_equal(joined(path).numpy(), values)
    file = open_matrix(path)
    assert (file.key, file.shape, file.dtype, file.ignored) == ("h", (23, 5), values.dtype.name, ("id", "score"))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_parquet_with_columns_of_numbers(tmp_path, dtype):
    values = MATRIX.astype(dtype)
    columns = {f"x.{i}": values[:, i] for i in (4, 0, 3, 1, 2)}
    path = write(tmp_path / "x.parquet", {"label": range(23), **columns, "name": ["a"] * 23}, row_group_size=10)
    assert np.array_equal(joined(path).numpy(), values[:, [4, 0, 3, 1, 2]])
    file = open_matrix(path)
    assert (file.key, file.dtype, file.ignored) == (None, dtype, ("label", "name"))
    pandas = {"label": values[:, 0], **columns}  # classes of which one lacks
    path = write(tmp_path / "y.parquet", pandas, row_group_size=10)
    assert np.array_equal(joined(path).numpy(), values[:, [4, 0, 3, 1, 2]])
    assert open_matrix(path).ignored == ("label",)


def test_parquet_with_several_columns_of_lists_wants_a_name(tmp_path):
    rows = [[1.0, 2.0]] * 9
    path = write(tmp_path / "x.parquet", {"h": rows, "z": [[3.0, 4.0]] * 9, "y": range(9)})
    refused(path, r"has 2 columns of lists \(h, z\): name one with --key NAME")
    assert torch.equal(joined(path, 4, key="z"), torch.tensor([[3.0, 4.0]] * 9, dtype=torch.float64))
    assert open_matrix(path, key="z").ignored == ("h", "y")
    refused(path, r"has no column 'hh'; did you mean 'h'\? \(h, z, y\)", key="hh")
    refused(path, r"column 'y' holds int64, not lists of numbers: name a column of lists \(h, z\)", key="y")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"h": [[1.0, 2.0]] * 4 + [[1.0]]}, "column 'h' has 1 numbers in row 4 and 2 in row 0"),
        ({"h": [[1.0, 2.0], None, [1.0, 2.0]]}, "column 'h' has no value in row 1 .null"),
        ({"h": [None, [1.0, 2.0]]}, "column 'h' has no value in row 0"),
        ({"h": [[1.0, 2.0], [1.0, None]]}, r"column 'h' lacks number 1 of row 1 \(null\)"),
        ({"h": pa.array([[], []], pa.list_(pa.float32())), "y": [1, 2]}, r"'h', is empty, shape \(2, 0\)"),
        ({"h": pa.array([], pa.list_(pa.float32()))}, r"is empty, shape \(0, 0\)"),
        ({"a": pa.array([], pa.float32())}, r"is empty, shape \(0, 1\)"),
        ({"h": pa.array([[1]], pa.list_(pa.uint32()))}, "'h', holds uint32"),
        ({"a": [1.0, 2.0], "b": [1.0, None]}, "column 'b' has no value in row 1"),
        (
            {"a": [1.0], "b": pa.array([1.0], pa.float32()), "c": [2.0]},
            r"mixes types \('a' is float64, 'b' is float32\), and a spectrum has one",
        ),
        ({"y": [1, 2], "name": ["a", "b"]}, r"nor any of floating-point numbers \(y: int64, name: string\)"),
        ({"h": [["a"], ["b"]]}, "has no column of lists of numbers"),
        (
            {"h": [[[1.0, 2.0]]] * 2, "score": [1.0, 2.0]},
            "column 'h' holds list<.*list<.*: double>>, .*: pool each row",
        ),
        ({"h": [[[1.0, 2.0]]] * 2, "box": [[1.0]] * 2}, r"has 2 columns of lists \(h, box\): name one"),
        (
            {"x.0": [1.0, 2.0], "x.1": [1.0, 3.0], "box": [[1.0, 2.0]] * 2},
            r"lists of 2 numbers, 'box', and 2 columns of numbers \(x.0, x.1\): give --key box, or drop that column",
        ),
    ],
)
def test_parquet_that_holds_no_matrix(tmp_path, columns, message):
    refused(write(tmp_path / "x.parquet", columns), message)


@pytest.mark.parametrize("name", [None, "time"])
def test_an_index_of_pandas_is_no_feature(tmp_path, name):
    table = pd.DataFrame(MATRIX, columns=[f"x.{i}" for i in range(5)], index=pd.Index(MATRIX[:, 0], name=name))
    table.to_parquet(tmp_path / "x.parquet")
    assert np.array_equal(joined(tmp_path / "x.parquet").numpy(), MATRIX)
    assert open_matrix(tmp_path / "x.parquet").ignored == (name or "__index_level_0__",)


def test_rows_are_counted_over_the_whole_file(tmp_path):
    ragged = write(tmp_path / "a.parquet", {"h": [[1.0, 2.0]] * 20 + [[1.0]]}, row_group_size=6)
    with pytest.raises(FullrankError, match="1 numbers in row 20"):
        list(open_matrix(ragged).blocks(3))
    missing = write(tmp_path / "b.parquet", {"a": [1.0] * 20 + [None]}, row_group_size=6)
    with pytest.raises(FullrankError, match="column 'a' has no value in row 20"):
        list(open_matrix(missing).blocks(3))


def test_parquet_with_one_name_twice(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], ["a", "a"]), tmp_path / "x.parquet")
    refused(tmp_path / "x.parquet", "several columns named 'a'")


def test_damaged_parquet(tmp_path):
    good = write(tmp_path / "good.parquet", {"h": np.random.default_rng(0).random(1000)}, compression="snappy")
    data = good.read_bytes()
    for damage in (b"", data[:-9], b"x" * 100):
        (tmp_path / "x.parquet").write_bytes(damage)
        refused(tmp_path / "x.parquet", "cannot be read as .parquet, it is damaged or cut short")
    (tmp_path / "x.parquet").write_bytes(data[:4] + b"\xff" * 3000 + data[3004:])  # found out while it is read
    refused(tmp_path / "x.parquet", "cannot be read as .parquet, it is damaged or cut short")


# anything else


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x.npz", r'x.npz is none of the formats .*, .npy, .safetensors, .parquet: .*np.load\("x.npz"\)\["NAME'),
        ("x.csv", r'np.save\("features.npy", np.loadtxt\("x.csv", delimiter=","\)\)'),
        ("x.PT", r'torch.load\("x.PT", weights_only=True\).*; if it holds weights, give --backbone NAME'),
        ("x.ckpt", "if it holds weights, give --backbone NAME"),
        ("x.pkl", r'np.save\("features.npy", features\) in the program that made it \(opening a pickle runs'),
        ("x", r'convert it, np.save\("features.npy", features\)'),
    ],
)
def test_other_formats_are_named_with_a_way_out(tmp_path, name, message):
    (tmp_path / name).write_bytes(b"?")
    refused(tmp_path / name, message)


def test_a_missing_file_and_a_folder(tmp_path):
    refused(tmp_path / "none.npy", "none.npy does not exist: give a file of features, .npy, .safetensors, .parquet")
    refused(tmp_path, "is a folder: give a file of features")


def test_suffixes_in_capitals_are_read(tmp_path):
    np.save(tmp_path / "x.npy", MATRIX)
    (tmp_path / "x.npy").rename(tmp_path / "x.NPY")
    assert open_matrix(tmp_path / "x.NPY").shape == (23, 5)


def test_a_header_that_promises_more_than_there_is_costs_no_memory(tmp_path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**30, 2**10], "data_offsets": [0, 2**42]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    refused(tmp_path / "x.safetensors", "damaged or cut short")


def test_what_else_is_in_a_file_is_never_left_out_silently(tmp_path):
    path = tmp_path / "twice.npy"
    with open(path, "wb") as file:
        np.save(file, np.ones((5, 2), np.float32))
        np.save(file, np.zeros((5, 2), np.float32))
    with pytest.raises(FullrankError, match=r"twice.npy goes on for \d+ bytes after its array of shape \(5, 2\)"):
        open_matrix(path)
    save_file({"x": torch.ones(5, 2), "label": torch.arange(5)}, tmp_path / "x.safetensors")
    assert open_matrix(tmp_path / "x.safetensors").ignored == ("label",)
