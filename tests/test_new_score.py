"""A score that is registered in one place shows everywhere."""

import json

import pytest

from fullrank.cli import main
from fullrank.errors import FullrankError
from fullrank.measure.scores import SCORES, ScoreKind, register
from fullrank.report.document import write_report
from fullrank.studies.study import Cell, Result
from fullrank.studies.views import overview, through_training
from fullrank.training.loop import train
from fullrank.training.runs import read_run
from tests.training.tiny import quiet, tiny


@pytest.fixture
def toy():
    kind = register(ScoreKind("toy", "toy of scores", "higher", lambda spectrum: 10 * spectrum.auc, spectrum="centered",
                              monitored=True, digits=2, range="[5, 10]", source="nobody"))  # fmt: skip
    yield kind
    del SCORES["toy"]


def test_a_new_score_shows_everywhere(toy, tmp_path, capsys, no_drawing):
    config = tiny(steps=4, out=tmp_path / "run")
    train(config, console=quiet())
    record = read_run(tmp_path / "run")
    last = record.of_kind("measure")[-1]
    assert last["toy"] == pytest.approx(10 * last["auc"])
    page = write_report([tmp_path / "run"], tmp_path / "report.html").read_text("utf-8")
    assert "toy of scores" in page
    assert f">{last['toy']:.2f}<" in page
    assert main(["inspect", str(tmp_path / "run"), "--limit", "60", "--views", "none", "--no-untrained", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["inspected"]
    assert next(score for score in found["scores"] if score["name"] == "toy")["direction"] == "higher"
    assert main(["rank", str(tmp_path / "run"), "--scores", "toy", "--limit", "60"]) == 0
    assert "toy of scores" in " ".join(capsys.readouterr().out.split())
    result = Result(Cell({"order": "hybrid"}, config), 0, record)
    assert "toy of scores" in overview([result], ["toy"], rows=["order"]).header
    assert through_training([result], "toy", color="order").title == "Toy of scores through training"


def test_a_direction_that_there_is_not_is_refused():
    with pytest.raises(FullrankError, match="direction must be one of lower, higher, none, got 'up'"):
        register(ScoreKind("up", "up", "up", function=float))
