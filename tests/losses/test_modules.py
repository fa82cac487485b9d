"""Losses as modules: the functions, with settings that are fixed and checked at once."""

import copy
import inspect
import pickle

import pytest
import torch
from naive_losses import embeddings
from torch import nn

from fullrank import losses
from fullrank.errors import FullrankError

SETTINGS = {
    "info_nce": {"temperature": 0.3, "negatives": "cross"},
    "vicreg": {"covariance": 2.0},
    "vicreg_ctr": {"center": "embeddings", "temperature": 0.5},
    "barlow_twins": {"lambd": 0.1},
    "spectral_contrastive": {"mu": 2.0},
    "tcr": {"toward": "view"},
}
CRITERIA = ("sample_contrastive", "dimension_contrastive")  # of one matrix
MODULES = losses.Loss.by_name


def test_every_loss_of_two_views_has_a_module():
    functions = {name for name in losses.__all__ if name not in CRITERIA and inspect.isfunction(getattr(losses, name))}
    of_two = {name for name in functions if [*inspect.signature(getattr(losses, name)).parameters][:2] == ["z1", "z2"]}
    assert of_two == set(MODULES)
    assert all(getattr(losses, module.__name__) is module for module in MODULES.values())
    assert losses.SimCLRLoss is losses.InfoNCELoss is losses.NTXentLoss


@pytest.mark.parametrize("settings", [{}, None], ids=["defaults", "settings"])
@pytest.mark.parametrize("name", MODULES)
def test_it_is_its_function_and_can_be_copied_and_pickled(name, settings):
    function = getattr(losses, name)
    settings = SETTINGS.get(name, {}) if settings is None else settings
    views = embeddings(6, 4, count=4 if "p1" in inspect.signature(function).parameters else 2)
    module = MODULES[name](**settings)
    assert module.state_dict() == {}
    for one in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module)), module.double()):
        torch.testing.assert_close(one(*views), function(*views, **settings), rtol=0, atol=0)
    assert all(f"{key}={value!r}" in repr(module) for key, value in settings.items())


def test_help_is_that_of_the_function():
    signature = inspect.signature(losses.VICRegLoss)
    assert str(signature).startswith("(*, invariance: 'float' = 25.0, variance: 'float' = 25.0")
    assert "24.75 with the defaults after a complete collapse" in inspect.getdoc(losses.VICRegLoss)
    assert ">>>" not in losses.VICRegLoss.__doc__


def test_settings_are_refused_when_the_module_is_made():
    with pytest.raises(FullrankError, match="temperature must be a positive finite number, got -1"):
        losses.SimCLRLoss(temperature=-1)
    with pytest.raises(FullrankError, match="did you mean 'view'"):
        losses.TCRLoss(toward="views")
    with pytest.raises(TypeError, match="temprature"):
        losses.DCLLoss(temprature=0.1)
    with pytest.raises(TypeError, match="positional"):
        losses.DCLLoss(0.1)


def test_a_setting_may_be_a_parameter_that_learns():
    loss = losses.NTXentLoss(temperature=nn.Parameter(torch.tensor(0.2)))
    assert [name for name, _ in loss.named_parameters()] == ["temperature"]
    loss(*embeddings(4, 3)).backward()
    assert loss.temperature.grad.abs() > 0


def test_a_module_can_be_made_another():
    class Half(losses.VICRegLoss):
        def forward(self, *embeddings):
            return super().forward(*embeddings) / 2

    z1, z2 = embeddings(6, 4)
    assert Half(covariance=2.0)(z1, z2) == losses.VICRegLoss(covariance=2.0)(z1, z2) / 2
    with pytest.raises(TypeError, match="covarianz"):
        Half(covarianz=2.0)


def test_a_loss_of_ones_own_takes_no_name_of_those_that_are_there():
    def vicreg(z1, z2):
        return (z1 - z2).sum()

    class Mine(losses.Loss, function=vicreg): ...

    z1, z2 = embeddings(6, 4)
    assert Mine()(z1, z2) == (z1 - z2).sum()
    assert losses.get_loss("vicreg") is losses.vicreg


def test_names_of_losses():
    for name, loss in {
        "barlow": losses.barlow_twins,
        "Barlow-Twins": losses.barlow_twins,
        "vicreg-exp": losses.vicreg_exp,
        "simclr": losses.info_nce,
        "nt-xent": losses.info_nce,
        "spectral": losses.spectral_contrastive,
    }.items():
        assert losses.get_loss(name) is loss
    with pytest.raises(FullrankError, match="there is no loss 'vicreg_exq'; did you mean 'vicreg_exp'"):
        losses.get_loss("vicreg_exq")


def test_a_temperature_on_the_meta_device_is_checked_when_it_has_a_number():
    with torch.device("meta"):  # as Lightning and transformers build large models
        loss = losses.InfoNCELoss(temperature=torch.nn.Parameter(torch.tensor(-0.1)))
    loss.temperature = torch.nn.Parameter(torch.tensor(-0.1))
    with pytest.raises(FullrankError, match="temperature must be a positive"):
        loss(torch.eye(2), torch.eye(2))
