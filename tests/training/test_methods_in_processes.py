"""Runs of two processes that were interrupted end with the same bits, whatever a method keeps beside its weights.

That each method's losses, gradients and state equal one process's is in test_distributed.py.
"""

from pathlib import Path

import pytest
import torch

from fullrank.training.distributed import processes
from fullrank.training.loop import resume, train
from fullrank.training.runs import METRICS, SPECTRA
from tests.processes import run_in_two
from tests.training.test_methods import STEPS, die_before, last, small
from tests.training.tiny import quiet, tiny

KEPT = ("nnsiam", "mocov3", "distill")
"""A queue, a moving average, a teacher's statistics."""


def _process(rank, folder):
    folder = Path(folder)
    with processes():
        for method in KEPT:
            train(small(method, folder / "teacher", out=folder / f"{method} whole"), console=quiet())
            with pytest.MonkeyPatch.context() as patch:
                die_before(3, patch)
                with pytest.raises(KeyboardInterrupt):
                    train(small(method, folder / "teacher", out=folder / f"{method} resumed"), console=quiet())
            resume(folder / f"{method} resumed", console=quiet())


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods")
    train(tiny(steps=2, seed=1, image_size=16, out=folder / "teacher"), console=quiet())
    run_in_two(_process, folder)
    return folder


@pytest.mark.parametrize("method", KEPT)
def test_an_interrupted_run_of_two_ends_with_the_same_bits(played, method):
    whole, resumed = played / f"{method} whole", played / f"{method} resumed"
    for name in (METRICS, SPECTRA):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()
    assert last(resumed)["step"] == STEPS
    found = last(resumed)["model"]
    for key, value in last(whole)["model"].items():
        assert torch.equal(value, found[key]), key
