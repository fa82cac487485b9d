"""Ranking run folders: what is fitted, what is refused, and what is said of it."""

import json

import numpy as np
import pytest
import yaml
from scipy import stats

from fullrank.errors import FullrankError
from fullrank.measure.forecast import fit_linear, fronts
from fullrank.ranking.forecast import read_forecast
from fullrank.ranking.options import RankOptions
from fullrank.ranking.rank import rank
from tests.ranking.ranked_runs import ranked_run, sweep
from tests.report.run_folders import make_run


def names(ranking):
    return [each.name for each in ranking.standings]


def text(ranking):
    return " | ".join(ranking.said)


def features(ranking):
    return np.array([[each.scores[n].value for n in ("heldout_loss", "auc")] for each in ranking.standings])


def test_labelled_runs_are_ranked_by_what_a_fit_without_each_says(tmp_path):
    found = rank(sweep(tmp_path, 10))
    x, y = features(found), np.array([each.accuracy.value for each in found.standings])
    fit = fit_linear(x, y, ("loss", "auc"))
    np.testing.assert_allclose([each.forecast.value for each in found.standings], fit.left_out.value)
    assert all(each.forecast.left_out for each in found.standings)
    assert [each.rank for each in found.standings] == list(range(1, 11))
    assert (np.diff(fit.left_out.value) < 0).all()
    assert [each.front for each in found.standings] == fronts(x).tolist()
    (group,) = found.groups
    np.testing.assert_allclose(group.forecast.fit.coefficients, [0.3, -0.3, -0.25], atol=0.15)
    assert group.forecast.alone["auc"].r2 == pytest.approx(stats.linregress(x[:, 1], y).rvalue ** 2)
    assert (group.forecast.fit.upper[1:] < 0).all()  # as in [Li22]
    scores = {row.name: row.agreement for row in found.scores}
    assert scores["auc"].kendall == pytest.approx(stats.kendalltau(-x[:, 1], y).statistic)
    assert scores["heldout_loss"].spearman == pytest.approx(stats.spearmanr(-x[:, 0], y).statistic)
    assert scores["forecast"].spearman == pytest.approx(stats.spearmanr(fit.left_out.value, y).statistic)
    assert scores["front"].kendall == pytest.approx(stats.kendalltau(-fronts(x), y).statistic)
    assert scores["nesum"] is None  # the folders' spectra are all the same
    assert "the score is the same" in next(row.why for row in found.scores if row.name == "nesum")


def test_unlabelled_runs_are_ranked_by_their_fronts(tmp_path):
    found = rank(sweep(tmp_path, 6, labelled=0))
    (group,) = found.groups
    front = fronts(features(found))
    assert [each.front for each in found.standings] == sorted(front.tolist())
    assert [each.rank for each in found.standings] == [1 + int((front < own).sum()) for own in front]
    assert group.ranked_by == "front"
    assert found.accuracy is None
    assert found.scores == ()
    assert all(each.forecast is None for each in found.standings)
    assert (
        "no run has labels, so nothing says how good this ranking is: `fullrank evaluate RUN` measures it" in found.said
    )
    document = found.as_dict()
    json.dumps(document, allow_nan=False)
    assert {each["accuracy"] for each in document["ranked"]} == {None}
    assert f"dominance decides {15 - len(group.undecided)} of 15 pairs; in the others loss and AUC" in text(found)


def test_equal_runs_are_lowest_together(tmp_path):
    """One run on two machines: neither stands before the other, and no other is lower."""
    found = rank([ranked_run(tmp_path / name, -0.8, auc) for name, auc in (("a", 0.7), ("b", 0.7), ("c", 0.75))])
    assert [each.rank for each in found.standings] == [1, 1, 3]
    assert "lowest of 3 in both held-out loss and AUC: a and b, with equal numbers" in found.said
    assert "dominance decides 2 of 3 pairs; in the others loss and AUC disagree, or are equal" in found.said


