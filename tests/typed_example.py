"""What a user's own typed code may rely on; test_types.py has it checked strictly, and does not run it."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import assert_type

import fullrank
from fullrank import losses, metrics, orders
from fullrank.evaluation.result import Evaluation
from fullrank.inspection.result import Inspection
from fullrank.ranking.result import Ranking


def example() -> None:
    """Use each public part once."""
    features = torch.randn(600, 64)
    spectrum = fullrank.spectrum(features, center=True, normalize=False)
    assert_type(spectrum, fullrank.Spectrum)
    assert_type(spectrum.auc, float)
    assert_type(spectrum.singular_values, Tensor)

    metric = fullrank.SpectrumMetric(64)
    metric.update(features)
    rankme = metrics.RankMe(64)
    rankme.update(features)

    order = orders.Hybrid(600, batch_size=32, steps=100, chunks=4, switch=0.4)
    dataset = TensorDataset(torch.rand(600, 3, 32, 32), torch.zeros(600, dtype=torch.long))
    loader = DataLoader(dataset, batch_sampler=orders.OrderSampler(order))
    assert_type(order[0], Tensor)

    z1, z2 = torch.randn(32, 16), torch.randn(32, 16)
    assert_type(losses.vicreg(z1, z2), Tensor)
    nn.ModuleList([losses.VICRegLoss(covariance=2.0)])

    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 64))
    assert_type(fullrank.inspect(model, loader), Inspection)
    assert_type(fullrank.evaluate(model, loader, loader), Evaluation)
    assert_type(fullrank.features(model, loader), Tensor)
    run = fullrank.train(images="digits", order="hybrid", steps=10, out=Path("runs/typed"))
    assert_type(run, fullrank.Run)
    assert_type(run.scores["auc"].value, float | None)
    assert_type(fullrank.rank([run.path]), Ranking)
    assert_type(fullrank.list_methods(), list[str])
    assert_type(fullrank.load(run.path), nn.Module)

    try:
        fullrank.load("nothing")
    except fullrank.FullrankError as error:
        print(error)
