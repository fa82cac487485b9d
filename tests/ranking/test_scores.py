"""Scores measured anew on checkpoints: those of `fullrank inspect`, and kept with the run."""

import shutil
from dataclasses import replace

import pytest
from torchvision.transforms.functional import to_pil_image

from fullrank.cli import main
from fullrank.data.images import open_images
from fullrank.inspection.inspect import inspect
from fullrank.inspection.options import InspectOptions
from fullrank.ranking import scores
from fullrank.ranking.options import RankOptions
from fullrank.ranking.rank import rank
from fullrank.training.loop import train
from fullrank.training.scores import kept
from tests.training.tiny import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1, 2):
        config = replace(tiny(steps=6), seed=seed, out=str(folder / f"s{seed}"))
        assert train(config).complete
    return folder


@pytest.fixture
def runs(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "runs")
    return sorted((tmp_path / "runs").iterdir())


def values(ranking, name):
    return {each.name: each.scores[name].value for each in ranking.standings}


def test_they_are_what_inspect_measures_and_are_kept(runs, monkeypatch):
    options = RankOptions(scores="auc,rankme,self_cluster", limit=64)
    found = rank(runs, options)
    own = inspect([str(run) for run in runs], InspectOptions(limit=64, views="none", untrained=False))
    for name in ("auc", "rankme", "self_cluster"):
        assert values(found, name) == {each.name: each.scores[name].value for each in own}
    protocol = found.standings[0].scores["rankme"].protocol
    assert (protocol["n"], protocol["center"]) == (64, False)
    assert "uniformity" not in found.standings[0].scores
    assert "lidar" not in found.standings[0].scores
    assert {row.name for row in found.scores} >= {"rankme", "self_cluster", "rankme_centered"}
    monkeypatch.setattr(scores, "inspect", lambda *arguments, **rest: pytest.fail("measured again"))
    assert rank(runs, options).as_dict() == found.as_dict()
    others = rank(runs, replace(options, scores="uniformity"))
    assert values(others, "uniformity") == {each.name: each.scores["uniformity"].value for each in own}


def test_scores_that_were_asked_for_have_columns_without_labels_too(runs, capsys, tmp_path):
    names = [str(run) for run in runs]
    assert (
        main(
            ["rank", *names, "--scores", "auc,rankme,self_cluster", "--limit", "64", "--out", str(tmp_path / "r.html")]
        )
        == 0
    )
    said = capsys.readouterr().out
    head = next(line for line in said.splitlines() if "AUC" in line)
    assert head.count("AUC") == head.count("RankMe") == head.count("self-clustering") == 1
    ranking = rank(runs, RankOptions(scores="rankme", limit=64))
    value = ranking.standings[0].scores["rankme"].text
    assert value in said
    assert f">{value}</td>" in (tmp_path / "r.html").read_text()
    assert main(["rank", *names, "--scores", "all", "--limit", "64"]) == 0
    assert "more scores are in the page (--out) and in --json." in capsys.readouterr().out


def asked(run, name):
    """On what a score was taken, each time."""
    return [(one.asked["limit"], one.asked["images"]) for one in kept(run) if one.score.name == name]


def test_other_images_views_or_limits_are_measured_and_kept_beside(runs):
    run = runs[0]
    rank([run], RankOptions(scores="auc", limit=64))
    rank([run], RankOptions(scores="auc", limit=48))
    found = rank([run], RankOptions(scores="alignment,alpha_req", limit=48, images="digits"))
    (last,) = [each for each in found.standings if each.checkpoint]
    assert last.scores["alignment"].protocol["views"] > 1
    assert asked(run, "auc") == [(64, None), (48, None), (48, "digits")]
    assert asked(run, "lidar") == [(48, "digits")]
    rank([run], RankOptions(scores="lidar", limit=48))  # with views now; the others are not there twice
    assert asked(run, "auc") == [(64, None), (48, None), (48, "digits")]
    assert asked(run, "lidar") == [(48, "digits"), (48, None)]


def photos(folder, first):
    folder.mkdir(exist_ok=True)
    made = open_images("digits")
    for index in range(40):
        to_pil_image(made.read(first + index)).save(folder / f"{index}.png")


@pytest.mark.parametrize("own", [False, True], ids=["asked for", "its own"])
def test_images_that_have_changed_since_are_measured_anew(runs, tmp_path, monkeypatch, own):
    folder = tmp_path / "photos"
    photos(folder, 0)
    if own:
        runs = [tmp_path / "a", tmp_path / "b"]
        for seed, run in enumerate(runs):
            assert train(replace(tiny(steps=4), images=str(folder), subset=0.9, seed=seed, out=str(run))).complete
    options = RankOptions(scores="rankme", images=None if own else str(folder), limit=32)
    found = [values(rank(runs[:2], options), "rankme")]
    photos(folder, 40)
    found.append(values(rank(runs[:2], options), "rankme"))
    assert found[0] != found[1]
    monkeypatch.setattr(scores, "inspect", lambda *arguments, **rest: pytest.fail("measured again"))
    assert values(rank(runs[:2], options), "rankme") == found[1]
    if own:
        shutil.rmtree(folder)  # images that are gone are not known to be others
        assert values(rank(runs[:2], options), "rankme") == found[1]


def test_weights_that_have_changed_since_are_measured_anew(runs):
    options = RankOptions(scores="rankme", limit=64)
    before = values(rank(runs[:2], options), "rankme")
    first, second = (sorted((run / "checkpoints").iterdir())[-1] for run in runs[:2])
    shutil.copyfile(second, first)
    assert values(rank(runs[:2], options), "rankme") == {"s0": before["s1"], "s1": before["s1"]} != before


def test_a_damaged_record_is_named(runs):
    for name in ("inspection.json", "scores.json"):
        (runs[0] / name).write_text("{}")
        with pytest.raises(ValueError, match=rf"{name} is damaged: .*; delete it and measure again"):
            rank(runs, RankOptions(scores="auc", limit=64))
        (runs[0] / name).unlink()


def test_a_folder_that_cannot_be_written_does_not_stop_it(runs, monkeypatch):
    def full(path, text):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("fullrank.training.scores.write_text", full)
    found = rank(runs[:2], RankOptions(scores="auc", limit=64))
    assert [each.scores["auc"].protocol["n"] for each in found.standings] == [64, 64]
    assert "could not be kept in" in found.said[-1]
    assert "(Read-only file system)" in found.said[-1]


def test_weights_that_were_not_kept(runs):
    for checkpoint in (runs[0] / "checkpoints").iterdir():
        checkpoint.unlink()
    found = rank(runs, RankOptions(scores="auc", limit=64))
    assert "the weights of step 6 were not kept, so --scores could not be measured: s0" in found.said


def test_subsets_can_be_compared_on_the_same_images(tmp_path):
    paths = []
    for share in (0.5, 1.0):
        path = tmp_path / f"part-{share}"
        assert train(replace(tiny(steps=4), subset=share, out=str(path))).complete
        paths.append(path)
    assert len(rank(paths).groups) == 2
    assert len(rank(paths, RankOptions(scores="auc", limit=64)).groups) == 2
    assert len(rank(paths, RankOptions(scores="auc", limit=64, images="digits")).groups) == 1
