"""SpectrumMetric and its moments against a float64 SVD, merged in every way there is."""

import pickle
import sys

import pytest
import torch
from tests.processes import run_in_two
from torchmetrics import MeanMetric, MetricCollection

import fullrank
from fullrank import FullrankError, SpectrumMetric
from fullrank.measure import moments


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Products this small wait for each other more than they work, for a minute where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def svd(x, center=True, normalize=False):
    """The reference, without a line of the package."""
    x = x.to(torch.float64)
    if normalize:
        x = x / x.norm(dim=1, keepdim=True)
    if center:
        x = x - x.mean(dim=0)
        x = x - x.mean(dim=0)
    values = torch.linalg.svdvals(x)
    return torch.cat([values, values.new_zeros(x.shape[1] - len(values))])


def prescribed(n, values, *, mean=0.0, seed=0):
    """Features with centered singular values `values * sqrt(n)` around a mean of `mean` times the spread."""
    g = torch.Generator().manual_seed(seed)
    d = len(values)
    left = torch.randn(n, d, generator=g, dtype=torch.float64)
    left = torch.linalg.qr(torch.cat([torch.ones(n, 1, dtype=torch.float64), left], dim=1)).Q[:, 1:]
    right = torch.linalg.qr(torch.randn(d, d, generator=g, dtype=torch.float64)).Q
    spread = values.norm() / d**0.5
    return left * (values * n**0.5) @ right.T + mean * spread * torch.randn(d, generator=g, dtype=torch.float64)


def measured(x, *, batch=None, **settings):
    metric = SpectrumMetric(x.shape[1], **settings)
    for rows in [x] if batch is None else x.split(batch):
        metric.update(rows)
    return metric


def gap(a, b):
    """The largest difference of singular values, relative to the top one."""
    a, b = (v.compute().singular_values if isinstance(v, SpectrumMetric) else v for v in (a, b))
    return float((a - b).abs().max() / b[0])


