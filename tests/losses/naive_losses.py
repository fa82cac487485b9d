"""Every loss as its formula reads: sums over indices, one number at a time. Autograd gives the gradients."""

from functools import partial

import torch

from fullrank import losses


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cos(a, b):
    return dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def columns(z):
    return [z[:, j] for j in range(z.shape[1])]


def simsiam(z1, z2, p1, p2):
    z1, z2 = z1.detach(), z2.detach()
    return -mean(cos(p1[n], z2[n]) + cos(p2[n], z1[n]) for n in range(len(z1))) / 2


def byol(z1, z2, p1, p2):
    z1, z2 = z1.detach(), z2.detach()
    total = 0
    for n in range(len(z1)):
        for p, z in ((p1[n], z2[n]), (p2[n], z1[n])):
            p, z = p / dot(p, p).sqrt(), z / dot(z, z).sqrt()
            total = total + dot(p - z, p - z)
    return total / len(z1)


def info_nce_cross(z1, z2, temperature=0.1):
    n = len(z1)
    total = 0
    for i in range(n):
        chances = [(cos(z1[i], z2[j]) / temperature).exp() for j in range(n)]
        total = total - (chances[i] / sum(chances)).log()
    return total / n


def mocov3(z1, z2, p1, p2, temperature=1.0):
    def cross(p, z):
        return info_nce_cross(p, z.detach(), temperature)

    return 2 * temperature * (cross(p1, z2) + cross(p2, z1))


def over_both_views(z1, z2, temperature=0.1, repel=lambda x: x, decoupled=False):
    n = len(z1)
    z = [*z1, *z2]
    total = 0
    for i in range(2 * n):
        other = (i + n) % (2 * n)
        attraction = (cos(z[i], z[other]) / temperature).exp()
        repulsion = sum((repel(cos(z[i], z[j])) / temperature).exp() for j in range(2 * n) if j not in (i, other))
        total = total - (attraction / (repulsion + (0 if decoupled else attraction))).log()
    return total / (2 * n)


def spectral_contrastive(z1, z2, mu=1.0):
    def clip(row):
        norm = dot(row, row).sqrt()
        return row if norm < mu**0.5 else row / norm * mu**0.5

    n = len(z1)
    z1, z2 = [clip(row) for row in z1], [clip(row) for row in z2]
    attraction = mean(dot(z1[i], z2[i]) for i in range(n))
    repulsion = mean(dot(z1[i], z2[j]) ** 2 for i in range(n) for j in range(n) if i != j)
    return (-2 * attraction + repulsion) / mu


def covariance(a, b):
    mean_a, mean_b = mean(a), mean(b)
    return sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / (len(a) - 1)


def hinge(variances, eps=1e-4):
    return mean((1 - (v + eps).sqrt()).clamp(min=0) for v in variances)


def squared_distance(z1, z2):
    n, m = z1.shape
    return mean((z1[i, j] - z2[i, j]) ** 2 for i in range(n) for j in range(m))


def vicreg(z1, z2, invariance=25.0, variance=25.0, covariance_weight=1.0, eps=1e-4):
    loss = invariance * squared_distance(z1, z2)
    for z in (columns(z1), columns(z2)):
        m = len(z)
        loss = loss + variance / 2 * hinge([covariance(a, a) for a in z], eps)
        loss = loss + covariance_weight / m * sum(
            covariance(z[j], z[k]) ** 2 for j in range(m) for k in range(m) if j != k
        )
    return loss


def exponential(c, temperature):
    """(1/d) sum_i log sum_{j != i} exp(C_ij / tau), c a function of i and j, and d."""
    entry, d = c
    return mean(sum((entry(i, j) / temperature).exp() for j in range(d) if j != i).log() for i in range(d))


def vicreg_exp(z1, z2, temperature=0.1, invariance=25.0, variance=25.0, covariance_weight=10.0):
    loss = invariance * squared_distance(z1, z2)
    for z in (columns(z1), columns(z2)):
        loss = loss + variance / 2 * hinge([covariance(a, a) for a in z])
        entry = (lambda j, k, z=z: covariance(z[j], z[k])), len(z)
        loss = loss + covariance_weight * exponential(entry, temperature)
    return loss


def vicreg_ctr(z1, z2, temperature=0.1, invariance=25.0, variance=25.0, covariance_weight=2.5):
    loss = invariance * squared_distance(z1, z2)
    n, m = z1.shape
    for z in (z1, z2):
        centre = mean(z)
        rows = [row - centre for row in z]
        loss = loss + variance / 2 * hinge([dot(row, row) / (m - 1) for row in rows])
        entry = (lambda i, j, rows=rows: dot(rows[i], rows[j]) / (m - 1)), n
        loss = loss + covariance_weight * exponential(entry, temperature)
    return loss


def vicreg_ctr_of_the_transpose(z1, z2, temperature=0.1):
    return vicreg_exp(z1.T, z2.T, temperature, covariance_weight=2.5)


def barlow_twins(z1, z2, lambd=0.0051, eps=1e-5):
    n, m = z1.shape

    def standardize(column):
        centre = mean(column)
        return (column - centre) / (mean((x - centre) ** 2 for x in column) + eps).sqrt()

    b1, b2 = [standardize(c) for c in columns(z1)], [standardize(c) for c in columns(z2)]
    loss = 0
    for j in range(m):
        for k in range(m):
            correlation = dot(b1[j], b2[k]) / n
            loss = loss + ((1 - correlation) ** 2 if j == k else lambd * correlation**2)
    return loss


