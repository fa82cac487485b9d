"""One table of scores: what is in it, how values are written, and that a new one shows everywhere."""

import pytest

from fullrank.errors import FullrankError
from fullrank.evaluation.evaluate import PROBES
from fullrank.measure.protocols import ACCURACIES, obstacle
from fullrank.measure.scores import SCORES, Score, ScoreKind, kind_of, read_score, register, take, title
from fullrank.ranking.candidates import FEATURES, FORECAST, FRONT


@pytest.mark.parametrize("probe", PROBES)
def test_every_probe_is_a_share(probe):
    assert SCORES[probe].write(0.5) == "50.0\N{NO-BREAK SPACE}%"
    assert (SCORES[probe].axis, SCORES[probe].scale) == (f"{title(probe)} (%)", 100.0)


def test_what_rankings_say_has_a_name():
    assert {*ACCURACIES, *FEATURES, FORECAST, FRONT} <= set(SCORES)


def test_monitored_scores_are_of_centered_features():
    with pytest.raises(FullrankError, match="mine is of uncentered features, and a run monitors centered ones"):
        register(ScoreKind("mine", "mine", "lower", spectrum="uncentered", monitored=True))


def test_a_name_is_taken_once():
    with pytest.raises(FullrankError, match="there is a score 'auc' already: give yours another name"):
        register(ScoreKind("auc", "mine", "lower"))


def test_a_score_that_fails_says_why():
    def fails(x):
        raise RuntimeError("boom")

    assert take(ScoreKind("mine", "mine", "lower", fails), 0, {"n": 1}) == Score(
        "mine", None, {"n": 1}, "it failed: RuntimeError: boom"
    )
    assert take(ScoreKind("mine", "mine", "lower", lambda x: float("nan")), 0, {}).value is None
    with pytest.raises(FullrankError, match="there is no AUC: too few"):
        _ = Score("auc", None, why="too few").taken


def test_a_score_is_read_as_it_was_written():
    score = Score("knn", 0.5, {"k": 20}, chosen={"k": 20})
    assert read_score(score.as_dict()) == score
    assert read_score({"name": "auc", "value": 0.7, "better": "lower", "protocol": {}}) == Score("auc", 0.7)
    assert kind_of("nobody's").direction == "none"


@pytest.mark.parametrize(
    "found", [[], {}, {"name": 1}, {"name": "a", "value": "x"}, {"name": "a", "value": float("nan")},
              {"name": "a", "value": True}, {"name": "a", "value": 1, "protocol": [1]}]
)  # fmt: skip
def test_what_is_no_score_is_not_read(found):
    with pytest.raises(ValueError, match="score|value|name|protocol"):
        read_score(found)


def test_protocols_of_before_compare_with_those_of_now_though_they_are_spelled_otherwise():
    old = {"name": "linear", "value": 0.5, "protocol": {"optimiser": "LARS", "features": "standardised by them"}}
    new = {"optimizer": "LARS", "features": "standardized by them"}
    assert read_score(old).protocol == new
    assert not obstacle("linear", [read_score(old).protocol, new])
