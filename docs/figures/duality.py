"""Draw `docs/figures/duality.svg`: the gap between the two criteria, the bounds on it, and the price of a subtraction.

Run `python docs/figures/duality.py`; it takes a few seconds. `--table` prints the numbers of `docs/duality.md`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from unittest import mock

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from fullrank import losses
from fullrank.losses import _gram

N = 64
WIDTHS = (8, 16, 32, 64, 128, 256, 512, 1024)
DECAY = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0)
SCHEMES = ("vicreg", "vicreg_ctr", "simclr", "simclr_a", "simclr_b")
SPREAD = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
SEEDS = range(5)


def gaussian(n: int, m: int, seed: int = 0) -> Tensor:
    """Return `(n, m)` standard normal embeddings in float64."""
    return torch.randn(n, m, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gap(z: Tensor) -> float:
    """Return L_nc - L_c."""
    return float(losses.dimension_contrastive(z) - losses.sample_contrastive(z))


def above_the_bound(a: float, m: int) -> float:
    """Return sum_j ||K_j||^4 over its least value N^2/M, of unit embeddings whose columns' variances fall as j^-a."""
    scale = torch.arange(1, m + 1, dtype=torch.float64) ** (-a / 2)
    z = losses.normalize(gaussian(N, m) * scale, "simclr")
    return float(losses.dimension_residual(z)) * m / N**2


def cancellation(spread: float, seed: int) -> tuple[float, float, float]:
    """Return (L_nc + residual) / L_nc and the float32 errors of L_nc through N x N and M x M, at N = 64, M = 256.

    Columns have norms exp(spread g), g standard normal: the further apart they are, the more the diagonal of the M x M
    matrix outweighs the rest, and the more of the whole sum is subtracted.
    """
    z = gaussian(N, 256, seed) * (spread * gaussian(1, 256, seed + 100)).exp()
    z = z.float().double()
    exact = losses.dimension_contrastive(z)
    found = []
    for through_rows in (True, False):
        with mock.patch.object(_gram, "rows_are_fewer", return_value=through_rows):
            found.append(float((losses.dimension_contrastive(z.float()) - exact).abs() / exact))
    return float(1 + losses.dimension_residual(z) / exact), found[0], found[1]


def table_of_gaps() -> str:
    """Return the gap of balanced embeddings for each M, beside both formulas."""
    lines = ["| M | L_nc - L_c, measured | N - N^2/M | N - M |", "|---|---|---|---|"]
    for m in WIDTHS:
        measured = gap(losses.balance(gaussian(N, m)))
        lines.append(f"| {m} | {measured:.6f} | {losses.balanced_gap(N, m):.6f} | {N - m} |")
    return "\n".join(lines)


def table_of_schemes(m: int) -> str:
    """Return both criteria and both residuals of Gaussian embeddings, normalized as in the paper's Table 1."""
    head = "| normalization | L_c | sum_i \\|\\|K_.i\\|\\|^4 | L_nc | sum_j \\|\\|K_j.\\|\\|^4 | sums differ by |"
    lines = [head, "|---" * 6 + "|"]
    for scheme in SCHEMES:
        z = losses.normalize(gaussian(N, m), scheme)
        terms = [
            float(term(z))
            for term in (
                losses.sample_contrastive,
                losses.sample_residual,
                losses.dimension_contrastive,
                losses.dimension_residual,
            )
        ]
        off = abs(terms[0] + terms[1] - terms[2] - terms[3]) / (terms[0] + terms[1])
        lines.append(f"| `{scheme}` | " + " | ".join(f"{term:.5g}" for term in terms) + f" | {off:.0e} |")
    return "\n".join(lines)


def table_of_bounds() -> str:
    """Return how far unit embeddings are above the lower bound, by the decay of their variances."""
    lines = ["| variances j^-a, a = | " + " | ".join(f"{a:g}" for a in DECAY) + " | at most |"]
    lines.append("|---" * (len(DECAY) + 2) + "|")
    for m in (32, 256):
        values = " | ".join(f"{above_the_bound(a, m):.3g}" for a in DECAY)
        lines.append(f"| M = {m} | {values} | {m} |")
    return "\n".join(lines)


