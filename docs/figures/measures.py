"""Draw `docs/figures/measures.svg`: each score under collapse, under decay, and with few images.

Run `python docs/figures/measures.py`; it takes about half a minute on two cores. `--table` prints the numbers
that `docs/measures.md` quotes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import torch

from fullrank import Spectrum, spectrum
from fullrank.measure.quality import auc, participation_ratio, rankme_centered
from fullrank.measure.scores import SCORES

D = 64
N = 2_000
SEED = 0
KILLED = (0, 8, 16, 24, 32, 40, 48, 56, 60, 62, 63)
DECAY = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
RATIO = (1, 2, 4, 8, 16, 32, 64)
DRAWN = {
    "auc": "AUC",
    "rankme_centered": "RankMe, centered",
    "participation_ratio": "participation ratio",
    "nesum": "NESum",
    "pseudo_condition_number": "pseudo-condition",
    "feature_std": "per-dimension std",
    "self_cluster": "self-cluster",
    "uniformity": "uniformity",
    "two_nn": "TwoNN",
    "idest": "IdEst",
}


def gaussian(n: int, d: int, seed: int = SEED) -> torch.Tensor:
    """Return `(n, d)` standard normal features in float64."""
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(d: int) -> torch.Tensor:
    """Return a random orthogonal matrix, so that dead directions are not dead columns."""
    return torch.linalg.qr(gaussian(d, d, seed=SEED + 1)).Q


def scores_of(x: torch.Tensor) -> dict[str, float]:
    """Return the drawn scores, with one decomposition for each way of centring."""
    spectra = {"centered": spectrum(x), "uncentered": spectrum(x, center=False)}
    found = {}
    for name in DRAWN:
        score = SCORES[name]
        found[name] = score.function(spectra[score.spectrum] if score.spectrum else x)
    return found


def killed(count: int) -> dict[str, float]:
    """Return the scores of isotropic features of which `count` directions keep a thousandth of their size."""
    scale = torch.ones(D, dtype=torch.float64)
    scale[D - count :] = 1e-3
    return scores_of(gaussian(N, D) * scale @ rotation(D))


def decayed(exponent: float) -> dict[str, float]:
    """Return the scores of features whose variances fall as k^-exponent."""
    scale = torch.arange(1, D + 1, dtype=torch.float64) ** (-exponent / 2)
    return scores_of(gaussian(N, D) * scale @ rotation(D))


def relative(rows: list[dict[str, float]], name: str) -> list[float]:
    """Return a score along a sweep as its distance from the healthy value, over the largest such distance."""
    change = [row[name] - rows[0][name] for row in rows]
    return [value / max(abs(v) for v in change) for value in change]


def finite() -> dict[str, list[float]]:
    """Return scores of isotropic features for each N / D, over their value at infinitely many images."""
    limit = Spectrum(torch.ones(D))
    names = ("AUC", "RankMe, centered", "participation ratio", "TwoNN")
    found: dict[str, list[float]] = {name: [] for name in names}
    for ratio in RATIO:
        x = gaussian(ratio * D, D)
        made = spectrum(x)
        found["AUC"].append(auc(made) / limit.auc)
        found["RankMe, centered"].append(rankme_centered(made) / limit.rankme)
        found["participation ratio"].append(participation_ratio(made) / limit.participation_ratio)
        found["TwoNN"].append(SCORES["two_nn"].function(x) / D)
    return found


def table(rows: list[dict[str, float]], heads: tuple[float, ...]) -> str:
    """Return a Markdown table of a sweep."""
    lines = ["| | " + " | ".join(f"{head:g}" for head in heads) + " |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {label} | " + " | ".join(f"{row[name]:.3g}" for row in rows) + " |" for name, label in DRAWN.items()]
    return "\n".join(lines)


def main() -> None:
    """Draw the figure beside this script, and print the tables when asked."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--table", action="store_true", help="also print the numbers as Markdown")
    options = arguments.parse_args()

    dead, decay, few = [killed(k) for k in KILLED], [decayed(a) for a in DECAY], finite()
    if options.table:
        print(f"directions killed of {D}, N = {N}\n\n{table(dead, KILLED)}\n")
        print(f"variance exponent, D = {D}, N = {N}\n\n{table(decay, DECAY)}\n")
        print(f"N / D, isotropic, D = {D}, over the value at infinite N\n\n| | " + " | ".join(map(str, RATIO)) + " |")
        print("|---" * (len(RATIO) + 1) + "|")
        for label, values in few.items():
            print(f"| {label} | " + " | ".join(f"{value:.3f}" for value in values) + " |")

    # The same file from the same numbers, byte for byte; text stays text.
    plt.rcParams.update({"svg.hashsalt": "fullrank", "svg.fonttype": "none", "font.size": 9})
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    colors = plt.get_cmap("tab10")
    styles = ("-", "--")
    for i, (name, label) in enumerate(DRAWN.items()):
        look = {
            "color": colors(i),
            "linestyle": styles[i % 2],
            "marker": ".",
            "label": f"{label} ({SCORES[name].direction})",
        }
        axes[0].plot([k / D for k in KILLED], relative(dead, name), **look)
        axes[1].plot(DECAY, relative(decay, name), **look)
    axes[0].set(xlabel="share of directions killed", ylabel="change, over the largest change", title="Directions die")
    axes[1].set(xlabel="exponent of the variances, k^-a", title="The spectrum decays")
    for ax in axes[:2]:
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.set_ylim(-1.05, 1.05)
    for label, values in few.items():
        axes[2].plot(RATIO, values, marker=".", color=colors(list(DRAWN.values()).index(label)), label=label)
    axes[2].axhline(1, color="0.8", linewidth=0.8, zorder=0)
    axes[2].set_xscale("log", base=2)
    axes[2].set_xticks(RATIO, [str(ratio) for ratio in RATIO])
    axes[2].set(xlabel="N / D, isotropic features", ylabel="estimate / value at infinite N", title="Images run short")
    axes[2].legend(frameon=False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
