"""Our parts around solo-learn's own SimSiam, and a checkpoint of it.

Its last release on PyPI, 1.0.2, is for Lightning 1.4 and its bolts: a scheduler of theirs that is not used here stands
in, and a hook at the end of validation, which Lightning 2 refuses, is taken out. `pip install --no-deps
solo-learn einops` installs it.
"""

import importlib.util
import sys
import types

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

pytest.importorskip("pytorch_lightning")

import pytorch_lightning as pl

import fullrank
from fullrank.integrations.lightning import CollapseMonitor
from fullrank.orders import Hybrid, OrderSampler

pytestmark = [
    pytest.mark.skipif(not importlib.util.find_spec("solo"), reason="solo-learn is not installed"),
    pytest.mark.filterwarnings("ignore"),  # of other people's packages
]


@pytest.fixture
def simsiam(monkeypatch):
    for name in ("pl_bolts", "pl_bolts.optimizers", "pl_bolts.optimizers.lr_scheduler"):
        if name not in sys.modules:
            module = types.ModuleType(name)
            module.__path__ = []
            module.LinearWarmupCosineAnnealingLR = object
            monkeypatch.setitem(sys.modules, name, module)
    from solo.methods.base import BaseMethod
    from solo.methods.simsiam import SimSiam

    monkeypatch.delattr(BaseMethod, "validation_epoch_end")
    return SimSiam(
        encoder="resnet18",
        backbone_args={"cifar": True, "zero_init_residual": False},
        proj_output_dim=32,
        proj_hidden_dim=64,
        pred_hidden_dim=16,
        num_classes=4,
        max_epochs=1,
        batch_size=8,
        optimizer="sgd",
        lars=False,
        lr=0.05,
        weight_decay=0.0,
        classifier_lr=0.1,
        exclude_bias_n_norm=False,
        accumulate_grad_batches=1,
        extra_optimizer_args={},
        scheduler="none",
        min_lr=0.0,
        warmup_start_lr=0.0,
        warmup_epochs=0,
        num_large_crops=2,
        num_small_crops=0,
        lr_decay_steps=None,
        knn_eval=False,
        knn_k=20,
        eta_lars=0.02,
        grad_clip_lars=False,
    )


class Crops(TensorDataset):
    """As its loader gives them: the index, two crops and the label."""

    def __getitem__(self, index):
        image = self.tensors[0][index]
        return index, [image, image.flip(-1)], index % 4


def test_sampler_and_callback_work_with_its_method_whose_checkpoint_is_opened(simsiam, tmp_path):
    torch.manual_seed(0)
    order = Hybrid(32, batch_size=8, steps=4, chunks=2)
    loader = DataLoader(Crops(torch.randn(32, 3, 32, 32)), batch_sampler=OrderSampler(order))
    monitor = CollapseMonitor("encoder", every=1, log_every=4)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, callbacks=[monitor], default_root_dir=tmp_path, logger=False
    )
    trainer.fit(simsiam, loader)
    assert trainer.global_step == 4
    assert monitor.spectrum.protocol["samples"] == 4 * 2 * 8
    assert trainer.callback_metrics["collapse/auc"].item() == pytest.approx(monitor.spectrum.auc)

    trainer.save_checkpoint(tmp_path / "solo.ckpt")
    opened = fullrank.open_encoder(tmp_path / "solo.ckpt", backbone="resnet18", stem="cifar-padding2")
    seen = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(opened.module(seen), simsiam.eval().encoder(seen), rtol=1e-4, atol=1e-5)
