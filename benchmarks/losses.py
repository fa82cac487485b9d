"""Forward and backward of covariance-type losses: the smaller Gram matrix against M x M, and other libraries.

    python benchmarks/losses.py                        # N = 256, M = 8192: VICReg's covariance term, Barlow Twins
    python benchmarks/losses.py --n 1024 --m 512
    python benchmarks/losses.py --sweep                # where N x N and M x M cross
    python benchmarks/losses.py --device cuda

Contenders: fullrank; the authors' formula as published, a direct M x M matrix; lightly's and solo-learn's own losses,
where they can be imported (`pip install lightly solo-learn`; they are no requirement). Embeddings are float32, of two
correlated views; one run is forward and backward to both. Each contender runs in a fresh process, in turn, `--runs`
times; figures are medians over processes of the median iteration. Memory is the peak of the first run, above what the
process had with the embeddings: anonymous memory (RssAnon) on a CPU, PyTorch's allocations on a GPU; the two gradients
are in it. Errors are relative to the direct formula in float64: of the value, and of both gradients in norm. On a busy
machine set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from fullrank import losses
from fullrank.losses import _gram
from fullrank.training.machine import environment
from spectrum import anonymous_mb

Loss = Callable[[Tensor, Tensor], Tensor]
LAMBDA = 0.005  # of Barlow Twins: lightly's default, within 2 % of the authors'
SWEEP_N = (256, 1024)
SWEEP_RATIOS = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 3 / 2, 2, 4, 8)


def direct_vicreg(z1: Tensor, z2: Tensor) -> Tensor:
    """Return VICReg's covariance term as the authors publish it (Bardes et al. 2022, algorithm 1)."""
    n, m = z1.shape
    total = z1.new_zeros(())
    for z in (z1, z2):
        x = z - z.mean(dim=0)
        covariance = x.T @ x / (n - 1)
        total = total + (covariance - covariance.diagonal().diag()).square().sum() / m
    return total


def direct_barlow(z1: Tensor, z2: Tensor) -> Tensor:
    """Return Barlow Twins' loss as the authors publish it (Zbontar et al. 2021, algorithm 1)."""
    n = len(z1)
    b1, b2 = (torch.nn.functional.batch_norm(z, None, None, training=True) for z in (z1, z2))
    correlation = b1.T @ b2 / n
    agreement = correlation.diagonal()
    return (agreement - 1).square().sum() + LAMBDA * (correlation - agreement.diag()).square().sum()


def lightly_vicreg() -> Loss:
    """Import lightly's covariance term."""
    from lightly.loss.vicreg_loss import covariance_loss

    return lambda z1, z2: covariance_loss(z1) + covariance_loss(z2)


def lightly_barlow() -> Loss:
    """Import lightly's Barlow Twins."""
    from lightly.loss import BarlowTwinsLoss

    return BarlowTwinsLoss(lambda_param=LAMBDA)


