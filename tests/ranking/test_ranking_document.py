"""The page about a ranking: whole, self-contained, and true to what was found."""

import re

import pytest

from fullrank.documents.html import write_page
from fullrank.errors import FullrankError
from fullrank.ranking.document import document
from fullrank.ranking.options import RankOptions
from fullrank.ranking.rank import rank
from tests.pages import Page
from tests.ranking.ranked_runs import ranked_run, sweep
from tests.report.run_folders import make_run


def page(ranking):
    found = Page(document(ranking).html())
    assert len(found.ids) == len(set(found.ids))
    assert "script" not in found.tags
    assert all(link.startswith(("data:", "#")) for link in found.links)
    assert not re.search(r"https?:|@import|file:", found.source)
    return found


def test_page(tmp_path):
    paths = sweep(tmp_path / "runs", 25, labelled=18)
    paths[0] = paths[0].rename(paths[0].with_name("<&> $x^2$"))
    found = rank(paths)
    shown = page(found)
    for words in (
        "25 runs ranked",
        "<&> $x^2$",
        "Held-out loss against AUC",
        "Forecast against measured k-NN accuracy",
        "As [Li22] Fig. 4",
        "Kendall tau-b",
        "the score is the same",
        "* forecast by a fit without this run",
    ):
        assert words in shown.text
    for each in found.standings:
        assert any(f"{each.number}: {each.scores['heldout_loss'].text}" in alt for alt in shown.alts)
    out = write_page(document(found), tmp_path / "new" / "rank.html")
    assert out.read_text(encoding="utf-8") == shown.source
    with pytest.raises(FullrankError, match="is a folder: name the page to write"):
        write_page(document(found), tmp_path)


def test_an_auc_of_directions_that_nothing_spans_is_marked(tmp_path):
    few = ranked_run(tmp_path / "few", -0.8, 0.9, protocols={"spectrum": {"n": 16}})
    enough = ranked_run(tmp_path / "enough", -0.8, 0.9, protocols={"spectrum": {"n": 17}})
    shown = document(rank([few, enough])).markdown()
    assert len(re.findall(r"\|[^|\n]*0.900 †", shown)) == 1
    assert "† counts as dead what so few images cannot span" in shown
    assert "†" not in document(rank([enough])).markdown()


def test_each_group_has_its_figures(tmp_path, no_drawing):
    paths = [
        *sweep(tmp_path / "a", 5),
        *sweep(tmp_path / "b", 6, width=32),
        ranked_run(tmp_path / "c", 0, 0.7, width=8),
    ]
    shown = page(rank(paths))
    assert sum(alt.startswith("Held-out loss and AUC of each run") for alt in shown.alts) == 2
    assert sum(alt.startswith("Forecast and measured") for alt in shown.alts) == 2
    assert "Not ranked against any other" in shown.text


def test_unlabelled_runs_have_no_figure_of_accuracy(tmp_path):
    shown = page(rank(sweep(tmp_path, 4, labelled=0)))
    assert "Forecast" not in shown.text
    assert "How well each score ranks" not in shown.text
    assert "hollow" not in shown.text


def test_nothing_to_draw(tmp_path):
    assert "one · fullrank ranking" in page(rank([ranked_run(tmp_path / "one", -0.8, 0.7)])).text
    shown = page(rank([ranked_run(tmp_path / "blind", None, 0.7), ranked_run(tmp_path / "seeing", -0.8, 0.7)]))
    assert "2 runs side by side" in shown.text


def test_steps_of_one_run(tmp_path):
    assert "5 steps of run" in page(rank([make_run(tmp_path / "run", steps=1000, every=200)])).text


def test_a_forecast_from_a_file_says_so(tmp_path):
    rank(sweep(tmp_path / "a", 6), RankOptions(fit=tmp_path / "fit.json"))
    text = page(rank(sweep(tmp_path / "b", 6, seed=1), RankOptions(forecast=tmp_path / "fit.json"))).text
    assert "Each forecast is by a fit on other runs" in text