def test_some_have_labels_and_the_others_are_forecast(tmp_path):
    paths = sweep(tmp_path, 8, labelled=7)
    paths.append(ranked_run(tmp_path / "far", -0.99, 0.5))
    found = rank(paths)
    fit = found.groups[0].forecast.fit
    by_name = {each.name: each for each in found.standings}
    said = fit.predict(features(found))
    for i, name in enumerate(names(found)):
        each = by_name[name]
        assert each.forecast.left_out == (each.accuracy is not None)
        if each.accuracy is None:
            assert each.forecast.value == pytest.approx(said.value[i])
            assert (each.forecast.lower, each.forecast.upper) == pytest.approx((said.lower[i], said.upper[i]))
    assert by_name["far"].forecast.outside == ("held-out loss", "AUC")
    assert names(found)[0] == "far"


@pytest.mark.parametrize(("accuracy", "flag"), [("linear", "--linear"), ("logistic", "--logistic"), ("knn", "--knn")])
def test_asked_for_an_accuracy_that_nobody_has(tmp_path, accuracy, flag):
    found = rank(sweep(tmp_path, 3, labelled=0), RankOptions(accuracy=accuracy))
    assert f"`fullrank evaluate RUN {flag}` measures it" in text(found)
    with pytest.raises(FullrankError, match=f"--fit has nothing to write: no run has a {accuracy} accuracy"):
        rank([tmp_path / "run-00", tmp_path / "run-01"], RankOptions(accuracy=accuracy, fit=tmp_path / "fit.json"))
    assert not (tmp_path / "fit.json").exists()


def test_asked_for_an_accuracy_that_some_lack(tmp_path):
    found = rank(sweep(tmp_path, 8, labelled=6), RankOptions(accuracy="knn"))
    lacking = [name for name in names(found) if name in ("run-06", "run-07")]
    assert (
        f"no k-NN accuracy is known for {' and '.join(lacking)}: `fullrank evaluate RUN --knn` measures it"
        in found.said
    )


def test_too_few_labels_say_so(tmp_path):
    found = rank(sweep(tmp_path, 6, labelled=4))
    assert found.groups[0].ranked_by == "front"
    assert "no forecast: 4 runs with labels are too few" in text(found)
    assert all(each.forecast is None for each in found.standings)


def test_a_forecast_without_worth_does_not_decide(tmp_path):
    rng = np.random.default_rng(1)
    paths = [
        ranked_run(tmp_path / f"r{i}", rng.uniform(-0.9, -0.6), rng.uniform(0.6, 0.9), knn=rng.uniform(0.3, 0.4))
        for i in range(8)
    ]
    found = rank(paths)
    assert found.groups[0].forecast.fit.leave_one_out_r2 < 0
    assert found.groups[0].ranked_by == "front"
    assert "the forecast is no better than the mean accuracy: it is shown, and does not decide the ranks" in found.said


def test_collinear_runs_say_so(tmp_path):
    paths = [ranked_run(tmp_path / f"r{i}", -0.9 + 0.02 * i, 0.6 + 0.03 * i, knn=0.4 - 0.01 * i) for i in range(7)]
    assert "held-out loss and AUC are collinear in the 7 runs with labels" in text(rank(paths))


def test_one_front_runner(tmp_path):
    paths = [ranked_run(tmp_path / f"r{i}", -0.9 + 0.1 * i, 0.6 + 0.05 * i**2) for i in range(3)]
    found = rank(paths)
    assert "lowest of 3 in both held-out loss and AUC: r0" in found.said
    assert [each.rank for each in found.standings] == [1, 2, 3]
    assert found.groups[0].undecided == []


def test_aucs_that_seeds_would_differ_by(tmp_path):
    found = rank([ranked_run(tmp_path / f"r{i}", -0.9 + 0.1 * i, 0.6 + 0.001 * i) for i in range(3)])
    assert "the AUCs of all pairs lie no further apart than two seeds (0.03)" in found.said
    aucs = {"a": (-0.9, 0.6), "b": (-0.8, 0.61), "c": (-0.7, 0.7), "d": (-0.95, 0.71)}  # c and d are undecided
    found = rank([ranked_run(tmp_path / name, *pair) for name, pair in aucs.items()])
    assert "the AUCs of 2 of 6 pairs lie no further apart than two seeds (0.03)" in found.said