def table_of_errors() -> str:
    """Return the worst float32 error over the seeds, by the spread of the columns' norms."""
    lines = ["| norms exp(s g), s = | (L_nc + residual) / L_nc | N x N | M x M |", "|---|---|---|---|"]
    for spread in SPREAD:
        runs = [cancellation(spread, seed) for seed in SEEDS]
        whole, rows, columns = (max(run[i] for run in runs) for i in range(3))
        lines.append(f"| {spread:g} | {whole:.3g} | {rows:.0e} | {columns:.0e} |")
    return "\n".join(lines)


def main() -> None:
    """Draw the figure beside this script, and print the tables when asked."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--table", action="store_true", help="also print the numbers as Markdown")
    options = arguments.parse_args()
    if options.table:
        print(f"Balanced Gaussian embeddings, N = {N}, float64\n\n{table_of_gaps()}\n")
        print(f"Gaussian embeddings, N = {N}, M = 256, float64\n\n{table_of_schemes(256)}\n")
        print(f"sum_j ||K_j||^4 over N^2/M, unit embeddings, N = {N}\n\n{table_of_bounds()}\n")
        print(f"Error of L_nc in float32, N = {N}, M = 256, worst of {len(SEEDS)} seeds\n\n{table_of_errors()}")

    # The same file from the same numbers, byte for byte; text stays text.
    plt.rcParams.update({"svg.hashsalt": "fullrank", "svg.fonttype": "none", "font.size": 9})
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    axes[0].plot(WIDTHS, [losses.balanced_gap(N, m) for m in WIDTHS], color="tab:blue", label="N - N²/M")
    axes[0].plot(WIDTHS, [N - m for m in WIDTHS], color="0.6", linestyle="--", label="N - M, the paper's text")
    balanced = [gap(losses.balance(gaussian(N, m))) for m in WIDTHS]
    axes[0].plot(WIDTHS, balanced, color="tab:blue", marker="o", linestyle="", label="rows 1, columns √(N/M)")
    rows = [gap(losses.normalize(gaussian(N, m), "simclr")) for m in WIDTHS]
    axes[0].plot(WIDTHS, rows, color="tab:orange", marker=".", linestyle="", label="rows 1 only")
    axes[0].set_xscale("log", base=2)
    axes[0].set_ylim(-500, 120)
    axes[0].set(xlabel=f"M, at N = {N}", ylabel="L_nc - L_c", title="Doubly normalized, a constant apart")
    axes[0].legend(frameon=False, loc="lower left")
    for m, color in ((32, "tab:green"), (256, "tab:purple")):
        axes[1].plot(DECAY, [above_the_bound(a, m) for a in DECAY], color=color, marker=".", label=f"M = {m}")
        axes[1].axhline(m, color=color, linewidth=0.8, linestyle=":")
    axes[1].set_yscale("log")
    axes[1].axhline(1, color="0.8", linewidth=0.8, zorder=0)
    axes[1].set(
        xlabel="exponent a of the columns' variances, j^-a",
        ylabel="Σ‖K_j‖⁴ over N²/M",
        title="Unit embeddings: how far above the bound",
    )
    axes[1].legend(frameon=False)
    runs = sorted(cancellation(spread, seed) for spread in SPREAD for seed in SEEDS)
    for i, label, color in ((1, "N x N, diagonal subtracted", "tab:red"), (2, "M x M, diagonal left out", "tab:gray")):
        points = [(run[0], max(run[i], 1e-9)) for run in runs]
        axes[2].loglog(*zip(*points, strict=True), color=color, marker=".", linestyle="", label=label)
    axes[2].axhline(1e-5, color="0.8", linewidth=0.8, zorder=0)
    axes[2].set(xlabel="(L_nc + Σ‖K_j‖⁴) / L_nc", ylabel="relative error, float32", title="What the subtraction costs")
    axes[2].legend(frameon=False, loc="upper left")
    figure.savefig(Path(__file__).with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    main()
