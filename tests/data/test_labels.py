"""Labels: what a column becomes, and the rule by which those of two sets are matched."""

import decimal
import json
import re

import numpy as np
import pyarrow as pa
import pytest
import torch

from fullrank.data.images import ArrayImages
from fullrank.data.labels import Labels, class_names, join_labels, match_labels, read_labels
from fullrank.errors import FullrankError


def labelled(values, classes=None, numbered=True, name="x"):
    images = ArrayImages(name, torch.zeros(len(values), 3, 1, 1, dtype=torch.uint8), torch.tensor(values))
    images.classes, images.numbered = classes, numbered
    return images


NUMBERS = labelled([0, 2, 10, 1, -1])
DIGITS = labelled([0, 1, 2, 3, 3], ("0", "1", "10", "2"), numbered=False)  # class folders, as they are sorted
WORDS = labelled([0, 1, 2], ("bird", "cat", "dog"), numbered=False, name="words")
CLASSLABEL = labelled([0, 1, 2], ("dog", "cat", "bird"))
UNSORTED = labelled([0, 1, 2], ("0", "10", "2"))  # a ClassLabel of folders' names: number 1 is called 10


@pytest.mark.parametrize(
    ("images", "reference", "expected"),
    [
        (labelled([5, 2, -1]), NUMBERS, [5, 2, -1]),
        (DIGITS, NUMBERS, [0, 1, 10, 2, 2]),
        (NUMBERS, DIGITS, [0, 3, 2, 1, -1]),
        (labelled([7, 10]), DIGITS, [4, 2]),  # 7 is of no class there
        (labelled([0, 1], ("7", "2"), numbered=False), NUMBERS, [11, 2]),
        (labelled([0, 1], ("007", "002"), numbered=False), labelled([2, 7]), [7, 2]),
        (labelled([2, 0, -1, 1], ("cat", "fish", "dog"), numbered=False), WORDS, [2, 1, -1, 3]),
        (WORDS, CLASSLABEL, [2, 1, 0]),
        (CLASSLABEL, WORDS, [2, 1, 0]),
        (labelled([2, 0, 7]), CLASSLABEL, [2, 0, 7]),  # both are numbers
        (CLASSLABEL, labelled([2, 0, 7]), [0, 1, 2]),
        (labelled([2, 10, 1]), UNSORTED, [2, 1, 3]),  # by what the names say, never by their places
        (labelled([0], ("cafe\u0301",), numbered=False), labelled([0, 1], ("a", "caf\u00e9"), numbered=False), [1]),
        (labelled([0], ("dog",), numbered=False), WORDS, [2]),
        (labelled([1_000_000_000, 0]), labelled([0, 1_000_000_000]), [1_000_000_000, 0]),
        (labelled([-1, -1]), labelled([-1]), [-1, -1]),
    ],
)
def test_labels_are_matched_by_name_and_by_number_only_where_both_are_numbers(images, reference, expected):
    assert match_labels(images, reference).tolist() == expected


@pytest.mark.parametrize("names", [("bird", "cat", "dog"), ("7", "07", "1"), ("1", "2", "x")])
def test_names_and_numbers_that_do_not_say_the_same_are_refused(names):
    named = labelled([0, 1, 2], names, numbered=False, name="words")
    for one, other in ((named, NUMBERS), (NUMBERS, named)):
        with pytest.raises(
            FullrankError, match=r"labels of words are names .* and those of x numbers .0, 1, 2 and \d+"
        ):
            match_labels(one, other)


def casts_halves() -> bool:
    try:
        pa.array(np.array([2.0], np.float16)).cast(pa.float64())
    except pa.ArrowNotImplementedError:
        return False
    return True


HALVES = pytest.mark.skipif(not casts_halves(), reason="this pyarrow casts no half floats")


