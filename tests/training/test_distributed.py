"""Many processes train the run that one trains: the same losses, gradients and records, and one voice."""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console
from torch import nn

from fullrank import cli, losses
from fullrank.config import MachineConfig, OptimConfig, to_dict
from fullrank.data import views
from fullrank.data.batches import ViewLoader
from fullrank.data.images import UnreadableImageError
from fullrank.errors import FullrankError
from fullrank.models.batchnorm import synchronize
from fullrank.models.methods import METHODS
from fullrank.training import distributed, loop, machine, setup
from fullrank.training.checkpoint import find_checkpoint, read_checkpoint
from fullrank.training.distributed import ALONE, Gradients, World, processes
from fullrank.training.loop import resume, train
from fullrank.training.runs import METRICS, SPECTRA, read_run
from fullrank.training.setup import check_share
from tests.processes import run_in_processes, run_in_two
from tests.training.test_loop import assert_same_run, stop_after, wait_for_lines
from tests.training.test_methods import small
from tests.training.tiny import quiet, tiny

CPU = torch.device("cpu")
EXACT = MachineConfig(threads=1, workers=0, precision="float32")
PROBED = replace(tiny().monitor, online_probe=True)
EXACT_RUN = {"machine": EXACT, "order": "hybrid", "steps": 12, "monitor": PROBED}


@contextmanager
def in_float64():
    """Let a run compute in float64 where it says float32, so that rounding is not what is compared."""
    build, normalize = setup.build_method, views.normalize
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "build_method", lambda config: build(config).double())
        patch.setattr(views, "normalize", lambda images, *how: normalize(images, *how).double())
        patch.setattr(torch.Tensor, "float", torch.Tensor.double)
        yield


def build(name, folder):
    """A method and the views of some steps' batches, in float64."""
    config, data = setup.open_data(small(name, folder / "teacher", machine=EXACT))
    method = setup.build_method(config).double()
    order = setup.build_order(config, len(data.train))
    return method, lambda world: ViewLoader(data.train, order, views.recipe("cifar"), 16, **world)(1)


def trained(method, batches, world=ALONE):
    """What two steps of plain gradient descent compute: losses, embeddings, gradients; then the state."""
    found = {}
    method.train()
    gradients = Gradients(method, world)
    for number, batch in zip(range(2), batches, strict=False):
        method.zero_grad()
        with in_float64():
            output = method(batch.views[0].double(), batch.views[1].double())
        output.loss.backward()
        gradients.average()
        found[f"loss {number}"] = world.mean(output.loss.detach())
        found[f"embedding {number}"] = losses.gather(output.embedding)
        slopes = {key: p.grad.clone() for key, p in method.named_parameters() if p.grad is not None}
        found |= {f"gradient {number} {key}": slope for key, slope in slopes.items()}
        with torch.no_grad():
            for key, parameter in method.named_parameters():
                parameter -= 0.01 * slopes.get(key, torch.zeros(()))
        method.after_step(number, 2)
    return found | method.state_dict()


def all_methods(world, folder):
    found = {}
    for name in METHODS:
        method, batches = build(name, folder)
        synchronize(method, CPU)
        found[name] = trained(method, batches({"rank": world.rank, "world_size": world.size}), world)
    return found


def exact_run(world, folder):
    with in_float64():
        train(tiny(out=folder / "exact", **EXACT_RUN), console=quiet())


def interrupted_run(world, folder, **changes):
    config = tiny(**changes, order="hybrid", steps=8, checkpoint_every=3, monitor=PROBED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "BUCKET", 500)  # many buckets, of a small encoder too
        train(replace(config, out=str(folder / "whole")), console=quiet())
        with pytest.MonkeyPatch.context() as dying:
            stop_after(5, dying)
            with pytest.raises(KeyboardInterrupt):
                train(replace(config, out=str(folder / "resumed")), console=quiet())
        resume(folder / "resumed", console=quiet())


class Lacking(nn.Module):
    """Layers of which one is frozen and one is not used."""

    def __init__(self):
        super().__init__()
        self.first, self.frozen, self.unused, self.last = (nn.Linear(3, 3, bias=False) for _ in range(4))
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.last(self.frozen(self.first(x)))


