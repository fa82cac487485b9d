"""Pages and Markdown of studies: what is finished, what is missing, what was not made alike."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from tests.pages import check
from tests.studies.made_up import ENVIRONMENT, decaying, finished

from fullrank.config import TrainConfig
from fullrank.documents import Words
from fullrank.studies import orders, subsets
from fullrank.studies.show import FinishedRuns, warnings
from fullrank.studies.store import Store, planned, seeds_with_results
from fullrank.studies.study import Cell, Published, Study
from fullrank.studies.views import pivot, through_training

PUBLISHED = Published("a paper", "a linear probe", {"hybrid": ("48.3 ± 0.7",)})


def cells(scale):
    return [Cell({"order": order}, TrainConfig(order=order, steps=600)) for order in ("multiple-pass", "hybrid")]


def parts(results, scale):
    return [
        pivot(results, "logistic", rows="order", published=PUBLISHED),
        Words("Mind the <gap>."),
        through_training(results, "auc", color="order"),
        through_training(results, "auc", color="order"),
    ]


TOY = Study("toy", "Toys & <b>", "[Li22] Table 2", "Does it < show?", cells, parts)
RUNS = planned(TOY, "lab", range(2))


def result(place, accuracy=0.5, **more):
    run = RUNS[place]
    return finished(run.cell, run.seed, curves={"auc": [0.9, 0.7]}, evaluated={"logistic": accuracy}, **more)


def everything(**more):
    return [result(place, 0.5 + 0.1 * place, **more) for place in range(len(RUNS))]


def document(results, scale="lab"):
    return FinishedRuns(TOY, scale, results, RUNS).document()


def test_a_page_shows_each_part_with_its_protocol():
    shown = check(document(everything(seconds=1800)).html())
    for said in (
        "Toys & <b>",
        "Does it < show?",
        "[Li22] Table 2",
        "4 of 4 finished; 2 seeds (0, 1)",
        "method simsiam, images digits, steps 600, batch_size 64",
        "2 h 0 min of training, 30 min 0 s a run (median)",
        "1 x a made-up CPU, threads 1, bf16",
        "torch 2.6.0",
        "Logistic regression accuracy (%): higher is better",
        "70.0 ± 14.1",  # hybrid: 60 and 80 %
        "48.3 ± 0.7",
        "Published: a paper; a linear probe.",
        "Mind the <gap>.",
        "AUC through training.",
    ):
        assert said in shown.text, said
    assert shown.text.count("How it was measured") == 3
    assert shown.text.count("50,000") == 1
    assert "missing" not in shown.text
    assert "Warning" not in shown.text
    assert any(alt.startswith("AUC through training. Lower is better.") for alt in shown.alts)


def test_markdown_has_the_same_tables():
    text = document(everything()).markdown()
    assert text.startswith("# Toys & <b>\n\nDoes it < show?\n\n- source: [Li22] Table 2\n- scale: lab\n- runs: 4 of 4 ")
    assert "| order | logistic regression accuracy | published |\n|---|---:|---:|\n" in text
    assert "| hybrid | 70.0 ± 14.1 | 48.3 ± 0.7 |\n" in text
    assert "\n\nLogistic regression accuracy: mode eval, layer backbone, " in text
    assert "![" not in text


def test_the_same_results_give_the_same_bytes_in_whatever_order_they_come():
    first, second = changed(torch="2.7.0"), changed(torch="2.7.0")[::-1]
    assert document(first).html() == document(second).html()
    assert document(first).markdown() == document(second).markdown()


def test_what_is_missing_is_named_with_the_command_that_makes_it():
    results = [result(0), result(1), result(2)]
    assert FinishedRuns(TOY, "lab", results, RUNS).missing == ["hybrid (seed 1)"]
    assert FinishedRuns(TOY, "lab", results[:1], RUNS).missing == ["hybrid (seeds 0 and 1)", "multiple-pass (seed 1)"]
    shown = check(document(results).html())
    assert "3 of 4 finished" in shown.text
    assert "1 run missing" in shown.text
    assert "fullrank study run toy --scale lab --seeds 2" in shown.text
    text = document(results).markdown()
    assert (
        "**1 run missing**\n\n- hybrid (seed 1)\n\nThis makes them:\n\n`fullrank study run toy --scale lab --seeds 2`"
        in text
    )


def test_nothing_finished_says_so_and_how_to_begin():
    shown = check(document([], "paper").html())
    assert "0 of 4 finished" in shown.text
    assert "Nothing is finished yet." in shown.text
    assert "fullrank study run toy --scale paper --seeds 2" in shown.text
    assert "table" not in shown.tags
    assert (
        "Nothing is finished yet. This makes the runs:\n\n`fullrank study run toy" in document([], "paper").markdown()
    )


def test_figures_are_files_that_the_markdown_shows(tmp_path):
    written = FinishedRuns(TOY, "lab", everything(), RUNS).write(
        tmp_path / "pages", figures=tmp_path / "docs" / "figures"
    )
    assert written == tmp_path / "pages" / "toy-lab.html"
    assert written.read_text("utf-8") == document(everything()).html()
    text = (tmp_path / "pages" / "toy-lab.md").read_text("utf-8")
    names = ["toy-lab-auc-through-training.svg", "toy-lab-auc-through-training-2.svg"]
    assert sorted(path.name for path in (tmp_path / "docs" / "figures").iterdir()) == sorted(names)
    for name in names:
        assert f"![AUC through training](../docs/figures/{name})" in text
        root = ET.parse(tmp_path / "docs" / "figures" / name).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        texts = [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
        for said in ("gradient step", "AUC", "multiple-pass", "hybrid"):
            assert said in texts


def changed(**environment):
    """Four runs, the last of which was made with another environment."""
    return [*everything()[:3], result(3, environment=environment)]


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (everything(), []),
        (
            changed(data={**ENVIRONMENT["data"], "train": {"fingerprint": "cccc"}}),
            ["Training images called digits are not the same: fingerprints aaaa (3 runs), cccc (1 run)."],
        ),
        (
            changed(data={**ENVIRONMENT["data"], "held_out": None}),
            ["Held-out images called digits are not the same: fingerprints bbbb (3 runs), not recorded (1 run)."],
        ),
        (
            changed(torch="2.7.0"),
            ["Runs were made with different versions of torch: 2.6.0 (3 runs), 2.7.0 (1 run)."],
        ),
    ],
)
def test_results_that_were_not_made_alike_are_warned_of(results, said, no_drawing):
    assert warnings(results) == said
    assert check(document(results).html()).text.count("Warning.") == len(said)
    for warning in said:
        assert f"**Warning**: {warning}" in document(results).markdown()


def test_other_precisions_are_warned_of():
    results = everything()
    config = {**results[0].run.config, "machine": {"precision": "float32"}}
    results[0] = replace(results[0], run=replace(results[0].run, config=config))
    assert warnings(results) == ["Runs were trained in different precisions: float32 (1 run), bf16 (3 runs)."]


def test_every_seed_draws_its_own_subset():
    cell = Cell({"images": "10 %"}, TrainConfig(subset=0.1))
    data = [{**ENVIRONMENT["data"], "train": {"fingerprint": digits}} for digits in ("aaaa", "cccc")]
    seeds = [finished(cell, seed, environment={"data": data[seed]}) for seed in (0, 1)]
    assert warnings(seeds) == []
    assert len(warnings([finished(cell, 0, environment={"data": each}) for each in data])) == 1


def test_hardware_of_several_kinds_is_counted():
    results = changed(gpu="a GPU", processes=8)
    assert FinishedRuns(TOY, "lab", results, RUNS).facts["hardware"] == (
        "1 x a made-up CPU, threads 1, bf16 (3 runs), 8 x a GPU, bf16 (1 run)"
    )


@pytest.mark.parametrize("study", [orders.STUDY, subsets.STUDY])
def test_studies_have_pages(study, no_drawing):
    runs = planned(study, "lab", [0])
    results = [
        finished(
            run.cell,
            run.seed,
            curves={"knn": [0.2, 0.3], "auc": [0.9, 0.8], "heldout_loss": [0.0, -0.9]},
            evaluated={"knn": 0.4, "logistic": 0.5},
            spectrum=decaying(16, 4),
        )
        for run in runs
    ]
    shown = check(FinishedRuns(study, "lab", results, runs).document().html())
    assert f"{len(runs)} of {len(runs)} finished; 1 seed (0)" in shown.text
    assert "published" in shown.text
    assert "was not measured" not in shown.text
    assert "in different ways" not in shown.text  # runs on a share of the images are measured on all of them
    assert shown.tags.count("figure") >= 4


def test_as_many_seeds_are_shown_as_a_third_of_the_settings_have(tmp_path, monkeypatch):
    store = Store(tmp_path, "lab")
    has = {0: 8, 1: 3, 2: 2}
    monkeypatch.setattr(store, "results", lambda runs: [None] * has.get(runs[0].seed, 0))
    assert seeds_with_results(TOY, store) == 2
    has.clear()
    assert seeds_with_results(TOY, store) == 1
