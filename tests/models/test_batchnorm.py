"""Batch norm over two processes against `nn.BatchNorm` of the whole batch in one."""

import pytest
import torch
from tests.processes import run_in_two
from timm.layers import BatchNormAct2d
from torch import nn

from fullrank.errors import FullrankError
from fullrank.models.batchnorm import CPUSyncBatchNorm, synchronize

CPU = torch.device("cpu")
STEPS = 3
CASES = {  # module, shape of the batch, images of each process
    "1d": (lambda: nn.BatchNorm1d(5), (8, 5), [4, 4]),
    "unequal": (lambda: nn.BatchNorm1d(5), (8, 5), [7, 1]),
    "without affine": (lambda: nn.BatchNorm1d(5, affine=False), (8, 5), [3, 5]),
    "sequences": (lambda: nn.BatchNorm1d(5), (8, 5, 3), [4, 4]),
    "2d": (lambda: nn.BatchNorm2d(5), (8, 5, 4, 3), [4, 4]),
    "cumulative average": (lambda: nn.BatchNorm2d(5, momentum=None), (8, 5, 4, 3), [5, 3]),
    "no running statistics": (lambda: nn.BatchNorm2d(5, track_running_stats=False), (8, 5, 4, 3), [5, 3]),
    "with activation": (lambda: BatchNormAct2d(5, act_layer=nn.SiLU), (8, 5, 4, 3), [4, 4]),
    "bfloat16": (lambda: nn.BatchNorm2d(5), (8, 5, 4, 3), [4, 4]),
}


def prepare(name):
    """A batch norm in the middle of its life, batches with means far from 0, and gradients of a loss."""
    build, shape, cuts = CASES[name]
    torch.manual_seed(0)
    module = nn.Sequential(build())
    for tensor in [*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())]:
        tensor.data.uniform_(0.5, 2)
    batches = 1e3 + 3 * torch.randn(STEPS, *shape, dtype=torch.float64)
    gradients = 1 + torch.randn(STEPS, *shape, dtype=torch.float64)
    if name == "bfloat16":
        return module, (batches - 1e3).bfloat16(), gradients.bfloat16(), cuts
    return module.double(), batches, gradients, cuts


def run_all(module, batches, gradients):
    """Outputs, gradients and state over some steps and one batch in eval mode."""
    found = []
    for x, gradient in zip(batches, gradients, strict=True):
        x = x.clone(memory_format=torch.channels_last) if x.ndim == 4 else x.clone()
        y = module(x.requires_grad_())
        y.backward(gradient)
        found += [y.detach(), x.grad]
    return found, [p.grad for p in module.parameters()], module.state_dict()


def _process(rank, folder):
    results = {}
    for name in CASES:
        module, batches, gradients, cuts = prepare(name)
        parameters = dict(module.named_parameters())
        synchronize(module, CPU)
        assert isinstance(module[0], CPUSyncBatchNorm)
        assert dict(module.named_parameters()).keys() == parameters.keys()
        assert all(p is parameters[key] for key, p in module.named_parameters())
        mine = [x.split(cuts, dim=1)[rank] for x in (batches, gradients)]
        results[name] = run_all(module, *mine)
        if rank == 0:  # alone: in eval mode nobody is waited for
            with torch.no_grad():
                results[name][0].append(module.eval()(batches[0, :4]))
    with pytest.raises(FullrankError, match="no variance over 1 value of a channel: take a larger batch"):
        synchronize(nn.BatchNorm1d(2), CPU)(torch.zeros(1 - rank, 2))
    torch.save(results, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batchnorm")
    run_in_two(_process, folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one(found, name):
    module, batches, gradients, _ = prepare(name)
    outputs, slopes, state = run_all(module, batches, gradients)
    close = {"rtol": 0, "atol": 0.03} if name == "bfloat16" else {"rtol": 1e-10, "atol": 1e-10}
    (left, left_slopes, left_state), (right, right_slopes, right_state) = (rank[name] for rank in found)
    for one, a, b in zip(outputs, left, right, strict=False):
        torch.testing.assert_close(torch.cat([a, b]), one, **close)
    with torch.no_grad():
        torch.testing.assert_close(left[-1], module.eval()(batches[0, :4]), **close)
    for one, a, b in zip(slopes, left_slopes, right_slopes, strict=True):
        torch.testing.assert_close(a + b, one, **({"rtol": 0.02, "atol": 0.1} if name == "bfloat16" else close))
    assert state.keys() == left_state.keys() == right_state.keys()
    for key, one in state.items():
        assert torch.equal(left_state[key], right_state[key])
        torch.testing.assert_close(left_state[key], one, **close)


def test_all_batch_norms_are_found_and_the_rest_is_left_alone():
    module = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.BatchNorm1d(3), nn.ReLU()), BatchNormAct2d(3))
    assert [type(m).__name__ for m in synchronize(module, CPU).modules() if isinstance(m, nn.SyncBatchNorm)] == [
        "CPUSyncBatchNorm",
        "_CPUSyncBatchNormAct",
    ]
    on_gpu = synchronize(nn.Sequential(nn.BatchNorm1d(3), BatchNormAct2d(3)), torch.device("cuda"))
    assert [type(part).__name__ for part in on_gpu] == ["SyncBatchNorm", "SyncBatchNormAct"]
    assert isinstance(on_gpu[1].act, nn.ReLU)
