"""What all methods share: settings that are filled in or refused, losses of all processes, one list of names."""

import inspect

import pytest
import torch
import torch.distributed as dist
from building import BATCH, method, views
from tests.processes import run_in_two
from torch import nn

from fullrank import losses
from fullrank.config import LossConfig
from fullrank.errors import FullrankError
from fullrank.models.methods import METHODS, Method


def test_every_built_in_name_is_a_method():
    assert len(METHODS) == 17
    assert all(issubclass(METHODS[name], Method) and METHODS[name].name == name for name in METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_every_number_in_a_losss_signature_can_be_set(name):
    taken = {
        key: parameter.default
        for key, parameter in inspect.signature(METHODS[name].criterion).parameters.items()
        if key in vars(LossConfig())
    }
    # every coefficient that is a number has a field; MoCo-v3's negatives are not a choice
    numbers = {
        key
        for key, parameter in inspect.signature(METHODS[name].criterion).parameters.items()
        if isinstance(parameter.default, (int, float))
    }
    assert numbers <= set(taken)
    words = {"toward": "view", "center": "embeddings"}
    built = method(name)
    assert {key: value for key, value in vars(built.loss_config).items() if value is not None} == taken
    for key in taken:
        value = words.get(key, 0.77)
        changed = method(name, loss={key: value})
        assert vars(changed.loss_config) == {**vars(built.loss_config), key: value}
        with torch.no_grad():
            assert built(*views()).loss != changed(*views()).loss, key
    for key in set(vars(LossConfig())) - set(taken):
        value = words.get(key, 0.77)
        with pytest.raises(
            FullrankError, match=rf"method={name} has no loss.{key} \(got {value}\): leave it out, .*; it takes"
        ):
            method(name, loss={key: value})


def test_what_a_method_does_not_have_is_named_with_what_it_has():
    for arguments, message in (
        ({"name": "simclr", "loss": {"invariance": 3.0}}, "it takes loss.temperature$"),
        ({"name": "simsiam", "loss": {"temperature": 0.5}}, "it takes nothing of loss$"),
        (
            {"name": "vicreg", "predictor_hidden": 8},
            r"method=vicreg has no heads.predictor_hidden \(got 8\): leave it out, or where a preset or a file sets "
            "it give --heads.predictor-hidden None; it takes heads.projector_hidden, ",
        ),
        ({"name": "simsiam", "normalize": "simclr"}, "method=simsiam has no heads.normalize"),
        ({"name": "distill", "projector_out": 8}, "it takes nothing of heads$"),
        ({"name": "simclr", "target": {"teacher": "runs/x"}}, r"method=simclr has no target.teacher \(got runs/x\)"),
        ({"name": "byol", "target": {"queue": 64}}, "it takes target.momentum, target.constant_momentum$"),
        ({"name": "simclr", "projector_out": 1}, "heads.projector_out=1 leaves embeddings of one dimension"),
        ({"name": "simsiam", "projector_out": 1, "predictor_hidden": 1}, "heads.projector_out=1 leaves"),
    ):
        with pytest.raises(FullrankError, match=message):
            method(**arguments)


@pytest.mark.parametrize("name", METHODS)
def test_embeddings_are_gathered_in_training_where_images_are_compared(name, monkeypatch):
    model = method(name)
    seen = []
    monkeypatch.setattr(losses, "gather", lambda z: seen.append(z) or z)
    model(*views())
    compared = {"mocov3": 4, "simsiam": 0, "byol": 0, "nnsiam": 1, "distill": 1}.get(name, 2)
    assert len(seen) == compared
    seen.clear()
    model.eval()(*views())  # each process measures alone
    assert not seen


def frozen_statistics(name):
    """A method in train mode whose batch norms are not: they are of one process's images, the losses of all."""
    model = method(name).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.eval()
    return model.double()


def gradients(name, rows):
    model = frozen_statistics(name)
    loss = model(*(view[rows].double() for view in views())).loss
    loss.backward()
    found = [p.grad for p in model.parameters() if p.requires_grad]
    return found, [b for key, b in model.named_buffers() if key in ("queue", "position", "mean", "variance")]


def _process(rank, folder):
    found = {}
    for name in METHODS:
        slopes, buffers = gradients(name, slice(rank * BATCH // 2, (rank + 1) * BATCH // 2))
        for slope in slopes:
            dist.all_reduce(slope)
            slope /= 2
        found[name] = slopes, buffers
    torch.save(found, f"{folder}/{rank}.pt")


def test_two_processes_have_the_gradients_and_the_queue_of_one(tmp_path):
    run_in_two(_process, tmp_path)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name in METHODS:
        slopes, buffers = gradients(name, slice(None))
        assert max(slope.norm() for slope in slopes) > 1e-5, name
        for rank in range(2):
            torch.testing.assert_close(found[rank][name][0], slopes, rtol=1e-8, atol=1e-9, msg=name)
            torch.testing.assert_close(found[rank][name][1], buffers, rtol=1e-12, atol=1e-12, msg=name)
