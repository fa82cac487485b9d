import numpy as np
import pytest
from scipy import stats
from tests.studies.made_up import finished

from fullrank.documents import Table, Words
from fullrank.studies import collapse
from fullrank.studies.study import Results

CELLS = collapse.cells("lab")
SLOPES = {"weight decay": 0.14, "learning rate": 0.09, "steps": 0.04, "images": 0.03, "images at a time": 0.007}


def features(config):
    """The five numbers of a setting, written out once more."""
    chunk = config.subset / config.chunks if config.order == "single-pass" else config.subset
    return np.log2([config.optim.weight_decay, config.optim.base_lr, config.steps, config.subset, chunk])


def made_up(noise):
    draw = np.random.default_rng(0)
    return [
        finished(
            cell,
            seed,
            final={"auc": 1.75 + features(cell.config) @ list(SLOPES.values()) + noise * draw.standard_normal()},
        )
        for cell in CELLS
        for seed in (0, 1)
    ]


def test_the_settings_differ_in_what_is_fitted_alone():
    assert {cell.config.order for cell in CELLS} == {"multiple-pass", "single-pass"}
    assert {cell.config.backbone.name for cell in CELLS} == {"resnet18"}
    assert {cell.config.rounds for cell in CELLS} == {1}
    assert len({cell.config.heads.projector_hidden for cell in CELLS}) == 1
    assert len({tuple(features(cell.config)) for cell in CELLS}) == len(CELLS)


def test_the_fit_is_least_squares_on_logarithms_with_its_intervals():
    results = Results(CELLS, made_up(noise=0.004))
    table = collapse.parts(results, "lab")[0]
    x = np.column_stack([np.ones(len(results)), [features(each.cell.config) for each in results]])
    y = np.array([100 * each.scores["auc"].value for each in results])
    slopes = np.linalg.lstsq(x, y, rcond=None)[0]
    errors = y - x @ slopes
    free = len(y) - x.shape[1]
    reach = stats.t.ppf(0.975, free) * np.sqrt(errors @ errors / free * np.diag(np.linalg.inv(x.T @ x)))
    assert [row[0] for row in table.rows] == list(SLOPES)
    for row, value, width in zip(table.rows, slopes[1:], reach[1:], strict=True):
        assert row[1] == f"{value:.1f} [{value - width:.1f}, {value + width:.1f}]".replace("-", "−")
    r2 = 1 - (errors**2).sum() / ((y - y.mean()) ** 2).sum()
    assert f"of {len(results)} runs of {len(CELLS)} settings: R² {r2:.2f}," in table.note


def test_the_map_draws_its_lines_where_the_fit_puts_them():
    *_, picture = collapse.parts(Results(CELLS, made_up(noise=0.0)), "lab")
    assert picture.key == "map-of-collapse"
    axes, *_ = picture.draw().axes
    lines = axes.collections[0]
    checked = 0
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        for share, decay in path.vertices:
            images = np.log2(share / 100)
            auc = 1.75 + 0.14 * np.log2(decay) + 0.09 * np.log2(0.3) + 0.04 * np.log2(15_000) + 0.037 * images
            assert abs(auc - level) < 1e-3
            checked += 1
    assert checked > 50


def test_the_map_is_of_one_learning_rate_where_rates_differ_and_ends_at_all_images():
    cells = collapse.cells("paper")
    results = [
        finished(cell, 0, final={"auc": 0.5 + 8 * cell.config.optim.base_lr * cell.config.subset}) for cell in cells
    ]
    *_, picture = collapse.parts(Results(cells, results), "paper")
    axes, *_ = picture.draw().axes
    points = axes.collections[-1]
    drawn = {(share, decay): auc for (share, decay), auc in zip(points.get_offsets(), points.get_array(), strict=True)}
    decays = (2.5e-5, 5e-5, 1e-4, 2.5e-4)  # of those with other rates, 5e-5 and 2e-4 are not here
    expected = {(100.0, decay): 0.9 for decay in decays}
    expected |= {(share, 1e-4): 0.5 + 0.004 * share for share in (1.0, 5.0, 10.0, 20.0, 50.0)} | {(1.0, 5e-5): 0.504}
    assert drawn == pytest.approx(expected)
    assert axes.get_xlim()[1] < 130
    assert "All are at a learning rate of 0.05." in picture.caption


def test_runs_that_cannot_be_fitted_are_words():
    runs = made_up(0.0)
    multiple = [each for each in runs if each.cell.config.order == "multiple-pass"]  # images at a time are all images
    for results in ([], runs[:2], multiple):
        (part,) = collapse.parts(Results(CELLS, results), "lab")
        assert isinstance(part, Words)
        assert "too few, or two of their numbers change together" in part.text


def test_without_multiple_passes_there_is_no_map():
    single = [each for each in made_up(0.004) if each.cell.config.order == "single-pass"]
    assert [type(part) for part in collapse.parts(Results(CELLS, single), "lab")] == [Table, Words]
