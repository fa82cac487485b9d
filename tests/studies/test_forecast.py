from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from tests.studies.made_up import decaying, finished

from fullrank.measure.scores import Score
from fullrank.measure.spectrum import Spectrum
from fullrank.studies import forecast
from fullrank.studies.study import Results
from fullrank.studies.views import against

CELLS = forecast.cells("lab")
EQUAL = [cell for cell in CELLS if cell.config.steps == 15_000]


def made_up(cells=CELLS, seeds=2, noise=0.02):
    """Runs whose accuracy is a linear function of loss and AUC, but for noise."""
    draw = np.random.default_rng(0)
    found = []
    for cell in cells:
        for seed in range(seeds):
            spectrum = decaying(16, 1 + 6 * draw.random())
            loss, auc = -0.8 - 0.1 * draw.random(), Spectrum(spectrum).auc
            accuracy = 0.4 - 1.5 * (loss + 0.85) - 0.9 * (auc - 0.8) + noise * draw.standard_normal()
            final = {"heldout_loss": loss, "auc": auc}
            found.append(finished(cell, seed, final=final, evaluated={"logistic": accuracy}, spectrum=spectrum))
    return Results(cells, found)


def columns(results, *names):
    return np.array([[each.scores[name].value for name in names] for each in results])


def test_the_runs_are_those_of_other_studies_each_once_and_without_the_wide_encoder():
    counts = {}
    for cell in CELLS:
        counts[cell.factors["study"]] = counts.get(cell.factors["study"], 0) + 1
        assert cell.factors.get("encoder") != "ResNet-50"
        assert cell.config.method == "simsiam"
    # 8 orders; of 6 switches one is a share of `subsets`, of 30 settings of `regime` 4 are of the other two
    assert counts == {"orders": 8, "subsets": 6, "hybrid-switch": 5, "regime": 26}
    assert len({(cell.config.backbone.width, cell.config.heads.projector_out) for cell in CELLS}) == 1
    assert len(EQUAL) >= 22


