"""`fullrank rank` as a person meets it."""

import json
import re

import pytest

from fullrank.cli import main
from tests.ranking.ranked_runs import ranked_run, sweep
from tests.report.run_folders import make_run


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


def output(capsys, *arguments):
    assert main(["rank", *map(str, arguments)]) == 0
    return capsys.readouterr()


def test_a_table_and_sentences(tmp_path, capsys):
    paths = sweep(tmp_path, 8, labelled=7)
    out = output(capsys, *paths).out
    assert re.search(r"rank +run +step +D +loss +AUC +front +forecast, 95 % +k-NN", out)
    assert re.search(r"\d +run-07 +100 +16 +−0\.\d{3} +0\.\d{3} +\d +~?\d\d\.\d.% \[\d\d\.\d, \d\d\.\d\] +–", out)
    assert re.search(r"\d +run-00 .* \*\d\d\.\d.% \[\d\d\.\d, \d\d\.\d\] +\d\d\.\d.%", out)
    assert re.search(r"forecast from loss and AUC +higher +7 +\d\.\d\d \[−?\d\.\d\d, \d\.\d\d\]", out)
    words = " ".join(out.split())
    for said in (
        "* forecast by a fit without this run",
        "Dominance decides",
        "fitted on 7 runs ([Li22] had 22)",
        "AUC: layer backbone, images digits, n 160, center yes, normalize no",
        "k-NN accuracy: k 20, weights none, distance cosine",
    ):
        assert said in words


def test_without_labels_there_is_no_column_for_them(tmp_path, capsys):
    out = output(capsys, *sweep(tmp_path, 4, labelled=0)).out
    assert "k-NN" not in out
    assert "forecast" not in out
    assert "No run has labels" in out


def test_groups_have_headings(tmp_path, capsys):
    paths = [*sweep(tmp_path / "a", 3), *sweep(tmp_path / "b", 3, width=32)]
    out = output(capsys, *paths).out
    assert re.search(r"A: D 16:\n\n *rank[^\n]*\n +1 +a/run", out)
    assert re.search(r"B: D 32:\n\nrank[^\n]*\n +1 +b/run", out)


def test_one_run_names_its_steps(tmp_path, capsys):
    out = output(capsys, make_run(tmp_path / "run", steps=1000, every=250)).out
    assert re.search(r"rank +run +D +loss +AUC +front +k-NN +weights", out)
    assert re.search(r"step 1,000 +32", out)


def test_for_programs(tmp_path, capsys):
    page, fit = tmp_path / "out" / "rank.html", tmp_path / "fit.json"
    written = output(capsys, *sweep(tmp_path, 8), "--json", "--out", page, "--fit", fit)
    found = json.loads(written.out)
    assert f"fit: {fit}" in written.err
    assert f"page: {page}" in written.err
    assert page.is_file()
    assert [each["rank"] for each in found["ranked"]] == list(range(1, 9))
    assert found["groups"][0]["forecast"]["coefficients"]["auc"]["value"] < 0
    assert {score["name"] for score in found["ranked"][0]["scores"]} >= {"heldout_loss", "auc", "rankme_centered"}
    assert all(score["protocol"] for score in found["ranked"][0]["scores"])
    assert found["scores"][0]["agreement"]["kendall_interval"][0] <= found["scores"][0]["agreement"]["kendall"]
    applied = json.loads(output(capsys, tmp_path / "run-00", "--forecast", fit, "--json").out)
    assert applied["applied"]["coefficients"] == found["groups"][0]["forecast"]["coefficients"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give at least one run: fullrank rank RUN [RUN ...]"),
        (["none"], "none does not exist: expected a folder made by `fullrank train`"),
        (["a", "b", "--fit", "fit.json"], "--fit has nothing to write: no run has labels; `fullrank evaluate RUN`"),
        (["a", "--forecast", "fit.json"], "cannot read fit.json"),
        (["a", "--scores", "rankmee"], "got 'rankmee'; did you mean 'rankme'"),
        (["a", "--out", "."], ". is a folder: name the page to write"),
    ],
)
def test_what_a_person_gets_wrong_is_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        ranked_run(tmp_path / name, -0.8, 0.7)
    assert main(["rank", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("fullrank: error: ")
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
