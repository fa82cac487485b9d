"""The moving spectrum against explicitly weighted moments."""

import pytest
import torch

from fullrank import FullrankError, spectrum
from fullrank.measure.monitor import MovingSpectrum


def weighted(batches, half_life, center=True, normalize=False):
    """Singular values from one weight for each sample, all samples at once."""
    x = torch.cat(batches).double()
    if normalize:
        x = x / x.norm(dim=1, keepdim=True)
    later = torch.tensor([sum(map(len, batches[i + 1 :])) for i in range(len(batches))], dtype=torch.float64)
    w = (0.5 ** (later / half_life)).repeat_interleave(torch.tensor([len(b) for b in batches]))
    if center:
        x = x - (w[:, None] * x).sum(0) / w.sum()
    effective = w.sum() ** 2 / (w**2).sum()
    return torch.linalg.svdvals(x * (w / w.sum() * effective).sqrt()[:, None]), effective


def stream(steps=30, d=16, seed=0):
    g = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -3, d)
    return [
        # The mean drifts and batches differ in size.
        100 + step + torch.randn(20 + step % 3, d, generator=g) * scale
        for step in range(steps)
    ]


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("half_life", [15.0, 128.0, 1e9])
def test_equals_weighted_moments(center, normalize, half_life):
    monitor = MovingSpectrum(16, half_life=half_life, center=center, normalize=normalize)
    batches = stream()
    for batch in batches:
        monitor.update(batch)
    values, effective = weighted(batches, half_life, center, normalize)
    found = monitor.compute()
    torch.testing.assert_close(found.singular_values, values, rtol=0, atol=2e-7 * float(values[0]))
    assert found.protocol["n"] == round(float(effective))
    assert found.protocol["samples"] == sum(map(len, batches))


def test_without_forgetting_it_is_the_spectrum():
    x = torch.randn(500, 8, dtype=torch.float64) + 30
    monitor = MovingSpectrum(8, half_life=1e15)
    for batch in x.split(50):
        monitor.update(batch)
    values = torch.linalg.svdvals(x - x.mean(0))
    torch.testing.assert_close(monitor.compute().singular_values, values, rtol=1e-10, atol=0)


def test_sees_a_collapse_within_a_few_half_lives():
    monitor = MovingSpectrum(32, half_life=200)
    for _ in range(50):
        monitor.update(torch.randn(64, 32))
    assert monitor.compute().dead() == 0
    for _ in range(100):
        monitor.update(torch.randn(64, 4) @ torch.randn(4, 32, generator=torch.Generator().manual_seed(0)))
    assert monitor.compute().dead() == 28


def test_leaves_out_what_is_not_finite():
    batches = stream()
    monitor, clean = MovingSpectrum(16), MovingSpectrum(16)
    bad = batches[3].clone()
    bad[2, 5] = float("nan")
    for i, batch in enumerate(batches):
        clean.update(batch)
        monitor.update(batch)
        if i in (0, 10):
            monitor.update(bad)
            # As if these samples had come and weighed nothing.
            clean._counts[0] *= 0.5 ** (len(bad) / clean.half_life)
            clean._counts[1] *= 0.25 ** (len(bad) / clean.half_life)
            clean._gram *= 0.5 ** (len(bad) / clean.half_life)
    assert monitor.compute().protocol["skipped"] == 2
    torch.testing.assert_close(monitor.compute().singular_values, clean.compute().singular_values, rtol=1e-9, atol=0)
    first = MovingSpectrum(16)
    first.update(bad)
    with pytest.raises(FullrankError, match="0 samples have come, 1 batches held NaN"):
        first.compute()
    for _ in range(400):  # a run that has diverged: its good batches fade
        monitor.update(torch.full((256, 16), float("nan")))
    with pytest.raises(FullrankError, match="samples have come, 402 batches held NaN"):
        monitor.compute()
    monitor.update(batches[0])
    assert monitor.compute().auc == pytest.approx(spectrum(batches[0]).auc, rel=1e-9)


def test_goes_on_from_its_state():
    batches = stream()
    whole, first = MovingSpectrum(16), MovingSpectrum(16)
    for batch in batches:
        whole.update(batch)
    for batch in batches[:11]:
        first.update(batch)
    state = first.state_dict()
    first.update(batches[0])  # the saved state does not change with its origin
    second = MovingSpectrum(16)
    second.load_state_dict(state)
    for batch in batches[11:]:
        second.update(batch)
    assert torch.equal(second.compute().singular_values, whole.compute().singular_values)
    with pytest.raises(FullrankError, match="make it with the same"):
        MovingSpectrum(16, half_life=3).load_state_dict(state)


def test_processes_together():
    batches = stream(40)
    mine, other = MovingSpectrum(16, half_life=100), MovingSpectrum(16, half_life=100)
    steps = [(a[:20], b[:20]) for a, b in zip(batches[::2], batches[1::2], strict=True)]
    for a, b in steps:
        mine.update(a)
        other.update(b)
    vectors = []
    other.compute(gather=lambda vector: vectors.append(vector) or vector[None])
    together = mine.compute(gather=lambda vector: torch.stack([vector, vectors[0]]))
    # Both processes' samples of one step have one age.
    values, effective = weighted([torch.cat(step) for step in steps], 200)
    torch.testing.assert_close(together.singular_values, values, rtol=1e-6, atol=0)
    assert together.protocol["samples"] == 40 * 20
    assert together.protocol["n"] == round(float(effective))


def test_autocast_and_gradients_leave_it_alone():
    x = torch.randn(64, 16, requires_grad=True)
    plain, cast = MovingSpectrum(16), MovingSpectrum(16)
    plain.update(x)
    with torch.autocast("cpu", torch.bfloat16):
        cast.update(x)
    assert torch.equal(plain.compute().singular_values, cast.compute().singular_values)
    assert x.grad is None


def test_does_not_write_to_the_features():
    x = torch.randn(64, 16, dtype=torch.float64)
    before = x.clone()
    for center in (True, False):
        MovingSpectrum(16, center=center).update(x)
    assert torch.equal(x, before)


def test_errors():
    monitor = MovingSpectrum(4)
    with pytest.raises(FullrankError, match=r"0 samples have come.* call update"):
        monitor.compute()
    for shape in [(4,), (0, 4), (3, 5), (2, 4, 1)]:
        with pytest.raises(FullrankError, match=r"features must be \(N, 4\) with N at least 1"):
            monitor.update(torch.zeros(shape))
    monitor.update(1e200 * torch.randn(9, 4, dtype=torch.float64))
    with pytest.raises(FullrankError, match="their squares overflow float64: scale them down"):
        monitor.compute()
    with pytest.raises(FullrankError, match="half_life must be a positive number of samples, got 0"):
        MovingSpectrum(4, half_life=0)
    with pytest.raises(FullrankError, match="dim must be"):
        MovingSpectrum(0)
