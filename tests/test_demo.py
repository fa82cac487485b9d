import io
from dataclasses import replace

import pytest
from rich.console import Console

from fullrank.demo import demo
from fullrank.errors import FullrankError
from tests.training.tiny import tiny


def test_the_demo_trains_two_orders_and_says_where_the_report_is(tmp_path):
    console = Console(file=io.StringIO(), width=150)
    assert demo(tmp_path / "demo", config=replace(tiny(steps=8), out=None), console=console) == 0
    text = console.file.getvalue()
    for words in ("multiple-pass", "hybrid", "held-out loss", "k-NN", "AUC", "RankMe", "random weights"):
        assert words in text
    assert f"report: {tmp_path / 'demo' / 'report.html'}" in text
    page = (tmp_path / "demo" / "report.html").read_text()
    assert "hybrid" in page


def test_the_demo_numbers_its_folder_and_overwrites_nothing(tmp_path, monkeypatch, no_drawing):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    console = Console(file=io.StringIO())
    assert demo(None, config=tiny(steps=4), console=console) == 0
    assert (tmp_path / "runs" / "demo-2" / "report.html").is_file()
    with pytest.raises(FullrankError, match="demo-2 exists and is not an empty folder"):
        demo(tmp_path / "runs" / "demo-2", config=tiny(steps=4), console=console)