def exchanged_gradients(world, folder):
    """What is known of the first layer when the last one's gradient is sent, and what comes of all."""
    torch.manual_seed(0)
    module, real, known = Lacking(), torch.distributed.all_reduce, []
    x = torch.randn(2, 5, 3)[world.rank]

    def noted(*arguments, **how):
        known.append(module.first.weight.grad is not None)
        return real(*arguments, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "BUCKET", 40)  # bytes: a layer each
        patch.setattr(torch.distributed, "all_reduce", noted)
        gradients = Gradients(module, world)
        found = []
        for _ in range(2):
            module.zero_grad()
            module(x).square().sum().backward()
            gradients.average()
            found.append({name: p.grad for name, p in module.named_parameters()})
    return {"known": known, "found": found}


def stopped_run(world, folder):
    """A signal that reaches one process only, after the sixth step has begun."""
    real = loop.set_learning_rate

    def signalled(optimizer, step, *arguments):
        if step == 5 and world.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # torchrun may pass on what a scheduler has sent already
        return real(optimizer, step, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "set_learning_rate", signalled)
        finished = train(tiny(out=folder / "stopped", steps=8, checkpoint_every=50), console=quiet())
    return {"step": finished.step, "signal": finished.signal, "path": str(finished.path)}


def error_of(function):
    with pytest.raises((FullrankError, OSError)) as caught:
        function()
    return {"kind": type(caught.value).__name__, "text": str(caught.value)}


def opened_images(world, folder):
    """How often the images are looked through on one machine, and who says what there is to say of them."""
    looked, local, real = [], (world.local_rank, world.local_size), setup.open_images

    def noisy(*arguments, **keywords):
        print("some files are left out", file=sys.stderr)
        found = real(*arguments, **keywords)
        listing = found.listing
        found.listing = lambda: (looked.append(1), listing())[1]
        return found

    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as text:
        patch.setattr(setup, "open_images", noisy)
        world.local_rank, world.local_size = world.rank, world.size
        facts = setup.open_data(tiny(), world)[1].facts
        world.local_rank, world.local_size = local
    return {"looked": len(looked), "facts": facts, "text": text.getvalue()}


def failed_setup(world, folder):
    """An error that only the second process meets."""
    real = setup.open_images

    def failing(*arguments, **keywords):
        if world.rank == 1:
            raise FullrankError("no such images here")
        return real(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "open_images", failing)
        return error_of(lambda: train(tiny(out=folder / "failed"), console=quiet()))


def other_images(world, folder):
    subset = 0.15 if world.rank == 0 else 0.2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "subset", lambda size, share, seed: torch.arange(int(subset * size)))
        return error_of(lambda: train(tiny(out=folder / "other"), console=quiet()))


def failed_step(world, folder):
    """An image that only the second process needs, and cannot decode."""
    real = ViewLoader.parameters

    def failing(self, step, *arguments):
        if step == 4 and world.rank == 1:
            raise UnreadableImageError("7.png cannot be decoded")
        return real(self, step, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ViewLoader, "parameters", failing)
        return error_of(lambda: train(tiny(out=folder / "unreadable"), console=quiet()))


def diverged(world, folder):
    return error_of(lambda: train(tiny(out=folder / "diverged", optim=OptimConfig(base_lr=1e9)), console=quiet()))


def full_disk(world, folder):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        return error_of(lambda: train(tiny(out=folder / "full"), console=quiet()))


def crashed(world, folder):
    def crash():
        with world.raise_together():
            if world.rank == 1:
                raise RuntimeError("a defect")

    with pytest.raises(FullrankError if world.main else RuntimeError) as caught:
        crash()
    return {"kind": type(caught.value).__name__, "text": str(caught.value)}


def unequal_batch(world, folder):
    return error_of(lambda: train(tiny(out=folder / "unequal", batch_size=17), console=quiet()))


def command_line(world, folder):
    """What the command line prints and returns, in each process."""
    os.environ["WORLD_SIZE"] = "2"
    results = {}
    for name, arguments in {
        "typo": ["train", "--images", "cifra10"],
        "batch": ["train", "--batch-size", "3"],
        "flag": ["train", "--stpes", "3"],
        "demo": ["demo"],
        "plan": ["train", "--dry-run"],
    }.items():
        with redirect_stderr(io.StringIO()) as text:
            results[name] = {"code": cli.main(arguments), "text": text.getvalue()}
    del os.environ["WORLD_SIZE"]
    return results


