"""Small files of every kind: what is damaged is one line that names the file, the field and what to do."""

import json
from typing import Annotated, Any, Literal, TypedDict

import numpy as np
import pytest
from safetensors.numpy import save_file

from fullrank.errors import FullrankError
from fullrank.files import read_arrays, read_json, read_json_lines, read_yaml
from fullrank.shapes import Number, Range, ShapeError, Step, fit


class Part(TypedDict, total=False):
    seconds: float
    word: str


class Record(Part):
    step: Step
    parts: list[Part]


@pytest.mark.parametrize(
    ("value", "shape", "message"),
    [
        ({"step": 2**60, "parts": []}, Record, "step must be at least 0 and at most 9,007.*, got 1152921504606846976"),
        ({"step": True, "parts": []}, Record, "step must be a whole number, got True"),
        ({"step": 3.0, "parts": []}, Record, "step must be a whole number, got 3.0"),
        ({"step": 3}, Record, "parts is missing"),
        ({"step": 3, "parts": [{}, {"word": 1}]}, Record, r"parts\[1\].word must be text, got 1"),
        ({"step": 3, "parts": {"a": 1}}, Record, "parts must be a list, got dict"),
        ([], Record, r"it must be a record in braces, got \[\]"),
        ({"seconds": float("nan")}, Part, "seconds must be a finite number, got nan"),
        ({"seconds": 10**400}, Part, r"seconds must be a finite number, got a number of 1329 bits$"),
        ({"a": "1"}, dict[str, Number], "a must be a number, got '1'"),
        ({1: 1.0}, dict[str, float], "a key of it must be text, got 1"),
        (0, Annotated[int, Range(1, 9)], "it must be at least 1 and at most 9, got 0"),
        ("c", Literal["a", "b"], "it must be one of a, b, got 'c'"),
        ([], str | None, r"it must be text or null, got \[\]"),
        (1, bool, "it must be true or false, got 1"),
        ({"a": {"seconds": "x"}}, dict[str, Part | None], "a.seconds must be a finite number, got 'x'"),
        (0, Annotated[int, Range(1, 9)] | None, "it must be at least 1 and at most 9, got 0"),
        ("x", int | bool | None, "it must be a whole number or true or false or null, got 'x'"),
    ],
)
def test_a_shape_refuses(value, shape, message):
    with pytest.raises(ShapeError, match=message):
        fit(value, shape)


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ({"step": 0, "parts": [{"seconds": 1}], "of a newer version": None}, Record),
        (float("nan"), Number),
        (None, str | None),
        ({"a": [1, "x"]}, dict[str, Any]),
        ({0: {}}, dict[int, dict[str, Any]]),
    ],
)
def test_a_shape_accepts(value, shape):
    fit(value, shape)


@pytest.mark.parametrize("read", [read_json, read_yaml])
@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"\xff\xfe{}", "is damaged: it is no UTF-8 text"),
        (b'{"seconds": "long"}', "is damaged: seconds must be a finite number, got 'long'"),
        (b"[" * 100_000, "is damaged: it is nested too deep"),
        (b'{"seconds": ', "is damaged: "),
        (b"", "is damaged: "),
    ],
)
def test_a_file_of_one_record(read, contents, message, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(contents)
    with pytest.raises(FullrankError, match=f"^{path} {message}.*; delete it$") as error:
        read(path, Part, "delete it")
    assert "\n" not in str(error.value)
    path.unlink()
    with pytest.raises(FullrankError, match=f"^cannot read {path}: No such file or directory; delete it$"):
        read(path, Part, "delete it")
    path.write_text('{"seconds": 1.5}')
    assert read(path, Part, "delete it") == {"seconds": 1.5}


def test_only_a_last_line_without_an_end_was_being_written(tmp_path):
    path = tmp_path / "x"

    def read():
        return read_json_lines(path, lambda record: fit(record, dict[str, Step]), "mend it")

    assert read() == []
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": ')
    assert read() == [{"a": 1}, {"a": 2}]
    path.write_text('{"a": 1}\n{"a": 2}')
    assert read() == [{"a": 1}, {"a": 2}]
    for text, message in (
        ('{"a": 1}\n{"a": \n{"a": 2}\n', "line 2 is not a record: '{\"a\": '; mend it"),
        ('{"a": 1}\n\n{"a": 2}\n', "line 2: it is empty; mend it"),
        ('{"a": 1}\n{"a": -1}\n', "line 2: a must be at least 0 and .*, got -1; mend it"),
    ):
        path.write_text(text)
        with pytest.raises(FullrankError, match=f"{path} is damaged: {message}"):
            read()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"b": np.zeros(2)}, "a is missing"),
        ({"a": np.zeros((2, 2))}, r"a must be of floating in 1 dimensions, got float64 \(2, 2\)"),
        ({"a": np.zeros(2, dtype=np.int64)}, r"a must be of floating in 1 dimensions, got int64 \(2,\)"),
        ({"a": np.array([0.0, np.inf])}, "a must be finite numbers, got inf"),
    ],
)
def test_arrays(arrays, message, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(arrays, path)
    with pytest.raises(FullrankError, match=f"{path} is damaged: {message}; put it back"):
        read_arrays(path, "put it back", a=(np.floating, 1))
    save_file({"a": np.arange(3.0)}, path)
    assert read_arrays(path, "put it back", a=(np.floating, 1))[0].tolist() == [0, 1, 2]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FullrankError, match=f"{path} is damaged: .*; put it back"):
        read_arrays(path, "put it back", a=(np.floating, 1))


def test_a_long_value_is_not_shown_whole():
    with pytest.raises(ShapeError) as error:
        fit(json.loads(f'"{"x" * 1000}"'), float)
    assert len(str(error.value)) < 150
