import pytest
import torch

import fullrank
from fullrank.data import views
from fullrank.data.eval_images import load_for_eval
from fullrank.data.images import open_images
from fullrank.errors import FullrankError
from fullrank.measure.spectrum import Spectrum
from fullrank.measure.verdict import isotropic_auc, judge
from fullrank.models.backbones import backbone


def gaussian(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_constant_features_are_collapsed():
    verdict = judge(fullrank.spectrum(torch.full((100, 16), 0.3)))
    assert verdict.level == "collapsed"
    constant = "features are constant, the same for every image"
    assert verdict.text == f"Collapsed: {constant}. Confidence high: nothing varies."


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


@pytest.mark.parametrize(("rank", "level"), [(4, "collapsed"), (32, "partial"), (57, "partial")])
def test_rank_deficient_features_are_partial_or_worse(rank, level):
    verdict = judge(fullrank.spectrum(gaussian(1000, rank) @ gaussian(rank, 64, seed=1)))
    assert verdict.level == level
    assert f"{64 - rank} of 64 directions are dead" in verdict.text


@pytest.mark.parametrize(("n", "d"), [(5000, 500), (2000, 8), (100, 2)])
def test_isotropic_features_are_healthy(n, d):
    verdict = judge(fullrank.spectrum(gaussian(n, d)))
    assert verdict.level == "healthy"
    assert len(verdict.reasons) == 1


def test_too_few_features_are_judged_on_what_they_span_and_it_is_said():
    few = judge(fullrank.spectrum(gaussian(64, 128)))
    assert (few.level, few.confidence) == ("unclear", "low")
    every = fullrank.spectrum(gaussian(64, 128)).auc
    judged = "only the 63 directions that 64 features can span are judged"
    assert f"{judged}: the AUC of all 128, {every:.3f}, counts the others as dead" in few.text
    steep = judge(fullrank.spectrum(gaussian(64, 128) @ torch.diag(10.0 ** -torch.arange(128).double())))
    assert steep.level != "unclear"  # what so few images show to be dead is dead
    assert "200 images are few: measure 5 times D" in judge(fullrank.spectrum(gaussian(200, 128))).text


@pytest.mark.parametrize(
    ("percent", "level"),
    [(1, "healthy"), (5, "partial"), (10, "partial"), (20, "partial"), (50, "partial"), (100, "partial")],
)
def test_published_spectra(percent, level, published_spectra):
    verdict = judge(Spectrum(torch.tensor(published_spectra[percent])))
    assert verdict.level == level
    # 5 % has the best k-NN of the sweep: partial for its 69 dead directions, and said to be borderline.
    assert ("borderline" in verdict.text) == (percent == 5)
    assert ("few directions" in verdict.text) == (percent >= 10)


def test_what_the_encoder_started_with_is_said(published_spectra):
    start, after = (Spectrum(torch.tensor(published_spectra[share])) for share in (10, 20))
    assert "no more so than with random weights" in judge(start, init=start).text
    assert "it had AUC 0.845 and 87 of 512 dead before training" in judge(after, init=start).text
    assert "training" not in judge(after, init=Spectrum(torch.ones(3))).text


def test_scale_does_not_matter(published_spectra):
    spectrum = Spectrum(torch.tensor(published_spectra[50]))
    assert judge(Spectrum(spectrum.singular_values * 1e-6)) == judge(spectrum)


@pytest.mark.parametrize(("n", "d"), [(2048, 256), (1280, 256), (300, 256), (128, 256), (1000, 64)])
def test_isotropic_auc_is_what_gaussian_features_show(n, d):
    values = torch.linalg.svdvals(gaussian(n, d))
    assert isotropic_auc(n, d) == pytest.approx(Spectrum(values).auc, abs=1e-3)


@pytest.mark.parametrize("ratio", [1.5, 3, 8])
@pytest.mark.parametrize("decay", ["k^-0.5", "k^-1", "half dead", "one large", "exponential"])
def test_a_finite_sample_raises_auc_by_no_more_than_it_does_for_equal_directions(decay, ratio):
    d = 128
    k = torch.arange(1, d + 1, dtype=torch.float64)
    spread = {
        "k^-0.5": k**-0.5,
        "k^-1": 1 / k,
        "half dead": torch.where(k <= d // 2, 1.0, 1e-4),
        "one large": torch.where(k <= 1, 10.0, 1.0),
        "exponential": 10 ** (-4 * k / d),
    }[decay]
    n = int(ratio * d)
    excess = fullrank.spectrum(gaussian(n, d) * spread).auc - Spectrum(spread).auc
    assert -0.005 < excess < isotropic_auc(n, d) - (d + 1) / (2 * d) + 0.005


def test_small_directions_that_few_features_make_look_dead_are_not_sure_to_be():
    spread = torch.cat(
        [torch.logspace(0, -1, 115, dtype=torch.float64), torch.full((13,), 1.5e-3, dtype=torch.float64)]
    )
    few, many = (judge(fullrank.spectrum(gaussian(n, 128) * spread)) for n in (141, 12_800))
    assert (few.level, few.confidence, many.level) == ("partial", "low", "healthy")
    assert few.headline == "Perhaps partial dimensional collapse"
    assert "make small directions look dead" in few.certainty
    spread[115:] = 1e-5
    assert judge(fullrank.spectrum(gaussian(141, 128) * spread)).confidence == "medium"  # dead whatever their number


def test_confidence_follows_n_against_d():
    spread = torch.arange(1, 65, dtype=torch.float64) ** -1.8
    few, some, many = (judge(fullrank.spectrum(gaussian(n, 64) * spread)) for n in (40, 200, 6400))
    assert (few.confidence, many.confidence) == ("low", "high")
    assert "cannot span" in few.certainty
    assert "6400 images for 64 directions" in many.certainty
    assert some.confidence == "medium"
    assert "200 images are few for 64 directions" in some.certainty
    # equal directions, so few images that the sample alone makes it look concentrated: not to be believed
    curved = judge(fullrank.spectrum(gaussian(80, 64) * torch.arange(1, 65) ** -0.9))
    assert (curved.level, curved.confidence) == ("partial", "low")
    assert "without that it would be healthy" in curved.certainty
    assert judge(Spectrum(torch.ones(8))).certainty == "how many images the spectrum is of is not known"


@pytest.mark.parametrize("percent", [10, 20, 50, 100])
def test_each_published_spectrum_is_told_by_its_own_numbers(percent, published_spectra):
    made = Spectrum(torch.tensor(published_spectra[percent]))
    verdict = judge(made)
    assert f"AUC {made.auc:.3f}" in verdict.text
    assert f"[Li22]'s ResNet-18 on {percent} % of ImageNet" in verdict.text
    assert "untrained" not in verdict.text
    assert any("hybrid" in remedy.text and "2209.15007" in remedy.source for remedy in verdict.remedies)


def test_random_weights_are_recognised_told_or_not():
    """An untrained ResNet's spectrum is concentrated as a collapsed one's is, in fewer directions yet."""
    torch.manual_seed(3)
    model = backbone("resnet18_w16", image_size=16).eval()
    pixels, _ = load_for_eval(open_images("digits"), torch.arange(640), 16)
    with torch.no_grad():
        spectrum = fullrank.spectrum(model(views.normalize(views.as_float(pixels))))
    guessed = judge(spectrum)
    assert guessed.level == "partial"
    assert "is seen in untrained ResNets too" in guessed.text
    known = judge(spectrum, untrained=True)
    assert known.level == "untrained"
    assert "its weights are random" in known.text
    assert known.remedies == ()
    assert "no more so than with random weights" in judge(spectrum, init=spectrum).text


def test_layer_is_named():
    assert judge(Spectrum(torch.ones(8), {"layer": "backbone"})).layer == "backbone"
    assert "this is a projector's" in judge(Spectrum(torch.ones(8), {"layer": "projector"})).text
    assert "projector" not in judge(Spectrum(torch.ones(8))).text


def test_all_but_one_dead_is_collapsed():
    values = torch.full((64,), 9.9e-4)
    values[0] = 1.0
    assert judge(Spectrum(values)).level == "collapsed"


@pytest.mark.parametrize(("dead", "level"), [(25, "healthy"), (26, "partial")])
def test_confidence_near_the_edge_of_dead(dead, level):
    """At 5 % of 512, directions a little above or below the threshold decide: that is no certainty."""
    values = torch.ones(512)
    values[:dead] = 9.9e-4
    values[dead : dead + 5] = 1.1e-3
    near = judge(Spectrum(values, {"n": 51_200}))
    assert (near.level, near.confidence) == (level, "medium")
    assert "within a factor of two" in near.certainty
    values[:dead] = 1e-5
    values[dead : dead + 5] = 0.5
    assert judge(Spectrum(values, {"n": 51_200})).confidence == "high"


def test_one_direction_is_not_judged():
    verdict = judge(fullrank.spectrum(gaussian(100, 1)))
    assert (verdict.level, verdict.confidence, verdict.headline) == ("unclear", "low", "Too few images to tell")


def test_what_is_no_centered_spectrum_is_refused():
    with pytest.raises(FullrankError, match="judge takes a Spectrum, got Tensor"):
        judge(torch.ones(3))
    with pytest.raises(FullrankError, match="made with center=False: give it as `uncentered`"):
        judge(fullrank.spectrum(gaussian(100, 4), center=False))


@pytest.mark.parametrize(("offset", "level"), [(0, "healthy"), (30, "healthy"), (300, "collapsed"), (3e6, "collapsed")])
def test_variation_beside_the_mean(offset, level):
    """Isotropic noise around a point: seen from the origin, ever more of a single direction."""
    x = gaussian(6400, 64) + offset
    verdict = judge(fullrank.spectrum(x), uncentered=fullrank.spectrum(x, center=False))
    assert verdict.level == level
    assert verdict.confidence == ("medium" if offset == 300 else "high")
    assert ("nearly constant" in verdict.text) == (offset == 300)
    assert ("in a narrow cone" in verdict.text) == (offset == 30)


def test_embeddings_in_one_point():
    """SimSiam without stop-gradient: the loss is -1, and representations may look as they did before training."""
    spectrum = fullrank.spectrum(gaussian(6400, 64))
    assert judge(spectrum, embedding_spread=0.95).level == "healthy"
    verdict = judge(spectrum, embedding_spread=0.02)
    assert (verdict.level, verdict.confidence, verdict.layer) == ("collapsed", "high", "projector")
    assert verdict.text.startswith("Collapsed: embeddings lie near one point: their standard deviation is 0.02 of 1/sq")
    assert "the backbone's output by itself: AUC 0.5" in verdict.text
    assert "without gradient" in verdict.remedies[0].text
    assert judge(spectrum, embedding_spread=0.02, untrained=True).level == "untrained"


@pytest.mark.parametrize(("alive", "level"), [(4, "collapsed"), (12, "partial"), (40, "partial")])
def test_hardly_a_direction_left(alive, level):
    """Equal directions, and the others dead: 4 of 128 have an AUC of .988, 12 one of .957."""
    values = torch.zeros(128, dtype=torch.float64)
    values[:alive] = 1
    verdict = judge(Spectrum(values))
    assert verdict.level == level
    assert f"{128 - alive} of 128 directions are dead" in verdict.text