def defect_of_the_command_line(world, folder):
    """What a defect of one process does to the group, and what is said of it."""
    left, join = [], distributed.processes

    @contextmanager
    def watched():
        place = len(left)
        left.append("nothing")
        try:
            with join() as joined:
                yield joined
        except Exception as error:
            left[place] = type(error).__name__
            raise

    def crash(*_):
        raise RuntimeError("a defect")

    with pytest.MonkeyPatch.context() as patch, redirect_stderr(io.StringIO()) as text:
        patch.setenv("WORLD_SIZE", "2")
        patch.setattr(distributed, "processes", watched)
        patch.setattr(setup, "build_method", crash)
        out = str(folder / "defect")
        code = cli.main(["train", "--out", out, "--steps", "5", "--batch-size", "16"])
    return {"code": code, "left": left[0], "text": text.getvalue()}


def going_on_alone(world, folder):
    """Say that the number of processes changed."""
    if world.main:
        shutil.copytree(folder / "stopped", folder / "was alone")
        config = folder / "was alone" / "config.yaml"
        config.write_text(config.read_text().replace("processes: 2", "processes: 1"))
    console = Console(file=io.StringIO(), width=1000)
    resume(folder / "was alone", console=console)
    return {"text": console.file.getvalue()}


SCENES = (
    all_methods,
    exact_run,
    interrupted_run,
    exchanged_gradients,
    stopped_run,
    opened_images,
    failed_setup,
    other_images,
    failed_step,
    diverged,
    full_disk,
    crashed,
    unequal_batch,
    command_line,
    defect_of_the_command_line,
    going_on_alone,
)


def _process(rank, folder):
    with processes() as world:
        for scene in SCENES:
            torch.save(scene(world, Path(folder)), f"{folder}/{scene.__name__}.{rank}.pt")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = world.on_main(lambda: free.getsockname()[1])
    torch.distributed.destroy_process_group()
    where = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1"}
    os.environ.update({name: str(value) for name, value in {**where, "MASTER_PORT": port}.items()})
    with processes() as world, processes() as again:
        assert world is again
        found = {"ranks": world.all_gather_object(world.rank), "local": (world.local_rank, world.local_size)}
    found["threads"] = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    torch.save(found, f"{folder}/torchruns.{rank}.pt")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """The folder of two processes' runs."""
    folder = tmp_path_factory.mktemp("played")
    train(tiny(steps=1, seed=1, image_size=16, out=folder / "teacher"), console=quiet())
    run_in_two(_process, folder)
    return folder


@pytest.fixture(scope="module")
def results(played):
    """What each scene returned, by rank."""

    @cache
    def of(scene):
        return [torch.load(played / f"{scene.__name__}.{rank}.pt", weights_only=True) for rank in range(2)]

    return of


def test_processes_that_torchrun_started_join_and_leave_nothing_behind(played):
    for rank in range(2):
        found = torch.load(played / f"torchruns.{rank}.pt", weights_only=True)
        assert found["ranks"] == [0, 1]
        assert found["local"] == (0, 1)
        # a thread of the group that is still there when Python ends may abort the program
        assert not [name for name in found["threads"] if "gloo" in name]


@pytest.mark.parametrize("name", METHODS)
def test_losses_gradients_and_state_are_those_of_one_process(played, results, name):
    method, batches = build(name, played)
    alone = trained(method, batches({}))
    assert max(value.abs().max() for key, value in alone.items() if key.startswith("gradient")) > 1e-3
    for found in results(all_methods):
        assert found[name].keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(found[name][key], value, rtol=1e-10, atol=1e-10, msg=key)


def assert_close_records(a, b, rel):
    left, right = read_run(a), read_run(b)
    assert [record["step"] for record in left.records] == [record["step"] for record in right.records]
    for one, other in zip(left.records, right.records, strict=True):
        assert one.pop("kind") == other.pop("kind")
        assert one == (other if "spectrum" in one else pytest.approx(other, rel=rel, abs=rel))
    np.testing.assert_allclose(left.singular_values, right.singular_values, rtol=rel, atol=rel)


