import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from run_folders import make_run
from safetensors.numpy import save_file
from tests.pages import check

from fullrank.errors import FullrankError
from fullrank.report.document import write_report


def report(tmp_path, *runs):
    return check(write_report(runs, tmp_path / "report.html").read_text(encoding="utf-8"))


def test_one_run(tmp_path):
    page = report(tmp_path, make_run(tmp_path / "first", samples=True, skipped=["broken.jpg", "empty.png"]))
    assert "first" in page.text
    assert "partial dimensional collapse" in page.text
    assert "Side by side" not in page.text
    for word in ("training loss", "held-out loss", "k-NN accuracy", "RankMe", "participation ratio", "of 32"):
        assert word in page.text
    assert "broken.jpg, empty.png" in page.text
    assert "8 cores of a test machine" in page.text
    assert "How each score was measured" in page.text
    assert "cosine" in page.text
    assert page.tags.count("img") == 1
    assert any(alt.startswith("AUC over gradient steps. first: 0.") for alt in page.alts)
    assert page.tags.count("figure") == page.tags.count("figcaption") == 10


def test_two_runs_are_compared_with_their_difference_first(tmp_path, no_drawing):
    runs = make_run(tmp_path / "multi", decay=5), make_run(tmp_path / "hybrid", order="hybrid", decay=3)
    page = report(tmp_path, *runs)
    assert "AUC: 0.950 to 0.975, no further apart than two seeds (0.03)." in page.text
    assert "K-NN" not in page.text
    assert "k-NN accuracy: highest for multi (" in page.text
    assert "hybrid, multiple pass from step 400" in page.text
    highlighted = re.findall(r'<tr class="marked"><th[^>]*>([^<]*)', page.source)
    assert highlighted == ["order"]
    assert "19 fields are the same" in page.text


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"width": 64}, "AUC cannot be compared: it depends on the width D, and that is 32 and 64 here."),
        ({"k": 5}, "k-NN accuracy cannot be compared: measured in different ways (k)."),
        ({"labels": False}, "k-NN accuracy cannot be compared: not measured for other."),
        (
            {"method": "simclr"},
            "Held-out loss cannot be compared: measured in different ways (loss).",
        ),
        ({"images": "cifar10"}, "AUC cannot be compared: measured in different ways (images)."),
        ({"reached": 600}, "The scores are not from equal numbers of steps: 1,000 (base) and 600 (other)."),
        ({"reached": 0}, "cannot be compared: only the untrained encoder is measured in other."),
    ],
)
def test_what_cannot_be_compared_is_not(tmp_path, no_drawing, other, said):
    page = report(tmp_path, make_run(tmp_path / "base"), make_run(tmp_path / "other", decay=4, **other))
    assert said in page.text