STEEP = torch.logspace(0, -7, 96, dtype=torch.float64)
TAME = torch.logspace(0, -2, 48, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("batch", [1, 37, 5000])
def test_prescribed_spectra_to_a_millionth_of_the_top_value(dtype, mean, batch):
    x = prescribed(5000 if batch > 1 else 1000, STEEP, mean=mean).to(dtype)
    if dtype == torch.float64:
        torch.testing.assert_close(svd(x) / len(x) ** 0.5, STEEP, rtol=0, atol=1e-11 * max(mean, 1))
    metric = measured(x, batch=batch)
    assert metric.compute().protocol["method"] == "moments"
    assert gap(metric, svd(x)) < 1e-6


@pytest.mark.parametrize("shape", ["step", "plateau", "one direction"])
def test_other_prescribed_spectra(shape):
    values = {
        "step": torch.cat([torch.ones(40), torch.full((40,), 1e-7)]).double(),
        "plateau": torch.cat([torch.tensor([1.0]), torch.full((79,), 1e-4)]).double(),
        "one direction": torch.cat([torch.tensor([1.0]), torch.zeros(79)]).double(),
    }[shape]
    assert gap(measured(prescribed(4000, values, mean=1e4), batch=256), values * 4000**0.5) < 1e-6


def test_exact_mode_resolves_what_moments_cannot():
    values = torch.logspace(0, -11, 64, dtype=torch.float64)
    x = prescribed(3000, values)
    exact, plain = measured(x, batch=100, exact=True), measured(x, batch=100)
    assert exact.compute().protocol["method"] == "exact"
    found = exact.compute().singular_values / 3000**0.5
    torch.testing.assert_close(found, values, rtol=1e-2, atol=1e-15)  # the last value itself to a hundredth
    assert exact.compute().protocol["floor"] < 1e-11 < plain.compute().protocol["floor"]
    tail = plain.compute().singular_values[-1] / 3000**0.5
    assert not 0.5 < tail / values[-1] < 2  # else this test says nothing about the exact mode
    assert gap(plain, svd(x)) < 1e-6
    assert len(exact.state) <= 2 * 64**2 + 2 * 64 + 4


def test_fast_mode_keeps_its_floor():
    x = prescribed(20_000, STEEP, mean=1e4)
    metric = measured(x, fast=True)
    protocol = metric.compute().protocol
    assert (protocol["method"], protocol["floor"]) == ("fast moments", pytest.approx(3.45e-4, rel=0.01))
    assert 1e-6 < gap(metric, svd(x)) < protocol["floor"]  # worse than the default: it is another mode
    tame = prescribed(20_000, TAME)
    assert gap(measured(tame, fast=True), svd(tame)) < 1e-5
    both = measured(x[:4000])
    both.merge_state(measured(x[4000:], fast=True))
    assert both.compute().protocol["method"] == "fast moments"  # as good as the weaker of the two
    with pytest.raises(FullrankError, match="exclude each other"):
        SpectrumMetric(4, exact=True, fast=True)
    torch.set_float32_matmul_precision("medium")
    try:
        assert torch.equal(measured(x, fast=True).state, metric.state)  # products are float32 all the same
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("settings", [{}, {"exact": True}], ids=["moments", "exact"])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_settings_as_in_spectrum(center, normalize, settings):
    x = prescribed(700, TAME, mean=3.0).float()
    metric = measured(x, batch=64, center=center, normalize=normalize, **settings)
    assert gap(metric, svd(x, center, normalize)) < 1e-12
    protocol = fullrank.spectrum(x, center=center, normalize=normalize).protocol
    assert {key: metric.compute().protocol[key] for key in protocol} == protocol


def test_normalised_zero_rows_stay_zero():
    x = torch.randn(50, 4, dtype=torch.float64)
    x[7] = 0
    expected = fullrank.spectrum(x, normalize=True).singular_values
    assert gap(measured(x, normalize=True), expected) < 1e-12


@pytest.mark.parametrize("settings", [{}, {"exact": True}, {"fast": True}, {"center": False}])
def test_a_centered_metric_knows_the_uncentered_spectrum_too(settings):
    x = prescribed(300, torch.linspace(1, 0.1, 8, dtype=torch.float64), mean=3.0)
    metric = measured(x, batch=64, **settings)
    uncentered = metric.compute_uncentered()
    assert gap(uncentered.singular_values, svd(x, center=False)) < 1e-6
    assert uncentered.protocol["center"] is False
    assert metric.compute().protocol["center"] is settings.get("center", True)


@pytest.mark.parametrize("n", [2, 3, 30, 63, 64, 65, 200])
@pytest.mark.parametrize("exact", [False, True])
def test_few_rows_keep_the_smaller_side(n, exact):
    x = torch.randn(n, 64, generator=torch.Generator().manual_seed(n), dtype=torch.float64) + 100
    metric = measured(x, batch=7, exact=exact)
    assert gap(metric, svd(x)) < 1e-12
    assert metric.compute().dim == 64
    assert len(metric.state) <= 4 + 2 * 64 + 64 * (min(n, 128) if exact else min(n, 64))


def test_a_wide_matrix_costs_memory_for_its_rows_only():
    metric = measured(torch.randn(10, 20_000))
    assert len(metric.state) < 13 * 20_000


def test_constant_features_have_no_variation_at_all():
    x = torch.full((1000, 8), 0.1, dtype=torch.float64)
    assert measured(x, batch=10).compute().singular_values.tolist() == [0.0] * 8


def test_the_first_batch_may_be_far_from_the_rest():
    # All zero at first (a warm-up), then far away: the shift is a poor one, and merging must not mind.
    x = torch.cat([torch.zeros(10, 48, dtype=torch.float64), prescribed(3000, TAME, mean=1e4)])
    parts = [measured(part) for part in (x[:10], x[10:1500], x[1500:])]
    for part in parts[1:]:
        parts[0].merge_state(part)
    assert gap(parts[0], svd(x)) < 1e-10
    assert gap(measured(x, batch=10), svd(x)) < 1e-10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool], ids=str)
def test_other_dtypes(dtype):
    x = torch.randint(0, 2, (300, 5), generator=torch.Generator().manual_seed(0)).to(dtype)
    metric = measured(x, batch=50)
    assert gap(metric, svd(x)) < 1e-12
    assert metric.compute().protocol["dtype"] == str(x.dtype).removeprefix("torch.")


def test_takes_a_read_only_memory_map(tmp_path):
    import numpy as np

    x = torch.randn(100, 3)
    np.save(tmp_path / "x.npy", x.numpy())
    assert gap(measured(np.load(tmp_path / "x.npy", mmap_mode="r")), svd(x)) < 1e-12