@pytest.mark.parametrize(
    ("column", "values", "classes"),
    [
        *((pa.array([3, 0, None], kind), [3, 0, -1], None) for kind in (pa.uint8(), pa.int16(), pa.uint64())),
        (pa.array([3.0, np.nan, None, -1.0], pa.float64()), [3, -1, -1, -1], None),
        pytest.param(pa.array(np.array([2.0], np.float16)), [2], None, marks=HALVES),
        (pa.array([True, False, None]), [1, 0, -1], None),
        (pa.array([decimal.Decimal("12.00"), None]), [12, -1], None),
        (pa.array([10**9, 0]), [10**9, 0], None),
        (pa.array(["dog", "", None, "cat"]), [1, -1, -1, 0], ("cat", "dog")),
        (pa.array(["10", "2", "10"]).dictionary_encode(), [0, 1, 0], ("10", "2")),
        (pa.array([7, 5, None], pa.uint16()).dictionary_encode(), [7, 5, -1], None),
        (pa.array(["b", "a"], pa.large_string()), [1, 0], ("a", "b")),
    ],
)
def test_a_column_becomes_labels(column, values, classes):
    found = read_labels(pa.chunked_array([column[:1], column[1:]]), None, "x.parquet")
    assert (found.values.tolist(), found.classes, found.numbered) == (values, classes, classes is None)
    assert found.values.dtype == np.int64


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        (pa.array([0.5, 1.0]), "holds numbers that are not whole"),
        (pa.array([np.inf]), "holds numbers that are not whole"),
        (pa.array([decimal.Decimal("1.5")]), "holds numbers that are not whole"),
        (pa.array([0, -7]), "holds -7, and numbers of classes are at least 0, or -1 for none"),
        (pa.array([2**63], pa.uint64()), "holds 9223372036854775808, which is more than 2.63 - 1"),
        (pa.array([[1, 2]]), "holds list<.*>, not numbers or names of classes"),
        (pa.array([0], pa.timestamp("s")), "holds timestamp"),
    ],
)
def test_a_column_that_holds_no_classes_is_left_out_and_that_is_said(column, fault, capsys):
    assert read_labels(pa.chunked_array([column]), None, "x.parquet, column 'label'") is None
    said = capsys.readouterr().err
    assert re.search(f"x.parquet, column 'label': {fault}.*: its images are taken without labels", said)


def test_class_names_come_from_hugging_faces_metadata():
    about = {"info": {"features": {"label": {"names": ["dog", "cat"], "_type": "ClassLabel"}, "image": {}}}}
    metadata = {b"huggingface": json.dumps(about).encode()}
    assert class_names(metadata, "label") == ["dog", "cat"]
    for other in (None, {}, {b"huggingface": b"{"}, {b"huggingface": b"[]"}, {b"huggingface": b"\xff"}):
        assert class_names(other, "label") is None
    column = pa.chunked_array([pa.array([1, 0, -1])])
    assert read_labels(column, ["dog", "cat"], "x")[1:] == (("dog", "cat"), True)
    assert read_labels(column, ["dog"], "x").classes is None  # a number that the names do not reach


def test_labels_of_several_files_are_put_together(capsys):
    def part(values, classes=None, numbered=True):
        return Labels(np.array(values), classes, numbered)

    assert join_labels([part([1]), part([0])], ["a", "b"]).values.tolist() == [1, 0]
    joined = join_labels([part([0, -1], ("dog",), False), part([0, 1], ("ant", "dog"), False)], ["a", "b"])
    assert (joined.values.tolist(), joined.classes, joined.numbered) == ([1, -1, 0, 1], ("ant", "dog"), False)
    with pytest.raises(FullrankError, match="the labels of b are names and those of a numbers: write them alike"):
        join_labels([part([0]), part([0], ("dog",), False)], ["a", "b"])
    assert join_labels([part([0]), None], ["a", "b"]) is None
    assert capsys.readouterr().err == "b has no labels, so those of the other files are left out\n"


def test_numbers_that_may_be_names_are_refused_where_it_makes_a_difference():
    stars = labelled([0, 1, 4], ("1", "2", "3", "4", "5"))
    assert match_labels(labelled([0, 1, 4]), stars).tolist() == [0, 1, 4]  # 0 is no name
    assert match_labels(labelled([1, 5]), stars).tolist() == [0, 4]  # 5 is no number
    with pytest.raises(FullrankError, match=r"\(1, 4\) may be the numbers of the classes of x, or their names \(1, 2"):
        match_labels(labelled([1, 4]), stars)
    assert match_labels(labelled([0, 2]), labelled([0, 1, 2], ("0", "1", "2"))).tolist() == [0, 2]


def test_a_set_without_any_label_has_none():
    assert match_labels(labelled([-1, -1]), DIGITS).tolist() == [-1, -1]