def test_a_run_is_that_of_one_process_and_either_may_go_on_with_the_others(played, tmp_path):
    with in_float64():
        train(tiny(out=tmp_path / "alone", **EXACT_RUN), console=quiet())
        shutil.copytree(played / "exact", tmp_path / "begun by two")
        (tmp_path / "begun by two" / "summary.json").unlink()
        for step in (10, 12):
            (tmp_path / "begun by two" / "checkpoints" / f"step_{step:08d}.pt").unlink()
        resume(tmp_path / "begun by two", console=quiet())
    assert_close_records(tmp_path / "alone", played / "exact", 1e-8)
    assert_close_records(tmp_path / "alone", tmp_path / "begun by two", 1e-8)
    one, two = (read_checkpoint(find_checkpoint(run)) for run in (tmp_path / "alone", played / "exact"))
    assert list(one["model"]) == list(two["model"])
    for name, value in one["model"].items():
        torch.testing.assert_close(two["model"][name], value, rtol=1e-8, atol=1e-8, msg=name)
    learned, learned_by_two = (state["online_probe"]["classifier"] for state in (one, two))
    assert learned["1.weight"].abs().max() > 1e-3
    for name, value in learned.items():
        torch.testing.assert_close(learned_by_two[name], value, rtol=1e-8, atol=1e-8, msg=name)


def test_an_interrupted_run_of_two_ends_with_the_same_bits(played):
    assert_same_run(played / "whole", played / "resumed")
    for name in (METRICS, SPECTRA):
        assert (played / "whole" / name).stat().st_size > 0


def test_gradients_are_exchanged_during_the_backward_pass(results):
    torch.manual_seed(0)
    module = Lacking()
    views = torch.randn(2, 5, 3)
    (sum(module(x).square().sum() for x in views) / 2).backward()
    for each in results(exchanged_gradients):
        assert each["known"] == [False, True] * 2
        for found in each["found"]:
            assert found["frozen.weight"] is found["unused.weight"] is None
            for name in ("first", "last"):
                torch.testing.assert_close(found[f"{name}.weight"], getattr(module, name).weight.grad)


def _in_three(rank, folder):
    with processes() as world:
        interrupted_run(world, Path(folder), batch_size=15)


def test_an_interrupted_run_of_three_ends_with_the_same_bits(tmp_path):
    """From three on, the order in which gradients are added shows in the last bits."""
    run_in_processes(_in_three, tmp_path, 3)
    assert_same_run(tmp_path / "whole", tmp_path / "resumed")


def test_the_run_says_how_many_processes_it_had(played):
    assert read_run(played / "whole").environment["processes"] == 2


def test_a_signal_to_one_process_stops_all_after_the_same_step(played, results):
    for found in results(stopped_run):
        assert found == {"step": 6, "signal": signal.SIGTERM, "path": str(played / "stopped")}
    assert read_checkpoint(played / "stopped" / "checkpoints" / "step_00000006.pt")["step"] == 6


def test_a_run_says_when_it_goes_on_with_another_number_of_processes(results):
    first, second = results(going_on_alone)
    assert "goes on in 2 instead of 1 processes: the same batches, and the same results up to rounding" in first["text"]
    assert second["text"] == ""


@pytest.mark.parametrize(
    ("scene", "kind", "text"),
    [
        (failed_setup, "FullrankError", "process 1 of 2: no such images here"),
        (failed_step, "FullrankError", "process 1 of 2: 7.png cannot be decoded"),
        (other_images, "FullrankError", "process 1 finds other images than process 0: 287 readable and 0 not, not 215"),
        (diverged, "FullrankError", "the loss became nan within"),
        (full_disk, "OSError", "No space left on device"),
        (unequal_batch, "FullrankError", "batch_size=17 cannot be shared equally among 2 processes: take 16 or 18"),
    ],
)
def test_an_error_of_one_process_stops_all_and_the_first_reports_it(played, results, scene, kind, text):
    first, second = results(scene)
    assert first["kind"] == kind
    assert text in first["text"]
    assert second["kind"] == "OtherProcessError"


def test_a_machine_looks_through_its_images_once_and_speaks_once(results):
    """Eight processes would ask a disk for the sizes of ten million files."""
    first, second = results(opened_images)
    assert first["facts"] == second["facts"] == setup.open_data(tiny())[1].facts
    assert first["looked"] > 0 == second["looked"]
    assert "left out" in first["text"]
    assert second["text"] == ""


def test_failed_starts_leave_no_folder(played, results):
    results(failed_setup)
    for name in ("failed", "other", "unequal"):
        assert not (played / name).exists()