@pytest.mark.parametrize(("values", "exact"), [(TAME, False), (STEEP, True)], ids=["moments", "exact"])
def test_ten_saved_parts_equal_one(tmp_path, values, exact):
    x = prescribed(3000, values, mean=1e4)
    # Sorted: the parts have means far from each other, as a data set in order of class has.
    x = x[x[:, 0].argsort()]
    files = []
    for i, part in enumerate(x.tensor_split(10)):
        files.append(tmp_path / f"{i}.pt")
        torch.save(measured(part, batch=100, exact=exact).metric_state, files[-1])
    merged = SpectrumMetric(x.shape[1], exact=exact)
    for file in files:
        merged.merge_state(torch.load(file, weights_only=True))
    assert gap(merged, measured(x, batch=100, exact=exact)) < 1e-12
    assert gap(merged, svd(x)) < 1e-12 * 10
    assert merged.compute().protocol == measured(x, exact=exact).compute().protocol


def test_parts_of_few_rows_merge_with_parts_of_many():
    x = prescribed(1000, TAME, mean=10.0)
    for cuts in ([5, 995], [995, 5], [20, 20], [1, 1, 998], [0, 30, 30, 30, 910]):
        parts = [measured(part) if len(part) else SpectrumMetric(48) for part in x[: sum(cuts)].split(cuts)]
        for part in parts[1:]:
            parts[0].merge_state(part)
        assert gap(parts[0], svd(x[: sum(cuts)])) < 1e-12
        parts[0].update(x[:100])
        assert gap(parts[0], svd(torch.cat([x[: sum(cuts)], x[:100]]))) < 1e-12


def test_uncentered_parts_merge():
    x = prescribed(500, TAME, mean=5.0)
    a, b = measured(x[:100], center=False), measured(x[100:], center=False)
    a.merge_state(b.metric_state)
    assert gap(a, svd(x, center=False)) < 1e-12


CASES = {
    "even": (TAME, False, [1300, 700]),
    "rows and moments": (TAME, False, [1990, 10]),
    "exact": (STEEP, True, [1300, 700]),
}


def _case(name):
    values, exact, cuts = CASES[name]
    x = prescribed(2000, values, mean=1e4)
    return x[x[:, 0].argsort()], exact, cuts  # sorted: the processes' means are far from each other


def _process(rank, folder):
    assert (
        "lightning" not in sys.modules
    )  # which an encoder is measured without; test_cli.py has what else is not there
    results = {}
    for name in CASES:
        x, exact, cuts = _case(name)
        mine = x.split(cuts)[rank]
        metric = SpectrumMetric(x.shape[1], exact=exact)
        for rows in mine.split(64):
            metric.update(rows)
        spectrum = metric.compute()
        metric.update(mine[:1])  # after a sync each process goes on with its own rows
        own = metric.count
        metric.sync()
        together = metric.count
        metric.unsync()
        uncentered = metric.compute_uncentered()
        results[name] = (spectrum.singular_values, spectrum.protocol["n"], own, together, uncentered.singular_values)
    torch.save(results, f"{folder}/{rank}.pt")


def test_two_processes_equal_one(tmp_path):
    run_in_two(_process, tmp_path)
    for rank in range(2):
        for name, result in torch.load(tmp_path / f"{rank}.pt", weights_only=True).items():
            x, exact, cuts = _case(name)
            one = measured(x, batch=64, exact=exact).compute()
            assert gap(result[0], one.singular_values) < 1e-12, name
            assert result[1:4] == (2000, cuts[rank] + 1, 2002)
            twice = torch.cat([x, *(part[:1] for part in x.split(cuts))])
            assert gap(result[4], svd(twice, center=False)) < 1e-9, name


