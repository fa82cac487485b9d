"""Our parts in lightly's own example of SimSiam in plain torch, with its data, heads and loss beside ours."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import FakeData
from torchvision.models import resnet18

pytest.importorskip("lightly")

from lightly.data import LightlyDataset
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead

import fullrank
from fullrank.orders import Hybrid, OrderSampler
from fullrank.views import TwoViews


class SimSiam(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.projection_head = SimSiamProjectionHead(512, 64, 32)
        self.prediction_head = SimSiamPredictionHead(32, 16, 32)

    def forward(self, x):
        f = self.backbone(x).flatten(start_dim=1)
        z = self.projection_head(f)
        return f, z.detach(), self.prediction_head(z)


@pytest.mark.filterwarnings("ignore")  # of other people's packages
def test_sampler_views_loss_and_metric_work_in_its_loop():
    torch.manual_seed(0)
    model = SimSiam(nn.Sequential(*list(resnet18().children())[:-1]))
    dataset = LightlyDataset.from_torch_dataset(FakeData(32, (3, 40, 40)), transform=TwoViews("cifar", size=32))
    order = Hybrid(len(dataset), batch_size=8, steps=4, chunks=2)
    loader = DataLoader(dataset, batch_sampler=OrderSampler(order), num_workers=1)
    theirs, ours = NegativeCosineSimilarity(), fullrank.losses.SimSiamLoss()
    metric = fullrank.SpectrumMetric(512)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
    steps = 0
    for batch in loader:
        x0, x1 = batch[0]
        f0, z0, p0 = model(x0)
        f1, z1, p1 = model(x1)
        loss = ours(z0, z1, p0, p1)
        torch.testing.assert_close(loss, 0.5 * (theirs(z0, p1) + theirs(z1, p0)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        metric.update(torch.cat([f0, f1]).detach())
        steps += 1
    assert steps == len(order) == 4
    assert metric.compute().protocol["n"] == 4 * 2 * 8