def test_a_defect_keeps_its_traceback_where_it_is(results):
    first, second = results(crashed)
    assert first == {"kind": "FullrankError", "text": "process 1 of 2: RuntimeError: a defect"}
    assert second == {"kind": "RuntimeError", "text": "a defect"}


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("typo", 1, "fullrank: error: no images at 'cifra10'"),
        ("batch", 1, "leaves some fewer than 2 images: raise it to 4 at least, or start fewer processes"),
        ("flag", 2, "did you mean '--steps'?"),
        ("demo", 1, "torchrun is for train and evaluate"),
        ("plan", 1, "start `fullrank train --dry-run` and other commands alone"),
    ],
)
def test_the_command_line_speaks_once(results, name, code, text):
    first, second = (found[name] for found in results(command_line))
    assert (first["code"], second["code"]) == (code, code)
    assert text in first["text"]
    assert second["text"] == ""


def test_a_defect_leaves_the_group_as_one_that_waits_for_nobody(results):
    """Else a process would wait, at its end, for others that wait for it."""
    for found in results(defect_of_the_command_line):
        assert (found["code"], found["left"]) == (1, "RuntimeError")
        assert "RuntimeError: a defect; this is a fault of fullrank" in found["text"]


@pytest.mark.slow  # what it starts is tested above
def test_torchrun_trains_and_a_signal_to_it_leaves_a_whole_checkpoint(tmp_path):
    run, config = tmp_path / "run", tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(to_dict(tiny(steps=5000, checkpoint_every=5000))))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fullrank"]
    with subprocess.Popen(
        [*command, "train", "--config", str(config), "--out", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        wait_for_lines(run, 3)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert output.count(f"go on with: fullrank train --resume {run}") == 1
    assert output.count("5,000 steps, cpu, 2 processes") == 1
    (saved,) = (path for path in (run / "checkpoints").iterdir() if path.name != "step_00000000.pt")
    assert 0 < read_checkpoint(saved)["step"] < 5000


def test_shares_of_a_batch():
    for batch_size, size in ((4, 2), (64, 8), (3, 1)):
        check_share(batch_size, size)
    with pytest.raises(
        FullrankError, match="batch_size=100 cannot be shared equally among 8 processes: take 96 or 104"
    ):
        check_share(100, 8)
    with pytest.raises(FullrankError, match="batch_size=9 is of all 8 processes together .* raise it to 16 at least"):
        check_share(9, 8)


def test_each_process_takes_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    second = World(rank=5, size=6, local_rank=1, local_size=2)
    assert machine.choose_device("auto", second) == machine.choose_device("cuda", second) == torch.device("cuda:1")
    assert machine.choose_device("cpu", second) == CPU
    assert machine.choose_device("auto", ALONE) == torch.device("cuda")
    assert machine.choose_device("cuda:1", World(rank=1, size=2, local_size=1)) == torch.device("cuda:1")
    # one process a machine: torch.cuda.set_device wants a number
    assert machine.choose_device("auto", World(rank=1, size=2, local_size=1)) == torch.device("cuda:0")
    with pytest.raises(FullrankError, match="2 processes cannot share cuda:1: --machine.device cuda gives each"):
        machine.choose_device("cuda:1", second)
    with pytest.raises(FullrankError, match="3 processes were started on a machine of 2 GPUs: .*--nproc-per-node 2"):
        machine.choose_device("auto", World(rank=2, size=3, local_rank=2, local_size=3))


def test_one_process_has_nobody_to_wait_for(monkeypatch):
    with processes() as world:
        assert world is ALONE
    assert list(world.each(range(3))) == [0, 1, 2]
    assert world.on_main(lambda: 3) == 3
    rows = torch.ones(2, 3)
    assert losses.gather(rows) is world.mean(rows) is rows
    with pytest.raises(KeyError), world.raise_together():
        raise KeyError
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(FullrankError, match="WORLD_SIZE=2 .*but RANK, MASTER_ADDR, MASTER_PORT not how .*: start with"):
        processes().__enter__()


def test_processes_of_a_machine_share_its_memory():
    images = setup.open_data(tiny())[1].train
    needs = len(images) * 3 * 8 * 8 / 1e9
    config = tiny(machine=replace(EXACT, memory_gb=1.5 * needs))
    assert setup.resolve_cache(config, images).cache == "memory"
    assert setup.resolve_cache(config, images, sharers=2).cache == "stream"
