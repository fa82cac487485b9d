"""Do the quick linear probe and [Li22]'s agree, and what does each cost?

    OMP_NUM_THREADS=1 python benchmarks/probes.py runs/a runs/b ... --epochs 10 --base-lr 0.9 --out probes.json

Takes `logistic` and `linear` of `fullrank evaluate` for each run, and for the first run's encoder with random weights;
prints a table, and how well the two rank the encoders alike. All runs must have the same images. What is finished is
in --out, and is not done again.

LARS moves weights by lr x trust of their norm in a step, so that fewer steps need a higher rate to get as far: 90
epochs at a base rate of 0.1 are as long a way as 10 at 0.9 (`fullrank.evaluation.linear`).

Seconds are of one thread's CPU time; images are decoded before, once. "Features" are the representations of all images,
which the logistic regression starts from; "fit" is the choice of its regularisation and the fit; "linear" is the
training of [Li22]'s classifier, with the representations of the held-out images left out, then over the fit, and over
the fit and the features. "(best)" is its best epoch on the held-out labels.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau, spearmanr

from fullrank.encoders import open_encoder
from fullrank.evaluation.linear import linear
from fullrank.evaluation.options import EvaluateOptions, LinearOptions
from fullrank.evaluation.probes import logistic
from fullrank.evaluation.task import Session, Task, open_task
from fullrank.models.encoder import Encoder, unchanged
from fullrank.training.machine import environment
from fullrank.training.runs import write_text

RANDOM = "(random weights)"


def encoders(runs: list[Path]) -> dict[str, Encoder]:
    """Return the runs' encoders, and the first one's as it was before training."""
    found = {path.name: open_encoder(path) for path in runs}
    first = next(iter(found.values()))
    if first.untrained is not None:
        found[RANDOM] = replace(first, module=first.untrained())
    return found


def judge(task: Task, options: EvaluateOptions) -> dict[str, Any]:
    """Take both probes and their times."""
    seconds = {}

    def timed(what: str, function: Any, *arguments: Any) -> Any:
        start = time.process_time()
        result = function(*arguments)
        seconds[what] = time.process_time() - start
        return result

    with unchanged(task.encoder.module):
        timed("features", lambda: task.represented)
        quick = timed("fit", logistic, task, options)
        trained = timed("linear", linear, task, options)
    return {"logistic": quick.as_dict(), "linear": trained.as_dict(), "seconds": seconds}


def agreement(first: list[float], second: list[float]) -> str:
    """Say how alike two lists rank."""
    return f"Kendall {kendalltau(first, second).statistic:.2f}, Spearman {spearmanr(first, second).statistic:.2f}"


def show(found: dict[str, dict[str, Any]], machine: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table(title="two linear probes")
    table.add_column("encoder")
    headings = ("logistic %", "linear %", "(best)", "features s", "fit s", "linear s", "/ fit", "/ both")
    for heading in headings:
        table.add_column(heading, justify="right")
    for name, each in found.items():
        s = each["seconds"]
        scores = (each["logistic"]["value"], each["linear"]["value"], each["linear"]["chosen"]["best_over_epochs"])
        cells = [f"{value:.2%}".rstrip("%") for value in scores]
        cells += [f"{s[what]:.1f}" for what in ("features", "fit", "linear")]
        table.add_row(name, *cells, f"{s['linear'] / s['fit']:.0f}", f"{s['linear'] / (s['features'] + s['fit']):.1f}")
    console.print(table)
    names = [name for name in found if name != RANDOM]
    for label, chosen in (("all", list(found)), ("trained ones", names)):
        if len(chosen) > 2:
            pair = [[found[name][probe]["value"] for name in chosen] for probe in ("logistic", "linear")]
            console.print(f"{label} ({len(chosen)}): {agreement(*pair)}", highlight=False)
    last = next(iter(found.values()))
    for probe in ("logistic", "linear"):
        words = ", ".join(f"{key} {value}" for key, value in last[probe]["protocol"].items())
        console.print(f"{probe}: {words}", highlight=False, markup=False)
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "timm", "fullrank"))
    console.print(
        f"{machine.get('gpu', machine['cpu'])}, {machine['threads']} threads, {packages}, Python "
        f"{platform.python_version()}; one run each",
        highlight=False,
    )


def main() -> None:
    """Take the probes and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--images", help="the runs' own when left out")
    parser.add_argument("--eval-images", help="the runs' own when left out")
    parser.add_argument("--limit", type=int, help="so many training images")
    parser.add_argument("--epochs", type=int, default=90)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--base-lr", type=float, default=0.1)
    parser.add_argument("--out", type=Path, default=Path("probes.json"))
    asked = parser.parse_args()
    options = EvaluateOptions(
        images=asked.images,
        eval_images=asked.eval_images,
        limit=asked.limit,
        linear_options=LinearOptions(epochs=asked.epochs, batch_size=asked.batch_size, base_lr=asked.base_lr),
    )
    device = torch.device("cpu")
    settings = json.loads(
        json.dumps({name: value for name, value in vars(asked).items() if name != "runs"}, default=str)
    )
    document = json.loads(asked.out.read_text()) if asked.out.is_file() else {"settings": settings, "found": {}}
    if document["settings"] != settings:
        parser.error(f"{asked.out} was made with other settings, {document['settings']}: choose another --out")
    found = document["found"]
    session = Session(options, device, several=True)
    for name, encoder in encoders(asked.runs).items():
        if name in found:
            continue
        task = open_task(session, name, encoder)
        found[name] = judge(task, options)
        document["environment"] = environment(device)
        write_text(asked.out, json.dumps(document, indent=2) + "\n")
        print(f"{name}: {found[name]['seconds']}", flush=True)
    show(found, document["environment"], Console())


if __name__ == "__main__":
    main()
