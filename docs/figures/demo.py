"""Draw the README's figure from a demo: `python docs/figures/demo.py runs/demo docs/figures/demo.svg`.

Left: singular values of the representation, after training and before. Middle and right: AUC and k-NN over steps.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from fullrank.demo import ORDERS
from fullrank.documents.plots import style
from fullrank.files import atomic_path
from fullrank.training.runs import read_run

COLORS = dict(zip(ORDERS, ("#0072b2", "#d55e00"), strict=True))  # told apart by the color-blind


def main(demo: Path, out: Path) -> None:
    """Draw the figure of the demo in folder `demo` to `out`."""
    with style():
        matplotlib.rcParams.update({"svg.hashsalt": "fullrank", "font.size": 9})
        figure = Figure(figsize=(10, 3), layout="constrained")
        spectra, auc, knn = figure.subplots(1, 3)
        for order, color in COLORS.items():
            run = read_run(demo / order)
            spectra.semilogy(run.singular_values[-1] / run.singular_values[-1][0], color=color, label=order)
            measured = run.of_kind("measure")
            steps = [record["step"] for record in measured]
            auc.plot(steps, [record["auc"] for record in measured], color=color, marker=".")
            knn.plot(steps, [100 * record["knn"] for record in measured], color=color, marker=".")
            if order == "hybrid":
                for ax in (auc, knn):
                    ax.axvline(run.config["switch"] * run.config["steps"], color=color, linewidth=0.7, linestyle=":")
        start = run.singular_values[0] / run.singular_values[0][0]
        spectra.semilogy(start, color="#888888", linestyle="--", label="before training")
        spectra.set(xlabel="direction", ylabel="singular value / the largest", ylim=(1e-4, 1.5))
        spectra.legend(frameon=False)
        auc.set(xlabel="gradient step", ylabel="AUC (lower: less collapsed)")
        knn.set(xlabel="gradient step", ylabel="k-NN accuracy (%)")
        with atomic_path(out) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
