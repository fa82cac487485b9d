"""Draw the figures of the concepts, with the library itself: `python docs/figures.py`; a few seconds.

Each function below is one figure, written to `docs/figures/` under its name. They are of made-up features, so that they
show one thing each. The same numbers give the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

import fullrank
from fullrank import losses, orders

FOLDER = Path(__file__).parent / "figures"
BLUE, ORANGE, GREEN, GRAY = "#0072b2", "#d55e00", "#009e73", "#777777"  # told apart by the color-blind
LOOK = {
    "svg.hashsalt": "fullrank",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "savefig.transparent": True,
}


def gaussian(n: int, d: int, seed: int = 0) -> Tensor:
    """Return `(n, d)` standard normal features."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def collapse() -> Figure:
    """Show healthy, dimensionally collapsed and fully collapsed embeddings in three dimensions."""
    cases = {"Healthy": (1, 1, 1), "Dimensional collapse": (1, 1, 0.02), "Complete collapse": (0.03, 0.03, 0.03)}
    figure = plt.figure(figsize=(9, 3.2), layout="constrained")
    for place, (title, scale) in enumerate(cases.items(), start=1):
        z = gaussian(250, 3) * torch.tensor(scale, dtype=torch.float64)
        if title == "Complete collapse":
            z = z + 0.8
        ax = figure.add_subplot(1, 3, place, projection="3d")
        ax.scatter(*z.T, s=10, color=BLUE, alpha=0.8, linewidths=0)
        values = fullrank.spectrum(z).singular_values
        shares = ", ".join(f"{share:.2f}" for share in values / gaussian(250, 3).norm() * 3**0.5)
        ax.set(title=f"{title}\nsingular values {shares}", xlim=(-3, 3), ylim=(-3, 3), zlim=(-3, 3))
        ax.set(xticklabels=[], yticklabels=[], zticklabels=[])
    return figure


def spectrum() -> Figure:
    """Show singular values and their cumulative sum for three decays, with the AUC of each."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for label, exponent, color in (("flat", 0.0, BLUE), ("falling", 1.5, GREEN), ("steep", 4.0, ORANGE)):
        scale = torch.arange(1, 65, dtype=torch.float64) ** (-exponent / 2)
        made = fullrank.spectrum(gaussian(4_000, 64) * scale)
        left.semilogy(range(1, 65), made.singular_values / made.singular_values[0], color=color)
        right.plot(range(1, 65), made.explained, color=color, label=f"{label}: AUC {made.auc:.2f}, {made.dead()} dead")
    left.axhline(1e-3, color=GRAY, linewidth=0.8, linestyle=":")
    left.text(64, 1.1e-3, "below: dead", ha="right", va="bottom", color=GRAY, fontsize=9)
    left.set(xlabel="direction", ylabel="singular value / the largest", title="Singular values")
    right.set(
        xlabel="direction", ylabel="share of the sum", ylim=(0, 1.03), title="Their cumulative sum; AUC is its mean"
    )
    right.legend(frameon=False, loc="lower right")
    return figure


def order() -> Figure:
    """Show which image each step sees, for each of the four orders."""
    size, steps, chunks = 400, 200, 5
    made = {
        "multiple pass": orders.MultiplePass(size, 8, steps),
        "single pass": orders.SinglePass(size, 8, steps, chunks=chunks),
        "cumulative": orders.Cumulative(size, 8, steps, chunks=chunks),
        "hybrid": orders.Hybrid(size, 8, steps, chunks=chunks, switch=0.4),
    }
    arrival = torch.cat([made["single pass"].pool(step) for step in range(0, steps, steps // chunks)])
    place = torch.empty(size, dtype=torch.long)
    place[arrival] = torch.arange(size)
    figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), sharey=True, layout="constrained")
    for ax, (title, each) in zip(axes, made.items(), strict=True):
        steps_of = torch.arange(steps).repeat_interleave(8)
        seen = torch.cat([place[each[step]] for step in range(steps)])
        ax.scatter(steps_of, seen, s=1.2, color=BLUE, linewidths=0, rasterized=True)
        ax.set(title=title, xlabel="step")
    axes[0].set(ylabel="image, by arrival")
    return figure


def duality() -> Figure:
    """Show both Gram matrices of one batch, whose squared entries have one sum."""
    z = losses.normalize(gaussian(16, 6), "simclr")
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained", width_ratios=(0.5, 1, 0.55))
    grams = (
        ("z: 16 images x 6 dimensions", z, None),
        ("z zᵀ: images", z @ z.T, losses.sample_contrastive(z)),
        ("zᵀ z: dimensions", z.T @ z, losses.dimension_contrastive(z)),
    )
    for ax, (title, matrix, off) in zip(axes, grams, strict=True):
        limit = float(matrix.abs().max())
        ax.imshow(matrix, cmap="RdBu", vmin=-limit, vmax=limit)
        ax.set(xticks=[], yticks=[], title=title)
        if off is not None:
            diagonal = float(matrix.diagonal().square().sum())
            ax.set_xlabel(f"off {off:.1f} + on {diagonal:.1f}\n= {off + diagonal:.1f}")
    return figure


def protocol() -> Figure:
    """Show what one matrix of features scores, centered or not, normalized or not, of few images or many."""
    scale = torch.arange(1, 65, dtype=torch.float64) ** -0.5
    h = torch.relu(gaussian(6_400, 64) * scale + 0.5)
    ways = {
        "centered (the default)": fullrank.spectrum(h),
        "not centered": fullrank.spectrum(h, center=False),
        "normalized, centered": fullrank.spectrum(h, normalize=True),
        "64 images": fullrank.spectrum(h[:64]),
        "first 32 dimensions": fullrank.spectrum(h[:, :32]),
    }
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6), sharey=True, layout="constrained")
    colors = [BLUE, *[GRAY] * 4]
    for ax, title, values in (
        (left, "AUC", [each.auc for each in ways.values()]),
        (right, "effective rank (RankMe's formula)", [each.rankme for each in ways.values()]),
    ):
        bars = ax.barh(list(ways), values, color=colors)
        ax.bar_label(bars, [f"{value:.3g}" for value in values], padding=3)
        ax.set(title=title, xlim=(0, 1.15 * max(values)))
    left.invert_yaxis()
    return figure


if __name__ == "__main__":
    plt.rcParams.update(LOOK)
    for draw in (collapse, spectrum, order, duality, protocol):
        draw().savefig(FOLDER / f"concept-{draw.__name__}.svg", metadata={"Date": None})
