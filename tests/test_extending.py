"""A method, an order, views and a source of images, each registered in one place of somebody else's code."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.data import Dataset

import fullrank
from fullrank.cli import main
from fullrank.config import TrainConfig, read_config, to_dict
from fullrank.data.images import open_images
from fullrank.data.views import ViewRecipe
from fullrank.errors import FullrankError
from fullrank.models.methods import JointEmbedding
from fullrank.orders import Order, Segment
from fullrank.registry import (
    METHODS,
    ORDERS,
    SOURCES,
    VIEWS,
    register_method,
    register_order,
    register_source,
    register_views,
)
from fullrank.training.loop import resume, train
from fullrank.training.runs import read_run
from fullrank.training.setup import build_order
from tests.training.tiny import quiet, tiny


class Squares(Dataset):
    """Gray squares of one brightness a class, as pairs."""

    def __len__(self):
        return 60

    def __getitem__(self, index):
        return torch.full((3, 16, 16), 40 * (index % 3), dtype=torch.uint8), index % 3


@pytest.fixture
def extended():
    @register_method("toy-method")
    class Toy(JointEmbedding):
        @staticmethod
        def criterion(z1, z2, *, temperature=2.0):
            return (z1 - z2).square().mean() / temperature

    @register_order("toy-order")
    @dataclass(frozen=True)
    class Halves(Order):
        chunks: int = 2
        reverse: int = 0
        seed: int = 0

        def segment(self, step):
            late = (step >= self.steps // 2) != bool(self.reverse)
            first, stop = (0, self.steps // 2) if step < self.steps // 2 else (self.steps // 2, self.steps)
            lo, hi = (self.size // 2, self.size) if late else (0, self.size // 2)
            return Segment(first, stop, lo, hi, stream=1 + late, origin=first)

    @register_views("toy-views")
    def crops():
        return ViewRecipe(jitter=0, grayscale=0, blur=0), ViewRecipe(flip=1)

    @register_source("toy-images")
    def squares(split, root):
        return Squares() if split == "train" else None

    yield
    for registry, name in ((METHODS, "method"), (ORDERS, "order"), (VIEWS, "views"), (SOURCES, "images")):
        registry.forget(f"toy-{name}")


MINE = {"method": "toy-method", "order": "toy-order", "views": "toy-views", "images": "toy-images"}


def test_all_of_them_train_and_go_on(extended, tmp_path, capsys):
    config = tiny(**MINE, subset=1.0, image_size=16, steps=6, out=tmp_path / "run", order_options={"reverse": 1})
    config = replace(config, heads=replace(config.heads, predictor_hidden=None))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(to_dict(config)))
    assert read_config(tmp_path / "mine.yaml") == config
    assert train(config, console=quiet()).complete
    record = read_run(tmp_path / "run")
    assert {name: record.config[name] for name in MINE} == MINE
    assert record.config["loss"]["temperature"] == 2.0
    assert "knn" not in record.of_kind("measure")[-1]  # the source has no held-out images
    assert resume(tmp_path / "run", console=quiet()).complete
    assert main(["train", "--config", str(tmp_path / "mine.yaml"), "--dry-run"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "toy-images: 60 (labeled)" in shown
    assert "toy-order" in shown
    with pytest.raises(FullrankError, match="order=toy-order has no option 'revers'; did you .* 'reverse'.*has chunks"):
        build_order(replace(config, order_options={"revers": 1}), 60)


def test_unknown_names_have_the_nearest(extended):
    with pytest.raises(FullrankError, match="method must be one of simsiam, .*, got 'toy-metod'; did .* 'toy-method'"):
        TrainConfig(method="toy-metod")
    with pytest.raises(FullrankError, match="method 'byol' is built in: register yours under another name"):
        register_method("byol")(Squares)
    with pytest.raises(FullrankError, match="method 'vicreg-exp' is built in: register yours under another name"):
        register_method("vicreg-exp")(Squares)  # old runs have this name


def test_the_command_line_finds_those_of_an_installed_package(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from fullrank.models.methods import SimSiam, register_method\n"
        "@register_method('mine')\n"
        "class Mine(SimSiam): pass\n"
        "def views(): return __import__('fullrank.data.views').data.views.recipe('cifar')\n"
    )
    (tmp_path / "scoring.py").write_text(
        "from fullrank.measure.scores import ScoreKind\n"
        "SCORE = ScoreKind('breadth', 'breadth', 'higher', function=lambda x: float(x.std()))\n"
    )
    about = tmp_path / "mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[fullrank.methods]\nmine = mine:Mine\n"
        "[fullrank.views]\nmine = mine:views\n"
        "[fullrank.orders]\nlost = gone:Lost\n"
        "[fullrank.scores]\nmine = scoring:SCORE\nlost = gone:SCORE\n"
    )
    config = replace(tiny(steps=2, method="simsiam"), out=str(tmp_path / "run"))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(to_dict(config)))
    path = os.pathsep.join(map(str, (tmp_path, Path(fullrank.__file__).parents[1], Path(__file__).parents[1])))
    code = "from tests import test_extending; test_extending.use_what_is_installed()"
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stderr
    shown, trained, listed, lost = json.loads((tmp_path / "said.json").read_text())
    assert "distill,mine}" in "".join(shown["out"].replace("│", "").split())
    assert trained["code"] == 0, trained["err"]
    assert read_run(tmp_path / "run").config["method"] == "mine"
    assert "breadth" in listed["code"]
    assert "the score 'lost' cannot be had from gone:SCORE: No module named 'gone'" in done.stderr
    assert lost["code"] == 1
    assert "order 'lost' cannot be had from gone:Lost: No module named 'gone'" in lost["err"]


def use_what_is_installed():
    """Use the command line and Python, and write down what they say."""
    said = []
    for call in (
        lambda: main(["train", "--help"]),
        lambda: main(["train", "--config", "run.yaml", "--method", "mine", "--views", "mine"]),
        fullrank.list_scores,
        lambda: main(["train", "--order", "lost", "--dry-run"]),
    ):
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            try:
                code = call()
            except SystemExit as leaving:
                code = leaving.code
        said.append({"code": code, "out": out.getvalue(), "err": err.getvalue()})
    Path("said.json").write_text(json.dumps(said, default=list))


@pytest.mark.parametrize(("registry", "base"), [(METHODS, "base.Method"), (ORDERS, "order.Order")])
def test_what_is_no_method_or_order_is_refused_by_name(registry, base):
    registry.register("toy-nothing")(torch.nn.Linear)
    try:
        with pytest.raises(FullrankError, match=f"'toy-nothing' is .*Linear.*, not a subclass of .*{base}"):
            registry["toy-nothing"]
    finally:
        registry.forget("toy-nothing")


def test_a_source_that_fails_is_named_and_one_that_hides_a_folder_is_said(tmp_path, monkeypatch, capsys):
    def broken(split, root):
        raise KeyError("no such table")

    register_source("broken-images")(broken)
    try:
        with pytest.raises(FullrankError, match=r"source of images 'broken-images' failed for its split 'train': KeyE"):
            open_images("broken-images")
    finally:
        SOURCES.forget("broken-images")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    open_images("digits")
    assert "the set digits is taken, and not the folder; give ./digits for that" in capsys.readouterr().err
    with pytest.raises(FullrankError, match="no images in ./digits"):
        fullrank.train(Path("digits"))
