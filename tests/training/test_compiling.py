"""`--machine.compile`: the run of before up to rounding, the promise of resuming, and one line where it cannot be."""

import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from fullrank.config import read_config
from fullrank.errors import FullrankError
from fullrank.training.loop import resume, train
from fullrank.training.machine import compiled
from fullrank.training.runs import CONFIG, read_run
from tests.training.test_loop import assert_same_run
from tests.training.tiny import quiet, tiny


def losses(run):
    return [record["loss"] for record in read_run(run).of_kind("train")]


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")
# what comes after the graph is captured takes seconds, and inductor's C++ minutes
@pytest.mark.parametrize(
    "backend", ["eager", *(pytest.param(b, marks=pytest.mark.slow) for b in ("aot_eager", "inductor"))]
)
def test_a_compiled_run_is_the_other_up_to_rounding_and_resumes_with_the_same_bits(tmp_path, monkeypatch, backend):
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    config = tiny(steps=8, machine=replace(tiny().machine, precision="float32"))
    train(replace(config, out=str(tmp_path / "plain")), console=quiet())
    config = replace(config, machine=replace(config.machine, compile=True))
    train(replace(config, out=str(tmp_path / "whole")), console=quiet())
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "plain"), rel=1e-3)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")  # and back to its last checkpoint but one
    (tmp_path / "run" / "summary.json").unlink()
    (tmp_path / "run" / "checkpoints" / "step_00000008.pt").unlink()
    torch.compiler.reset()  # as in another process
    resume(tmp_path / "run", console=quiet())
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_what_cannot_be_compiled_is_one_line(tmp_path, monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no C++ compiler\nfound")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    config = tiny(out=tmp_path / "run", machine=replace(tiny().machine, compile=True))
    with pytest.raises(FullrankError) as caught:
        train(config, console=quiet())
    text = str(caught.value)
    assert text.startswith("the model cannot be compiled: ")
    assert "no C++ compiler found" in text
    assert text.endswith("; leave out --machine.compile")
    assert "\n" not in text
    # the run goes on without
    resolved = read_config(tmp_path / "run" / CONFIG)
    plain = replace(resolved, machine=replace(resolved.machine, compile=False))
    assert resume(tmp_path / "run", plain, console=quiet()).complete


@pytest.mark.parametrize(("device", "mode"), [("cpu", None), ("cuda", "reduce-overhead")])
def test_a_gpu_gets_cuda_graphs(monkeypatch, device, mode):
    asked = {}

    def noted(model, **how):
        asked.update(how)
        return model

    monkeypatch.setattr(torch, "compile", noted)
    module = nn.Linear(2, 3)
    x = torch.ones(1, 2)
    assert torch.equal(compiled(module, torch.device(device))(x), module(x))
    assert asked == {"mode": mode}


@pytest.mark.gpu
def test_a_compiled_run_on_a_gpu_is_the_other_up_to_rounding(tmp_path):
    for name in (False, True):
        machine = replace(tiny().machine, precision="float32", device="cuda", compile=name)
        train(tiny(out=tmp_path / str(name), steps=20, machine=machine), console=quiet())
    assert losses(tmp_path / "True") == pytest.approx(losses(tmp_path / "False"), rel=1e-2)