def test_widths_are_ranked_apart(tmp_path):
    paths = [*sweep(tmp_path / "narrow", 5), *sweep(tmp_path / "wide", 6, width=32)]
    paths.append(ranked_run(tmp_path / "lone", -0.8, 0.7, width=8))
    found = rank(paths)
    assert [group.about for group in found.groups] == [{"D": 16}, {"D": 32}, {"D": 8}]
    assert [len(group.members) for group in found.groups] == [5, 6, 1]
    assert found.standings[-1].rank is None
    assert found.standings[-1].front is None
    assert all(group.forecast is not None for group in found.groups[:2])
    assert "AUCs only at one width D" in text(found)
    assert [group.letter for group in found.groups] == ["A", "B", ""]
    assert "each group is ranked by itself: A, 5 runs (D 16); B, 6 runs (D 32)" in found.said[0]
    assert "these cannot be compared with any other, so they have no rank: lone (D 8)" in found.said
    aucs = [row for row in found.scores if row.name == "auc"]
    assert [(len(row.members), row.about) for row in aucs] == [(5, {"D": 16}), (6, {"D": 32})]
    (loss,) = [row for row in found.scores if row.name == "heldout_loss"]  # does not depend on D
    assert len(loss.members) == 11
    with pytest.raises(FullrankError, match=r"--fit writes one model, and these runs make 2.*\(D 16; D 32\)"):
        rank(paths, RankOptions(fit=tmp_path / "fit.json"))


def test_losses_and_images_are_ranked_apart(tmp_path):
    paths = [
        ranked_run(tmp_path / "a", -0.8, 0.7, protocols={"heldout_loss": {"loss": "simsiam"}}),
        ranked_run(tmp_path / "b", 3.0, 0.6, protocols={"heldout_loss": {"loss": "simclr", "temperature": 0.2}}),
        ranked_run(tmp_path / "c", 2.0, 0.6, protocols={"heldout_loss": {"loss": "simclr", "temperature": 0.5}}),
    ]
    found = rank(paths)
    assert [each.rank for each in found.standings] == [None] * 3
    assert "these cannot be compared with any other, so they have no rank: a (loss simsiam, temperature none)" in text(
        found
    )
    assert found.groups[1].about == {"loss": "simclr", "temperature": 0.2}
    found = rank([paths[0], ranked_run(tmp_path / "d", -0.7, 0.6, protocols={"heldout_loss": {"loss": "distill"}})])
    assert [group.about for group in found.groups] == [{"loss": "simsiam"}, {"loss": "distill"}]
    images = ranked_run(
        tmp_path / "e", -0.7, 0.6, protocols={"heldout_loss": {"loss": "simsiam"}, "spectrum": {"images": "cifar10"}}
    )
    assert rank([paths[0], images]).groups[1].about == {"images": "cifar10"}


def test_a_subset_is_measured_on_other_images(tmp_path):
    paths = [ranked_run(tmp_path / "all", -0.8, 0.7, knn=0.4), ranked_run(tmp_path / "tenth", -0.7, 0.6, subset=0.1)]
    found = rank(paths)
    assert [group.about for group in found.groups] == [{"subset": 1.0}, {"subset": 0.1}]
    assert "--scores auc --images NAME measures them anew, alike" in text(found)


def test_images_that_were_moved_are_the_same(tmp_path):
    paths = []
    for name, root, fingerprint in (("a", "/here", "f00"), ("b", "/there", "f00"), ("c", "/there", "0ff")):
        images = {"images": f"{root}/train"}
        path = ranked_run(
            tmp_path / name,
            -0.8 - 0.01 * len(paths),
            0.7,
            knn=0.4,
            protocols={"spectrum": images, "heldout_loss": images, "knn": {"labels": root}},
        )
        config = yaml.safe_load((path / "config.yaml").read_text())
        config["environment"]["data"] = {part: {"fingerprint": fingerprint + part} for part in ("train", "held_out")}
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        paths.append(path)
    found = rank(paths[:2])
    assert len(found.groups) == 1
    assert all(each.accuracy is not None for each in found.standings)
    # one name for two sets of files: a name alone does not tell them apart
    assert [group.about for group in rank(paths[1:]).groups] == [{"images": "f00held_out"}, {"images": "0ffheld_out"}]


