import errno
import io
import os
import pickle
import stat

import pytest
import torch
from rich.console import Console

import fullrank
from fullrank.encoders import open_encoder
from fullrank.errors import FullrankError
from fullrank.exporting.export import export
from fullrank.files import atomic_path
from fullrank.training.checkpoint import find_checkpoint, list_checkpoints, read_checkpoint, save_checkpoint
from fullrank.training.loop import resume, train
from fullrank.training.record import Recorder
from fullrank.training.runs import read_run
from tests.training.tiny import quiet, tiny


def test_a_checkpoint_comes_back_and_old_ones_go(tmp_path):
    for step in (5, 10, 100, 1000):
        save_checkpoint(tmp_path, step, {"config": {}, "model": {"w": torch.arange(3)}}, keep=2)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_00000100.pt", "step_00001000.pt"]
    state = read_checkpoint(tmp_path / "step_00001000.pt")
    assert state["step"] == 1000
    assert state["model"]["w"].tolist() == [0, 1, 2]


def flip(data):
    """Change a few bytes in the middle, where the weights are."""
    middle = len(data) // 2
    return data[:middle] + bytes(b ^ 255 for b in data[middle : middle + 8]) + data[middle + 8 :]


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_damaged_and_foreign_files_are_refused_and_nothing_in_them_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = save_checkpoint(tmp_path, 1, {"config": {}, "model": {"w": torch.randn(1000)}}, keep=0)
    half = tmp_path / "step_00000002.pt"
    half.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    flipped = tmp_path / "flipped.pt"
    flipped.write_bytes(flip(good.read_bytes()))
    empty = tmp_path / "empty.pt"
    empty.write_bytes(b"")
    foreign = tmp_path / "foreign.pt"
    torch.save({"state_dict": {"w": torch.zeros(2)}}, foreign)
    bomb = tmp_path / "bomb.pt"
    torch.save(Bomb(), bomb)
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(Bomb()))
    newer = tmp_path / "newer.pt"
    torch.save({**read_checkpoint(good), "version": 99}, newer)
    for path, message in (
        (half, "step_00000002.pt is damaged, .*: delete it to go on from the checkpoint before"),
        (empty, "empty.pt is no checkpoint, or damaged, .*: give one"),
        (flipped, "flipped.pt is no checkpoint, or damaged, .*: give one"),
        (foreign, "foreign.pt is not a checkpoint of fullrank"),
        (bomb, "bomb.pt is not a checkpoint of fullrank: it holds more than weights, and was not opened"),
        (plain, "plain.pt is not a checkpoint"),
        (newer, "newer.pt is of version 99, this fullrank reads up to 1"),
        (tmp_path / "none.pt", "there is no checkpoint"),
    ):
        with pytest.raises(FullrankError, match=message):
            read_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 1, {"config": {}, "model": {}}, keep=1)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(tmp_path, 2, {"config": {}, "model": {}}, keep=1)
    assert os.listdir(tmp_path) == ["step_00000001.pt"]
    assert read_checkpoint(tmp_path / "step_00000001.pt")["step"] == 1


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x"
    path.write_text("old")

    def fail_half_way():
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert os.listdir(tmp_path) == ["x"]
    assert path.read_text() == "old"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_a_disk_that_cannot_force_folders_keeps_files(tmp_path, monkeypatch):
    """As some of a network, or of FUSE."""
    force = os.fsync

    def files_alone(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        force(descriptor)

    monkeypatch.setattr(os, "fsync", files_alone)
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def test_two_that_write_one_file_have_a_temporary_file_each(tmp_path):
    """Processes of two machines may have the same number."""
    path = tmp_path / "a.txt"
    with atomic_path(path) as first, atomic_path(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["first"]


def test_load_gives_the_trained_encoder(tmp_path):
    train(tiny(out=tmp_path / "run", steps=6), console=quiet())
    encoder = fullrank.load(tmp_path / "run")
    assert not encoder.training
    images = torch.randn(3, 3, 16, 16)
    assert encoder(images).shape == (3, 32)
    older = fullrank.load(tmp_path / "run" / "checkpoints" / "step_00000005.pt")
    assert not torch.equal(encoder(images), older(images))
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "step_00000006.pt")["model"]
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, state[f"backbone.{name}"])


