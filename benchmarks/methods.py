"""Train every method with its lab recipe, and compare their encoders with one another and with random weights.

    python benchmarks/methods.py --images train.parquet --eval-images test.parquet --jobs 2        # all methods, seed 0
    python benchmarks/methods.py vicreg simclr --steps 300 --seeds 0 1 2 --out runs/short
    python benchmarks/methods.py --images train.parquet --speed                                    # images/s

Each run is `fullrank train --preset METHOD-lab` in a process of one thread, in OUT/METHOD-sSEED. Give the same command
again to go on after an interruption: what is finished is skipped, what is unfinished is resumed. OUT/methods.md and
OUT/methods.json are written anew after every run, of all finished runs in OUT. `distill` learns from the run of
--teacher, and comes last. `--speed` trains nothing: it times 20 steps of each recipe, one method after another on one
thread, loading and views included, for the table's column of images/s; give it a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fullrank.config import read_config, to_dict
from fullrank.data.images import open_images
from fullrank.errors import FullrankError, nearest
from fullrank.text import flatten
from fullrank.training.presets import LAB, preset
from fullrank.training.runs import CONFIG, RunRecord, read_run
from step import time_steps

_OF_THE_MACHINE = ("cache", "data_dir", "out", "machine.device", "machine.precision", "machine.workers")
SPEEDS = "speed.json"
TIMED_STEPS, WARM_UP = 20, 5
SCORES = {"knn": "k-NN %", "auc": "AUC", "rankme_centered": "RankMe", "heldout_loss": "held-out loss"}


@dataclass(frozen=True)
class Finished:
    """A run that is done."""

    path: Path
    run: RunRecord

    @property
    def method(self) -> str:
        """Its method."""
        return self.run.config["method"]

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.run.config["seed"]

    @property
    def first(self) -> dict[str, Any]:
        """What was measured before training."""
        return self.run.of_kind("measure")[0]

    @property
    def last(self) -> dict[str, Any]:
        """What was measured after it."""
        return self.run.of_kind("measure")[-1]


@dataclass(frozen=True)
class Job:
    """One run to make."""

    method: str
    seed: int
    path: Path
    arguments: list[str]

    def finished(self) -> bool:
        """Say whether it is done already, with the settings that are asked for now.

        Raises:
            FullrankError: There is a run in its folder that has other settings.
        """
        if not (self.path / CONFIG).is_file():
            return False
        run = read_run(self.path)
        has = flatten(to_dict(read_config(self.path / CONFIG)))
        for name, value in {**self.recipe(), **self.asked()}.items():
            if value is not None and name not in _OF_THE_MACHINE and has.get(name) != value:
                raise FullrankError(
                    f"{self.path} holds a run of {name}={has.get(name)}, not {value}: choose another --out"
                )
        return run.summary is not None

    def recipe(self) -> dict[str, Any]:
        """Return the fields of the method's lab recipe, by dotted name; what it leaves open is None."""
        return flatten(to_dict(preset(LAB[self.method])))

    def asked(self) -> dict[str, Any]:
        """Return the fields that the command line asks for, as a run's configuration has them."""
        given = dict(zip(self.arguments[::2], self.arguments[1::2], strict=True))
        fields: dict[str, Any] = {name.removeprefix("--").replace("-", "_"): value for name, value in given.items()}
        return {name: int(value) if value.isdigit() else value for name, value in fields.items()}

    def run(self) -> int:
        """Train or go on, and return the exit code; what it prints goes to a file beside the run."""
        command = [sys.executable, "-m", "fullrank", "train"]
        if (self.path / CONFIG).is_file():
            command += ["--resume", str(self.path)]
        else:
            command += ["--preset", LAB[self.method], *self.arguments, "--out", str(self.path)]
        with open(f"{self.path}.log", "a", encoding="utf-8") as log:
            # one thread each: two busy threads of two processes on two cores would wait for each other
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            return subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=False
            ).returncode