def test_behaves_as_a_torchmetric():
    x = prescribed(600, TAME, mean=2.0)
    metric = SpectrumMetric(48)
    first = metric(x[:300])
    second = metric(x[300:])
    assert gap(second.singular_values, svd(x[300:])) < 1e-12  # forward returns the batch's own
    assert gap(first.singular_values, svd(x[:300])) < 1e-12
    assert gap(metric, svd(x)) < 1e-12
    assert metric.compute() is metric.compute()  # cached, until something changes
    clone, pickled = metric.clone(), pickle.loads(pickle.dumps(metric))
    metric.reset()
    assert metric.count == 0
    for copy in (clone, pickled):
        copy.update(x)
        assert gap(copy, svd(torch.cat([x, x]))) < 1e-12
    metric.update(x[:200])
    assert gap(metric, svd(x[:200])) < 1e-12  # the default was not written to

    collection = MetricCollection({"centered": SpectrumMetric(48), "raw": SpectrumMetric(48, center=False)})
    collection.update(x)
    found = collection.compute()
    assert gap(found["centered"].singular_values, svd(x)) < 1e-12
    assert gap(found["raw"].singular_values, svd(x, center=False)) < 1e-12


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_counts_and_sums_stay_float64_whatever_the_module_around_becomes(dtype):
    x = prescribed(900, TAME, mean=1e4)
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), metric := SpectrumMetric(48))
    metric.update(x[:300])
    module.to(dtype)  # as Lightning does for precision="bf16-true"
    metric.set_dtype(dtype)
    assert module[0].weight.dtype == dtype
    metric.update(x[300:])
    assert gap(metric, svd(x)) < 1e-9
    assert metric.count == 900
    metric.reset()
    metric.update(x)
    assert gap(metric, svd(x)) < 1e-9
    module.to_empty(device="cpu")  # as after an init on the meta device
    assert gap(metric, svd(x)) < 1e-9
    metric.reset()
    assert metric.count == 0
    assert metric.to("meta").state.device.type == "meta"


def test_state_dict_when_persistent():
    x = prescribed(300, TAME)
    metric, other = measured(x), SpectrumMetric(48)
    metric.persistent(True)
    other.persistent(True)
    other.load_state_dict(metric.state_dict())
    other.update(x)
    assert gap(other, svd(torch.cat([x, x]))) < 1e-12


def test_a_loaded_state_is_the_metrics_own_and_what_it_computes():
    """Two metrics of one state dict wrote into each other, and `compute` gave what it had found before the loading."""
    x = prescribed(300, TAME)
    metric, one, two = measured(x), measured(x[:100]), SpectrumMetric(48)
    for each in (metric, one, two):
        each.persistent(True)
    one.compute()
    saved = metric.state_dict()
    for each in (one, two):
        each.load_state_dict(saved)
    assert gap(one, svd(x)) < 1e-12
    one.update(x)
    assert gap(two, svd(x)) < 1e-12


def test_goes_on_outside_inference_mode():
    x = prescribed(300, TAME)
    metric = SpectrumMetric(48)
    with torch.inference_mode():
        metric.update(x[:200])
    metric.update(x[200:])
    assert gap(metric, svd(x)) < 1e-12


def test_features_that_need_gradients_are_left_alone():
    x = torch.randn(100, 4, requires_grad=True)
    metric = measured(x)
    assert not metric.state.requires_grad
    assert not metric(x).singular_values.requires_grad


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("seen", [10, 100])
def test_refuses_what_is_not_finite_and_keeps_what_it_had(bad, normalize, seen, monkeypatch):
    monkeypatch.setattr(moments, "block_rows", lambda dim, device: 16)
    good = torch.randn(seen, 20, generator=torch.Generator().manual_seed(1))
    metric = measured(good, normalize=normalize)
    before = metric.state.clone()
    x = torch.randn(40, 20)
    x[33, 2] = bad  # in the third block: two were absorbed before it
    with pytest.raises(FullrankError, match=r"NaN or infinity in 1 of 40 rows, first in row 33: the encoder diverged"):
        metric.update(x)
    assert torch.equal(metric.state, before)
    metric.update(good)
    assert gap(metric, svd(torch.cat([good, good]), normalize=normalize)) < 1e-12


