"""Evaluations as a terminal shows them."""

import io

import pytest
from rich.console import Console

from fullrank.evaluation.result import Evaluation, document
from fullrank.measure.scores import Score

WARNING = "trained too little, LARS let weights grow e^0.37-fold at most: raise --linear.base-lr to 14"


def shown(width, name):
    scores = (
        Score("knn", 0.4321, {"mode": "eval", "k": "1 to 200"}, chosen={"k": 13}),
        Score("logistic", 0.5, {"mode": "eval"}, chosen={"l2": 0.001, "gradient_norm": 9.2e-05}),
        Score(
            "linear",
            0.6,
            {"mode": "eval", "epochs": 90},
            chosen={"best_over_epochs": 0.61234, "best_epoch": 87, "warning": WARNING},
        ),
    )
    console = Console(file=io.StringIO(), width=width)
    document([Evaluation(name, None, 12_500, {score.name: score for score in scores})]).print(console)
    return console.file.getvalue().replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize("width", [72, 80, 120])
def test_names_and_values_keep_their_width_beside_a_warning(width):
    lines = [line.split() for line in shown(width, "sweep/hybrid-s0").splitlines()]
    assert lines[0] == ["run", "steps", "probe", "value", "chosen"]
    for score, value in (("k-NN", "43.2"), ("logistic", "50.0"), ("linear", "60.0")):
        (row,) = [line for line in lines if line[2:3] == [score]]
        assert row[:2] == ["sweep/hybrid-s0", "12,500"]
        assert f"{value} %" in " ".join(row)


def test_at_80_columns_what_was_chosen_is_whole_and_the_warning_stands_below():
    text = shown(80, "sweep/hybrid-s0")
    assert all(len(line) <= 80 for line in text.splitlines())
    below = " ".join(text.partition("k-NN accuracy: ")[2].split())
    assert all(word in text for word in ("best_over_epochs", "61.2", "best_epoch", "l2 0.001", "9.2e-05"))
    assert "warning" not in text
    assert below.endswith(f"sweep/hybrid-s0: linear probe accuracy: {WARNING}")


def test_a_name_too_long_for_any_table_is_folded_and_all_else_is_kept():
    text = shown(80, "a-long-name-of-a-run-" * 5)
    assert all(word in text for word in ("43.2", "50.0", "60.0", "12,500", "logistic", "mode eval, epochs 90"))
