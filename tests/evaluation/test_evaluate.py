"""`evaluate` on runs: what it scores is what is scored by hand, what it keeps, and what it says is missing."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.training.tiny import TINY, quiet, tiny

import fullrank
from fullrank.cli import main
from fullrank.data import views
from fullrank.data.eval_images import load_for_eval
from fullrank.data.images import open_images, sample
from fullrank.errors import FullrankError
from fullrank.evaluation.evaluate import evaluate
from fullrank.evaluation.options import EvaluateOptions, KnnOptions, LinearOptions, LogisticOptions
from fullrank.measure.probes import knn_accuracies, knn_accuracy, leave_one_out
from fullrank.ranking.candidates import open_candidates
from fullrank.training import scores
from fullrank.training.checkpoint import list_checkpoints
from fullrank.training.loop import train


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    train(tiny(steps=4, out=path), console=quiet())
    return path


@pytest.fixture
def name(run):
    """What the run is called on the command line; what is kept with it is removed."""
    yield str(run)
    (run / "scores.json").unlink(missing_ok=True)


def by_hand(run, split):
    """Representations and labels of the digits."""
    images = open_images("digits", split=split)
    pixels, _ = load_for_eval(images, torch.arange(len(images)), 16)
    with torch.no_grad():
        return fullrank.load(run)(views.normalize(views.as_float(pixels))), images.labels


def test_a_run_is_scored_as_by_hand_over_all_training_images(run, name):
    bank, queries = by_hand(run, "train"), by_hand(run, "eval")
    found = evaluate([name], EvaluateOptions(knn=True, knn_options=KnnOptions(k=5)))[0]
    assert (found.name, found.step, list(found.scores)) == ("run", 4, ["knn"])
    (score,) = found.scores.values()
    assert score.value == knn_accuracy(*bank, *queries, k=5)
    assert score.protocol == {
        "mode": "eval",
        "layer": "backbone",
        "view": "eval",
        "image_size": 16,
        "branch": "online",
        "dtype": "float32",
        "labels": "digits / digits",
        "fingerprint": " / ".join(open_images("digits", split=split).fingerprint() for split in ("train", "eval")),
        "bank": 1438,  # the run was trained on 15 % of them
        "queries": 359,
        "similarity": "cosine",
        "k": 5,
        "vote": "majority",
        "ties": "smallest label",
    }
    assert found.skipped == ()


def test_k_is_chosen_on_training_images_or_on_the_labels_that_it_is_judged_by(run, name):
    bank, queries = by_hand(run, "train"), by_hand(run, "eval")
    tried = knn_accuracies(*bank, *queries, ks=range(1, 31), vote="weighted", temperature=0.5)
    choosing = leave_one_out(*bank, ks=range(1, 31), vote="weighted", temperature=0.5)
    how = {"most": 30, "vote": "weighted", "temperature": 0.5}
    honest = evaluate([name], EvaluateOptions(knn=True, knn_options=KnnOptions(**how)))[0].scores["knn"]
    assert honest.chosen == {"k": max(choosing, key=choosing.get)}
    assert honest.value == tried[honest.chosen["k"]]
    assert honest.protocol["k"] == "1 to 30, the best by leave-one-out over 1438 training images"
    assert (honest.protocol["vote"], honest.protocol["temperature"]) == ("weighted", 0.5)
    best = evaluate([name], EvaluateOptions(knn=True, knn_options=KnnOptions(**how, choose="best-on-validation")))[
        0
    ].scores["knn"]
    assert best.value == max(tried.values())
    assert best.protocol["k"] == "1 to 30, the best on the held-out labels, which it has seen"


def test_the_monitor_takes_the_same_score_and_says_so(tmp_path):
    path = tmp_path / "run"
    train(tiny(steps=2, out=path, subset=1.0, monitor=TINY.monitor.__class__(num_images=400, knn_k=5)), console=quiet())
    recorded = {score["name"]: score for score in json.loads((path / "summary.json").read_text())["scores"]}["knn"]
    (score,) = evaluate([str(path)], EvaluateOptions(knn=True, limit=400, knn_options=KnnOptions(k=5)))[
        0
    ].scores.values()
    assert (score.value, score.kind.direction) == (recorded["value"], recorded["direction"])
    # the run names its images, and keeps their fingerprints beside its scores: `rank` puts them together
    assert {**recorded["protocol"], "fingerprint": score.protocol["fingerprint"]} == score.protocol
    (candidate,) = open_candidates([path])
    evaluated, monitored = candidate.labeled["knn"]
    assert evaluated == monitored


def test_limit_and_other_images(run, name):
    bank, (queries, answers) = by_hand(run, "train"), by_hand(run, "eval")
    options = EvaluateOptions(knn=True, limit=100, images="digits", eval_images="digits", knn_options=KnnOptions(k=3))
    (score,) = evaluate([name], options)[0].scores.values()
    some = sample(torch.arange(1438), 100)
    assert score.protocol["sample"] == "at random, seed 0"
    assert score.value == knn_accuracy(bank[0][some], bank[1][some], queries, answers, k=3)
    assert (score.protocol["bank"], score.protocol["queries"]) == (100, 359)


def test_scores_that_cannot_be_kept_are_printed_and_the_next_probe_is_taken(run, name, monkeypatch, capsys):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scores, "write_text", full)
    assert main(["evaluate", name, "--knn", "--knn.k", "5", "--logistic", "--logistic.l2", "1"]) == 0
    out = capsys.readouterr().out
    assert "k-NN" in out
    assert "logistic" in out
    assert "could not be kept" in out


def test_a_checkpoint_is_scored_and_not_kept(run):
    first, last = list_checkpoints(run / "checkpoints")[0], list_checkpoints(run / "checkpoints")[-1]
    found = evaluate([str(first), str(last)], EvaluateOptions(knn=True, knn_options=KnnOptions(k=5)))
    assert [(each.step, each.run) for each in found] == [(0, None), (4, None)]
    assert [each.name for each in found] == [first.name, last.name]
    assert not (run / "scores.json").exists()


def test_scores_of_another_step_and_of_old_files_stay_and_say_of_which_step_they_are(name, run):
    old = {"name": "knn", "value": 0.5, "better": "higher", "protocol": {}}
    (run / "evaluation.json").write_text(json.dumps({"step": 3, "scores": [old]}))
    assert main(["evaluate", name, "--limit", "50", "--knn", "--knn.k", "5"]) == 0
    (run / "evaluation.json").unlink()
    found = json.loads((run / "scores.json").read_text())["scores"]
    assert [(score["step"], score["by"], score["name"]) for score in found] == [
        (3, "evaluate", "knn"),
        (4, "evaluate", "knn"),
    ]
    (candidate,) = open_candidates([run])
    assert candidate.labeled["knn"][0].protocol["bank"] == 50


def pictures(folder, count, *, labelled, names=("red", "blue")):
    """Images of two colours, those of a colour in a folder where they are labelled."""
    for i in range(count):
        where = folder / names[i % 2] if labelled else folder
        where.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((16, 16, 3), dtype=np.uint8)
        pixels[..., 2 if i % 2 else 0] = 150 + i
        Image.fromarray(pixels).save(where / f"{i:02}.png")
    return str(folder)


def test_images_that_cannot_be_read_take_their_labels_with_them(run, name, tmp_path):
    bank = pictures(tmp_path / "bank", 30, labelled=True)
    (tmp_path / "bank" / "blue" / "03.png").write_bytes(b"damaged")
    queries = pictures(tmp_path / "queries", 6, labelled=True)
    options = EvaluateOptions(knn=True, images=bank, eval_images=queries, knn_options=KnnOptions(k=1))
    # One run reads images as it goes; several share what was decoded once.
    for names in ([name], [name, str(list_checkpoints(run / "checkpoints")[0])]):
        found = evaluate(names, options)[0]
        assert found.scores["knn"].value == 1.0
        assert found.scores["knn"].protocol["bank"] == 29
        assert [key.endswith("03.png") for key in found.skipped] == [True]


@pytest.mark.parametrize("several", [False, True])
def test_held_out_images_of_classes_without_training_images_are_never_right(run, name, tmp_path, several):
    bank = pictures(tmp_path / "bank", 30, labelled=True)
    known = pictures(tmp_path / "known", 10, labelled=True)
    pictures(tmp_path / "more", 10, labelled=True)
    more = pictures(tmp_path / "more", 10, labelled=True, names=("green", "yellow"))
    options = EvaluateOptions(
        knn=True,
        logistic=True,
        linear=True,
        images=bank,
        eval_images=known,
        knn_options=KnnOptions(k=1),
        logistic_options=LogisticOptions(l2=1e-3),
        linear_options=LinearOptions(epochs=2, batch_size=10, precision="float32"),
    )
    names = [name, str(list_checkpoints(run / "checkpoints")[-1])][: 1 + several]
    without, found = (
        list(evaluate(names, replace(options, eval_images=images))[-1].scores.values()) for images in (known, more)
    )
    assert [score.name for score in found] == ["knn", "logistic", "linear"]
    assert without[0].value == 1.0
    for before, score in zip(without, found, strict=True):
        assert score.value == before.value / 2 > 0
        assert (before.protocol["queries"], score.protocol["queries"]) == (10, 20)
        assert "never right" not in before.protocol
        assert score.protocol["never right"] == "10 of 20 held-out images, of classes without training images"


def test_without_labels_it_says_which_are_missing(run, name, tmp_path, capsys):
    bare, named = pictures(tmp_path / "bare", 20, labelled=False), pictures(tmp_path / "named", 20, labelled=True)
    unlabelled = tmp_path / "unlabelled"
    train(tiny(steps=2, out=unlabelled, images=bare, subset=1.0, order="multiple-pass"), console=quiet())
    for flags, words in (
        (
            [],
            f"the training images {bare} have no labels: name others with --images; there are no held-out "
            "images to classify: give some with --eval-images",
        ),
        (["--eval-images", named], f"the training images {bare} have no labels: name others with --images"),
        (["--images", named, "--eval-images", bare], f"the held-out images {bare} have no labels: name others with"),
    ):
        assert main(["evaluate", str(unlabelled), "--knn", *flags]) == 1
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    strangers = pictures(tmp_path / "strangers", 4, labelled=True, names=("cat", "dog"))
    assert main(["evaluate", str(unlabelled), "--images", named, "--eval-images", strangers]) == 1
    assert "strangers share no class with the training images: name others with" in capsys.readouterr().err
    assert not (unlabelled / "scores.json").exists()
    assert main(["evaluate", str(unlabelled), name, "--knn", "--limit", "50"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert f"unlabelled: not scored: the training images {bare} have no labels" in output
    assert "k-NN accuracy: mode eval" in output
    more = pictures(tmp_path / "more", 6, labelled=True)
    with_labels = EvaluateOptions(knn=True, images=named, eval_images=more, knn_options=KnnOptions(k=1))
    assert evaluate([str(unlabelled)], with_labels)[0].scores["knn"].value == 1.0
    capsys.readouterr()
    assert main(["evaluate", str(unlabelled), "--images", named, "--eval-images", f"{named}/."]) == 1
    error = capsys.readouterr().err
    same = f"the held-out images {named}/. are the training images, of which each is its own nearest neighbor"
    assert f"{same}: name others with --eval-images" in error


def test_the_command_prints_each_score_with_its_protocol(run, name, capsys):
    assert main(["evaluate", name, "--knn", "--knn.choose", "best-on-validation", "--knn.most", "9"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    kept = json.loads((run / "scores.json").read_text())["scores"][0]
    assert f"k-NN {100 * kept['value']:.1f} % k {kept['chosen']['k']}" in output
    assert "k 1 to 9, the best on the held-out labels, which it has seen, vote majority" in output
    assert main(["evaluate", name, "--knn", "--knn.k", "5", "--json"]) == 0
    (each,) = json.loads(capsys.readouterr().out)["evaluated"]
    assert (each["step"], each["missing"], each["scores"][0]["protocol"]["k"]) == (4, "", 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate"], "give at least one run"),
        (["evaluate", "RUN", "none"], "there is no none: expected a run's folder or a checkpoint"),
        (["evaluate", "RUN", "--images", "cifra10"], "no images at 'cifra10'.*did you mean 'cifar10'"),
        (["evaluate", "RUN", "--knn.k", "2000"], "knn.k=2000 neighbors are more than the 1438 labeled training"),
        (["evaluate", "RUN", "--device", "cuda:77"], "there is no cuda:77 here"),
    ],
)
def test_what_is_wrong_is_one_line(run, arguments, message, capsys):
    assert main([str(run) if argument == "RUN" else argument for argument in arguments]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(FullrankError, match=message):
        raise FullrankError(error)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "knn.k must be at least 1 .*, got 0"),
        ({"most": 0}, "knn.most must be at least 1 .*, got 0"),
        ({"k": 5, "most": 9}, "knn.k=5 leaves nothing to choose"),
        ({"k": 5, "choose": "best-on-validation"}, "knn.k=5 leaves nothing to choose"),
        ({"temperature": 0.0, "vote": "weighted"}, "knn.temperature must be above 0 .*, got 0.0"),
        ({"temperature": 0.1}, "knn.temperature=0.1 is for weighted votes: add --knn.vote weighted"),
    ],
)
def test_settings_that_contradict(settings, message):
    with pytest.raises(FullrankError, match=message):
        KnnOptions(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l2": -1.0}, "logistic.l2 must be above 0 .*, got -1.0"),
        ({"tolerance": -1.0}, "logistic.tolerance must be above 0 .*, got -1.0"),
        ({"tolerance": float("nan")}, "logistic.tolerance must be above 0 .*, got nan"),
        ({"max_iterations": 0}, "logistic.max_iterations must be at least 1 .*, got 0"),
    ],
)
def test_settings_of_the_logistic_regression(settings, message):
    with pytest.raises(FullrankError, match=message):
        LogisticOptions(**settings)


def test_a_limit_leaves_several_images():
    with pytest.raises(FullrankError, match="limit must be at least 2 .*, got 1"):
        EvaluateOptions(limit=1)
