"""One pass of `SpectrumMetric` over a memory-mapped feature matrix, against an SVD and scikit-learn's PCA.

    python benchmarks/spectrum.py --dir /tmp              # 1,000,000 x 512 and 200,000 x 2048
    python benchmarks/spectrum.py --dir /tmp --quick      # 100,000 x 512

The full sizes take 2 GB of disk, and 11 GB of memory for the SVD.

Every contender starts from a memory-mapped float32 `.npy` file, in the page cache, and ends with the D
singular values of the centred matrix. Each runs in a fresh process, in turn; figures are medians. CPU
seconds are those of all threads: on a busy machine compare them, with OMP_NUM_THREADS=1. "Of which svdvals"
leaves out the copy and the centring. Memory is the peak of anonymous memory (RssAnon) above what the
process had after its imports: pages of the map do not count, copies do.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

svd_seconds = 0.0  # of the last `svd`: the decomposition alone


def metric(x: np.ndarray, **settings: bool) -> Tensor:
    """Measure with `SpectrumMetric`."""
    from fullrank import SpectrumMetric

    measure = SpectrumMetric(x.shape[1], **settings)
    measure.update(x)
    return measure.compute().singular_values


def svd(x: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Measure as everybody does."""
    features = torch.tensor(x, dtype=dtype)
    features -= features.mean(dim=0)
    start = time.perf_counter()
    values = torch.linalg.svdvals(features)
    global svd_seconds
    svd_seconds = time.perf_counter() - start
    return values


def pca(x: np.ndarray) -> Tensor:
    """Measure with scikit-learn, the solver of its choice."""
    from sklearn.decomposition import PCA

    return torch.from_numpy(PCA().fit(x).singular_values_)


def product(x: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Multiply only, the floor: X^T X in blocks, one block over and over, so that only products are timed."""
    block = torch.tensor(x[:4096], dtype=dtype)
    total = torch.zeros(x.shape[1], x.shape[1], dtype=dtype)
    for _ in range(-(-len(x) // len(block))):
        total.addmm_(block.T, block)
    return total[0]


CONTENDERS: dict[str, Callable[[np.ndarray], Tensor]] = {
    "SpectrumMetric": metric,
    "SpectrumMetric, fast": lambda x: metric(x, fast=True),
    "SpectrumMetric, exact": lambda x: metric(x, exact=True),
    "svdvals, float64": lambda x: svd(x, torch.float64),
    "svdvals, float32": lambda x: svd(x, torch.float32),
    "sklearn PCA": pca,
    "product, float64": lambda x: product(x, torch.float64),
    "product, float32": lambda x: product(x, torch.float32),
}


def anonymous_mb() -> float:
    """Return the anonymous memory of this process in MB, NaN where /proc does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def run_one(name: str, path: str) -> None:
    """Run one contender and print its seconds, memory and singular values."""
    import sklearn.decomposition  # noqa: F401  # imports are not what is timed

    import fullrank.measure.metrics  # noqa: F401

    x = np.load(path, mmap_mode="r")
    warm = np.ascontiguousarray(x[:2048])  # thread pools and libraries' buffers exist before the clock starts
    CONTENDERS[name](warm)
    before = peak = anonymous_mb()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, anonymous_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start, cpu = time.perf_counter(), time.process_time()
    values = CONTENDERS[name](x)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    done.set()
    watcher.join()
    result: dict[str, object] = {"seconds": seconds, "cpu": cpu, "svd": svd_seconds, "mb": peak - before}
    result["values"] = values.tolist()
    print(json.dumps(result))


def _processor() -> str:
    """Return the processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), platform.machine())


def generate(path: Path, n: int, d: int) -> None:
    """Write features of a power-law spectrum around a mean of about three times their spread."""
    rng = np.random.default_rng(0)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d))
    mix = np.linalg.qr(rng.standard_normal((d, d)))[0] * np.arange(1, d + 1)[:, None] ** -0.5
    mix, mean = mix.astype(np.float32), rng.standard_normal(d, dtype=np.float32)
    for start in range(0, n, 10_000):
        rows = min(10_000, n - start)
        out[start : start + rows] = rng.standard_normal((rows, d), dtype=np.float32) @ mix + mean
    out.flush()


def compare(path: Path, n: int, d: int, runs: int, names: list[str]) -> None:
    """Print the table of one size."""
    found: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(runs):
        for name in names:
            call = [sys.executable, __file__, "--one", name, str(path)]
            done = subprocess.run(call, capture_output=True, text=True)
            if done.returncode:
                print(f"{name}: failed, exit {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
            else:
                found[name].append(json.loads(done.stdout))
                print(f"{name}: {found[name][-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    times = {name: median(run["seconds"] for run in found[name]) for name in names if found[name]}
    reference = next((found[k][0]["values"] for k in ("svdvals, float64", "SpectrumMetric") if found.get(k)), None)
    print(f"\n{n:,} x {d} float32, medians of {runs}")
    print(
        "| | seconds | CPU seconds | memory, MB | SpectrumMetric is faster by | error / s_1 |\n"
        "|---|---|---|---|---|---|"
    )
    for name, seconds in times.items():
        cpu = median(run["cpu"] for run in found[name])
        memory = max(run["mb"] for run in found[name])
        ratio = f"{seconds / times['SpectrumMetric']:.2f}" if "SpectrumMetric" in times else ""
        error = ""
        if reference is not None and not name.startswith("product"):
            error = f"{np.abs(np.subtract(found[name][0]['values'], reference)).max() / reference[0]:.1e}"
        print(f"| {name} | {seconds:.2f} | {cpu:.2f} | {memory:.0f} | {ratio} | {error} |", flush=True)
        if alone := median(run["svd"] for run in found[name]):
            ratio = f"{alone / times['SpectrumMetric']:.2f}" if "SpectrumMetric" in times else ""
            print(f"| &nbsp; of which svdvals | {alone:.2f} | | | {ratio} | |", flush=True)


def main() -> None:
    """Generate, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, default=Path(tempfile.gettempdir()), help="where features are written")
    parser.add_argument("--quick", action="store_true", help="100,000 x 512 only")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--sizes", nargs="*", help="such as 1000000x512")
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), help="contenders to run")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "PATH"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        return run_one(*args.one)
    print(f"{_processor()}, {torch.get_num_threads()} threads, Python {platform.python_version()}")
    print(", ".join(f"{package} {version(package)}" for package in ("torch", "numpy", "scikit-learn", "torchmetrics")))
    sizes = args.sizes or (["100000x512"] if args.quick else ["1000000x512", "200000x2048"])
    for size in sizes:
        n, d = map(int, size.split("x"))
        with tempfile.TemporaryDirectory(dir=args.dir) as folder:
            path = Path(folder) / "features.npy"
            generate(path, n, d)
            compare(path, n, d, args.runs, args.only)
    return None


if __name__ == "__main__":
    main()
