import csv
from pathlib import Path

import pytest
import torch

import fullrank
from fullrank.measure.spectrum import Spectrum
from fullrank.measure.verdict import judge

PUBLISHED = Path(__file__).parents[3] / "shared/data/published_spectra/simsiam_resnet18_imagenet.csv"


def published(percent):
    if not PUBLISHED.is_file():
        pytest.skip("the published spectra are not at ../shared/data")
    with PUBLISHED.open() as file:
        return Spectrum(torch.tensor([float(row[f"percent_{percent}"]) for row in csv.DictReader(file)]))


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_constant_features_are_collapsed():
    verdict = judge(fullrank.spectrum(torch.full((100, 16), 0.3)))
    assert verdict.level == "collapsed"
    assert verdict.text == "Collapsed: features are constant, the same for every image."


def test_one_direction_and_noise_is_collapsed():
    features = gaussian(1000, 1) @ gaussian(1, 64, seed=1) + 1e-5 * gaussian(1000, 64, seed=2)
    verdict = judge(fullrank.spectrum(features))
    assert verdict.level == "collapsed"
    assert "one direction" in verdict.text


def test_one_large_direction_over_a_healthy_rest_is_not_rank_one():
    values = torch.ones(64)
    values[0] = 100.0
    assert Spectrum(values).participation_ratio < 1.5
    assert judge(Spectrum(values)).level != "collapsed"


@pytest.mark.parametrize("rank", [4, 32, 57])
def test_rank_deficient_features_are_partial(rank):
    verdict = judge(fullrank.spectrum(gaussian(1000, rank) @ gaussian(rank, 64, seed=1)))
    assert verdict.level == "partial"
    assert f"{64 - rank} of 64 directions are dead" in verdict.text


@pytest.mark.parametrize(("n", "d"), [(5000, 500), (2000, 8), (100, 2), (10, 1)])
def test_isotropic_features_are_healthy(n, d):
    verdict = judge(fullrank.spectrum(gaussian(n, d)))
    assert verdict.level == "healthy"
    assert len(verdict.reasons) == 1


def test_too_few_features_are_judged_on_what_they_span_and_it_is_said():
    few = judge(fullrank.spectrum(gaussian(64, 128)))
    assert few.level == "healthy"
    assert "64 features span at most 63 of 128 directions" in few.text
    assert "64 of 128 directions" in judge(fullrank.spectrum(gaussian(64, 128), center=False)).text
    assert "200 features are few for 128 directions" in judge(fullrank.spectrum(gaussian(200, 128))).text


@pytest.mark.parametrize(
    ("percent", "level"),
    [(1, "healthy"), (5, "partial"), (10, "partial"), (20, "partial"), (50, "partial"), (100, "partial")],
)
def test_published_spectra(percent, level):
    verdict = judge(published(percent))
    assert verdict.level == level
    # 5 % has the best k-NN of the sweep: partial for its 69 dead directions, and said to be borderline.
    assert ("borderline" in verdict.text) == (percent == 5)
    assert ("few directions" in verdict.text) == (percent >= 10)


def test_what_the_encoder_started_with_is_said():
    start, after = published(10), published(20)
    assert "no more so than the untrained encoder" in judge(start, init=start).text
    assert "it had AUC 0.845 and 87 dead before training" in judge(after, init=start).text
    assert "training" not in judge(after, init=Spectrum(torch.ones(3))).text


def test_scale_does_not_matter():
    spectrum = published(50)
    assert judge(Spectrum(spectrum.singular_values * 1e-6)) == judge(spectrum)
