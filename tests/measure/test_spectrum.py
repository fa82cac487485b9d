"""The spectrum against a plain SVD, closed forms and the published spectra of Li et al. 2022."""

import warnings

import numpy as np
import pytest
import torch

from fullrank import FullrankError, Spectrum, SpectrumMetric, spectrum

# AUC, exp-entropy of sigma, (sum s^2)^2 / sum s^4, sum s^2 / s1^2, number of s below 1e-3 s1.
PUBLISHED = {
    1: (0.6098, 465.2, 160.5, 31.4, 3),
    5: (0.7480, 323.5, 66.9, 18.8, 69),
    10: (0.8449, 186.5, 12.8, 4.8, 87),
    20: (0.8787, 140.0, 5.2, 2.5, 118),
    50: (0.8714, 161.3, 14.9, 5.3, 100),
    100: (0.8578, 165.6, 4.2, 2.1, 107),
}


def gaussian(n=300, d=24, seed=0, decay=0.7):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x * torch.arange(1, d + 1, dtype=torch.float64) ** -decay


def rotation(d, seed=1):
    return torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q


def values_of(x: Spectrum):
    return x.auc, x.rankme, x.participation_ratio, x.stable_rank, x.alpha


@pytest.mark.parametrize("percent", PUBLISHED)
def test_published_spectra(published_spectra, percent):
    found = Spectrum(torch.tensor(published_spectra[percent], dtype=torch.float64))
    auc, entropy, ratio, stable, dead = PUBLISHED[percent]
    assert found.dim == 512
    assert found.auc == pytest.approx(auc, abs=5.1e-5)
    assert found.rankme == pytest.approx(entropy, abs=0.051)
    assert found.participation_ratio == pytest.approx(ratio, abs=0.051)
    assert found.stable_rank == pytest.approx(stable, abs=0.051)
    assert found.dead(1e-3) == dead


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("shape", [(300, 24), (24, 24), (10, 24)])
def test_agrees_with_numpy(center, normalize, shape):
    x = (gaussian(*shape) + 0.5).numpy()
    y = x / np.linalg.norm(x, axis=1, keepdims=True) if normalize else x
    y = y - y.mean(axis=0) if center else y
    s = np.linalg.svd(y, compute_uv=False)
    found = spectrum(x, center=center, normalize=normalize)
    full = np.zeros(24)
    full[: len(s)] = s
    np.testing.assert_allclose(found.singular_values.numpy(), full, atol=1e-13 * s[0] * 10)
    p = s[s > 1e-12 * s[0]] / s[s > 1e-12 * s[0]].sum()
    assert found.auc == pytest.approx(np.mean(np.cumsum(full) / full.sum()), rel=1e-12)
    assert found.rankme == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)
    assert found.participation_ratio == pytest.approx((s**2).sum() ** 2 / (s**4).sum(), rel=1e-12)
    assert found.stable_rank == pytest.approx((s**2).sum() / s[0] ** 2, rel=1e-12)
    assert dict(found.protocol) == {
        "n": shape[0],
        "d": 24,
        "center": center,
        "normalize": normalize,
        "dtype": "float64",
    }


@pytest.mark.parametrize("d", [1, 2, 7, 512])
def test_bounds(d):
    flat = Spectrum(torch.full((d,), 3.0))
    assert flat.auc == pytest.approx((d + 1) / (2 * d), rel=1e-12)
    for full in (flat.rankme, flat.participation_ratio, flat.stable_rank):
        assert full == pytest.approx(d, rel=1e-12)
    assert flat.dead() == 0
    one = Spectrum(torch.eye(d)[0])
    assert (one.auc, one.rankme, one.participation_ratio, one.stable_rank) == (1.0, 1.0, 1.0, 1.0)
    assert one.dead() == d - 1


def test_auc_closed_form_and_singular_values_rather_than_variances():
    s = torch.arange(40.0, 0, -1).double()
    p = s / s.sum()
    assert Spectrum(s).auc == pytest.approx(float(1 + (1 - (torch.arange(1, 41) * p).sum()) / 40), rel=1e-12)
    assert Spectrum(s**2).auc > Spectrum(s).auc + 0.05  # the wrong variant, cumulative variances
    assert Spectrum(s**2).rankme < Spectrum(s).rankme - 2


def test_padding_with_dead_features_raises_auc():
    x = gaussian()
    assert spectrum(torch.cat([x, torch.zeros(len(x), 24)], dim=1)).auc > spectrum(x).auc + 0.1


def test_rotation_scale_shift_and_order_of_rows_change_nothing():
    x = gaussian()
    want = values_of(spectrum(x))
    for y in (x @ rotation(24), x * 1e-6, x + 5.0, x.flip(0), x.flip(1), -x):
        assert values_of(spectrum(y)) == pytest.approx(want, rel=1e-9)
    scaled = x * torch.linspace(1, 3, 24)
    assert spectrum(scaled).auc != pytest.approx(want[0], rel=1e-3)


def test_uncentered_sees_the_mean():
    x = gaussian() + 10
    assert spectrum(x, center=False).rankme < 0.5 * spectrum(x).rankme