def test_one_alone(tmp_path):
    found = rank([ranked_run(tmp_path / "only", -0.8, 0.7)])
    assert found.standings[0].rank is None
    assert "one run alone is compared with nothing" in found.said[0]


def test_without_held_out_images_there_is_no_rank(tmp_path):
    paths = [ranked_run(tmp_path / "with", -0.8, 0.7), ranked_run(tmp_path / "without", None, 0.7)]
    found = rank(paths)
    assert names(found) == ["with", "without"]
    assert found.standings[1].group is None
    assert "not ranked, for want of held-out loss: without" in found.said


def test_an_evaluation_wins_over_the_monitor(tmp_path):
    paths = sweep(tmp_path, 6)
    for i, path in enumerate(paths):
        scores = [
            {"name": "knn", "value": 0.5 + i / 100, "better": "higher", "protocol": {"k": 5}},
            {"name": "knn", "value": 0.6 + i / 100, "better": "higher", "protocol": {"k": 50}},
            {"name": "linear", "value": 0.7 + i / 100, "better": "higher", "protocol": {"epochs": 90}},
        ]
        document = {"fullrank": "0", "step": 100, "scores": scores[: 3 if i < 5 else 2]}
        (path / "evaluation.json").write_text(json.dumps(document))
    found = rank(paths)  # five have the linear accuracy, six the k-NN one
    assert (found.accuracy, found.labels[0].protocol) == ("knn", {"k": 5})
    by_name = {each.name: each.accuracy.value for each in found.standings}
    assert by_name == {f"run-{i:02d}": 0.5 + i / 100 for i in range(6)}
    found = rank(paths, RankOptions(accuracy="linear"))
    assert [each.name for each in found.standings if each.accuracy is None] == ["run-05"]
    assert "no linear probe accuracy is known for run-05: `fullrank evaluate RUN --linear` measures it" in found.said
    assert rank(paths[:5]).accuracy == "linear"  # of equally many, what says most


def test_an_evaluation_does_not_hide_the_monitors_accuracy(tmp_path):
    """After `evaluate --logistic` of all runs, the k-NN column is still there, and it is said which one is meant."""
    paths = sweep(tmp_path, 6)
    before = {each.name: each.accuracy.value for each in rank(paths).standings}
    for i, path in enumerate(paths):
        scores = [{"name": "logistic", "value": 0.7 + i / 100, "protocol": {"l2": 0.1}}]
        (path / "evaluation.json").write_text(json.dumps({"step": 100, "scores": scores}))
    found = rank(paths)
    assert found.accuracy == "logistic"
    assert {each.name: each.accuracies["knn"].value for each in found.standings} == before
    table = found.to_dataframe()
    assert (table["logistic"] == table["accuracy"]).all()
    assert dict(zip(table["name"], table["knn"], strict=True)) == before
    said = "what is forecast, and what scores are compared with, is the logistic regression accuracy; --accuracy knn"
    assert f"{said} takes another" in found.said
    page = found.document().markdown()
    assert "| logistic regression | k-NN |" in page
    assert "**K-NN accuracy**" not in page
    assert "**k-NN accuracy**\n\n- k: 20" in page
    asked = rank(paths, RankOptions(accuracy="knn"))
    assert (asked.accuracy, len(asked.labels)) == ("knn", 1)
    assert "takes another" not in " ".join(asked.said)
    json.dumps(found.as_dict())


def test_labelled_images_are_known_by_their_fingerprints(tmp_path):
    paths = []
    for i, (root, prints) in enumerate((("/here", "f0 / 1a"), ("/there", "f0 / 1a"), ("/here", "f0 / 2b"))):
        taken = ("knn", 0.5, {"k": 5, "labels": f"{root}/train / {root}/test", "fingerprint": prints})
        paths.append(ranked_run(tmp_path / f"r{i}", -0.8 - 0.01 * i, 0.7, evaluated=[taken]))
    found = rank(paths)
    assert [each.name for each in found.standings if each.accuracy is None] == ["r2"]
    assert "the k-NN accuracy of r2 was measured otherwise" in text(found)