def test_seven_runs(tmp_path, no_drawing):
    runs = [make_run(tmp_path / f"run{index}", decay=2 + index / 2, seed=index // 2) for index in range(7)]
    page = report(tmp_path, *runs)
    assert "7 runs side by side" in page.text
    assert len(set(re.findall(r'class="swatch"[^>]*style="color:([^"]*)"', page.source))) == 7
    assert page.tags.count("figure") == 7 + 2 * 7


@pytest.mark.parametrize("measurements", [True, False])
def test_a_run_that_has_just_begun(tmp_path, no_drawing, measurements):
    page = report(tmp_path, make_run(tmp_path / "new", reached=0, measurements=measurements))
    assert "Unfinished, at step 0 of 1,000." in page.text
    assert ("Only the untrained encoder has been measured" if measurements else "No measurement yet") in page.text


def test_a_configuration_alone_is_enough(tmp_path, no_drawing):
    run = make_run(tmp_path / "bare", reached=0, measurements=False)
    for name in ("metrics.jsonl", "timing.jsonl"):
        (run / name).unlink()
    assert "Nothing has been recorded yet." in report(tmp_path, run).text


def test_an_unfinished_run_shows_its_latest_scores(tmp_path, no_drawing):
    page = report(tmp_path, make_run(tmp_path / "going", reached=650))
    assert "Unfinished, at step 650 of 1,000." in page.text
    assert "650 of 1,000, unfinished" in page.text
    assert re.search(r"scores measured at step</th><td[^>]*>600<", page.source)


def test_no_labels_and_nothing_held_out(tmp_path):
    page = report(tmp_path, make_run(tmp_path / "plain", labels=False, heldout=False))
    assert not any(alt.startswith(("k-NN", "held-out")) for alt in page.alts)


def test_a_loss_that_is_not_a_number(tmp_path):
    run = make_run(tmp_path / "diverged")
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(re.sub(r'"loss": -0\.9\d*', '"loss": NaN', text))
    assert any("no number at step 1,000" in alt for alt in report(tmp_path, run).alts)


def test_constant_features(tmp_path):
    run = make_run(tmp_path / "constant", reached=100)
    save_file({"steps": np.array([0, 100]), "singular_values": np.zeros((2, 32))}, run / "spectra.safetensors")
    page = report(tmp_path, run)
    assert "Features are constant, the same for every image." in page.text


@pytest.mark.parametrize(
    ("method", "loss", "said"), [("simsiam", -0.97, True), ("simsiam", -0.9, False), ("byol", -0.97, False)]
)
def test_a_loss_near_its_minimum_and_worse_than_untrained_are_said(tmp_path, no_drawing, method, loss, said):
    run = make_run(tmp_path / "point", method=method)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [record for record in records if record["kind"] == "measure"][-1]
    last |= {"heldout_loss": loss, "knn": 0.01}
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    text = report(tmp_path, run).text
    assert ("Held-out loss −0.970, near its minimum of −1, which embeddings in one point have" in text) == said
    assert "before training, and so worse than untrained" in text


def test_names_are_escaped_everywhere(tmp_path):
    name = "<b>\"x\" & 'y'> $a_b$"
    page = report(
        tmp_path,
        make_run(tmp_path / name, samples=True, images="<i>", skipped=["<u>.jpg"]),
        make_run(tmp_path / "other"),
    )
    assert "<b>&quot;" not in page.source
    assert "<i>" not in page.source
    assert "<u>" not in page.source
    assert name in page.text
    assert any(name in alt for alt in page.alts if alt.startswith("Some training images"))
    assert any(name in alt for alt in page.alts if alt.startswith("AUC"))


def test_runs_of_one_name_are_told_apart_and_the_same_run_is_shown_once(tmp_path, no_drawing):
    one, two = make_run(tmp_path / "a" / "run"), make_run(tmp_path / "b" / "run")
    page = report(tmp_path, one, two, tmp_path / "b" / "." / "run")
    assert "a/run and b/run" in page.text


def test_the_same_runs_give_the_same_bytes(tmp_path):
    runs = [make_run(tmp_path / "one", labels=False, heldout=False)]
    first, second = (write_report(runs, tmp_path / name / "page.html").read_bytes() for name in ("x", "y"))
    assert first == second


def test_long_runs_stay_light(tmp_path):
    run = make_run(tmp_path / "long", steps=50_000, every=250, width=300)
    page = report(tmp_path, run)
    assert "201 measurements, 40 of them drawn" in page.text
    assert len(page.source) < 2_000_000


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(FullrankError, match="give at least one run"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(FullrankError, match="does not exist"):
        write_report([tmp_path / "nowhere"], tmp_path / "report.html")
    with pytest.raises(FullrankError, match="is a folder: name the page"):
        write_report([make_run(tmp_path / "run")], tmp_path)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium to open the page with")
def test_a_browser_opens_it_without_a_word(tmp_path):
    page = write_report([make_run(tmp_path / "one", samples=True), make_run(tmp_path / "two")], tmp_path / "page.html")
    quiet = ["gpu", "quic", "background-networking", "component-update", "sync"]
    command = ["chromium", "--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--v=0"]
    command += [f"--screenshot={tmp_path / 'page.png'}", "--window-size=400,800", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert "CONSOLE" not in done.stderr
