"""The callback in real Lightning fits, on the CPU and tiny data."""

import importlib
import sys
from contextlib import nullcontext

import pytest
import torch
from torch import nn

pytest.importorskip("lightning")

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

import fullrank
from fullrank import FullrankError
from fullrank.integrations.lightning import CollapseMonitor
from fullrank.orders import MultiplePass, OrderSampler

# Lightning's own remarks about this machine, tiny loaders and its dependencies.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]

TRAIN = torch.randn(96, 6, generator=torch.Generator().manual_seed(0))
VAL = torch.randn(70, 6, generator=torch.Generator().manual_seed(1))


class Siamese(LightningModule):
    """Two views through one backbone; the output of each call is kept to compare with."""

    def __init__(self, rate=0.01):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8))
        self.head = nn.Linear(8, 4)
        self.rate = rate
        self.seen = []

    def training_step(self, batch, _):
        (x,) = batch
        h = [self.backbone(x + 0.1), self.backbone(x - 0.1)]
        self.seen.append([part.detach().clone() for part in h])
        return (self.head(h[0]) - self.head(h[1]).detach()).square().mean() + self.head(h[0]).mean()

    def validation_step(self, batch, _):
        self.log("val_loss", self.head(self.backbone(batch[0])).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def fit(monitor, folder, *, model=None, epochs=2, callbacks=(), ckpt_path=None, train=None, val=VAL, **settings):
    model = model or Siamese()
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=CSVLogger(folder),
        callbacks=[monitor, *callbacks],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        log_every_n_steps=5,
        **settings,
    )
    loaders = [DataLoader(each, batch_size=16) for each in (train or TensorDataset(TRAIN), TensorDataset(val))]
    trainer.fit(model, *loaders, ckpt_path=ckpt_path)
    return trainer, model


def test_reports_what_the_training_step_computed(tmp_path):
    monitor = CollapseMonitor("backbone", every=3, log_every=4, half_life=1e12)
    trainer, model = fit(monitor, tmp_path)
    assert len(model.seen) == 12
    absorbed = torch.cat([h for step in model.seen[::3] for h in step])
    found = monitor._monitor.compute()
    expected = fullrank.spectrum(absorbed)
    torch.testing.assert_close(found.singular_values, expected.singular_values, rtol=1e-5, atol=1e-6)
    assert found.protocol["samples"] == 4 * 2 * 16
    assert monitor.spectrum.protocol["samples"] == 4 * 2 * 16  # logged last after batch 12
    trainer.logger.save()
    lines = (tmp_path / "lightning_logs/version_0/metrics.csv").read_text().splitlines()
    column = lines[0].split(",").index("collapse/auc")
    logged = [line.split(",")[column] for line in lines[1:]]
    assert len([value for value in logged if value]) == 3  # batches 4, 8, 12, whatever log_every_n_steps
    assert trainer.callback_metrics["collapse/auc"].item() == pytest.approx(monitor.spectrum.auc)


@pytest.mark.parametrize(("settings", "every"), [({}, 1), ({"max_steps": 9, "accumulate_grad_batches": 3}, 2)])
def test_a_short_training_is_logged_where_it_is_left_open(tmp_path, settings, every):
    """With 500, the training of somebody who tries it had no score, and nobody said so."""
    monitor = CollapseMonitor("backbone")
    trainer, _ = fit(monitor, tmp_path, epochs=2 if not settings else None, **settings)
    assert monitor._log_every == every
    assert "collapse/auc" in trainer.callback_metrics
    fit(monitor, tmp_path / "longer", epochs=None, max_steps=50)
    assert monitor._log_every == 5  # the next training's own length decides


def test_a_training_of_unknown_length_is_logged_every_500_batches(tmp_path):
    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            return zip(TRAIN)

    monitor = CollapseMonitor("backbone")
    fit(monitor, tmp_path, epochs=1, train=Endless())
    assert monitor._log_every == 500


