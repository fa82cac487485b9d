"""Tables and figures of studies, from results that nobody ran: closed-form means, and what readers are told."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_hex
from tests.studies.made_up import decaying, finished

from fullrank.config import TrainConfig
from fullrank.documents import COLORS, Words, markdown
from fullrank.documents.plots import inline_svg
from fullrank.studies.study import Cell, Published, Results
from fullrank.studies.views import against, against_number, overview, pivot, spectra, through_training

ORDERS = ("multiple-pass", "single-pass", "hybrid")
CELLS = [
    Cell({"order": order, "encoder": encoder}, TrainConfig(order=order, steps=600))
    for encoder in ("small", "wide")
    for order in ORDERS
]


def cell(order="hybrid", encoder="small"):
    return next(each for each in CELLS if each.factors == {"order": order, "encoder": encoder})


def accuracy(order, values, encoder="small", **more):
    return [
        finished(cell(order, encoder), seed, evaluated={"logistic": value}, **more) for seed, value in enumerate(values)
    ]


def test_means_and_sample_deviations_over_seeds():
    # 50, 52, 57: mean 53, sum of squares 26, sample deviation sqrt(26 / 2) = 3.61 (over N it would be 2.94)
    results = accuracy("hybrid", [0.50, 0.52, 0.57]) + accuracy("single-pass", [0.416])
    table = pivot(Results(CELLS, results), "logistic", rows="order", columns="encoder")
    assert table.title == "Logistic regression accuracy (%): higher is better"
    assert table.header == ["order", "small", "wide"]
    assert table.rows == [
        ["multiple-pass", "–", "–"],
        ["single-pass", "41.6 (of 1)", "–"],
        ["hybrid", "53.0 ± 3.6", "–"],
    ]
    assert table.note == (
        "Mean and sample standard deviation over 3 seeds; (of N): over N of them; –: not finished, or not measured."
    )
    protocol = table.protocols["Logistic regression accuracy"]
    assert (protocol["k"], protocol["bank"]) == ("20", "50,000")


def test_one_seed_has_no_deviation():
    table = pivot(accuracy("hybrid", [0.5]), "logistic", rows="order", columns="encoder")
    assert table.rows == [["hybrid", "50.0"]]
    assert table.note == "One seed."


def test_published_numbers_stand_beside_ours():
    published = Published("a paper", "another probe", {"hybrid": ("48.3 ± 0.7", "67.6")}, ("small", "wide"))
    results = Results(CELLS, accuracy("hybrid", [0.5]))
    table = pivot(results, "logistic", rows="order", columns="encoder", published=published)
    assert table.header == ["order", "small", "published", "wide", "published"]
    assert table.rows[2] == ["hybrid", "50.0", "48.3 ± 0.7", "–", "67.6"]
    assert table.rows[0] == ["multiple-pass", "–", "–", "–", "–"]
    assert table.beside == [2, 4]
    assert table.note.endswith("Published: a paper; another probe.")
    assert "| hybrid | 50.0 | 48.3 ± 0.7 | – | 67.6 |" in markdown.table(table)


def test_random_weights_are_counted_once_a_seed():
    # whatever the order, a seed's encoder begins the same: two seeds, not four runs, are behind the deviation
    start = {"small": [0.90, 0.92], "wide": [0.80, 0.80]}
    results = [
        finished(cell(order, encoder), seed, curves={"auc": [start[encoder][seed], 0.7]})
        for encoder in start
        for order in ORDERS[:2]
        for seed in (0, 1)
    ]
    table = pivot(results, "auc", rows="order", columns="encoder")
    assert table.rows[-1] == ["random weights", "0.910 ± 0.014", "0.800 ± 0.000"]
    across = pivot(results, "auc", rows="encoder", columns="order")
    assert across.header == ["encoder", "multiple-pass", "single-pass", "random weights"]
    assert across.rows == [
        ["small", "0.700 ± 0.000", "0.700 ± 0.000", "0.910 ± 0.014"],
        ["wide", "0.700 ± 0.000", "0.700 ± 0.000", "0.800 ± 0.000"],
    ]


def test_random_weights_that_differ_both_ways_are_left_out():
    starts = iter([0.9, 0.8, 0.7, 0.6])
    results = [finished(cell(o, e), curves={"auc": [next(starts), 0.5]}) for o in ORDERS[:2] for e in ("small", "wide")]
    table = pivot(results, "auc", rows="order", columns="encoder")
    assert table.header == ["order", "small", "wide"]
    assert [row[0] for row in table.rows] == ["multiple-pass", "single-pass"]


def test_random_weights_that_were_scored_in_another_way_are_said_to_be():
    result = finished(cell(), curves={"knn": [0.2, 0.4]}, evaluated={"knn": 0.45})
    table = pivot([result], "knn", rows="order", columns="encoder")
    assert table.rows == [["hybrid", "45.0"], ["random weights", "20.0"]]
    assert "Random weights were scored by the monitor, in another way." in table.note
    assert table.protocols["k-NN accuracy"]["bank"] == "50,000"
    assert table.protocols["k-NN accuracy of random weights"]["bank"] == "10000 training images"


def test_different_protocols_are_said_with_whose_they_are():
    results = accuracy("hybrid", [0.5, 0.5]) + accuracy("single-pass", [0.4], k=200)
    table = pivot(results, "logistic", rows="order", columns="encoder")
    assert "Logistic regression accuracy was measured in different ways: k 20, 200." in table.note
    assert table.protocols["Logistic regression accuracy"]["k"] == "20 (2 runs), 200 (1 run)"


def test_many_differences_are_named_and_kept_for_the_protocol():
    results = [finished(cell("hybrid"), final={"auc": 0.7}), finished(cell("single-pass"), final={"auc": 0.6}, n=500)]
    results[0].run.protocols["spectrum"]["layer"] = "another"
    table = pivot(results, "auc", rows="order", columns="encoder")
    assert "AUC was measured in different ways: layer another, backbone; n " in table.note
    assert table.protocols["AUC"]["n"] == "10,000 (1 run), 500 (1 run)"


def test_scores_of_one_protocol_share_it():
    table = overview(
        [finished(cell(), final={"auc": 0.7, "rankme_centered": 5.0, "heldout_loss": -0.5})], _SCORES, rows=["order"]
    )
    assert list(table.protocols) == ["AUC, RankMe (centered)", "Held-out loss"]


_SCORES = ["auc", "rankme_centered", "heldout_loss"]


def test_widths_of_spectra_are_part_of_how_they_were_measured():
    results = [
        finished(cell(encoder="small"), final={"auc": 0.7}),
        finished(cell(encoder="wide"), final={"auc": 0.6}, width=16),
    ]
    table = pivot(results, "auc", rows="order", columns="encoder")
    assert "AUC depends on the width D, compare within one: 8, 16." in table.note
    assert "width D" not in pivot(results[:1], "auc", rows="order", columns="encoder").note


def test_a_mean_never_mixes_settings():
    results = accuracy("hybrid", [0.5]) + accuracy("hybrid", [0.6], "wide")
    with pytest.raises(ValueError, match="a mean over seeds would mix settings"):
        pivot(results, "logistic", rows="order")
    with pytest.raises(ValueError, match="no run has a factor 'oder': they have order, encoder"):
        pivot(results, "logistic", rows="oder", columns="encoder")


def test_several_scores_of_each_setting():
    results = Results(CELLS, accuracy("hybrid", [0.5, 0.6], final={"auc": 0.7}))
    table = overview(results, ["logistic", "auc", "rankme"], rows=["encoder", "order"])
    assert table.header == ["encoder", "order", "logistic regression accuracy (%)", "AUC"]
    assert table.rows[2] == ["small", "hybrid", "55.0 ± 7.1", "0.700 ± 0.000"]
    assert table.rows[3] == ["wide", "multiple-pass", "–", "–"]
    assert len(table.rows) == len(CELLS)
    assert "Higher is better: logistic regression accuracy. Lower is better: AUC." in table.note
    assert "|---|---|---:|---:|" in markdown.table(table)
    # a factor that has a single value names nothing
    assert overview(results[:], ["auc"], rows=["encoder", "order"]).header == ["encoder", "AUC"]


def test_scores_through_training_are_means_and_bands_of_the_seeds():
    seeds = [[0.2, 0.3, 0.4], [0.2, 0.5, 0.3], [0.2, 0.1, 0.5]]
    results = [finished(cell("single-pass"), seed, curves={"knn": values}) for seed, values in enumerate(seeds)]
    figure = through_training(results, "knn", color="order", panel="encoder").draw()
    (ax,) = figure.axes
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_xdata(), [0, 300, 600])
    np.testing.assert_allclose(line.get_ydata(), 100 * np.mean(seeds, axis=0))
    (band,) = ax.collections
    corners = band.get_paths()[0].vertices
    for place, step in enumerate((0, 300, 600)):
        at = corners[corners[:, 0] == step][:, 1]
        assert (at.min(), at.max()) == pytest.approx(
            (100 * min(s[place] for s in seeds), 100 * max(s[place] for s in seeds))
        )


def test_seeds_that_were_measured_at_other_steps_are_compared_where_both_were():
    results = [finished(cell(), 0, curves={"auc": [0.9, 0.8, 0.7]}), finished(cell(), 1, curves={"auc": [0.9, 0.7]})]
    (ax,) = through_training(results, "auc", color="order").draw().axes
    np.testing.assert_allclose(ax.lines[0].get_xdata(), [0, 600])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.9, 0.7])


def test_figures_carry_their_names_and_units():
    results = [finished(each, curves={"knn": [0.2, 0.4, 0.5]}) for each in CELLS]
    picture = through_training(Results(CELLS, results), "knn", color="order", panel="encoder")
    drawn = inline_svg(picture.draw(), picture.key, picture.title)
    texts = re.findall(r"<text[^>]*>([^<]*)", drawn)
    assert texts.count("gradient step") == 1
    assert texts.count("k-NN accuracy (%)") == 1  # the panels share their axis
    for said in ("order", *ORDERS, "small", "wide"):
        assert texts.count(said) == 1
    assert picture.title == "k-NN accuracy through training"
    assert "Thin vertical lines mark where a hybrid order turns" in picture.caption
    assert picture.protocols["k-NN accuracy"]["bank"] == "10000 training images"


def test_colours_do_not_depend_on_what_is_finished():
    def colours(results):
        (ax, *_) = through_training(Results(CELLS, results), "auc", color="order", panel="encoder").draw().axes
        return [to_hex(line.get_color()).upper() for line in ax.lines if len(line.get_xdata()) == 3]

    results = [finished(each, curves={"auc": [0.9, 0.8, 0.7]}) for each in CELLS[:3]]
    assert colours(results) == list(COLORS[:3])
    assert colours(results[1:]) == list(COLORS[1:3])


def test_values_before_training_do_not_squeeze_the_others():
    steep = [0.0, -0.8, -0.85, -0.87, -0.9]
    picture = through_training([finished(cell(), curves={"heldout_loss": steep})], "heldout_loss", color="order")
    (ax,) = picture.draw().axes
    bottom, top = ax.get_ylim()
    assert -0.92 < bottom < -0.9
    assert -0.8 < top < -0.75
    assert "The first quarter of the steps, where it falls from far above, may lie outside." in picture.caption


def test_a_score_nobody_has_is_words():
    results = [finished(cell(), final={"auc": 0.7})]
    assert through_training(results, "knn", color="order") == Words(
        "k-NN accuracy was not measured while these runs were trained."
    )
    assert isinstance(against(results, "knn", "auc", color="order"), Words)
    assert isinstance(against_number(results, "knn", "order", "x"), Words)


def test_a_score_against_another_has_a_point_for_each_run():
    values = [(-0.9, 0.8), (-0.8, 0.7)]
    results = [
        finished(cell("hybrid", encoder), seed, final={"heldout_loss": loss, "auc": auc})
        for encoder in ("small", "wide")
        for seed, (loss, auc) in enumerate(values)
    ]
    picture = against(results, "heldout_loss", "auc", color="order", panel="encoder")
    axes = picture.draw().axes
    assert [ax.get_title(loc="left") for ax in axes] == ["small", "wide"]
    for ax in axes:
        np.testing.assert_allclose(ax.lines[0].get_xydata(), values)
    assert "Better by both is the lower left." in picture.caption
    assert set(picture.protocols) == {"Held-out loss", "AUC"}


def test_a_score_against_a_number_joins_means_and_names_the_numbers():
    cells = [Cell({"images": f"{share} %"}, TrainConfig(subset=share / 100)) for share in (1, 10, 100)]
    values = {0: (0.40, 0.44), 1: (0.50, 0.52), 2: (0.45, 0.41)}
    results = [
        finished(cells[place], seed, evaluated={"logistic": value})
        for place, pair in values.items()
        for seed, value in enumerate(pair)
    ]
    picture = against_number(results, "logistic", "images", "share (%)")
    figure = picture.draw()
    (ax,) = figure.axes
    means, points = ax.lines
    np.testing.assert_allclose(means.get_xydata(), [[1, 42], [10, 51], [100, 43]])
    assert len(points.get_xydata()) == 6
    assert ax.get_xscale() == "log"
    drawn = inline_svg(figure, picture.key, "x")
    assert [text for text in re.findall(r"<text[^>]*>([^<]*)", drawn) if text in ("1", "10", "100")] == [
        "1",
        "10",
        "100",
    ]
    assert "share (%)" in drawn
    assert picture.key == "logistic-against-share"


def test_spectra_are_relative_to_the_largest_and_summed():
    values = np.array([8.0, 4.0, 3.0, 1.0])
    results = [finished(cell(), 0, spectrum=values), finished(cell(), 1, spectrum=3 * values)]
    relative, summed = spectra(results, color="order", panel="encoder").draw().axes
    line = next(line for line in relative.lines if len(line.get_xdata()) == 4)
    np.testing.assert_allclose(line.get_ydata(), [1, 0.5, 0.375, 0.125])
    assert relative.get_yscale() == "log"
    line = next(line for line in summed.lines if len(line.get_xdata()) == 4)
    np.testing.assert_allclose(line.get_xydata(), [[25, 50], [50, 75], [75, 93.75], [100, 100]])


def test_numbers_are_shades_from_light_to_dark():
    cells = [Cell({"images": f"{share} %"}, TrainConfig(subset=share / 100)) for share in (1, 10, 50, 100)]
    results = [finished(each, spectrum=decaying(16, 3)) for each in cells]
    relative, _ = spectra(results, color="images").draw().axes
    drawn = [line.get_color() for line in relative.lines if len(line.get_xdata()) == 16]
    light = [sum(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in drawn]
    assert len(set(drawn)) == 4
    assert light == sorted(light, reverse=True)


def test_constant_features_can_be_drawn():
    figure = spectra([finished(cell(), spectrum=np.zeros(4))], color="order").draw()
    assert "singular value / the largest" in inline_svg(figure, "x", "x")


def test_every_column_of_panels_has_its_steps_below():
    cells = [Cell({"width": f"{width}", "order": "hybrid"}, TrainConfig(order="hybrid")) for width in range(1, 6)]
    results = [finished(each, curves={"auc": [0.9, 0.8]}) for each in cells]
    axes = through_training(results, "auc", color="order", panel="width").draw().axes
    assert [ax.get_title(loc="left") for ax in axes] == [f"width {width}" for width in range(1, 6)]
    assert all(ax.xaxis.get_tick_params()["labelbottom"] for ax in axes)


def test_a_switch_is_drawn_once_where_several_orders_turn():
    cells = [Cell({"chunks": name}, TrainConfig(order="hybrid", steps=600, switch=0.5)) for name in ("few", "many")]
    later = Cell({"chunks": "late"}, TrainConfig(order="hybrid", steps=600, switch=0.75))
    results = [finished(each, curves={"auc": [0.9, 0.8, 0.7]}) for each in (*cells, later)]
    (ax,) = through_training(results, "auc", color="chunks").draw().axes
    switches = {
        line.get_xdata()[0]: to_hex(line.get_color()).upper() for line in ax.lines if len(line.get_xdata()) == 2
    }
    assert switches == {300: "#666666", 450: COLORS[2]}
