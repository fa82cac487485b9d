"""Our parts in lightly's own examples of SimSiam, plain torch and Lightning, with its data, heads and loss beside."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import FakeData
from torchvision.models import resnet18

pytest.importorskip("lightly")

from lightly.data import LightlyDataset
from lightly.data.multi_view_collate import MultiViewCollate
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead
from lightly.transforms import SimSiamTransform

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


@pytest.mark.filterwarnings("ignore")
def test_callback_and_sampler_work_in_its_lightning_example_whose_checkpoint_is_opened(tmp_path):
    pl = pytest.importorskip("pytorch_lightning")  # as its examples have it, and not lightning.pytorch
    from fullrank.integrations.lightning import CollapseMonitor

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(*list(resnet18().children())[:-1])
            self.projection_head = SimSiamProjectionHead(512, 64, 32)
            self.prediction_head = SimSiamPredictionHead(32, 16, 32)
            self.criterion = NegativeCosineSimilarity()

        def forward(self, x):
            z = self.projection_head(self.backbone(x).flatten(start_dim=1))
            return z.detach(), self.prediction_head(z)

        def training_step(self, batch, batch_idx):
            (x0, x1), _, _ = batch
            (z0, p0), (z1, p1) = self.forward(x0), self.forward(x1)
            return 0.5 * (self.criterion(z0, p1) + self.criterion(z1, p0))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.06)

    torch.manual_seed(0)
    images = FakeData(32, (3, 40, 40))
    dataset = LightlyDataset.from_torch_dataset(images, transform=SimSiamTransform(input_size=32))
    order = Hybrid(len(dataset), batch_size=8, steps=4, chunks=2)
    loader = DataLoader(dataset, batch_sampler=OrderSampler(order), collate_fn=MultiViewCollate())
    model, monitor = Module(), CollapseMonitor("backbone", every=1, log_every=4)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, callbacks=[monitor], default_root_dir=tmp_path, logger=False
    )
    trainer.fit(model, loader)
    assert trainer.global_step == 4
    assert trainer.callback_metrics["collapse/auc"].item() == pytest.approx(monitor.spectrum.auc)
    assert monitor.spectrum.protocol["samples"] == 4 * 2 * 8

    trainer.save_checkpoint(tmp_path / "simsiam.ckpt")
    opened = fullrank.open_encoder(tmp_path / "simsiam.ckpt", backbone="resnet18", image_size=32)
    seen = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        expected = model.eval().backbone(seen).flatten(1)
        torch.testing.assert_close(opened.module(seen), expected, rtol=1e-4, atol=1e-5)
