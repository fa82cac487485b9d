"""Two processes compute what one does, for every method: losses, gradients, moving averages, queues, statistics."""

from pathlib import Path

import pytest
import torch

from fullrank.data import views
from fullrank.data.batches import ViewLoader
from fullrank.models.batchnorm import synchronise
from fullrank.models.methods import METHODS
from fullrank.training import setup
from fullrank.training.distributed import ALONE, processes
from fullrank.training.loop import resume, train
from fullrank.training.runs import METRICS, SPECTRA
from tests.processes import run_in_two
from tests.training.test_distributed import in_float64
from tests.training.test_methods import STEPS, die_before, last, small
from tests.training.tiny import quiet, tiny

INTERRUPTED = ("nnsiam", "mocov3", "distill", "vicreg")
"""A queue, a moving average, a teacher's statistics, and a loss of the gathered batch."""


def three_steps(method, teacher, world=ALONE):
    """Losses of three steps, the gradients of the last, and all that a checkpoint would keep, in float64."""
    config, data = setup.open_data(small(method, teacher))
    order = setup.build_order(config, len(data.train))
    own = {} if world is ALONE else {"rank": world.rank, "world_size": world.size}
    loader = ViewLoader(data.train, order, views.recipe("cifar"), 16, **own)
    network = setup.build_method(config).double().train()
    if world is not ALONE:
        synchronise(network, torch.device("cpu"))
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    found = {}
    for step, batch in zip(range(3), loader(0), strict=False):
        optimizer.zero_grad()
        with in_float64():
            output = network(batch.first.double(), batch.second.double())
        output.loss.backward()
        world.average_gradients(network)
        found[f"loss {step}"] = world.mean(output.loss.detach())
        found |= {f"gradient {name}": p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
        optimizer.step()
        network.after_step(step, 10)
    return found | {f"state {name}": value.clone() for name, value in network.state_dict().items()}


def _process(rank, folder):
    folder = Path(folder)
    with processes() as world:
        for method in METHODS:
            torch.save(three_steps(method, folder / "teacher", world), folder / f"{method}.{rank}.pt")
        for method in INTERRUPTED:
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


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_equal_one(played, method):
    alone = three_steps(method, played / "teacher")
    assert max(value.abs().max() for name, value in alone.items() if name.startswith("gradient")) > 1e-4
    for rank in range(2):
        found = torch.load(played / f"{method}.{rank}.pt", weights_only=True)
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10, msg=f"{method}, {name}")


@pytest.mark.parametrize("method", INTERRUPTED)
def test_an_interrupted_run_of_two_ends_with_the_same_bits(played, method):
    whole, resumed = played / f"{method} whole", played / f"{method} resumed"
    for name in (METRICS, SPECTRA):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()
    for key, value in last(whole)["model"].items():
        assert torch.equal(value, last(resumed)["model"][key]), key
    assert last(resumed)["step"] == STEPS