def test_validation_is_the_exact_spectrum_and_can_be_monitored(tmp_path):
    best = ModelCheckpoint(tmp_path, monitor="collapse/val_auc", filename="{step}", save_top_k=1)
    monitor = CollapseMonitor("backbone", scores=("auc", "dead", "alpha_req"))
    trainer, model = fit(monitor, tmp_path, callbacks=[best])
    with torch.no_grad():
        expected = fullrank.spectrum(model.eval().backbone(VAL))
    found = monitor.val_spectrum
    torch.testing.assert_close(found.singular_values, expected.singular_values, rtol=1e-6, atol=1e-6)
    assert found.protocol["n"] == 70  # the sanity check's batches are not in it
    assert trainer.callback_metrics["collapse/val_auc"].item() == pytest.approx(expected.auc)
    assert best.best_model_score is not None


def test_runs_no_extra_forward_and_leaves_training_as_it_is(tmp_path):
    torch.manual_seed(0)
    model = Siamese()
    start = {key: value.clone() for key, value in model.state_dict().items()}
    calls = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    fit(CollapseMonitor("backbone", every=1, log_every=1), tmp_path, model=model, num_sanity_val_steps=0)
    assert len(calls) == 2 * (2 * 6 + 5)
    other = Siamese()
    other.load_state_dict(start)
    idle = CollapseMonitor("backbone", every=10**9, log_every=10**9, validate=False)
    fit(idle, tmp_path, model=other, num_sanity_val_steps=0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert idle.val_spectrum is None
    assert len(model.backbone._forward_hooks) == 1  # only the one of this test
    assert len(other.backbone._forward_hooks) == 0


def test_resumes_from_a_checkpoint(tmp_path):
    torch.manual_seed(0)
    keep = ModelCheckpoint(tmp_path, filename="one", save_top_k=-1)
    monitor = CollapseMonitor("backbone", every=4, log_every=5)
    _, model = fit(monitor, tmp_path, epochs=1, callbacks=[keep])
    again = CollapseMonitor("backbone", every=4, log_every=5)
    keep = ModelCheckpoint(tmp_path, filename="two")
    _, resumed = fit(again, tmp_path, epochs=2, callbacks=[keep], ckpt_path=tmp_path / "one.ckpt")
    assert again._batches == 12
    absorbed = torch.cat([h for step in (model.seen + resumed.seen)[::4] for h in step])
    assert again._monitor.compute().protocol["samples"] == len(absorbed) == 3 * 2 * 16


@pytest.mark.parametrize("broken", [False, True])
def test_a_training_of_another_model_is_not_mixed_with_the_one_before(tmp_path, broken):
    """After an error the hook stayed on the first model, and its moments were logged for the second."""

    class Broken(Siamese):
        def training_step(self, batch, step):
            loss = super().training_step(batch, step)
            return loss if step < 3 or not broken else 1 / 0

    monitor = CollapseMonitor("backbone", every=1, log_every=1, half_life=1e12)
    with pytest.raises(ZeroDivisionError) if broken else nullcontext():
        fit(monitor, tmp_path, model=(first := Broken()), epochs=1)
    _, model = fit(monitor, tmp_path, epochs=1)
    expected = fullrank.spectrum(torch.cat([h for step in model.seen for h in step]))
    torch.testing.assert_close(monitor.spectrum.singular_values, expected.singular_values, rtol=1e-5, atol=1e-6)
    assert monitor.val_spectrum.protocol["n"] == 70
    assert not first.backbone._forward_hooks


def test_a_compiled_network_is_compiled_without_what_watches_it(tmp_path):
    graphs = []

    def backend(graph, _):
        graphs.append(graph.code)
        return graph.forward

    model = Siamese()
    model.backbone.compile(backend=backend)
    monitor = CollapseMonitor("backbone", every=2, log_every=1, half_life=1e12)
    fit(monitor, tmp_path, model=model, epochs=1)
    assert monitor.spectrum.protocol["samples"] == 3 * 2 * 16
    assert graphs
    assert all("relu" in code for code in graphs)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated", "ignore:You're resuming from a checkpoint that ended")
@pytest.mark.parametrize("kind", ["plain", "stateful"])
def test_an_order_resumes_in_the_middle_of_its_run(tmp_path, kind):
    order = MultiplePass(96, 8, 10, seed=1)
    stateful = kind == "stateful"
    new = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader if stateful else DataLoader

    class Listener(LightningModule):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(6, 1)
            self.steps = []

        def training_step(self, batch, _):
            self.steps.append(batch[1].tolist())
            return self.head(batch[0]).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def run(loader, ckpt_path=None, **settings):
        model = Listener()
        keep = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=4, save_top_k=-1)
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(
            accelerator="cpu", devices=1, callbacks=[keep], default_root_dir=tmp_path, **quiet, **settings
        )
        trainer.fit(model, loader, ckpt_path=ckpt_path)
        assert trainer.global_step == 10
        return model

    images = TensorDataset(TRAIN, torch.arange(96))
    expected = [batch.tolist() for batch in order]
    whole = run(new(images, batch_sampler=OrderSampler(order)), max_epochs=1)
    assert whole.steps == expected
    again = new(images, batch_sampler=OrderSampler(order, start=0 if stateful else 4))
    rest = run(again if stateful else iter(again), tmp_path / "step=4.ckpt", max_steps=10)
    assert rest.steps == expected[4:]
    assert torch.equal(rest.head.weight, whole.head.weight)