def test_constant_column_is_exactly_dead_and_large_mean_keeps_digits():
    x = gaussian()
    x[:, 5] = 1e9 / 3  # not a binary fraction: a plain mean leaves rounding noise
    found = spectrum(x)
    assert float(found.singular_values[-1]) < 1e-13 * float(found.singular_values[0])
    assert found.dead(1e-12) == 1
    shifted = spectrum(x + 1e4).singular_values
    torch.testing.assert_close(shifted, found.singular_values, rtol=0, atol=1e-9)


def test_constant_features_have_no_variation():
    found = spectrum(torch.full((53, 6), 1e9 / 3, dtype=torch.float64))
    assert float(found.singular_values.max()) == 0
    assert (found.auc, found.rankme, found.participation_ratio, found.stable_rank, found.dead()) == (
        1,
        0,
        0,
        0,
        6,
    )
    assert np.isnan(found.alpha)
    assert found.explained.tolist() == [1.0] * 6


def test_few_rows_leave_zeros():
    found = spectrum(gaussian(5, 24))
    assert found.dim == 24
    assert int((found.singular_values > 1e-12).sum()) == 4
    assert int((spectrum(gaussian(5, 24), center=False).singular_values > 1e-12).sum()) == 5


def test_alpha_of_a_power_law():
    for exponent in (0.5, 1.0, 2.5):
        power = Spectrum(torch.arange(1, 201, dtype=torch.float64) ** (-exponent / 2))
        assert power.alpha == pytest.approx(exponent, rel=1e-10)
    assert np.isnan(Spectrum(torch.ones(11)).alpha)
    bent = torch.arange(1, 201, dtype=torch.float64) ** -0.5
    bent[:9] *= 7  # k < 10 is outside the fit
    bent[100:] *= 0.1  # and so is k > 100
    assert Spectrum(bent).alpha == pytest.approx(1.0, rel=1e-10)


@pytest.mark.parametrize(
    "x",
    [
        gaussian(2000, 30, decay=0.5) @ rotation(128)[:30],
        (gaussian(2000, 30, decay=0.5) @ rotation(128)[:30]).float(),
        torch.nn.functional.pad(gaussian(2000, 30, decay=0.5), (0, 98))[:, np.random.default_rng(0).permutation(128)],
        gaussian(31, 128, decay=0.5),
    ],
    ids=["low rank", "low rank in float32", "dead columns among others", "as few rows"],
)
def test_alpha_is_of_no_rounding(x):
    live = Spectrum(spectrum(x).singular_values[:30])
    metric = SpectrumMetric(128)
    metric.update(x)
    assert spectrum(x).alpha == pytest.approx(live.alpha, rel=1e-6)
    assert metric.compute().alpha == pytest.approx(live.alpha, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int8, torch.int64, torch.uint8])
def test_dtypes_are_measured_in_float64(dtype):
    x = (gaussian(60, 8, decay=0) * 3 + 20).to(dtype)
    found = spectrum(x)
    torch.testing.assert_close(found.singular_values, spectrum(x.double()).singular_values, rtol=1e-14, atol=0)
    assert found.singular_values.dtype == torch.float64
    assert found.protocol["dtype"] == str(dtype).removeprefix("torch.")


def test_numpy_inputs_without_a_warning(tmp_path):
    x = gaussian(40, 5).numpy()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    want = spectrum(x).auc
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert spectrum(mapped).auc == want
        assert spectrum(x[::-1]).auc == pytest.approx(want, rel=1e-12)
        assert spectrum(np.asfortranarray(x)).auc == pytest.approx(want, rel=1e-12)
        assert spectrum(x.tolist()).auc == pytest.approx(want, rel=1e-6)  # Python floats are float32 to PyTorch
    assert spectrum(x.astype(np.float16)).protocol["dtype"] == "float16"


def test_gradients_are_neither_needed_nor_kept():
    x = gaussian().requires_grad_()
    assert not spectrum(x).singular_values.requires_grad


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(3), "must be a matrix"),
        (torch.zeros(2, 3, 4), r"got shape \(2, 3, 4\): flatten or pool"),
        (torch.zeros(0, 4), "empty"),
        (torch.zeros(4, 0), "empty"),
        (torch.ones(1, 4), "one row"),
        (torch.zeros(4, 4, dtype=torch.complex64), "complex"),
        (np.array([["a", "b"]]), "matrix of numbers"),
        ("features.npy", "matrix of numbers"),
    ],
)
def test_bad_features(bad, message):
    with pytest.raises(FullrankError, match=message):
        spectrum(bad)


@pytest.mark.parametrize("hole", [float("nan"), float("inf"), -float("inf")])
def test_not_finite_names_the_rows(hole):
    x = gaussian().float()
    x[7, 3] = x[9, 0] = x[9, 1] = hole
    with pytest.raises(FullrankError, match=r"in 2 of 300 rows, first in row 7: .*drop these rows"):
        spectrum(x)


def test_one_row_uncentered_is_measured():
    found = spectrum(torch.tensor([[3.0, 4.0]]), center=False)
    assert found.singular_values.tolist() == pytest.approx([5.0, 0.0])


@pytest.mark.parametrize("bad", [[], [[1.0]], [1.0, -1.0], [float("nan")], [float("inf")]])
def test_bad_singular_values(bad):
    with pytest.raises(FullrankError, match="singular values must be"):
        Spectrum(torch.tensor(bad))