def test_fits_are_ordinary_least_squares_and_leave_one_out():
    results = made_up()
    # in one pool those of one width and one width of the embedding; made-up runs are all of one
    table = forecast.parts(results, "lab")[0]
    own = [each for each in results if each.cell in EQUAL]
    assert [row[:3] for row in table.rows] == [
        [pool, names, f"{len(runs)} ({len(runs) // 2})"]
        for pool, runs in (("15,000 steps", own), ("all", results), ("all that did not collapse", results))
        for names in ("held-out loss and AUC", "held-out loss", "AUC")
    ]
    for row, runs, names in (
        (0, own, ("heldout_loss", "auc")),
        (1, own, ("heldout_loss",)),
        (5, results, ("auc",)),
    ):
        x = np.column_stack([np.ones(len(runs)), columns(runs, *names)])
        y = 100 * columns(runs, "logistic")[:, 0]
        total = ((y - y.mean()) ** 2).sum()
        slopes = np.linalg.lstsq(x, y, rcond=None)[0]
        place = np.arange(len(runs))
        expected = [1 - ((y - x @ slopes) ** 2).sum() / total]
        for without in (place, place // 2):  # each run, and both seeds of each setting
            missed = []
            for i in place:
                rest = without != without[i]
                missed.append(y[i] - x[i] @ np.linalg.lstsq(x[rest], y[rest], rcond=None)[0])
            expected.append(1 - (np.array(missed) ** 2).sum() / total)
        assert table.rows[row][3:6] == [f"{share:.2f}".replace("-", "−") for share in expected]
        shown = [cell for cell in table.rows[row][6:] if cell != "–"]
        for cell, slope in zip(shown, slopes[1:], strict=True):
            assert cell.split(" ")[0] == f"{slope:.0f}".replace("-", "−")


def test_collapsed_runs_are_told_by_auc_and_loss_and_fitted_without():
    results = made_up()
    dead = replace(results[0], evaluation=[*results[0].evaluation, replace(results[0].scores["auc"], value=0.96)])
    point = with_protocol(results[1], "heldout_loss")
    place = [score.name for score in point.evaluation].index("heldout_loss")
    point.evaluation[place] = replace(point.evaluation[place], value=-0.97)
    table = forecast.parts(Results(CELLS, [dead, point, *results[2:]]), "lab")[0]
    assert [row[2].split(" ")[0] for row in table.rows[3::3]] == [str(len(results)), str(len(results) - 2)]
    assert "Collapsed: an AUC of 0.95 or more, or a held-out loss of −0.95 or less." in table.note


def test_every_score_of_spectra_ranks_the_same_runs():
    results = made_up()
    table = forecast.parts(results, "lab")[-1]
    rows = {row[0]: row for row in table.rows}
    assert {"held-out loss", "AUC", "participation ratio", "dead directions"} <= set(rows)
    assert len(rows) >= 7
    x, y = columns(results, "auc")[:, 0], columns(results, "logistic")[:, 0]
    assert rows["AUC"][2].startswith(f"{stats.kendalltau(-x, y).statistic:.2f} [")
    assert rows["AUC"][3].startswith(f"{stats.spearmanr(-x, y).statistic:.2f} [")
    assert rows["AUC"][4] == f"{stats.pearsonr(x, y).statistic ** 2:.2f}"
    assert rows["dead directions"][2] == "–"  # none is dead in any run: nothing to rank


def with_protocol(result, name, **changes):
    changed = [
        replace(score, protocol={**score.protocol, **changes}) if score.name == name else score
        for score in result.scores.values()
    ]
    return replace(result, evaluation=changed)


def test_runs_that_do_not_compare_are_left_out_and_it_says_why():
    results = made_up()
    results = [with_protocol(each, "heldout_loss", dimensions=512) for each in results]
    wide = [with_protocol(each, "auc", d=9) for each in results[:3]]
    embedding = [with_protocol(each, "heldout_loss", dimensions=2048) for each in results[3:5]]
    probed = with_protocol(results[-1], "logistic", layer="embedding")
    parts = forecast.parts(Results(CELLS, [*wide, *embedding, *results[5:-1], probed]), "lab")
    assert parts[0].rows[3][2].startswith(f"{len(results) - 6} (")
    said = parts[1].text
    assert "Left out, for their scores do not compare: 3 runs, AUC: it depends on the width D" in said
    assert "2 runs, held-out loss: measured in different ways (dimensions)" in said
    assert "1 run, logistic regression accuracy: measured in different ways (layer)" in said


def test_scores_rank_where_every_run_has_them_taken_alike():
    results = made_up()
    protocol = {"n": 5000}
    taken = [
        replace(
            each,
            label_free=[
                Score("auc", each.score("auc"), protocol),
                Score("lidar", 1 - each.score("auc"), protocol),
                Score("rankme", None, protocol, "too few"),
                Score("uniformity", each.seed, {"view": "two"}),
            ],
        )
        for each in results
    ]
    for place, n in ((3, 100), (4, 200)):
        taken[place].label_free[3].protocol["n"] = n
    table = forecast.parts(Results(CELLS, taken), "lab")[-1]
    rows = {row[0]: row for row in table.rows}
    assert set(rows) == {"held-out loss", "AUC", "LiDAR"}
    assert rows["AUC"][2:] == rows["LiDAR"][2:]
    assert "of 5,000 training images" in table.note
    assert "Not taken of all runs alike, and left out: RankMe and uniformity." in table.note
    assert f"bootstrap over {len(CELLS)} settings" in table.note


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_runs_say_so(count):
    results = made_up()
    parts = forecast.parts(Results(CELLS, list(results)[:count]), "lab")
    if count == 0:
        assert parts[0].text == "No run has an accuracy, a held-out loss and an AUC yet."
    else:
        assert "too few" in parts[0].note
        assert parts[0].rows[0][3:6] == ["–", "–", "–"]


def test_the_figure_has_each_runs_forecast_from_other_settings():
    results = made_up()
    runs = forecast._forecast(results, "logistic")
    x, y = columns(results, "heldout_loss", "auc"), 100 * columns(results, "logistic")[:, 0]
    x = np.column_stack([np.ones(len(y)), x])
    rest = np.arange(len(y)) // 2 != 2  # without both seeds of its setting
    expected = x[4] @ np.linalg.lstsq(x[rest], y[rest], rcond=None)[0]
    assert runs[4].score("forecast") == pytest.approx(expected / 100)
    assert against(runs, "forecast", "logistic", color="study").key == "forecast-against-logistic"
