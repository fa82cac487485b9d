"""TensorBoard and Weights & Biases get the numbers of the run's own files, and go on where the run does."""

import importlib.util
import io
import json
import math
import os
import struct
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from fullrank.config import MonitorConfig, read_config
from fullrank.errors import FullrankError
from fullrank.training import loggers
from fullrank.training.loop import resume, train
from fullrank.training.runs import CONFIG, METRICS, TIMING, read_lines

from .tiny import quiet, tiny

HERE = [name for name in loggers.LOGGERS if importlib.util.find_spec(name)]
pytestmark = pytest.mark.filterwarnings("ignore")  # of other people's packages


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)


def logged_run(folder, **changes):
    return tiny(out=folder, monitor=replace(tiny().monitor, **dict.fromkeys(HERE, True)), **changes)


def recorded(folder):
    """What the run's own files hold, by name and step."""
    found = {
        (f"{record['kind']}/{name}", record["step"]): value
        for record in read_lines(folder / METRICS)
        for name, value in record.items()
        if name not in ("kind", "step") and record["kind"] != "protocols"
    }
    return found | {("images_per_second", r["step"]): r["images_per_second"] for r in read_lines(folder / TIMING)}


def tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {(name, each.step): each.value for name in events.Tags()["scalars"] for each in events.Scalars(name)}


def wandb_records(folder):
    """The records of the folder's W&B files, in order; W&B's own process writes the last one, `exit`, when it can."""
    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for _ in range(200):
            records = list(leveldb_records(path))
            if records and records[-1].HasField("exit"):
                break
            time.sleep(0.1)
        found += records
    return found


def leveldb_records(path):
    """Read a LevelDB log of protocol buffers behind seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    file, parts = io.BytesIO(path.read_bytes()), b""
    file.seek(7)
    while True:
        if (left := 32768 - file.tell() % 32768) < 7:
            file.seek(left, 1)
        head = file.read(7)
        if len(head) < 7:
            return
        _, length, kind = struct.unpack("<IHB", head)
        parts += file.read(length)
        if kind in (1, 4):  # whole, or last
            yield Record.FromString(parts)
            parts = b""


def wandb(folder):
    found = {}
    for record in wandb_records(folder):
        row = {each.key or each.nested_key[0]: json.loads(each.value_json) for each in record.history.item}
        found |= {(name, row["step"]): value for name, value in row.items() if name[0] != "_" and name != "step"}
    return found


READERS = {"tensorboard": tensorboard, "wandb": wandb}


@pytest.mark.parametrize("name", loggers.LOGGERS)
def test_all_get_what_the_run_records_and_go_on_with_it(name, tmp_path):
    if name not in HERE:
        pytest.skip(f"{name} is not installed")
    train(logged_run(tmp_path / "whole"), console=quiet())
    read = READERS[name](tmp_path / "whole")
    own = recorded(tmp_path / "whole")
    assert {"train/loss", "measure/auc", "images_per_second"} <= {name for name, _ in own}
    assert read.keys() == own.keys()
    assert all(math.isclose(read[key], own[key], rel_tol=1e-6) for key in own)

    for late in (tmp_path / "whole" / "checkpoints").glob("step_000000[12]?.pt"):
        late.unlink()  # as after a kill at a later step
    (tmp_path / "whole" / "summary.json").unlink()
    resume(tmp_path / "whole", console=quiet())
    again = READERS[name](tmp_path / "whole")
    assert again.keys() == own.keys()
    assert all(math.isclose(again[key], own[key], rel_tol=1e-6) for key in own if key[0] != "images_per_second")


@pytest.mark.skipif("wandb" not in HERE, reason="wandb is not installed")
def test_a_run_that_goes_on_is_the_same_there_and_one_that_fails_is_said_to_have(tmp_path):
    folder = tmp_path / "run"
    train(logged_run(folder, steps=8), console=quiet())
    runs = [each.run for each in wandb_records(folder) if each.HasField("run")]
    assert {(run.display_name, run.project) for run in runs} == {("run", "fullrank")}
    (folder / "checkpoints" / "step_00000008.pt").unlink()
    (folder / "summary.json").unlink()
    resume(folder, console=quiet())
    ids = {each.run.run_id for each in wandb_records(folder) if each.HasField("run")}
    assert ids == {(folder / "wandb" / "id").read_text().strip()}

    failing = logged_run(tmp_path / "failing", optim=replace(tiny().optim, base_lr=1e9))
    with pytest.raises(FullrankError, match="the loss became nan"):
        train(failing, console=quiet())
    codes = [[each.exit.exit_code for each in wandb_records(at) if each.HasField("exit")] for at in tmp_path.iterdir()]
    assert sorted(codes) == [[0, 0], [1]]


@pytest.mark.skipif("wandb" not in HERE, reason="wandb is not installed")
def test_a_run_of_the_program_around_stays_open(tmp_path):
    import wandb

    own = wandb.init(dir=tmp_path, settings=wandb.Settings(silent=True))
    train(logged_run(tmp_path / "run", steps=4), console=quiet())
    assert wandb.run is own
    own.log({"mine": 1})
    own.finish()


@pytest.mark.skipif("wandb" not in HERE, reason="wandb is not installed")
def test_one_who_is_not_logged_in_is_told_what_to_do(tmp_path):
    words = ["-m", "fullrank", "train", "--steps", "2", "--out", str(tmp_path / "run"), "--monitor.wandb"]
    home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "none"), "WANDB_MODE": "online"}  # where a key would be
    env = {name: value for name, value in os.environ.items() if name != "WANDB_API_KEY"} | home
    made = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=env, check=False)
    assert made.returncode == 1
    assert "Weights & Biases cannot be used: " in made.stderr
    assert "log in with `wandb login`, set WANDB_MODE=offline, or leave out --monitor.wandb" in made.stderr
    assert made.stderr.count("\n") == 1


@pytest.mark.parametrize("name", loggers.LOGGERS)
def test_an_extra_that_is_missing_is_named_before_a_folder_is_made(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, loggers.LOGGERS[name].module, None)
    with pytest.raises(FullrankError, match=rf"^--monitor.{name} needs the extra: pip install 'fullrank\[{name}\]'$"):
        train(tiny(out=tmp_path / "run", monitor=MonitorConfig(**{name: True})), console=quiet())
    assert not (tmp_path / "run").exists()


def test_a_logger_may_be_turned_off_when_a_run_goes_on(tmp_path):
    if not HERE:
        pytest.skip("no logger is installed")
    train(logged_run(tmp_path / "run", steps=8), console=quiet())
    (tmp_path / "run" / "checkpoints" / "step_00000008.pt").unlink()
    (tmp_path / "run" / "summary.json").unlink()
    written = read_config(tmp_path / "run" / CONFIG)
    off = replace(written.monitor, **dict.fromkeys(HERE, False))
    assert resume(tmp_path / "run", replace(written, monitor=off), console=quiet()).complete
    assert torch.load(tmp_path / "run" / "checkpoints" / "step_00000008.pt", weights_only=True)