def solo_file(folder: str, name: str) -> Any:
    """Import one file of solo-learn, past its package, which needs an older Lightning than there is."""
    package = find_spec("solo")
    if package is None or not package.submodule_search_locations:
        raise ImportError("No module named 'solo'")
    spec = spec_from_file_location(name, Path(package.submodule_search_locations[0], folder, f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def solo_vicreg() -> Loss:
    """Import solo-learn's covariance term."""
    return solo_file("losses", "vicreg").covariance_loss


def solo_barlow() -> Loss:
    """Import solo-learn's Barlow Twins."""
    barlow_loss_func = solo_file("losses", "barlow").barlow_loss_func
    return lambda z1, z2: barlow_loss_func(z1, z2, lamb=LAMBDA, scale_loss=1.0)


WORK: dict[str, dict[str, Callable[[], Loss]]] = {
    "VICReg, covariance term": {
        "fullrank": lambda: lambda z1, z2: losses.vicreg(z1, z2, invariance=0, variance=0),
        "authors' formula, M x M": lambda: direct_vicreg,
        "lightly": lightly_vicreg,
        "solo-learn": solo_vicreg,
    },
    "Barlow Twins": {
        "fullrank": lambda: lambda z1, z2: losses.barlow_twins(z1, z2, lambd=LAMBDA),
        "authors' formula, M x M": lambda: direct_barlow,
        "lightly": lightly_barlow,
        "solo-learn": solo_barlow,
    },
}
REFERENCE: dict[str, Loss] = dict(zip(WORK, (direct_vicreg, direct_barlow), strict=True))


def embeddings(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return two views of a batch, which share most of their variance."""
    generator = torch.Generator().manual_seed(0)
    shared, first, second = (torch.randn(n, m, generator=generator) for _ in range(3))
    return (shared + 0.5 * first).to(device).requires_grad_(), (shared + 0.5 * second).to(device).requires_grad_()


def clock(device: torch.device) -> float:
    """Return the time in seconds, once the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def step(loss: Loss, z1: Tensor, z2: Tensor) -> list[Tensor]:
    """Run forward and backward; return the value and both gradients."""
    value = loss(z1, z2)
    return [value.detach(), *torch.autograd.grad(value, (z1, z2))]


def time_steps(run: Callable[[], object], device: torch.device, least: float = 1.0) -> float:
    """Return the median seconds of `run`, repeated for `least` seconds after a warm-up and at least three times."""
    run()
    times: list[float] = []
    while len(times) < 3 or sum(times) < least:
        start = clock(device)
        run()
        times.append(clock(device) - start)
    return median(times)


def peak_mb(run: Callable[[], object], device: torch.device, every: float = 0.0005) -> float:
    """Return the memory that `run` takes beyond what there is, in MB; on a CPU looked at every so many seconds."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - held) / 2**20
    before = anonymous_mb()
    peak = before
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(every):
            peak = max(peak, anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return peak - before


def run_one(work: str, name: str, n: int, m: int, device: torch.device, gradients: Path) -> None:
    """Run one contender; print its seconds and memory, and leave its value and gradients in a file."""
    z1, z2 = embeddings(n, m, device)
    if name == "reference":
        found = step(REFERENCE[work], z1.detach().double().requires_grad_(), z2.detach().double().requires_grad_())
        torch.save([x.cpu() for x in found], gradients)
        return
    try:
        loss = WORK[work][name]()
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    step(loss, *embeddings(4, 8, device))  # thread pools and libraries' buffers exist before memory is measured
    mb = peak_mb(lambda: step(loss, z1, z2), device)
    torch.save([x.cpu() for x in step(loss, z1, z2)], gradients)
    print(json.dumps({"seconds": time_steps(lambda: step(loss, z1, z2), device), "mb": mb}))


def call(arguments: list[str], script: str = __file__) -> dict[str, float | str]:
    """Run a script of this folder once more and return what it printed, if it is a result."""
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"missing": f"failed, exit {done.returncode}: {lines[-1] if lines else ''}"}
    return json.loads(done.stdout.strip().splitlines()[-1]) if done.stdout.strip() else {}


def errors(found: Path, reference: Path) -> tuple[float, float]:
    """Return the relative error of a value and of its gradients."""
    value, *slopes = (x.double() for x in torch.load(found, weights_only=True))
    exact, *exact_slopes = torch.load(reference, weights_only=True)
    gap = torch.cat([(a - b).flatten() for a, b in zip(slopes, exact_slopes, strict=True)]).norm()
    return float((value - exact).abs() / exact.abs()), float(gap / torch.cat(exact_slopes).norm())


def compare(work: str, n: int, m: int, runs: int, device: str) -> None:
    """Print the table of one loss."""
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference.pt"
        common = ["--n", str(n), "--m", str(m), "--device", device, "--one", work]
        call([*common, "reference", str(reference)])
        found: dict[str, list[dict]] = {name: [] for name in WORK[work]}
        for _ in range(runs):
            for name in WORK[work]:
                found[name].append(call([*common, name, str(Path(folder) / f"{name}.pt")]))
                print(f"{work}, {name}: {found[name][-1]}", file=sys.stderr, flush=True)
        print(f"\n{work}, N = {n}, M = {m:,}, forward and backward, medians of {runs}\n")
        print("| | ms | memory, MB | times fullrank's time | value error | gradient error |\n|---|---|---|---|---|---|")
        own = median(run["seconds"] for run in found["fullrank"])
        for name, results in found.items():
            if "missing" in results[0]:
                print(f"| {name} | not run: {results[0]['missing']} | | | | |")
                continue
            seconds, mb = (median(run[key] for run in results) for key in ("seconds", "mb"))
            value, gradient = errors(Path(folder) / f"{name}.pt", reference)
            times = f"{1e3 * seconds:.1f} | {mb:.0f} | {seconds / own:.1f}"
            print(f"| {name} | {times} | {value:.0e} | {gradient:.0e} |", flush=True)


def time_criterion(n: int, m: int, through_rows: bool, device: torch.device, runs: int) -> float:
    """Return the seconds of one view's L_nc, forward and backward, through the Gram matrix asked for."""
    z = embeddings(n, m, device)[0]
    with mock.patch.object(_gram, "rows_are_fewer", return_value=through_rows):
        return median(
            time_steps(lambda: torch.autograd.grad(losses.dimension_contrastive(z), z), device, least=0.3)
            for _ in range(runs)
        )


def sweep(device: torch.device, runs: int) -> None:
    """Print the time of either matrix over N and M, for the dimension-contrastive criterion of one view."""
    wrong = 0
    print("\nOne view's L_nc, forward and backward, ms\n")
    print("| N | M | N x N | M x M | M x M / N x N | the library takes |\n|---|---|---|---|---|---|")
    for n in SWEEP_N:
        for ratio in SWEEP_RATIOS:
            m = int(n * ratio)
            times = [time_criterion(n, m, through_rows, device, runs) for through_rows in (True, False)]
            chosen = "N x N" if _gram.rows_are_fewer(n, m) else "M x M"
            wrong += (times[0] < times[1]) != (chosen == "N x N")
            row = f"{1e3 * times[0]:.2f} | {1e3 * times[1]:.2f} | {times[1] / times[0]:.2f}"
            print(f"| {n} | {m} | {row} | {chosen} |", flush=True)
    print(f"\nnot the quicker one in {wrong} of {len(SWEEP_N) * len(SWEEP_RATIOS)}")


def versions() -> str:
    """Return the versions of PyTorch and of the libraries compared with."""
    found = [f"torch {torch.__version__}"]
    for package in ("lightly", "solo-learn"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return ", ".join(found)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=256, help="images in the batch")
    parser.add_argument("--m", type=int, default=8192, help="dimensions of an embedding")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--sweep", action="store_true", help="over N and M, instead of the comparison")
    parser.add_argument("--one", nargs=3, metavar=("WORK", "NAME", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.one:
        work, name, file = args.one
        return run_one(work, name, args.n, args.m, device, Path(file))
    machine = environment(device)
    print(
        f"{machine.get('gpu', machine['cpu'])}, {machine['threads']} threads, Python {machine['python']}, {versions()}"
    )
    if args.sweep:
        return sweep(device, args.runs)
    for work in WORK:
        compare(work, args.n, args.m, args.runs, args.device)
    return None


if __name__ == "__main__":
    main()