def test_accuracies_that_were_measured_otherwise_are_left_out(tmp_path):
    paths = sweep(tmp_path, 7)
    other = ranked_run(tmp_path / "other", -0.8, 0.7, knn=0.9, protocols={"knn": {"k": 200}})
    found = rank([*paths, other])
    assert next(each for each in found.standings if each.name == "other").accuracy is None
    assert "the k-NN accuracy of other was measured otherwise than that of the others and was left out" in found.said


def test_an_evaluation_of_another_step_is_left_out(tmp_path):
    run = ranked_run(tmp_path / "run", -0.8, 0.7)
    scores = [{"name": "knn", "value": 0.5, "better": "higher", "protocol": {}}]
    (run / "evaluation.json").write_text(json.dumps({"step": 50, "scores": scores}))
    found = rank([run])
    assert found.accuracy is None
    assert "it was evaluated at step 50, not 100, which was left out: run" in found.said
    for value in ("{}", '{"name": "knn", "value": NaN, "better": "higher", "protocol": {}}'):
        (run / "evaluation.json").write_text('{"step": 100, "scores": [%s]}' % value)  # noqa: UP031 - braces
        found = rank([run])
        assert found.accuracy is None
        assert "evaluation.json is damaged: " in " ".join(found.said)
    score = {"name": "linear", "value": 0.1, "better": "higher", "protocol": {}, "chosen": {"warning": "too little"}}
    (run / "evaluation.json").write_text(json.dumps({"step": 100, "scores": [score]}))
    found = rank([run])
    assert found.accuracy is None
    assert "its linear probe accuracy was left out, for it comes with a warning (too little)" in " ".join(found.said)


@pytest.mark.parametrize(
    ("name", "contents"),
    [("summary.json", b'{"a":'), ("metrics.jsonl", b'{"kind": "\xff"}\n{}'), ("summary.json", b"[]")],
)
def test_a_damaged_run_is_named(tmp_path, name, contents):
    run = ranked_run(tmp_path / "run", -0.8, 0.7)
    (run / name).write_bytes(contents)
    with pytest.raises(FullrankError, match=f"{name} is damaged"):
        rank([run])


def test_a_run_is_ranked_by_its_measured_steps(tmp_path):
    run = make_run(tmp_path / "run", steps=1000, every=200)
    (run / "checkpoints").mkdir()
    for step in (800, 1000):
        (run / "checkpoints" / f"step_{step:08d}.pt").touch()
    found = rank([run])
    assert sorted(names(found)) == ["step 1,000", "step 200", "step 400", "step 600", "step 800"]  # not the untrained
    kept = {each.name: each.checkpoint for each in found.standings}
    assert kept["step 800"] == run / "checkpoints" / "step_00000800.pt"
    assert kept["step 200"] is None
    assert found.accuracy == "knn"
    # loss falls as AUC rises along this run: nothing is decided, and one says nearly what the other does
    assert len(found.groups[0].undecided) == 10


def test_checkpoints_are_ranked_as_they_were_measured(tmp_path):
    run, other = make_run(tmp_path / "run", steps=400), make_run(tmp_path / "other", steps=400)
    for folder in (run, other):
        (folder / "checkpoints").mkdir()
        for step in (200, 250, 400):
            (folder / "checkpoints" / f"step_{step:08d}.pt").touch()
    found = rank([run / "checkpoints" / "step_00000200.pt", run / "checkpoints" / "step_00000250.pt"])
    assert names(found) == ["step 200", "step 250"]
    assert found.standings[0].scores["auc"].value == pytest.approx(
        next(
            json.loads(line)["auc"]
            for line in (run / "metrics.jsonl").read_text().splitlines()
            if '"measure"' in line and '"step": 200' in line
        )
    )
    assert "nothing was measured at step 250 while it trained, but at 100, 200, 300 and 400: step 250" in text(found)
    found = rank([run, other / "checkpoints" / "step_00000200.pt"])
    assert sorted(names(found)) == ["other, step 200", "run"]
    with pytest.raises(FullrankError, match=r"is neither a run's folder nor a checkpoint in one"):
        rank([run / "config.yaml"])


