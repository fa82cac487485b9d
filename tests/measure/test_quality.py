"""Each score against its formula written naively, closed forms, and wrong variants seen in public code."""

import math
import sys

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import cdist, pdist
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from fullrank import FullrankError, Spectrum, spectrum
from fullrank.measure import checks
from fullrank.measure.quality import (
    alignment,
    alpha_req,
    auc,
    clid,
    cluster_learnability,
    coherence,
    feature_std,
    idest,
    lidar,
    manifold,
    nesum,
    pseudo_condition_number,
    rankme,
    rankme_centered,
    self_cluster,
    stable_rank,
    two_nn,
    uniformity,
)
from fullrank.measure.scores import SCORES as ALL

SCORES = {name: kind for name, kind in ALL.items() if kind.function is not None}


def gaussian(n=300, d=16, seed=0, decay=0.5, mean=0.0):
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x * torch.arange(1, d + 1, dtype=torch.float64) ** -decay + mean


def rotation(d, seed=1):
    return torch.linalg.qr(torch.randn(d, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q


def several_views(n=40, q=5, d=6, seed=0, noise=0.3):
    random = torch.Generator().manual_seed(seed)
    image = torch.randn(n, 1, d, generator=random, dtype=torch.float64) * torch.linspace(1, 3, d)
    return image + noise * torch.randn(n, q, d, generator=random, dtype=torch.float64) + 0.5


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few rows, so that the seams between blocks are walked over."""
    monkeypatch.setattr(checks, "BLOCK_ENTRIES", 100)
    for module in ("spread", "manifold"):
        monkeypatch.setattr(f"fullrank.measure.quality.{module}.BLOCK_ENTRIES", 700)


# --- scores of the spectrum ---


def test_spectral_scores_from_features_and_from_a_spectrum():
    x = gaussian(mean=0.7)
    centered = np.linalg.svd((x - x.mean(0)).numpy(), compute_uv=False)
    raw = np.linalg.svd(x.numpy(), compute_uv=False)

    def entropy(s):
        return np.exp(-(s / s.sum() * np.log(s / s.sum())).sum())

    covariance = np.linalg.eigvalsh(np.cov(x.numpy().T))
    expected = {
        "auc": np.mean(np.cumsum(centered) / centered.sum()),
        "rankme": entropy(raw),
        "rankme_centered": entropy(centered),
        "participation_ratio": np.trace(np.cov(x.numpy().T)) ** 2 / (covariance**2).sum(),
        "stable_rank": (x**2).sum().item() / raw[0] ** 2,
        "nesum": (covariance / covariance[-1]).sum(),
        "pseudo_condition_number": raw[-1] / raw[0],
    }
    spectra = {"centered": spectrum(x), "uncentered": spectrum(x, center=False)}
    for name, value in expected.items():
        score = SCORES[name]
        assert score.function(x) == pytest.approx(value, rel=1e-10), name
        assert score.function(x.numpy()) == pytest.approx(value, rel=1e-10), name
        assert score.function(spectra[score.spectrum]) == pytest.approx(value, rel=1e-10), name
        # Bare values have no protocol to contradict.
        assert score.function(Spectrum(spectra[score.spectrum].singular_values)) == pytest.approx(value, rel=1e-10)
        other = spectra["uncentered" if score.spectrum == "centered" else "centered"]
        with pytest.raises(FullrankError, match=r"make one with fullrank\.spectrum\(features, center="):
            score.function(other)


def test_spectral_scores_do_not_mix_up_their_centering():
    x = gaussian(mean=3.0)
    assert rankme(x) < 0.7 * rankme_centered(x)
    assert rankme_centered(x) == spectrum(x).rankme
    assert stable_rank(x) < 1.1 < 2 < nesum(x)
    assert nesum(x) == spectrum(x).stable_rank
    apart = x - x.mean(dim=0)
    assert auc(x) == pytest.approx(auc(apart), rel=1e-9) != pytest.approx(spectrum(x, center=False).auc, rel=1e-3)
    assert pseudo_condition_number(x) != pytest.approx(pseudo_condition_number(apart), rel=1e-3)


def test_rankme_is_of_singular_values_not_of_variances():
    x = gaussian()
    s = torch.linalg.svdvals(x)
    ratio = s**2 / (s**2).sum()  # the explained-variance ratio that one port takes
    assert rankme(x) > 1.2 * float((-(ratio * ratio.log()).sum()).exp())


def test_rankme_eps_as_published_and_beyond_d():
    s = torch.linalg.svdvals(gaussian())
    p = s / s.sum() + 1e-7
    assert rankme(gaussian(), eps=1e-7) == pytest.approx(float((-(p * p.log()).sum()).exp()), rel=1e-12)
    assert rankme(gaussian(), eps=1e-7) != rankme(gaussian())
    flat = Spectrum(torch.ones(512))
    assert rankme(flat) == pytest.approx(512, rel=1e-12)
    assert rankme(flat, eps=1e-5) > 512 * 1.01  # outside the normalization, the published form passes D
    # Fewer images than dimensions: eps belongs to the N values that exist, not to the padding.
    few = gaussian(8, 16)
    p = torch.linalg.svdvals(few) / torch.linalg.svdvals(few).sum() + 1e-3
    assert rankme(few, eps=1e-3) == pytest.approx(float((-(p * p.log()).sum()).exp()), rel=1e-12)
    with pytest.raises(FullrankError, match="eps must not be negative, got -1"):
        rankme(few, eps=-1)


def test_alpha_is_a_power_law_in_log_k_not_in_k():
    s = torch.arange(1, 257, dtype=torch.float64) ** -0.6
    assert alpha_req(Spectrum(s)) == pytest.approx(1.2, rel=1e-10)
    linear_index = np.polyfit(np.linspace(1, 0, 256), s.log().numpy(), 1)[0]  # one public implementation
    assert abs(linear_index - 1.2) > 0.3
    k = np.arange(10, 101)
    x = gaussian(500, 128, decay=0.4)
    l = np.linalg.eigvalsh(np.cov(x.numpy().T))[::-1][9:100]  # noqa: E741
    assert alpha_req(x) == pytest.approx(-np.polyfit(np.log(k), np.log(l), 1, w=k**-0.5)[0], rel=1e-9)


def test_published_spectra_order(published_spectra):
    made = {percent: Spectrum(torch.tensor(values)) for percent, values in published_spectra.items()}
    assert sorted(made, key=lambda p: auc(made[p])) == sorted(made, key=lambda p: -rankme_centered(made[p]))
    assert max(made, key=lambda p: auc(made[p])) == 20
    assert min(made, key=lambda p: nesum(made[p])) == 100  # the top of the spectrum tells another story
    assert all(pseudo_condition_number(found) < 1e-5 for found in made.values())  # rounding, in all six


# --- spread ---


@pytest.mark.parametrize("normalize", [True, False])
def test_feature_std(normalize, small_blocks):
    x = gaussian(mean=0.3)
    y = x / x.norm(dim=1, keepdim=True) if normalize else x
    assert feature_std(x, normalize=normalize) == pytest.approx(float(y.std(dim=0, correction=0).mean()), rel=1e-12)


def test_feature_std_keeps_digits_beside_a_large_mean_and_reaches_its_bound():
    x = gaussian()
    assert feature_std(x + 1e7, normalize=False) == pytest.approx(feature_std(x, normalize=False), rel=1e-8)
    cross = torch.cat([torch.eye(8), -torch.eye(8)])
    assert feature_std(cross) == pytest.approx(8**-0.5, rel=1e-12)
    assert feature_std(torch.ones(9, 4)) == 0.0
    assert feature_std(torch.full((53, 4), 1e9 / 3, dtype=torch.float64), normalize=False) == 0.0


def test_feature_std_is_blind_to_dimensional_collapse():
    flat = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    collapsed = flat[:, :2] @ rotation(8)[:2] * 1.0
    assert feature_std(collapsed @ rotation(8, 3)) > 0.75 * feature_std(flat)
    assert rankme(collapsed) < 2.1


@pytest.mark.parametrize("shape", [(300, 16), (12, 16), (16, 16)])
def test_self_cluster(shape, small_blocks):
    x = gaussian(*shape, mean=0.2)
    n, d = shape
    u = x / x.norm(dim=1, keepdim=True)
    q = float(((u @ u.T) ** 2).sum())
    expected = n + n * (n - 1) / d
    assert self_cluster(x) == pytest.approx((q - expected) / (n**2 - expected), rel=1e-10)
    row_scale = torch.rand(n, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.1
    assert self_cluster(x @ rotation(d) * row_scale) == pytest.approx(self_cluster(x), rel=1e-9)


def test_self_cluster_is_affine_in_the_sample_contrastive_criterion():
    n, d = 50, 8
    pairs = []
    for seed in range(4):
        u = gaussian(n, d, seed, decay=seed / 2)
        u = u / u.norm(dim=1, keepdim=True)
        gram = u @ u.T
        l_c = float(((gram - gram.diag().diag()) ** 2).sum())  # Garrido et al. 2022, columns of K are the u
        pairs.append((l_c, self_cluster(u)))
    slope = 1 / (n * (n - 1) * (1 - 1 / d))
    for l_c, score in pairs:
        assert score == pytest.approx(slope * l_c - 1 / (d - 1), rel=1e-9, abs=1e-12)
    assert len({round(score, 6) for _, score in pairs}) == 4


def test_self_cluster_range():
    assert self_cluster(torch.ones(9, 4)) == pytest.approx(1.0)
    assert self_cluster(torch.eye(6)) == pytest.approx(-1 / 5)
    assert self_cluster(torch.eye(4).repeat(5, 1)) == pytest.approx(-1 / 19)
    assert self_cluster(torch.eye(9)[:3]) == pytest.approx(-1 / 8)
    random = torch.randn(4000, 32, generator=torch.Generator().manual_seed(0))
    assert self_cluster(random) == pytest.approx(0, abs=2e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_coherence(dtype, small_blocks):
    x = (gaussian(mean=0.5) + 0).to(dtype)
    u = np.linalg.svd(x.double().numpy(), full_matrices=False)[0]
    assert coherence(x) == pytest.approx(300 / 16 * (u**2).sum(axis=1).max(), rel=1e-9)
    mixed = x.double() @ rotation(16) * torch.linspace(1, 9, 16)
    assert coherence(mixed) == pytest.approx(coherence(x.double()), rel=1e-8)  # leverage sees the column space only


def test_coherence_counts_live_directions_only():
    live = gaussian(200, 4)
    dead = torch.cat([live, live @ torch.ones(4, 3, dtype=torch.float64)], dim=1)
    assert coherence(dead) == pytest.approx(coherence(live), rel=1e-9)
    assert coherence(dead.float()) == pytest.approx(coherence(live), rel=1e-4)
    u = np.linalg.svd(dead.numpy(), full_matrices=False)[0]
    published = 200 / 7 * (u**2).sum(axis=1).max()  # counts arbitrary vectors of the three dead directions
    assert published != pytest.approx(coherence(dead), rel=1e-2)


def test_coherence_of_ill_conditioned_features_is_not_squared():
    left = torch.linalg.qr(gaussian(100, 5, decay=0)).Q
    x = left * torch.tensor([1, 1e-3, 1e-6, 1e-9, 1e-11], dtype=torch.float64)
    assert coherence(x) == pytest.approx(20 * float((left**2).sum(dim=1).max()), rel=1e-3)


def test_coherence_range():
    outlier = torch.zeros(10, 2)
    outlier[:9, 0] = 1
    outlier[9, 1] = 1
    assert coherence(outlier) == pytest.approx(5)  # N/D: the last image owns a direction
    assert coherence(gaussian(5, 16)) == pytest.approx(1)
    assert coherence(torch.tensor([[1, 0], [0, 1], [1, 0], [0, 1]])) == pytest.approx(1)


@pytest.mark.parametrize("t", [2.0, 0.5])
def test_uniformity(t, small_blocks):
    x = gaussian(mean=0.2)
    u = (x / x.norm(dim=1, keepdim=True)).numpy()
    kernel = np.exp(-t * pdist(u, "sqeuclidean"))
    assert uniformity(x, t=t) == pytest.approx(np.log(kernel.mean()), rel=1e-10)
    with_self = np.log(np.exp(-t * cdist(u, u, "sqeuclidean")).mean())
    assert with_self > uniformity(x, t=t) + 0.001
    assert uniformity(3 * x @ rotation(16), t=t) == pytest.approx(uniformity(x, t=t), rel=1e-9)


def test_uniformity_range():
    n = 6
    simplex = torch.eye(n) - 1 / n
    assert uniformity(simplex) == pytest.approx(-4 * n / (n - 1), rel=1e-6)
    assert uniformity(torch.ones(7, 3)) == pytest.approx(0, abs=1e-12)
    assert uniformity(simplex, t=400) == pytest.approx(-800 * n / (n - 1), rel=1e-6)  # exp(-960) is no float64


# --- views ---


def test_alignment():
    z = several_views()
    u = z / z.norm(dim=2, keepdim=True)
    pairs = [((u[:, a] - u[:, b]) ** 2).sum(dim=1).mean() for a in range(5) for b in range(a)]
    assert alignment(z) == pytest.approx(float(sum(pairs) / 10), rel=1e-12)
    assert alignment(list(z.unbind(1))) == alignment(z) == alignment(z.numpy())
    assert alignment(z.flip(1)) == pytest.approx(alignment(z), rel=1e-12)
    assert alignment([z[:, 0], 2 * z[:, 0]]) == pytest.approx(0, abs=1e-30)
    assert alignment([z[:, 0], -z[:, 0]]) == pytest.approx(4, rel=1e-12)


def naive_lidar(z, delta):
    """The definition, with loops over images and views, and a matrix square root."""
    n, q, d = z.shape
    mean = z.mean(axis=1)
    s_b = sum(np.outer(m - mean.mean(0), m - mean.mean(0)) for m in mean) / (n - 1)
    s_w = sum(np.outer(z[i, a] - mean[i], z[i, a] - mean[i]) for i in range(n) for a in range(q)) / (n * (q - 1))
    l, v = np.linalg.eigh(s_w + delta * np.eye(d))  # noqa: E741
    root = v @ np.diag(l**-0.5) @ v.T
    return root @ s_b @ root


def entropy_rank(l):  # noqa: E741
    p = l[l > 1e-12 * l.max()] / l[l > 1e-12 * l.max()].sum()
    return np.exp(-(p * np.log(p)).sum())


@pytest.mark.parametrize("shape", [(40, 5, 6), (5, 9, 12)])
@pytest.mark.parametrize("delta", [1e-4, 0.3])
def test_lidar(shape, delta):
    z = several_views(*shape)
    matrix = naive_lidar(z.numpy(), delta)
    assert lidar(z, delta=delta) == pytest.approx(entropy_rank(np.linalg.eigvalsh(matrix)), rel=1e-8)
    # A port that runs PCA on the matrix centres it and squares its spectrum.
    through_pca = entropy_rank(np.linalg.eigvalsh(np.cov(matrix.T)))
    assert abs(through_pca - lidar(z, delta=delta)) > 0.05 * through_pca


def test_lidar_delta_and_invariances():
    z = several_views()
    mix = torch.linspace(1, 4, 6).double() * rotation(6)
    assert lidar(z @ mix, delta=0) == pytest.approx(lidar(z, delta=0), rel=1e-8)
    assert lidar(z @ rotation(6)) == pytest.approx(lidar(z), rel=1e-9)
    assert lidar(z + 100.0) == pytest.approx(lidar(z), rel=1e-9)
    assert lidar(z * 1e-3) != pytest.approx(lidar(z), rel=1e-2)  # delta is absolute
    still = several_views(noise=0)  # views that do not move: S_w is delta I alone, and LiDAR a rank of the means
    assert lidar(still) == pytest.approx(entropy_rank(np.linalg.eigvalsh(np.cov(still[:, 0].numpy().T))), rel=1e-9)
    assert lidar(torch.ones(7, 3, 4)) == 0.0
    assert lidar(z[:1].repeat(7, 1, 1)) == lidar(z[:1, :1].repeat(7, 3, 1)) == 0.0  # whatever their mean is rounded to
    with pytest.raises(FullrankError, match=r"cannot be inverted with delta=0: .*raise delta"):
        lidar(several_views(2, 2, 6), delta=0)
    with pytest.raises(FullrankError, match="delta must not be negative"):
        lidar(z, delta=-1.0)


def test_lidar_ignores_directions_that_augmentation_moves():
    z = several_views(n=400, q=10, d=6, noise=0.1)
    noise = 5 * torch.randn(400, 10, 20, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    both = torch.cat([z, noise], dim=2)
    assert lidar(both) < 6.5
    assert rankme_centered(both[:, 0]) > 15


# --- manifold ---


def naive_two_nn(x, discard=0.1, first=1):
    distance = NearestNeighbors(n_neighbors=3, algorithm="kd_tree").fit(x).kneighbors(x)[0]
    mu = np.sort(distance[:, 2] / distance[:, 1])
    n = len(x)
    kept = int(n * (1 - discard))
    f = np.arange(first, kept + first) / n
    a = np.log(mu[:kept])
    return float((a * -np.log(1 - f)).sum() / (a * a).sum())


@pytest.mark.parametrize("discard", [0.1, 0.4])
def test_two_nn(discard, small_blocks):
    x = gaussian(400, 5)
    assert two_nn(x, discard=discard) == pytest.approx(naive_two_nn(x.numpy(), discard), rel=1e-10)
    assert naive_two_nn(x.numpy(), discard, first=0) < two_nn(x, discard=discard)  # the shifted F of a port
    assert two_nn(7 * x @ rotation(5) + 3e4, discard=discard) == pytest.approx(two_nn(x, discard=discard), rel=1e-5)


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_two_nn_of_flat_and_curved_sets(dimension):
    random = torch.Generator().manual_seed(0)
    flat = torch.rand(3000, dimension, generator=random, dtype=torch.float64)
    curved = torch.cat([flat, flat**2, flat.sin()], dim=1)
    assert two_nn(flat) == pytest.approx(dimension, rel=0.1)
    assert two_nn(curved) == pytest.approx(dimension, rel=0.1)


def test_two_nn_with_duplicates():
    x = gaussian(500, 4)
    doubled = torch.cat([x, x[:100], x[:50]])
    assert two_nn(doubled) == pytest.approx(two_nn(x), rel=1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        assert naive_two_nn(doubled.numpy()) != pytest.approx(two_nn(x), rel=0.05)  # r_1 = 0
    zero = torch.cat([x, torch.zeros(1, 4), -torch.zeros(1, 4)])
    assert two_nn(zero) == pytest.approx(two_nn(zero[:-1]), rel=1e-12)


def test_two_nn_finds_neighbors_closer_than_the_gram_matrix_can_tell():
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.cat([x * 1e-9, x * 1e-9 + 1.0])  # two clumps: squared distances of 1e-18 beside squared norms of 1
    assert two_nn(x) == pytest.approx(two_nn(x[:200] * 1e9), rel=0.25)


def test_two_nn_of_equidistant_rows_is_unbounded():
    assert two_nn(torch.eye(32)) > 1e6


def naive_idest(x, sizes, seed, repeats):
    random = np.random.default_rng(seed)
    counts = np.unique(np.geomspace(len(x) / 10, len(x), sizes).round().astype(int))
    logs = []
    for count in counts:
        draws = [random.permutation(len(x))[:count] for _ in range(repeats if count < len(x) else 1)]
        logs.append(np.mean([np.log(minimum_spanning_tree(cdist(x[r], x[r])).sum()) for r in draws]))
    a = np.log(counts) - np.log(counts).mean()
    slope = (a * logs).sum() / (a * a).sum()
    return 1 / (1 - slope)


def test_idest():
    x = gaussian(300, 4)
    assert idest(x, sizes=5, repeats=2, seed=3) == pytest.approx(naive_idest(x.numpy(), 5, 3, 2), rel=1e-8)
    assert idest(5 * x @ rotation(4) + 9, seed=3) == pytest.approx(idest(x, seed=3), rel=1e-6)
    assert idest(x, seed=3) == idest(x, seed=3) != idest(x, seed=4)


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_idest_of_flat_sets(dimension):
    flat = torch.rand(1500, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert idest(flat @ rotation(8)[:dimension]) == pytest.approx(dimension, rel=0.15)


def test_tree_length_against_scipy_and_with_duplicates():
    x = gaussian(60, 3).numpy()
    distance = cdist(x, x)
    assert manifold._tree_length(distance) == pytest.approx(minimum_spanning_tree(distance).sum(), rel=1e-12)
    doubled = cdist(np.repeat(x, 2, axis=0), np.repeat(x, 2, axis=0))
    assert manifold._tree_length(doubled) == pytest.approx(manifold._tree_length(distance), rel=1e-12)
    assert minimum_spanning_tree(doubled).sum() > 1.2 * manifold._tree_length(distance)  # 0 is "no edge" to SciPy


def test_idest_drops_duplicates():
    x = gaussian(200, 4)
    assert idest(torch.cat([x, x[:80]]), seed=1) == pytest.approx(idest(x, seed=1), rel=1e-9)


def test_cluster_learnability_against_scikit_learn(small_blocks):
    from sklearn.cluster import KMeans

    x = gaussian(400, 8, mean=0.2)
    u = (x / x.norm(dim=1, keepdim=True)).numpy()
    label = KMeans(20, n_init=1, random_state=5).fit_predict(u)
    order = np.random.default_rng(5).permutation(400)
    bank, query = order[:200], order[200:]
    model = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(u[bank], label[bank])
    assert cluster_learnability(x, seed=5) == pytest.approx(model.score(u[query], label[query]), abs=1e-12)
    assert cluster_learnability(x, seed=5) == cluster_learnability(x * 3, seed=5)


def test_cluster_learnability_of_clumps_and_of_noise():
    clumps = torch.eye(8).repeat(25, 1) + 0.01 * gaussian(200, 8)
    assert cluster_learnability(clumps, clusters=8, seed=1) == 1.0
    assert cluster_learnability(gaussian(200, 64, decay=0)) < 0.5


def test_clid_standardises_over_the_pool():
    cl, dimension = [0.6, 0.65, 0.9], [12.0, 19.0, 9.0]
    z = sum((np.array(v) - np.mean(v)) / np.std(v) for v in (cl, dimension))
    assert clid(cl, dimension) == pytest.approx(z.tolist(), rel=1e-12)
    assert sum(clid(cl, dimension)) == pytest.approx(0, abs=1e-12)
    assert clid([100 * v - 3 for v in cl], dimension) == pytest.approx(clid(cl, dimension), rel=1e-9)
    longer = clid([*cl, 0.1], [*dimension, 50.0])
    assert longer[:3] != pytest.approx(clid(cl, dimension), rel=0.05)  # relative to the pool
    assert clid([0.3, 0.3, 0.3], dimension) == pytest.approx((dimension - np.mean(dimension)) / np.std(dimension))
    by_width = np.array(cl) + np.array(dimension) / 64  # one port divides by D instead
    assert list(np.argsort(by_width)) != list(np.argsort(clid(cl, dimension)))


@pytest.mark.parametrize(
    ("cl", "dimension", "message"),
    [
        ([0.5], [1.0], "at least two, got 1 and 1"),
        ([0.5, 0.6], [1.0], "got 2 and 1 values"),
        ([0.5, 0.6], [1.0, math.inf], "finite values"),
    ],
)
def test_clid_errors(cl, dimension, message):
    with pytest.raises(FullrankError, match=message):
        clid(cl, dimension)


# --- all ---

FEATURE_SCORES = [name for name, score in SCORES.items() if score.needs == "features"]
SAMPLED = {uniformity: 50, two_nn: 50, idest: 150, cluster_learnability: 50}


def example(name):
    return several_views() if SCORES[name].needs == "views" else gaussian(200, 12, mean=0.1)


@pytest.mark.parametrize("name", SCORES)
def test_registry(name):
    score = SCORES[name]
    assert score.name == name
    assert score.direction in ("lower", "higher", "none")
    assert score.needs in ("features", "views")
    assert score.source.count("https://") == 1
    assert score.source.split()[-1] in score.function.__doc__  # the function cites it too
    module = sys.modules[score.function.__module__]
    assert "Raises:" in f"{score.function.__doc__}{module.__doc__}"  # what all of a module raise, it says once
    assert "Range" in score.function.__doc__
    value = score.function(example(name))
    assert type(value) is float
    assert math.isfinite(value)


FOOLED = ("feature_std", "cluster_learnability", "idest", "coherence")
"""Scores that do not see directions die."""
JUDGING = [n for n, s in SCORES.items() if s.needs == "features" and s.direction != "none" and n not in FOOLED]


@pytest.mark.parametrize("name", JUDGING)
def test_a_score_is_worse_when_directions_die(name):
    healthy = gaussian(1500, 16, decay=0, seed=2)
    collapsed = healthy.clone()
    collapsed[:, 2:] *= 1e-3
    before, after = map(SCORES[name].function, (healthy, collapsed))
    assert {"higher": after < before, "lower": after > before}[SCORES[name].direction]


@pytest.mark.parametrize("name", SCORES)
def test_dtypes_and_numpy_agree_with_float64(name):
    score = SCORES[name]
    single = example(name).float()
    want = score.function(single.double())
    assert score.function(single) == pytest.approx(want, rel=1e-9, nan_ok=True)
    assert score.function(single.numpy()) == pytest.approx(want, rel=1e-9, nan_ok=True)
    half = example(name).to(torch.bfloat16)
    assert score.function(half) == pytest.approx(score.function(half.double()), rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("function", SAMPLED)
def test_sampling_is_seeded_and_bounded(function):
    x, size = gaussian(400, 6, mean=0.2), SAMPLED[function]
    first = function(x, max_samples=size, seed=0)
    assert first == function(x, max_samples=size, seed=0)
    assert first != function(x, max_samples=size, seed=1)
    kept = np.sort(np.random.default_rng(0).permutation(400)[:size])
    assert first == pytest.approx(function(x[torch.from_numpy(kept)], max_samples=size, seed=0), rel=1e-12)
    if function is not idest:
        assert function(x, max_samples=None) == pytest.approx(function(x, max_samples=400), rel=1e-12)


@pytest.mark.parametrize("name", SCORES)
def test_nan_names_the_row(name):
    x = example(name).clone()
    x.view(-1, x.shape[-1])[4, 0] = float("nan")
    with pytest.raises(FullrankError, match="NaN or infinity in 1 of 200 rows, first in row 4"):
        SCORES[name].function(x)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(0, 4), torch.zeros(2, 3, 4, 5), "x", None])
def test_what_is_no_features_is_refused(name, bad):
    with pytest.raises(FullrankError, match=r"must be|empty|needs"):
        SCORES[name].function(bad)


@pytest.mark.parametrize("name", ["feature_std", "self_cluster", "uniformity", "alignment", "cluster_learnability"])
def test_zero_rows_have_no_direction(name):
    x = example(name).clone()
    x.view(-1, x.shape[-1])[[3, 9]] = 0
    with pytest.raises(FullrankError, match=r"all zero in 2 of 200 rows, first in row 3: .*drop these rows"):
        SCORES[name].function(x)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: feature_std(torch.ones(1, 4)), "feature_std needs at least 2 rows, got 1"),
        (lambda: self_cluster(torch.ones(5, 1)), "two columns, got one"),
        (lambda: coherence(torch.zeros(5, 3)), "all zero"),
        (lambda: uniformity(torch.ones(5, 3), t=0), "t must be positive, got 0"),
        (lambda: uniformity(torch.ones(5, 3), max_samples=1), "two rows"),
        (lambda: uniformity(torch.ones(5, 3), max_samples=0), "max_samples must be at least 1"),
        (lambda: two_nn(torch.ones(50, 3)), "10 distinct rows, got 1 among 50: .*collapsed encoder"),
        (lambda: two_nn(torch.ones(5, 3)), "at least 10 rows, got 5"),
        (lambda: two_nn(gaussian(), discard=1.0), r"discard must be in \[0, 1\), got 1.0"),
        (lambda: two_nn(gaussian(12), discard=0.99), "leaves none of 12 rows"),
        (lambda: idest(torch.ones(200, 3)), "100 distinct rows, got 1"),
        (lambda: idest(gaussian(), sizes=1), "sizes=1"),
        (lambda: idest(gaussian(), max_samples=50), "100 distinct rows, got 50"),
        (
            lambda: cluster_learnability(torch.arange(1.0, 101)[:, None] * torch.ones(3)),
            "10 distinct rows, got 1",
        ),
        (
            lambda: cluster_learnability(gaussian(), clusters=1),
            "clusters must be between 2 and half of the 300",
        ),
        (
            lambda: cluster_learnability(gaussian(), clusters=151),
            "clusters must be between 2 and half of the 300",
        ),
        (lambda: alignment(gaussian()), r"\(N, q, D\).*a single matrix has no views"),
        (lambda: alignment([gaussian()]), "at least two views of one image"),
        (lambda: alignment([]), "at least two views"),
        (lambda: alignment([gaussian(5), gaussian(6)]), r"equal shape, .*got \[\(5, 16\), \(6, 16\)\]"),
        (lambda: lidar([torch.ones(3), torch.ones(3)]), r"matrices \(N, D\) of equal shape, .*got \[\(3,\)"),
        (lambda: lidar(torch.ones(1, 4, 3)), "at least two images, got one"),
        # delta is far below the rounding of such numbers, and the three differences do not span 16 dimensions
        (lambda: lidar([1e7 * gaussian(3, seed=1), 1e7 * gaussian(3, seed=2)]), "cannot be inverted with delta=0.0001"),
        (lambda: lidar([gaussian(), gaussian()], delta="a"), "delta must be a finite number, got 'a'"),
        (lambda: uniformity(gaussian(), t="2"), "t must be a finite number, got '2'"),
        (lambda: uniformity(gaussian(), seed="a"), "seed must be a whole number from 0"),
        (lambda: two_nn(gaussian(), discard="a"), "discard must be a finite number, got 'a'"),
        (lambda: idest(gaussian(), sizes=2.5), "sizes must be a whole number, got 2.5"),
        (lambda: cluster_learnability(gaussian(), clusters=2.5), "clusters must be a whole number, got 2.5"),
        (lambda: coherence(gaussian(), tol=1), r"tol must be in \[0, 1\), got 1"),
        (lambda: coherence(gaussian(), tol=float("nan")), "tol must be"),
        (lambda: rankme(gaussian(), eps=float("nan")), "eps must"),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(FullrankError, match=message):
        call()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_scores_without_a_scale_take_rows_whose_squares_are_no_numbers(scale):
    for name in ("feature_std", "self_cluster", "uniformity", "alignment", "two_nn", "idest"):
        assert SCORES[name].function(example(name) * scale) == pytest.approx(SCORES[name].function(example(name)))


def test_every_row_is_read_in_blocks(small_blocks):
    x = gaussian(333, 7, mean=0.4)
    blocks = list(checks.double_blocks(x.float()))
    assert len(blocks) > 20
    torch.testing.assert_close(torch.cat(blocks), x.float().double(), rtol=0, atol=0)


@pytest.mark.parametrize("score", [two_nn, idest])
@pytest.mark.parametrize("scale", [2.0**-700, 2.0**700])
def test_intrinsic_dimensions_are_of_no_scale(score, scale):
    x = np.random.default_rng(0).standard_normal((200, 5))
    assert score(x * scale) == score(x)
