"""Every study at both scales: settings that can be trained, each once, and a page from what is finished of them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.studies.made_up import decaying, finished

from fullrank.config import BackboneConfig, MonitorConfig, TrainConfig
from fullrank.documents import Picture, Table, Words
from fullrank.errors import FullrankError
from fullrank.models.backbones import backbone, width_of
from fullrank.studies.bases import clock, short, simsiam
from fullrank.studies.registry import STUDIES, find
from fullrank.studies.store import planned, settings
from fullrank.studies.study import ACCURACY, Results
from fullrank.training import setup
from fullrank.training.optim import learning_rate

SIZES = {
    "cifar10": 50_000,
    "tiny-imagenet-32/train.parquet": 100_000,
    "imagenet/train": 1_281_167,
    "places365": 1_803_460,
}
SCALES = ("lab", "paper")
ALL = [(name, scale) for name in STUDIES for scale in SCALES]


def test_the_studies_are_those_of_the_issue():
    assert set(STUDIES) == {
        *("orders", "subsets", "width-depth", "forecast", "hybrid-switch", "ema", "places", "distill", "vit"),
        *("nnsiam", "warmup", "duality-dims", "decay", "regime", "heads", "boundaries", "collapse"),
    }
    for name, study in STUDIES.items():
        assert find(name) is study
        assert study.name == name
        assert study.question.endswith("?")


def test_the_documentation_counts_their_runs():
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text("utf-8")
    found = re.findall(r"^\| `([\w-]+)` \|.*\| (\d+), (\d+)(?: \(of others\))? \|$", text, re.MULTILINE)
    assert {name: (int(lab), int(paper)) for name, lab, paper in found} == {
        name: tuple(len(planned(study, scale, [0])) for scale in SCALES) for name, study in STUDIES.items()
    }


def test_a_field_that_is_left_open_now_renames_no_run():
    """The names of committed results follow from the settings: from log_every=50, when that was the default, too."""
    assert settings(TrainConfig()) == settings(TrainConfig(monitor=MonitorConfig(log_every=50))) == {}
    assert settings(TrainConfig(monitor=MonitorConfig(log_every=49))) == {"monitor.log_every": 49}


def test_an_unknown_study_names_the_nearest():
    with pytest.raises(FullrankError, match="unknown study 'order'; did you mean 'orders'"):
        find("order")


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_settings_are_told_apart_and_their_runs_too(name, scale):
    cells = STUDIES[name].cells(scale)
    assert len({tuple(cell.factors.items()) for cell in cells}) == len(cells)
    if name not in ("forecast", "collapse"):  # whose settings are those of several studies
        assert len({tuple(cell.factors) for cell in cells}) == 1
    runs = planned(STUDIES[name], scale, [0, 1])
    assert len(runs) == len({run.name for run in runs}) == 2 * len(cells)
    names = {(run.name, run.seed) for run in runs}
    for run in runs:
        if run.cell.teacher is not None:
            assert (run.config.target.teacher, run.seed) in names
        assert (run.config.method == "distill") == (run.cell.teacher is not None)


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_orders_fit_the_real_sets(name, scale):
    for cell in STUDIES[name].cells(scale):
        config = cell.config
        size = round(config.subset * SIZES[config.images])
        order = setup.build_order(config, size)  # which refuses a chunk smaller than a batch
        assert len(order) == config.steps
        segments = [order.segment(step) for step in (0, config.steps // 2, config.steps - 1)]
        assert min(segment.hi - segment.lo for segment in segments) >= config.batch_size


def test_every_setting_can_be_built_and_projectors_grow_with_representations(monkeypatch):
    def teacher(config):
        return backbone(BackboneConfig("resnet18", width=0.125), image_size=config.image_size)

    monkeypatch.setattr(setup, "open_teacher", teacher)
    widths = {}
    for name, scale in ALL:
        for cell in STUDIES[name].cells(scale):
            config = cell.config
            kind = (config.method, config.backbone, config.heads, config.loss, config.target, config.image_size)
            if kind not in widths:
                with torch.device("meta"):  # shapes without numbers
                    widths[kind] = width_of(setup.build_method(config).backbone)
            if config.method in ("simsiam", "nnsiam") and name != "heads":  # which varies it
                twice = scale == "lab" and config.backbone.name != "test_vit"
                assert config.heads.projector_hidden == widths[kind] * (1 + twice), cell.factors
    for cell in STUDIES["heads"].cells("lab"):
        config = cell.config
        kind = (config.method, config.backbone, config.heads, config.loss, config.target, config.image_size)
        assert f"D = {widths[kind]}" == cell.factors["representation"]
    assert len(widths) > 40


@pytest.mark.parametrize("scale", SCALES)
def test_the_clock_is_the_sum_of_rate_times_decay(scale):
    config = simsiam(scale)
    every = config.optim.cosine_every
    steps = range(0, config.steps, every)
    rates = [learning_rate(step, config.steps, config.optim, config.batch_size) for step in steps]
    assert clock(config) == pytest.approx(every * sum(rates) * config.optim.weight_decay, rel=0.011)


def test_clocks_of_the_study_of_decay():
    times = {"lab": [0.25, 0.5, 1.0, 1.5, 2.0, 4.0], "paper": [0.25, 0.5, 1.0, 2.5]}
    for scale, usual, count in (("lab", 0.225, 8), ("paper", 1.251, 7)):
        clocks = {tuple(cell.factors.values()): clock(cell.config) for cell in STUDIES["decay"].cells(scale)}
        found = sorted({round(value / usual, 3) for value in clocks.values()})
        assert found == times[scale]
        assert len([1 for value in clocks.values() if value == pytest.approx(usual)]) == count


@pytest.mark.parametrize("scale", SCALES)
def test_the_larger_set_has_as_many_more_steps_as_in_the_paper(scale):
    steps = {cell.config.steps for cell in STUDIES["places"].cells(scale)}
    assert len(steps) == 1
    assert steps.pop() / short(scale).steps == pytest.approx(704_400 / 500_400, rel=0.01)


def test_results_are_chosen_by_factors():
    cells = STUDIES["orders"].cells("lab")
    results = Results(cells, [finished(cell, seed) for cell in cells[::2] for seed in (0, 1)])
    hybrid = results.where(order="hybrid", encoder=["ResNet-18", "ResNet-50"])
    assert [cell.factors for cell in hybrid.cells] == [
        {"order": "hybrid", "encoder": "ResNet-18"},
        {"order": "hybrid", "encoder": "ResNet-50"},
    ]
    assert len(hybrid) == 0
    assert len(results.where(order="multiple-pass")) == 6
    heads = Results(STUDIES["heads"].cells("lab"), []).where(projector_hidden="512")
    assert len(heads.cells) == 3


def some_results(study, scale, share, seed=0):
    """Make up a share of the runs of a study, with scores that differ."""
    draw = np.random.default_rng(seed)
    found = []
    for cell in study.cells(scale):
        for number in range(2):
            if draw.random() < share:
                spectrum = decaying(16, 2 + draw.random())
                curves = {name: draw.random(4) for name in ("knn", "auc", "rankme", "heldout_loss")}
                evaluated = {name: draw.random() for name in ("knn", ACCURACY[scale])}
                found.append(finished(cell, number, curves=curves, evaluated=evaluated, spectrum=spectrum))
    return Results(study.cells(scale), found)


@pytest.mark.parametrize(("name", "scale"), ALL)
def test_pages_can_be_made_of_whatever_is_finished(name, scale):
    study = STUDIES[name]
    for share in (0.0, 0.4, 1.0):
        parts = study.parts(some_results(study, scale, share), scale)
        assert parts
        for part in parts:
            assert isinstance(part, Table | Picture | Words)
            if isinstance(part, Table):
                assert all(len(row) == len(part.header) for row in part.rows)
    assert sum(isinstance(part, Picture) for part in parts) >= 1 or name == "distill"
    assert sum(isinstance(part, Table) for part in parts) >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "scale"), ALL)
def test_figures_can_be_drawn(name, scale):
    study = STUDIES[name]
    for part in study.parts(some_results(study, scale, 0.8), scale):
        if isinstance(part, Picture):
            part.draw().canvas.draw()


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("orders", [12]),
        ("subsets", [6]),
        ("width-depth", [6]),
        ("hybrid-switch", [3]),
        ("places", [3]),
        ("distill", [6]),
        ("nnsiam", [2]),
        ("warmup", [4]),
        ("duality-dims", [10, 8]),  # of two methods: the others' weights are not published
    ],
)
def test_published_numbers_stand_beside_ours(name, counts):
    """They are looked up by the values of factors: where one is misspelt, its number would never be shown."""
    shown = STUDIES[name].parts(some_results(STUDIES[name], "paper", 1.0), "paper")
    tables = [part for part in shown if isinstance(part, Table) and part.beside]
    assert [sum(row[at] != "–" for row in table.rows for at in table.beside) for table in tables] == counts
