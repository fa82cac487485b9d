"""scores.json: what was measured of a run after it was trained, by whatever version."""

import errno
import fcntl
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from fullrank import __version__
from fullrank.errors import FullrankError
from fullrank.measure.scores import Score
from fullrank.training import scores
from fullrank.training.runs import read_run
from fullrank.training.scores import EVALUATION, INSPECTION, SCORES_FILE, Kept, evaluated, keep, kept, protocol_of
from tests.report.run_folders import make_run


def shown(run):
    return [(each.by, each.step, each.score.name, each.score.protocol.get("k"), each.score.value) for each in kept(run)]


def test_commands_that_keep_scores_of_one_run_at_the_same_time_lose_none(tmp_path, monkeypatch):
    lock = fcntl.flock

    def slowly(run):
        found = kept(run)
        time.sleep(0.2)
        return found

    def as_on_nfs(file, kind):
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:  # flock(2), of exclusive locks
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        lock(file, kind)

    monkeypatch.setattr(fcntl, "flock", as_on_nfs)
    monkeypatch.setattr(scores, "kept", slowly)
    with ThreadPoolExecutor() as pool:
        for name in ("knn", "logistic", "linear"):
            pool.submit(keep, tmp_path, [Kept(Score(name, 0.5, {}), 100, "evaluate")])
    assert {each.score.name for each in kept(tmp_path)} == {"knn", "logistic", "linear"}


def test_a_score_replaces_that_of_its_command_step_name_and_protocol(tmp_path):
    assert kept(tmp_path) == []
    keep(
        tmp_path,
        [Kept(Score("knn", 0.5, {"k": 20}), 100, "evaluate"), Kept(Score("knn", 0.6, {"k": (1, 2)}), 100, "evaluate")],
    )
    keep(tmp_path, [Kept(Score("knn", 0.7, {"k": 20}), 200, "evaluate")])
    keep(tmp_path, [Kept(Score("auc", None, {"k": 20}, "too few"), 100, "inspect", asked={"images": None, "limit": 9})])
    keep(tmp_path, [Kept(Score("knn", 0.8, {"k": (1, 2)}, chosen={"k": 2}), 100, "evaluate")])
    assert shown(tmp_path) == [
        ("evaluate", 100, "knn", 20, 0.5),
        ("evaluate", 100, "knn", [1, 2], 0.8),
        ("evaluate", 200, "knn", 20, 0.7),
        ("inspect", 100, "auc", 20, None),
    ]
    assert kept(tmp_path)[3].asked == {"images": None, "limit": 9}
    assert [score.value for score in evaluated(tmp_path, 100)] == [0.5, 0.8]
    assert json.loads((tmp_path / SCORES_FILE).read_text())["scores"][1] == {
        "step": 100,
        "by": "evaluate",
        "fullrank": __version__,
        "name": "knn",
        "value": 0.8,
        "direction": "higher",
        "protocol": {"k": [1, 2]},
        "chosen": {"k": 2},
    }
    assert [path.name for path in tmp_path.glob("[!.]*")] == [SCORES_FILE]


def test_files_of_before_are_read_and_what_is_measured_since_wins(tmp_path):
    knn = {"name": "knn", "value": 0.5, "better": "higher", "protocol": {"k": 20}}
    auc = {"name": "auc", "value": 0.8, "better": "lower", "range": "[0, 1]", "protocol": {"d": 64}, "why": ""}
    asked = {"images": "cifar10", "limit": 5000, "views": True}
    inspection = {"fullrank": "0.1.0", "step": 100, "asked": asked, "width": 64, "scores": [auc]}
    (tmp_path / EVALUATION).write_text(json.dumps({"fullrank": "0.1.0", "step": 100, "scores": [knn]}))
    (tmp_path / INSPECTION).write_text(json.dumps({"inspections": [inspection]}))
    assert shown(tmp_path) == [("evaluate", 100, "knn", 20, 0.5), ("inspect", 100, "auc", None, 0.8)]
    assert (kept(tmp_path)[1].version, kept(tmp_path)[1].asked) == ("0.1.0", asked)
    keep(tmp_path, [Kept(Score("knn", 0.6, {"k": 20}), 100, "evaluate")])
    assert shown(tmp_path)[0] == ("evaluate", 100, "knn", 20, 0.6)
    assert len(kept(tmp_path)) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (EVALUATION, "{"),
        (EVALUATION, "[]"),
        (EVALUATION, '{"scores": [{"name": "knn", "value": 1}]}'),
        (EVALUATION, '{"step": 1, "scores": [{"name": "knn"}]}'),
        (EVALUATION, "\xff"),
        (INSPECTION, "{}"),
        (
            INSPECTION,
            '{"inspections": [{"fullrank": "0", "step": 4, "asked": null, "scores": [{"name": "a", "value": 1}]}]}',
        ),
        (SCORES_FILE, "[]"),
        (SCORES_FILE, '{"scores": [{"step": 1, "by": "nobody", "fullrank": "0", "name": "knn", "value": 1}]}'),
        (SCORES_FILE, '{"scores": [{"step": 1, "by": "inspect", "fullrank": "0", "value": 1}]}'),
        (
            SCORES_FILE,
            '{"scores": [{"step": 1, "by": "inspect", "fullrank": "", "name": "a", "value": 1, "asked": 3}]}',
        ),
    ],
)
def test_what_is_damaged_is_not_written_over(name, text, tmp_path):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    said = keep(tmp_path, [Kept(Score("knn", 0.5, {"k": 20}), 100, "evaluate")])
    assert re.search(rf"{name} is damaged: .*; delete it and measure again", said)
    assert (tmp_path / name).read_bytes() == text.encode("latin-1")
    assert [path.name for path in tmp_path.glob("[!.]*")] == [name]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (EVALUATION, "{}", r"evaluation\[0\].scores is missing"),
        (EVALUATION, '{"step": 1, "scores": {"a": 1}}', r"evaluation\[0\].scores must be a list, got dict"),
        (INSPECTION, "{}", "inspection must be a list, got None"),
        (INSPECTION, '{"inspections": [3]}', r"inspection\[0\] must be a record in braces, got 3"),
        (INSPECTION, '{"inspections": [{"scores": [4]}]}', r"scores\[0\] must be a record in braces, got 4"),
    ],
)
def test_what_is_wrong_with_a_file_of_before_is_said_in_its_words(name, text, reason, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(FullrankError, match=f"{name} is damaged: .*{reason}"):
        kept(tmp_path)


def test_runs_of_before_state_the_width_of_their_spectra_too(tmp_path):
    run = read_run(make_run(tmp_path / "old", width=24))
    assert "d" not in run.protocols["spectrum"]
    assert protocol_of(run, "auc")["d"] == 24
    assert "d" not in protocol_of(run, "heldout_loss")
    assert "d" not in protocol_of(run, "knn")