def test_an_unfinished_run_counts_as_of_its_last_measurement(tmp_path):
    run = make_run(tmp_path / "run", steps=1000, reached=450)
    found = rank([run, make_run(tmp_path / "done", steps=1000)])
    assert "unfinished, ranked as of step 400 of 1,000: run" in found.said
    begun = make_run(tmp_path / "begun", steps=1000, reached=50)
    assert "nothing was measured after the untrained encoder: begun" in rank([begun, run]).said


def test_a_run_that_is_named_twice_is_ranked_once(tmp_path):
    paths = sweep(tmp_path, 3)
    assert names(rank([*paths, paths[0]])) == names(rank(paths))


def test_a_forecast_is_written_read_and_applied(tmp_path):
    file = tmp_path / "new" / "fit.json"
    fitted = rank(sweep(tmp_path / "labelled", 9), RankOptions(fit=file))
    saved, own = read_forecast(file), fitted.groups[0].forecast
    np.testing.assert_allclose(saved.fit.coefficients, own.fit.coefficients, rtol=1e-12)
    assert (saved.runs, saved.accuracy, saved.protocols["auc"]["d"]) == (own.runs, "knn", 16)
    assert saved.accuracy_protocol == {"k": 20, "weights": "none", "distance": "cosine"}
    assert saved.protocols["auc"]["images"] == "digits"
    document = json.loads(file.read_text())
    assert document["coefficients"]["auc"]["value"] == pytest.approx(own.fit.coefficients[2])
    assert {"fullrank", "numpy", "r2", "leave_one_out_r2", "runs"} <= set(document)

    others = sweep(tmp_path / "unlabelled", 4, labelled=0, seed=5)
    found = rank(others, RankOptions(forecast=file))
    np.testing.assert_allclose(
        [each.forecast.value for each in found.standings], own.fit.predict(features(found)).value
    )
    assert found.groups[0].ranked_by == "forecast"
    assert not any(each.forecast.left_out for each in found.standings)
    assert "forecast of k-NN accuracy by a model of 9 runs (R²" in text(found)
    again = rank([*others, tmp_path / "labelled" / "run-00"], RankOptions(forecast=file))
    known = next(each for each in again.standings if each.name == "labelled/run-00")
    before = next(each for each in fitted.standings if each.name == "run-00")
    assert known.forecast == before.forecast  # it would flatter itself otherwise
    assert "for one of these runs by a fit without it" in text(again)


def test_a_forecast_of_before_is_of_an_accuracy_that_was_spelled_otherwise(tmp_path):
    file = tmp_path / "fit.json"
    spelled = {"knn": {"features": "standardized by them"}}
    rank(sweep(tmp_path / "labelled", 6, protocols=spelled), RankOptions(fit=file))
    file.write_text(file.read_text().replace("standardized", "standardised"))
    found = rank(sweep(tmp_path / "others", 4, seed=5, protocols=spelled), RankOptions(forecast=file))
    assert "was measured otherwise than the one that is forecast" not in text(found)


def test_a_forecast_of_before_knows_its_method_by_another_name(tmp_path):
    file = tmp_path / "fit.json"
    of = {"protocols": {"heldout_loss": {"loss": "vicreg_exp"}}}
    rank(sweep(tmp_path / "labelled", 6, **of), RankOptions(fit=file))
    file.write_text(file.read_text().replace("vicreg_exp", "vicreg-exp"))
    found = rank([ranked_run(tmp_path / "new", -0.65, 0.7, **of)], RankOptions(forecast=file))
    assert found.standings[0].forecast is not None


def test_a_forecast_is_refused_to_runs_that_were_measured_otherwise(tmp_path):
    file = tmp_path / "fit.json"
    rank(sweep(tmp_path / "labelled", 6), RankOptions(fit=file))
    same = ranked_run(tmp_path / "same", -0.8, 0.7)
    wide = ranked_run(tmp_path / "wide", -0.8, 0.7, width=32)
    views = ranked_run(tmp_path / "views", -0.8, 0.7, protocols={"heldout_loss": {"views": "byol"}})
    blind = ranked_run(tmp_path / "blind", None, 0.7)
    found = rank([same, wide, views, blind], RankOptions(forecast=file))
    assert [each.name for each in found.standings if each.forecast] == ["same"]
    assert "no forecast for wide: AUC was measured otherwise than when it was fitted, D 16 and 32" in found.said
    assert (
        "no forecast for views: held-out loss was measured otherwise than when it was fitted, views training and byol"
        in found.said
    )
    assert "no forecast for blind: no held-out loss" in found.said
    with pytest.raises(FullrankError, match=r"cannot forecast any of these runs, which were measured otherwise \(wide"):
        rank([wide], RankOptions(forecast=file))


