import io
from dataclasses import replace

import pytest
from rich.console import Console

from fullrank.cli import main
from fullrank.demo import demo
from fullrank.errors import FullrankError
from fullrank.training.loop import Finished
from fullrank.training.presets import preset
from tests.training.tiny import tiny


def test_the_demo_trains_two_orders_and_says_where_the_report_is(tmp_path, no_drawing):
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


def test_the_full_demo_trains_where_the_order_matters(tmp_path, monkeypatch):
    trained = []

    def train(config, console):
        trained.append(config)
        return Finished(path=tmp_path, step=0, signal=0 if len(trained) < 2 else 2)

    monkeypatch.setattr("fullrank.demo.train", train)
    assert main(["demo", "--full", "--out", str(tmp_path / "demo")]) == 130
    assert [config.order for config in trained] == ["multiple-pass", "hybrid"]
    assert {config.optim.weight_decay for config in trained} == {preset("simsiam-collapse-short").optim.weight_decay}
