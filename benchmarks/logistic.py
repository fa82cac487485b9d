"""Our logistic regression against scikit-learn's, on made-up features: CPU seconds until the same minimum.

    OMP_NUM_THREADS=1 python benchmarks/logistic.py                            # 50,000 x 512, 10 and 1,000 classes
    OMP_NUM_THREADS=1 python benchmarks/logistic.py --sizes 5000x128x10

The features are like a ResNet's: non-negative, with the singular values of a power law (`--decay`: their exponent), of
classes that overlap. All contenders get them standardised. Ours stops where the norm of the gradient is 1e-4;
scikit-learn's stops where the gradient's largest entry is 1e-4 (its default `tol`), or at `--tol`. The table gives
the norm that each reached, in float64, and how far its objective lies above the lowest. Each runs once.
"""

from __future__ import annotations

import argparse
import platform
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fullrank.measure.probes import fit_logistic
from fullrank.training.machine import _cpu_name

Fitted = tuple[Tensor, Tensor, int]  # weights (C, D), biases (C,), passes over the data


def features(n: int, d: int, classes: int, decay: float) -> tuple[Tensor, Tensor]:
    """Return standardised features `(n, d)` and labels `(n,)`."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (n,), generator=generator)
    latent = torch.randn(n, d, generator=generator)
    latent += torch.randn(classes, d, generator=generator)[labels] * 0.3
    mix = torch.linalg.qr(torch.randn(d, d, generator=generator))[0] * torch.arange(1, d + 1)[:, None] ** -decay
    x = (latent @ mix).relu_()
    return (x - x.mean(0)) / x.std(0, correction=0), labels


def ours(x: Tensor, y: Tensor, l2: float, tol: float) -> Fitted:
    """Fit with `fit_logistic`."""
    probe = fit_logistic(x, y, l2=l2)
    return probe.weight * probe.scale, probe.bias - (probe.weight * probe.scale) @ probe.mean, probe.iterations


def sklearns(x: Tensor, y: Tensor, l2: float, tol: float) -> Fitted:
    """Fit with scikit-learn."""
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=1 / (l2 * len(x)), tol=tol, max_iter=10_000).fit(x.numpy(), y.numpy())
    return torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_), int(np.max(model.n_iter_))


CONTENDERS: dict[str, tuple[Callable[[Tensor, Tensor, float, float], Fitted], torch.dtype]] = {
    "fullrank, float32": (ours, torch.float32),
    "fullrank, float64": (ours, torch.float64),
    "scikit-learn, float32": (sklearns, torch.float32),
    "scikit-learn, float64": (sklearns, torch.float64),
}


def judge(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, l2: float) -> tuple[float, float]:
    """Return the objective and the norm of its gradient, in float64, by autograd."""
    w, b = weight.double().requires_grad_(), bias.double().requires_grad_()
    total = 0.0
    for block, labels in zip(x.split(4096), y.split(4096), strict=True):
        loss = torch.nn.functional.cross_entropy(block.double() @ w.T + b, labels, reduction="sum") / len(x)
        loss.backward()
        total += loss.item()
    penalty = l2 / 2 * w.square().sum()
    penalty.backward()
    assert w.grad is not None
    assert b.grad is not None
    return total + penalty.item(), float(torch.cat([w.grad, b.grad[:, None]], dim=1).norm())


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sizes", nargs="+", default=["50000x512x10", "50000x512x1000"], help="rows x columns x classes"
    )
    parser.add_argument("--l2", type=float, default=1e-4)
    parser.add_argument("--tol", type=float, default=1e-4, help="scikit-learn's")
    parser.add_argument("--decay", type=float, default=1.0)
    parser.add_argument("--only", nargs="+", default=list(CONTENDERS))
    asked = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "scikit-learn"))
    for size in asked.sizes:
        n, d, classes = map(int, size.split("x"))
        x, y = features(n, d, classes, asked.decay)
        found = {}
        for name in asked.only:
            fit, dtype = CONTENDERS[name]
            own = x.to(dtype)
            start = time.process_time()
            weight, bias, passes = fit(own, y, asked.l2, asked.tol)
            found[name] = (time.process_time() - start, passes, *judge(x, y, weight, bias, asked.l2))
        lowest = min(objective for _, _, objective, _ in found.values())
        fastest = found[asked.only[0]][0]
        table = Table(
            title=f"{n:,} x {d}, {classes:,} classes, l2 = {asked.l2:g}",
            caption=f"{_cpu_name()}, {torch.get_num_threads()} threads, {packages}, Python {platform.python_version()}",
        )
        for column in ("", "CPU s", "ratio", "iterations", "gradient", "above lowest"):
            table.add_column(column, justify="right" if column else "left")
        for name, (seconds, passes, objective, norm) in found.items():
            cells = (
                f"{seconds:.1f}",
                f"{seconds / fastest:.1f}",
                str(passes),
                f"{norm:.1e}",
                f"{objective - lowest:.1e}",
            )
            table.add_row(name, *cells)
        Console().print(table)


if __name__ == "__main__":
    main()
