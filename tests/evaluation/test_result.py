import json

import pytest

from fullrank import __version__
from fullrank.errors import FullrankError
from fullrank.evaluation.result import EVALUATION, keep, read_evaluation
from fullrank.measure.scores import Score


def kept(run):
    return [(score.name, score.protocol["k"], score.value) for score in read_evaluation(run).scores]


def test_a_score_replaces_that_of_its_name_and_protocol(tmp_path):
    assert read_evaluation(tmp_path) is None
    assert keep(tmp_path, 100, [Score("knn", 0.5, {"k": 20}), Score("knn", 0.6, {"k": (1, 2)})]) == 0
    assert keep(tmp_path, 100, [Score("logistic", 0.7, {"k": 20})]) == 0
    assert keep(tmp_path, 100, [Score("knn", 0.8, {"k": (1, 2)}, chosen={"k": 2})]) == 0
    assert kept(tmp_path) == [("knn", 20, 0.5), ("logistic", 20, 0.7), ("knn", [1, 2], 0.8)]
    document = json.loads((tmp_path / EVALUATION).read_text())
    assert (document["fullrank"], document["step"]) == (__version__, 100)
    assert document["scores"][2] == {
        "name": "knn",
        "value": 0.8,
        "direction": "higher",
        "protocol": {"k": [1, 2]},
        "chosen": {"k": 2},
    }
    assert [path.name for path in tmp_path.iterdir()] == [EVALUATION]


def test_scores_of_another_step_are_forgotten(tmp_path):
    keep(tmp_path, 100, [Score("knn", 0.5, {"k": 20}), Score("knn", 0.6, {"k": 5})])
    assert keep(tmp_path, 200, [Score("knn", 0.7, {"k": 20})]) == 2
    assert kept(tmp_path) == [("knn", 20, 0.7)]


@pytest.mark.parametrize("text", ["{", "[]", '{"scores": []}', '{"step": 1, "scores": [{"name": "knn"}]}', "\xff"])
def test_what_is_damaged_is_not_written_over(text, tmp_path):
    (tmp_path / EVALUATION).write_bytes(text.encode("latin-1"))
    with pytest.raises(FullrankError, match=r"evaluation\.json is damaged: .*; delete it and evaluate again"):
        keep(tmp_path, 100, [Score("knn", 0.5, {"k": 20})])
    assert (tmp_path / EVALUATION).read_bytes() == text.encode("latin-1")