def coding_rate(z, eps):
    n, m = z.shape
    u = [row / dot(row, row).sqrt() for row in z]
    scatter = sum(torch.outer(row, row) for row in u)
    return torch.linalg.eigvalsh(torch.eye(m, dtype=z.dtype) + m / (n * eps) * scatter).log().sum() / 2


def tcr(z1, z2, eps=0.2, invariance=200.0, toward="mean"):
    similarity = []
    for a, b in zip(z1, z2, strict=True):
        a, b = a / dot(a, a).sqrt(), b / dot(b, b).sqrt()
        middle = (a + b) / 2
        similarity.append((cos(a, middle) + cos(b, middle)) / 2 if toward == "mean" else dot(a, b))
    return -(coding_rate(z1, eps) + coding_rate(z2, eps)) / 2 - invariance * mean(similarity)


def sample_contrastive(z1, _):
    n = len(z1)
    return sum(dot(z1[i], z1[j]) ** 2 for i in range(n) for j in range(n) if i != j)


def dimension_contrastive(z1, _):
    return sample_contrastive(z1.T, _)


def square(x):
    return x**2


CASES = {
    "info_nce": (losses.info_nce, over_both_views),
    "info_nce, temperature": (partial(losses.info_nce, temperature=0.7), partial(over_both_views, temperature=0.7)),
    "info_nce, cross": (
        partial(losses.info_nce, temperature=0.3, negatives="cross"),
        partial(info_nce_cross, temperature=0.3),
    ),
    "simclr_sq": (
        partial(losses.simclr_sq, temperature=0.2),
        partial(over_both_views, temperature=0.2, repel=square),
    ),
    "simclr_abs": (losses.simclr_abs, partial(over_both_views, repel=torch.abs)),
    "dcl": (losses.dcl, partial(over_both_views, decoupled=True)),
    "dcl_sq": (losses.dcl_sq, partial(over_both_views, decoupled=True, repel=square)),
    "dcl_abs": (
        partial(losses.dcl_abs, temperature=0.2),
        partial(over_both_views, temperature=0.2, decoupled=True, repel=torch.abs),
    ),
    "spectral_contrastive": (losses.spectral_contrastive, spectral_contrastive),
    "spectral_contrastive, mu": (partial(losses.spectral_contrastive, mu=4.0), partial(spectral_contrastive, mu=4.0)),
    "vicreg": (losses.vicreg, vicreg),
    "vicreg, weights": (
        partial(losses.vicreg, invariance=2.0, variance=3.0, covariance=5.0, eps=0.1),
        partial(vicreg, invariance=2.0, variance=3.0, covariance_weight=5.0, eps=0.1),
    ),
    "vicreg_exp": (losses.vicreg_exp, vicreg_exp),
    "vicreg_exp, weights": (
        partial(losses.vicreg_exp, temperature=0.5, invariance=2.0, variance=3.0, covariance=5.0),
        partial(vicreg_exp, temperature=0.5, invariance=2.0, variance=3.0, covariance_weight=5.0),
    ),
    "vicreg_ctr": (losses.vicreg_ctr, vicreg_ctr),
    "vicreg_ctr, weights": (
        partial(losses.vicreg_ctr, temperature=0.5, invariance=2.0, variance=3.0, covariance=5.0),
        partial(vicreg_ctr, temperature=0.5, invariance=2.0, variance=3.0, covariance_weight=5.0),
    ),
    "vicreg_ctr, embeddings": (partial(losses.vicreg_ctr, center="embeddings"), vicreg_ctr_of_the_transpose),
    "barlow_twins": (losses.barlow_twins, barlow_twins),
    "barlow_twins, lambda": (
        partial(losses.barlow_twins, lambd=0.3, eps=0.01),
        partial(barlow_twins, lambd=0.3, eps=0.01),
    ),
    "tcr": (losses.tcr, tcr),
    "tcr, view": (
        partial(losses.tcr, eps=0.5, invariance=3.0, toward="view"),
        partial(tcr, eps=0.5, invariance=3.0, toward="view"),
    ),
    "sample_contrastive": (lambda z1, _: losses.sample_contrastive(z1), sample_contrastive),
    "dimension_contrastive": (lambda z1, _: losses.dimension_contrastive(z1), dimension_contrastive),
}
"""Losses of two views' embeddings, each beside its formula."""

WITH_PREDICTIONS = {
    "simsiam": (losses.simsiam, simsiam),
    "byol": (losses.byol, byol),
    "mocov3": (losses.mocov3, mocov3),
    "mocov3, temperature": (partial(losses.mocov3, temperature=0.2), partial(mocov3, temperature=0.2)),
}
"""The same, of embeddings and predictions."""

SMALLER_SIDE = (
    "spectral_contrastive",
    "vicreg",
    "barlow_twins",
    "tcr",
    "sample_contrastive",
    "dimension_contrastive",
)
"""Losses that choose between the N x N and the M x M matrix."""


def embeddings(n, m, count=2, seed=0, dtype=torch.float64, correlated=True):
    """Views of one batch: correlated columns, rows of different norms, and noise between views."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    shared = draw(n, m) + draw(n, 1) * draw(1, m) + 0.3 * draw(1, m)
    return [(0.6 * (shared + 0.5 * draw(n, m))).to(dtype).requires_grad_() for _ in range(count)]


def value_and_gradients(loss, tensors, autocast=False):
    """The loss, under bfloat16 autocast or not, and its gradients, which PyTorch wants taken outside of it."""
    tensors = [x.detach().clone().requires_grad_() for x in tensors]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        value = loss(*tensors)
    return value.detach(), torch.autograd.grad(value, tensors, allow_unused=True)
