"""Metrics that return scalars: in collections, in Lightning, drawn."""

import pytest
import torch
from torchmetrics import MetricCollection

import fullrank
from fullrank import metrics
from fullrank.errors import FullrankError
from fullrank.measure.scores import SCORES

X = torch.randn(300, 16, generator=torch.Generator().manual_seed(0)) + 2
CLASSES = [getattr(metrics, name) for name in metrics.__all__ if not name.startswith("Spectrum")]


def test_one_state_serves_all_of_equal_settings():
    collection = MetricCollection([each(16) for each in CLASSES])
    collection.add_metrics({"unit": metrics.RankMe(16, normalize=True)})
    for rows in X.split(100):
        collection.update(rows)
    found = collection.compute()
    for each in CLASSES:
        if each is not metrics.DeadDirections:
            assert float(found[each.__name__]) == pytest.approx(SCORES[each.score].function(X), rel=1e-9), each
    assert float(found["DeadDirections"]) == fullrank.spectrum(X).dead() == 0
    want = fullrank.spectrum(X, center=False, normalize=True).rankme
    assert float(found["unit"]) == pytest.approx(want, rel=1e-9)
    assert sorted(map(len, collection.compute_groups.values())) == [1, len(CLASSES)]


@pytest.mark.parametrize("other", [{"center": False}, {"normalize": True}, {"exact": True}, {"fast": True}])
def test_other_settings_never_share_a_state(other):
    first = torch.nn.functional.normalize(torch.cat([X[:30], -X[:30]]), dim=1)  # for which all settings agree
    collection = MetricCollection({"one": fullrank.SpectrumMetric(16), "other": fullrank.SpectrumMetric(16, **other)})
    collection.update(first)
    collection.update(X)
    alone = fullrank.SpectrumMetric(16, **other)
    alone.update(first)
    alone.update(X)
    assert torch.equal(collection.compute()["other"].singular_values, alone.compute().singular_values)
    assert len(collection.compute_groups) == 2


def test_are_drawn():
    import matplotlib

    matplotlib.use("Agg")
    for metric in (metrics.RankMe(16), fullrank.SpectrumMetric(16)):
        metric.update(X)
        figure, ax = metric.plot()
        assert ax.figure is figure
        assert len(ax.lines) == 1
        matplotlib.pyplot.close(figure)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("metric", [metrics.RankMe(16), fullrank.SpectrumMetric(16)], ids=["scalar", "spectrum"])
def test_lightning_logs_scalars_and_refuses_spectra_clearly(metric):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.metric = metric
            self.layer = torch.nn.Linear(1, 1)

        def validation_step(self, batch, index):
            self.metric.update(batch)
            self.log("score", self.metric)

    trainer = lightning.Trainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu", devices=1
    )
    loader = torch.utils.data.DataLoader(X, batch_size=100)
    if isinstance(metric, metrics.SpectrumScore):
        (logged,) = trainer.validate(Module(), loader, verbose=False)
        assert logged["score"] == pytest.approx(fullrank.spectrum(X, center=False).rankme, rel=1e-6)
    else:
        with pytest.raises(ValueError, match=r"must be a tensor. Found Spectrum\(dim=16"):
            trainer.validate(Module(), loader, verbose=False)


@pytest.mark.parametrize("tol", [float("nan"), -1, 2, True, "a"])
def test_a_tolerance_is_a_share(tol):
    with pytest.raises(FullrankError, match=r"tol must be (at least 0 and at most 1|a number), got"):
        metrics.DeadDirections(16, tol=tol)


def test_a_state_of_other_settings_is_not_merged():
    metric, other = fullrank.SpectrumMetric(16), fullrank.SpectrumMetric(16, center=False)
    other.update(X)
    with pytest.raises(FullrankError, match="center"):
        metric.merge_state(other.metric_state)