def test_activation_checkpointing_counts_once(tmp_path):
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(Siamese):
        def training_step(self, batch, _):
            h = checkpoint(self.backbone, batch[0], use_reentrant=False)
            return self.head(h).square().mean()

    monitor = CollapseMonitor("backbone", every=1)
    fit(monitor, tmp_path, model=Checkpointed(), epochs=1)
    assert monitor._monitor.compute().protocol["samples"] == 96


def test_layers_that_give_more_than_a_matrix(tmp_path):
    class Convolutional(Siamese):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(6, 5, 1)
            self.pool = nn.AdaptiveAvgPool2d(1)

        def training_step(self, batch, _):
            return self.pool(self.stem(batch[0][:, :, None, None].expand(-1, -1, 2, 2))).square().mean()

        def validation_step(self, batch, _):
            self.training_step(batch, _)

    pooled = CollapseMonitor("pool", every=1)
    fit(pooled, tmp_path, model=Convolutional(), epochs=1)
    assert pooled.val_spectrum.dim == 5
    mapped = CollapseMonitor("stem", every=1, features=lambda output: output.mean((2, 3)))
    fit(mapped, tmp_path, model=Convolutional(), epochs=1)
    assert mapped.val_spectrum.dim == 5
    with pytest.raises(FullrankError, match=r"layer 'stem' gives shape \(16, 5, 2, 2\), not features \(N, D\): name"):
        fit(CollapseMonitor("stem"), tmp_path, model=Convolutional(), epochs=1)


def test_warns_when_there_is_nothing_to_measure(tmp_path):
    class Elsewhere(Siamese):
        def validation_step(self, batch, _):
            pass

    with pytest.warns(UserWarning, match="validation never called layer 'backbone'"):
        fit(CollapseMonitor("backbone"), tmp_path, model=Elsewhere(), epochs=1)
    bad = VAL.clone()
    bad[3] = float("nan")
    monitor = CollapseMonitor("backbone")
    with pytest.warns(UserWarning, match="left out validation batches: features hold NaN"):
        fit(monitor, tmp_path, val=bad, epochs=1)
    assert monitor.val_spectrum.protocol["n"] == 70 - 16


def test_argument_errors(tmp_path):
    with pytest.raises(FullrankError, match=r"Siamese has no layer 'backbon'; did you mean 'backbone'.* head"):
        fit(CollapseMonitor("backbon"), tmp_path, epochs=1)
    with pytest.raises(FullrankError, match="score of centered features must be .*got 'rankme'"):
        CollapseMonitor("backbone", scores=("rankme",))
    for every in (0, 2.5, "4", True):
        with pytest.raises(FullrankError, match=f"^every must be .*, got {every!r}"):
            CollapseMonitor("backbone", every=every)
        with pytest.raises(FullrankError, match=f"log_every must be .*, got {every!r}"):
            CollapseMonitor("backbone", log_every=every)
    assert CollapseMonitor("a").state_key != CollapseMonitor("b").state_key


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    monkeypatch.delitem(sys.modules, "fullrank.integrations.lightning")
    other = pytest.importorskip("pytorch_lightning")
    assert issubclass(importlib.import_module("fullrank.integrations.lightning").CollapseMonitor, other.Callback)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    monkeypatch.delitem(sys.modules, "fullrank.integrations.lightning")
    with pytest.raises(ImportError, match=r"needs Lightning: pip install 'fullrank\[lightning\]'"):
        importlib.import_module("fullrank.integrations.lightning")