def test_load_leaves_the_callers_random_state_alone(tmp_path):
    train(tiny(out=tmp_path / "run", steps=2), console=quiet())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fullrank.load(tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


def test_load_names_what_is_missing(tmp_path):
    with pytest.raises(FullrankError, match="is not a run: expected a folder made by `fullrank train`"):
        fullrank.load(tmp_path)
    with pytest.raises(FullrankError, match="there is no checkpoint"):
        fullrank.load(tmp_path / "none")


def test_a_finished_run_without_weights_is_told_from_one_that_has_none_yet(tmp_path):
    (tmp_path / "config.yaml").touch()
    with pytest.raises(FullrankError, match="has no checkpoint yet"):
        find_checkpoint(tmp_path)
    (tmp_path / "summary.json").touch()
    with pytest.raises(FullrankError, match="is finished and has no checkpoint: its weights were left out or deleted"):
        find_checkpoint(tmp_path)


def test_a_finished_run_whose_weights_were_deleted_is_not_begun_anew(tmp_path):
    """A loop that resumes all runs of a folder would drop its records."""
    run, console = tmp_path / "run", Console(file=io.StringIO(), width=300)
    train(tiny(out=run, steps=6, keep_checkpoints=2), console=quiet())
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert resume(run, console=console).complete
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    assert "its weights are gone: delete its summary.json to train it anew" in console.file.getvalue()
    (run / "summary.json").unlink()
    assert resume(run, console=console).complete
    assert "has no checkpoint: it begins anew, and what it recorded up to step 6 is dropped" in console.file.getvalue()


def test_a_finished_run_that_goes_on_from_an_earlier_checkpoint_is_unfinished(tmp_path, monkeypatch):
    run = tmp_path / "run"
    train(tiny(out=run, steps=6), console=quiet())
    (run / "checkpoints" / "step_00000006.pt").unlink()
    monkeypatch.setattr(Recorder, "log", kill)
    with pytest.raises(KeyboardInterrupt):
        resume(run, console=quiet())
    assert not read_run(run).finished


def kill(*_):
    raise KeyboardInterrupt


def test_an_edited_configuration_and_lost_records_are_not_gone_on_with_in_silence(tmp_path):
    run = tmp_path / "run"
    train(tiny(out=run, steps=6), console=quiet())
    (run / "summary.json").unlink()
    whole = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(whole.replace("seed: 0", "seed: 1"))
    with pytest.raises(FullrankError, match=r"is not what step_00000006.pt was trained with: seed: 0 -> 1\. Put it"):
        resume(run, console=quiet())
    (run / "config.yaml").write_text(whole)
    (run / "checkpoints" / "step_00000006.pt").unlink()
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(line for line in lines if '"step": 3,' not in line))
    console = Console(file=io.StringIO(), width=300)
    assert resume(run, console=console).complete
    assert "metrics.jsonl lack 1 records up to step 5, the first of step 3" in console.file.getvalue()


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """What is in the checkpoint of a run."""
    run = tmp_path_factory.mktemp("runs") / "run"
    train(tiny(out=run, steps=1), console=quiet())
    return read_checkpoint(find_checkpoint(run))


READERS = {
    "load": lambda path: fullrank.load(path),
    "embedding": lambda path: open_encoder(path, layer="embedding"),
    "export": lambda path: export(path, path.parent / "out"),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone.conv1.weight": torch.zeros(4, 3, 7, 7)}, r"size mismatch for .*conv1.weight: .*\[4, 3, 7, 7\]"),
        ({"backbone.blocks.0.w": torch.zeros(2)}, "Unexpected key.*blocks.0.w"),
        ({"backbone.conv1.weight": None}, "Missing key.*conv1.weight"),
    ],
)
def test_weights_of_another_network_are_named(state, tmp_path, change, message, read):
    model = {key: value for key, value in {**state["model"], **change}.items() if value is not None}
    torch.save({**state, "model": model}, tmp_path / "other.pt")
    with pytest.raises(FullrankError, match=rf"other.pt: its weights are not of .*{message}.* --backbone NAME") as said:
        read(tmp_path / "other.pt")
    assert "\n" not in str(said.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("part", ["version", "step", "model", "config"])
def test_a_checkpoint_that_lacks_a_part_is_refused(state, tmp_path, part, read):
    torch.save({key: value for key, value in state.items() if key != part}, tmp_path / "less.pt")
    with pytest.raises(FullrankError, match=f"less.pt is damaged: {part} is missing"):
        read(tmp_path / "less.pt")