def test_errors_say_what_to_do():
    with pytest.raises(FullrankError, match="no features were given"):
        SpectrumMetric(8).compute_uncentered()
    metric = SpectrumMetric(4)
    with (
        pytest.raises(FullrankError, match=r"no features were given: call update\(features\)"),
        pytest.warns(UserWarning, match="before the ``update``"),
    ):
        metric.compute()
    with pytest.raises(
        FullrankError, match=r"features have 5 columns, this metric was made for 4: .*SpectrumMetric\(5\)"
    ):
        metric.update(torch.zeros(3, 5))
    with pytest.raises(FullrankError, match=r"features are empty, shape \(0, 4\)"):
        metric.update(torch.zeros(0, 4))
    with pytest.raises(FullrankError, match=r"got shape \(4,\): flatten or pool"):
        metric.update(torch.zeros(4))
    with pytest.raises(FullrankError, match="must be a matrix of numbers"):
        metric.update([["a", "b"]])
    with pytest.raises(FullrankError, match="must be real, got complex"):
        metric.update(torch.zeros(3, 4, dtype=torch.complex64))
    metric.update(torch.ones(1, 4))
    with pytest.raises(FullrankError, match="one row, and centering leaves nothing of it"):
        metric.compute()
    with pytest.raises(FullrankError, match=r"features are float16, those before were float32: .* convert them to one"):
        metric.update(torch.ones(1, 4).half())
    metric.update(torch.zeros(1, 4))
    assert metric.compute().singular_values[0] == pytest.approx(2**0.5)
    for dim in (0, -3, 2.5, True):
        with pytest.raises(FullrankError, match="dim must be (at least 1|a whole number)"):
            SpectrumMetric(dim)
    with pytest.raises(FullrankError, match="sums of such numbers overflow: scale them down"):
        SpectrumMetric(2).update(torch.full((4, 2), 1e308, dtype=torch.float64))
    huge = measured(torch.tensor([[1e200, 0], [-1e200, 0], [0, 1]] * 3, dtype=torch.float64))
    with pytest.raises(FullrankError, match="squares overflow float64: scale them down"):
        huge.compute()


@pytest.mark.parametrize("scale", [1e-25, 1e-21, 1e19, 1e25])
def test_fast_mode_takes_numbers_whose_squares_are_no_float32(scale):
    tame = prescribed(20_000, TAME)
    assert gap(measured(tame * scale, fast=True), svd(tame * scale)) < 1e-5


@pytest.mark.parametrize("scale", [1e-150, 1e-163, 1e-300])
@pytest.mark.parametrize("center", [True, False])
def test_numbers_whose_squares_underflow_are_refused(scale, center):
    x = torch.randn(400, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * scale
    message = r"features vary by .*e-\d+ at most, and squares of such numbers underflow: scale them up"
    with pytest.raises(FullrankError, match=message):
        measured(x, batch=100, center=center)
    parts = [measured(part, center=center) for part in x[:6].split(3)]  # few rows need no squares
    parts[0].merge_state(parts[1])
    assert gap(parts[0], svd(x[:6], center=center)) < 1e-12
    metric = measured(torch.zeros(400, 8, dtype=torch.float64), center=center)
    before = metric.state.clone()
    with pytest.raises(FullrankError, match=message):
        metric.update(x)
    assert torch.equal(metric.state, before)


def test_merging_errors():
    x = torch.randn(100, 4)
    metric = measured(x)
    with pytest.raises(FullrankError, match="cannot merge a metric with center=False into a metric with center=True"):
        metric.merge_state(measured(x, center=False))
    with pytest.raises(FullrankError, match="dim=3 into a metric with dim=4"):
        metric.merge_state(measured(x[:, :3]))
    with pytest.raises(FullrankError, match="cannot merge moments of 4 and 3 dimensions"):
        metric.merge_state({"state": measured(x[:, :3]).state})  # of before, without settings
    with pytest.raises(FullrankError, match="cannot merge features of float32 and of float64"):
        metric.merge_state(measured(x.double()))
    with pytest.raises(FullrankError, match="part without exact=True into one with it"):
        measured(x, exact=True).merge_state(metric)
    state = metric.metric_state
    others = [
        *({"total": x}, None, 7, x, MeanMetric(), {**state, "settings": torch.ones(2)}, {**state, "state": x}),
        *({**state, "state": other} for other in (state["state"][:-1], x[0], state["state"].tolist())),
    ]
    for other in others:
        with pytest.raises(FullrankError, match="only a SpectrumMetric, or its metric_state, can be merged, got"):
            metric.merge_state(other)
    assert torch.equal(metric.metric_state["state"], state["state"])
    with pytest.raises(FullrankError, match="a metric with normalize=True into a metric with normalize=False"):
        metric.merge_state(measured(x, normalize=True).metric_state)