def test_an_accuracy_that_is_not_the_one_forecast(tmp_path):
    file = tmp_path / "fit.json"
    rank(sweep(tmp_path / "labelled", 6), RankOptions(fit=file))
    other = ranked_run(tmp_path / "other", -0.8, 0.7, knn=0.4, protocols={"knn": {"k": 200}})
    found = rank([other], RankOptions(forecast=file))
    assert "the k-NN accuracy shown was measured otherwise than the one that is forecast (k)" in found.said
    with pytest.raises(FullrankError, match=r"forecasts knn accuracy, not linear: leave out --accuracy"):
        rank([other], RankOptions(forecast=file, accuracy="linear"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: "not JSON", "is damaged: .*; write it again with `fullrank rank RUN ... --fit`"),
        (lambda document: "{}", "is not a forecast: expected a file that `fullrank rank RUN ... --fit` wrote"),
        (lambda document: json.dumps({**document, "format": "x"}), "is not a forecast"),
        (lambda document: json.dumps({**document, "version": 2}), "is of version 2, this fullrank reads up to 1"),
        (lambda document: json.dumps({**document, "version": "1"}), "is not a forecast"),
        (lambda document: json.dumps({k: v for k, v in document.items() if k != "runs"}), "is damaged: "),
        (lambda document: json.dumps({**document, "runs": document["runs"][:3]}), "is damaged: "),
        (lambda document: json.dumps({**document, "runs": document["runs"][:-1]}), "do not follow from its runs"),
        (
            lambda document: json.dumps({**document, "accuracy": {**document["accuracy"], "name": "kn"}}),
            "is damaged: accuracy.name must be one of linear, logistic, knn, got 'kn'",
        ),
    ],
)
def test_a_file_that_is_no_forecast(tmp_path, change, message):
    file = tmp_path / "fit.json"
    paths = sweep(tmp_path / "labelled", 6)
    rank(paths, RankOptions(fit=file))
    file.write_text(change(json.loads(file.read_text())))
    with pytest.raises(FullrankError, match=message):
        rank(paths, RankOptions(forecast=file))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit": "a.json", "forecast": "b.json"}, "--fit writes a forecast and --forecast reads one"),
        ({"images": "digits"}, "--images is for the scores that --scores measures"),
        ({"limit": 5}, "--limit is for the scores that --scores measures"),
        ({"device": "cpu"}, "--device is for the scores that --scores measures: give it too"),
        ({"forecast": "none.json"}, "cannot read none.json: No such file"),
        ({"scores": "rankmee"}, "got 'rankmee'; did you mean 'rankme'"),
        ({"scores": ","}, "--scores names no score"),
    ],
)
def test_flags_that_do_not_fit(tmp_path, monkeypatch, options, message):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    paths = {key: Path(value) if key in ("fit", "forecast") else value for key, value in options.items()}
    with pytest.raises(FullrankError, match=message):
        rank(sweep(tmp_path, 3), RankOptions(**paths))


def test_nothing_and_nowhere(tmp_path):
    with pytest.raises(FullrankError, match=r"give at least one run: fullrank rank RUN \[RUN ...\]"):
        rank([])
    with pytest.raises(FullrankError, match="does not exist: expected a folder made by `fullrank train`"):
        rank([tmp_path / "none"])


def test_the_same_runs_in_another_order_give_the_same_places(tmp_path):
    paths = sweep(tmp_path, 8)
    one, other = rank(paths), rank(paths[::-1])
    assert {e.name: (e.rank, e.front) for e in one.standings} == {e.name: (e.rank, e.front) for e in other.standings}
