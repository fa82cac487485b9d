"""What is compared, and what is refused and why."""

import numpy as np
import pytest

from fullrank.documents import scores as side_by_side
from fullrank.documents.scores import Scored
from fullrank.inspection.inspect import inspect
from fullrank.inspection.result import document


def scored(found):
    return [Scored(each.name, i, each.scores) for i, each in enumerate(found)]


def obstacle(found, name):
    return side_by_side.obstacle(scored(found), name)


def comparison(found):
    return found[0].document().data["comparison"] if len(found) == 1 else document(found).data["comparison"]


@pytest.fixture
def found(tmp_path):
    def make(**shapes):
        paths = []
        for name, (n, d) in shapes.items():
            path = tmp_path / f"{name}.npy"
            np.save(path, np.random.default_rng(len(paths)).standard_normal((n, d)) * np.linspace(1, 0.2, d))
            paths.append(str(path))
        return inspect(paths)

    return make


def test_one_alone_is_compared_with_nothing(found):
    assert comparison(found(a=(200, 8))) == []


def test_equal_widths_compare_by_all(found, tmp_path):
    pair = found(a=(200, 16), b=(200, 16))
    assert all(obstacle(pair, name) == "" for name in pair[0].scores)
    said = comparison(pair)
    steeper = tmp_path / "steep.npy"
    np.save(steeper, np.random.default_rng(0).standard_normal((200, 16)) * np.linspace(1, 0, 16) ** 3)
    assert said[0].startswith("AUC: ")
    assert "no further apart than two seeds" in said[0]
    assert "a matrix does not say which images" in said[-1]
    steep = [pair[0], *inspect([str(steeper)])]
    assert comparison(steep)[0].startswith(f"AUC: lowest for {pair[0].name} (")


def test_other_widths_refuse_what_depends_on_them(found):
    pair = found(a=(200, 8), b=(200, 16))
    assert obstacle(pair, "auc") == "it depends on the width D, and that is 8 and 16 here"
    assert obstacle(pair, "two_nn") == ""
    said = " ".join(comparison(pair))
    assert "AUC, RankMe and participation ratio cannot be compared: it depends on the width D" in said
    assert "what can be compared is alpha-ReQ" not in said
    assert "self-clustering" in said


def test_other_numbers_of_images(found):
    plenty = found(a=(1600, 8), b=(2000, 8))
    assert obstacle(plenty, "auc") == ""
    assert "depends on N, and that is 1,600 and 2,000" in obstacle(plenty, "two_nn")
    assert "depends on N" in obstacle(found(a=(40, 8), b=(800, 8)), "auc")  # five times D bends it by more
    assert "depends on N" in obstacle(found(a=(20, 8), b=(200, 8)), "auc")


def test_other_protocols(found):
    from dataclasses import replace

    a, b = found(a=(200, 8), b=(200, 8))
    scores = {k: replace(v, protocol={**v.protocol, "images": "digits"}) for k, v in a.scores.items()}
    assert obstacle([replace(a, scores=scores), b], "auc") == ""  # not stated is not different
    other = {k: replace(v, protocol={**v.protocol, "images": "cifar10"}) for k, v in b.scores.items()}
    pair = [replace(a, scores=scores), replace(b, scores=other)]
    assert obstacle(pair, "auc") == "measured in different ways (images)"


def test_a_score_that_one_of_them_lacks(found, tmp_path):
    np.save(tmp_path / "constant.npy", np.ones((200, 8)))
    pair = [*found(a=(200, 8)), *inspect([str(tmp_path / "constant.npy")])]
    assert obstacle(pair, "two_nn") == "not measured for constant.npy"
