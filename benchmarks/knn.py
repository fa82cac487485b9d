"""Weighted k-NN of several k: fullrank in one pass, lightly's and solo-learn's k-NN in a pass for each.

    python benchmarks/knn.py                           # bank 50,000 x queries 10,000 x 512, ten values of k; and k = 20
    python benchmarks/knn.py --queries 1000 --runs 3
    python benchmarks/knn.py --device cuda

The rivals are lightly's `knn_predict`, called on batches as its benchmark module does, and solo-learn's
`WeightedKNNClassifier`, where they can be imported (`pip install lightly solo-learn`; they are no requirement). Both
take one k, so that many k are many passes. All do the same work: float32 features as they come from an encoder, which
each normalises once, and votes of weight exp(cosine / 0.07), the protocol that the three have in common. Features are
of ten classes that overlap. Each contender runs in a fresh process, in turn, `--runs` times; figures are medians. CPU
seconds are those of the process, which a busy machine lengthens less than wall seconds. Memory is the peak above what
the process had with the features: anonymous memory (RssAnon) on a CPU, PyTorch's allocations on a GPU. Agreement is
the share of predictions, over queries and k, that are fullrank's. On a busy machine set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from fullrank.measure.probes import knn_predictions
from fullrank.training.machine import environment
from losses import call, clock, peak_mb, solo_file, versions

KS = (1, 2, 5, 10, 20, 50, 100, 128, 150, 200)
ONE = (20,)
TEMPERATURE = 0.07
CLASSES = 10
BATCH = 256  # of lightly's queries; solo-learn chooses its own

Data = tuple[Tensor, Tensor, Tensor, Tensor]
Contender = Callable[[Data, Sequence[int], Tensor | None], Tensor]
"""Takes bank, labels, queries, their labels, the values of k, and fullrank's predictions; returns predictions
`(Q, len(ks))`, or the share of each k's that agree with fullrank's."""


def fullrank(data: Data, ks: Sequence[int], _: Tensor | None) -> Tensor:
    """Predict by the votes of one pass."""
    bank, labels, queries, _ = data
    found = knn_predictions(bank, labels, queries, k=max(ks), vote="weighted", temperature=TEMPERATURE)
    return found[:, [k - 1 for k in ks]]


def lightly(data: Data, ks: Sequence[int], _: Tensor | None) -> Tensor:
    """Predict by lightly's function, a batch at a time."""
    from lightly.utils.benchmarking import knn_predict

    bank, labels, queries, _ = data
    bank, queries = F.normalize(bank, dim=1).t().contiguous(), F.normalize(queries, dim=1)
    return torch.stack(
        [
            torch.cat([knn_predict(q, bank, labels, CLASSES, k, TEMPERATURE)[:, 0] for q in queries.split(BATCH)])
            for k in ks
        ],
        dim=1,
    )


def solo_learn(data: Data, ks: Sequence[int], expected: Tensor | None) -> Tensor:
    """Score by solo-learn's metric, which tells accuracies and no predictions: with fullrank's as labels, agreement.

    It passes an argument on that torchmetrics no longer takes.
    """
    metric = solo_file("utils", "knn").WeightedKNNClassifier
    start = Metric.__init__
    bank, labels, queries, answers = data
    bank, queries = F.normalize(bank, dim=1), F.normalize(queries, dim=1)
    shares = []
    for i, k in enumerate(ks):
        with mock.patch.object(Metric, "__init__", lambda self, compute_on_step, **rest: start(self, **rest)):
            scored = metric(k=k, T=TEMPERATURE)
        scored.update(bank, labels, queries, answers if expected is None else expected[:, i])
        shares.append(scored.compute()[0] / 100)
    return torch.tensor(shares)


CONTENDERS: dict[str, Contender] = {"fullrank": fullrank, "lightly": lightly, "solo-learn": solo_learn}


def features(bank: int, queries: int, dim: int, device: torch.device) -> Data:
    """Return features of overlapping classes, of unequal lengths, and their labels."""
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(CLASSES, dim, generator=generator)
    found = []
    for count in (bank, queries):
        labels = torch.randint(0, CLASSES, (count,), generator=generator)
        noise = torch.randn(count, dim, generator=generator)
        lengths = torch.rand(count, 1, generator=generator) + 0.5
        found += [((0.12 * means[labels] + noise) * lengths).to(device), labels.to(device)]
    return found[0], found[1], found[2], found[3]


def run_one(name: str, ks: Sequence[int], data: Data, reference: Path) -> None:
    """Run one contender; print its time, memory and agreement."""
    expected = None if name == "fullrank" else torch.load(reference, weights_only=True).to(data[0].device)
    contend, device = CONTENDERS[name], data[0].device
    small = (data[0][:512], data[1][:512], data[2][:64], data[3][:64])
    try:
        contend(small, ks, None)  # thread pools and libraries' buffers exist before anything is measured
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    found: list[Tensor] = []
    seconds: list[float] = []

    def timed() -> None:
        start, cpu = clock(device), time.process_time()
        found.append(contend(data, ks, expected))
        seconds.extend((clock(device) - start, time.process_time() - cpu))

    mb = peak_mb(timed, device, every=0.02)
    if expected is None:
        torch.save(found[0].cpu(), reference)
        agreement = 1.0
    elif found[0].shape == expected.shape:
        agreement = float((found[0] == expected).double().mean())
    else:
        agreement = float(found[0].mean())
    print(json.dumps({"seconds": seconds[0], "cpu": seconds[1], "mb": mb, "agreement": agreement}))


def compare(ks: Sequence[int], args: argparse.Namespace) -> None:
    """Print the table of some values of k."""
    sizes = ["--bank", str(args.bank), "--queries", str(args.queries), "--dim", str(args.dim), "--device", args.device]
    found: dict[str, list[dict]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.runs):
            for name in CONTENDERS:
                one = [name, ",".join(map(str, ks)), str(Path(folder) / "reference.pt")]
                found[name].append(call([*sizes, "--one", *one], __file__))
                print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    size = f"bank {args.bank:,} x queries {args.queries:,} x {args.dim}"
    print(f"\n{size}, k = {', '.join(map(str, ks))}, weighted votes, medians of {args.runs}\n")
    print("| | s | CPU s | memory, MB | times fullrank's CPU s | agreement |\n|---|---|---|---|---|---|")
    for name, results in found.items():
        if "missing" in results[0]:
            print(f"| {name} | not run: {results[0]['missing']} | | | | |")
            continue
        wall, cpu, mb, agreement = (
            median(run[key] for run in results) for key in ("seconds", "cpu", "mb", "agreement")
        )
        own = median(run["cpu"] for run in found["fullrank"])
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {mb:.0f} | {cpu / own:.1f} | {agreement:.5f} |", flush=True)


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--one", nargs=3, metavar=("NAME", "KS", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.one:
        name, ks, file = args.one
        data = features(args.bank, args.queries, args.dim, device)
        return run_one(name, [int(k) for k in ks.split(",")], data, Path(file))
    machine = environment(device)
    print(
        f"{machine.get('gpu', machine['cpu'])}, {machine['threads']} threads, Python {machine['python']}, {versions()}"
    )
    for ks in (ONE, KS):
        compare(ks, args)
    return None


if __name__ == "__main__":
    main()