def plan(asked: argparse.Namespace) -> list[Job]:
    """Return the runs to make, those that others learn from first."""
    for name in asked.methods:
        if name not in LAB:
            raise FullrankError(f"unknown method {name!r}{nearest(name, LAB)} (known: {', '.join(LAB)})")
    methods = list(dict.fromkeys(asked.methods)) or list(LAB)
    jobs = []
    for seed in asked.seeds:
        for method in sorted(methods, key=lambda name: name == "distill"):
            recipe = preset(LAB[method])
            arguments = ["--images", asked.images, "--seed", str(seed), "--machine.threads", "1"]
            arguments += ["--steps", str(recipe.steps if asked.steps is None else asked.steps)]
            if asked.eval_images is not None:
                arguments += ["--eval-images", asked.eval_images]
            if method == "distill":
                arguments += ["--target.teacher", str(asked.out / f"{asked.teacher}-s{seed}")]
            jobs.append(Job(method, seed, asked.out / f"{method}-s{seed}", arguments))
    if "distill" in methods and asked.teacher not in methods:
        raise FullrankError(f"distill learns from --teacher {asked.teacher}: name that method too")
    return jobs


def finished_runs(out: Path) -> list[Finished]:
    """Return the finished runs of a folder, by method in the order of the recipes, and by seed."""
    paths = sorted(out.glob(f"*/{CONFIG}"), key=lambda path: path.parent.name)
    runs = [Finished(path.parent, read_run(path.parent)) for path in paths]
    place = list(LAB)
    return sorted(
        (found for found in runs if found.run.summary is not None and found.method in place),
        key=lambda found: (place.index(found.method), found.seed),
    )


def write_table(out: Path) -> str:
    """Write what is finished to methods.md and methods.json, and return the table."""
    runs = finished_runs(out)
    if not runs:
        return "no run is finished"
    speeds = read_speeds(out)
    by_method: dict[str, list[Finished]] = {}
    for found in runs:
        by_method.setdefault(found.method, []).append(found)
    header = ["method", *SCORES.values(), "images/s", "seeds"]
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    for method, group in by_method.items():
        cells = [_mean(name, [found.last.get(name) for found in group]) for name in SCORES]
        speed = f"{speeds['images_per_second'][method]:,.0f}" if method in speeds["images_per_second"] else "–"
        lines.append("| " + " | ".join([method, *cells, speed, str(len(group))]) + " |")
    # the encoder's first weights follow from the seed alone, so one run of each seed says what they are worth
    first = {found.seed: found.first for found in runs}
    cells = [_mean(name, [scores.get(name) for scores in first.values()]) for name in SCORES if name != "heldout_loss"]
    lines.append("| " + " | ".join(["(random weights)", *cells, "", "", str(len(first))]) + " |")
    text = "\n".join([*lines, "", *sorted({_protocol(found.run) for found in runs}), ""])
    if speeds["images_per_second"]:
        text += f"\nImages/s: {speeds['how']}\n"
    (out / "methods.md").write_text(text, encoding="utf-8")
    contents = [
        {
            "method": found.method,
            "seed": found.seed,
            "config": found.run.config,
            "environment": found.run.environment,
            "protocols": found.run.protocols,
            "scores": found.last,
            "random_weights": found.first,
        }
        for found in runs
    ]
    (out / "methods.json").write_text(json.dumps({"runs": contents, "speeds": speeds}, indent=2) + "\n", "utf-8")
    return text


def _protocol(run: RunRecord) -> str:
    """Say how a run was made; runs of one table should agree, and the table names every way there is."""
    e, c = run.environment, run.config
    return (
        f"{c['backbone']['name']} of width {c['backbone']['width']:g}, {c['image_size']} x {c['image_size']}, "
        f"{c['steps']:,} steps of {c['batch_size']} images of {Path(c['images']).name}; "
        f"k-NN with k = {c['monitor']['knn_k']} among {c['monitor']['images']:,} images; losses of different methods "
        f"do not compare; mean and standard deviation over seeds. {e.get('gpu', e['cpu'])}, "
        f"{e['threads']} thread a run, {c['machine']['precision']}, torch {e['torch']}, timm {e['timm']}, "
        f"Python {e['python']}, fullrank {e['fullrank']}."
    )


def read_speeds(out: Path) -> dict[str, Any]:
    """Return what `time_methods` left in a folder."""
    path = out / SPEEDS
    return json.loads(path.read_text("utf-8")) if path.is_file() else {"images_per_second": {}, "how": ""}


def time_methods(methods: list[str], asked: argparse.Namespace) -> None:
    """Time steps of each method's recipe, and keep them in the folder."""
    torch.set_num_threads(1)
    speeds = read_speeds(asked.out)
    # a step's time does not depend on how many images there are, and few are decoded sooner
    share = min(1.0, 5000 / len(open_images(asked.images)))
    for method in methods:
        config = preset(LAB[method])
        target = config.target
        if method == "distill":
            target = replace(target, teacher=str(asked.out / f"{asked.teacher}-s{asked.seeds[0]}"))
        config = replace(
            config,
            images=asked.images,
            subset=share,
            steps=TIMED_STEPS + WARM_UP,
            target=target,
            optim=replace(config.optim, warmup_steps=0),
            machine=replace(config.machine, threads=1),
        )
        config, times, machine = time_steps(config, WARM_UP)
        seconds = statistics.median(sum(parts) for parts in zip(*times.values(), strict=True))
        speeds["images_per_second"][method] = config.batch_size / seconds
        speeds["how"] = (
            f"the median of {TIMED_STEPS} steps of {config.batch_size}, loading and views included, in one process of "
            f"{machine['threads']} thread: {machine.get('gpu', machine['cpu'])}, {config.machine.precision}, torch "
            f"{machine['torch']}."
        )
        print(f"{method}: {config.batch_size / seconds:,.0f} images/s", flush=True)
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / SPEEDS).write_text(json.dumps(speeds, indent=2) + "\n", "utf-8")


def _mean(name: str, found: list[Any]) -> str:
    values = [value for value in found if value is not None]
    if not values:
        return "–"
    scale, digits = {"knn": (100, 1), "rankme_centered": (1, 1), "auc": (1, 3)}.get(name, (1, 3))
    text = f"{scale * statistics.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {scale * statistics.stdev(values):.{digits}f}"


def main() -> int:
    """Make the runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=f"all when left out: {', '.join(LAB)}")
    parser.add_argument("--images", default="cifar10", help="as `fullrank train --images`")
    parser.add_argument("--eval-images", help="as `fullrank train --eval-images`; labelled, for k-NN")
    parser.add_argument("--steps", type=int, help="the recipe's when left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--teacher", default="simclr", help="the method whose run `distill` learns from")
    parser.add_argument("--speed", action="store_true", help="time steps of each method, instead of training")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    asked = parser.parse_args()
    try:
        jobs = plan(asked)
        if asked.speed:
            time_methods(list(dict.fromkeys(job.method for job in jobs)), asked)
            return 0
        waiting = [job for job in jobs if not job.finished()]
    except FullrankError as error:
        parser.error(str(error))
    asked.out.mkdir(parents=True, exist_ok=True)
    print(f"{len(jobs)} runs, {len(jobs) - len(waiting)} finished", flush=True)
    failed = 0
    for phase in (False, True):  # distillation needs finished teachers
        with ThreadPoolExecutor(max_workers=asked.jobs) as pool:
            futures = {pool.submit(job.run): job for job in waiting if (job.method == "distill") == phase}
            try:
                for future in as_completed(futures):
                    code, job = future.result(), futures[future]
                    failed += code != 0
                    what = "done" if code == 0 else f"failed ({code}): see {job.path}.log"
                    print(f"{job.path}: {what}", flush=True)
                    write_table(asked.out)
            except KeyboardInterrupt:  # the runs, in the same group, got it too, and save
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                print("stopping; give the same command again to go on", flush=True)
                pool.shutdown(cancel_futures=True)
                return 130
    print(write_table(asked.out))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
