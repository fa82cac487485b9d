"""What to know of a study's runs: how far they are, what they were made with, and whether they were made alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from fullrank.data.images import in_common
from fullrank.measure.scores import title
from fullrank.report.words import duration
from fullrank.studies.protocols import counted, unexplained
from fullrank.studies.store import Planned
from fullrank.studies.study import Result, Scale, Study
from fullrank.text import listing

PACKAGES = ("fullrank", "torch", "torchvision", "timm", "numpy", "python")


def facts(study: Study, scale: Scale, results: Sequence[Result], planned: Sequence[Planned]) -> dict[str, str]:
    """Return where a study is from, how far it is, and what its runs were made with."""
    seeds = sorted({run.seed for run in planned})
    named = f"{_plural(len(seeds), 'seed')} ({', '.join(map(str, seeds))})"
    runs = f"{len(results)} of {len(planned)} finished; {named}"
    said = {"source": study.source, "scale": scale, "runs": runs}
    if results:
        versions = [f"{package} {counted(_each(results, _version(package)))}" for package in PACKAGES]
        said["training"] = _training(results)
        said["time"] = _time(results)
        said["hardware"] = counted(_each(results, _hardware))
        said["versions"] = "; ".join(versions)
    return said


def warnings(results: Sequence[Result]) -> list[str]:
    """Say where results that stand beside each other were not made alike."""
    said = []
    for split, what in (("train", "Training"), ("held_out", "Held-out")):
        alike: dict[Any, list[Result]] = {}
        for result in results:
            config = result.run.config
            drawn = config.get("seed") if split == "train" and config.get("subset", 1.0) < 1 else None
            images = config.get("images"), config.get("eval_images"), config.get("subset"), drawn
            alike.setdefault(images, []).append(result)
        for (images, *_), group in alike.items():
            found = in_common([str(_fingerprint(result, split)) for result in group])
            if len(set(found)) > 1:
                said.append(f"{what} images called {images} are not the same: fingerprints {counted(found)}.")
    others = [(f"made with different versions of {package}", _version(package)) for package in PACKAGES]
    for how, of in (*others, ("trained in different precisions", _precision)):
        found = _each(results, of)
        if len(set(found)) > 1:
            said.append(f"Runs were {how}: {counted(found)}.")
    differing: dict[str, list[str]] = {}
    for score in dict.fromkeys(score for result in results for score in result.scores):
        taken = [(result, result.protocol(score)) for result in results if score in result.scores]
        if fields := unexplained(taken):
            ways = [", ".join(f"{field} {own.get(field, 'not stated')}" for field in fields) for _, own in taken]
            differing.setdefault(counted(ways), []).append(title(score))
    for how, names in differing.items():
        text = f"{listing(names)} {'were' if names[1:] else 'was'} not measured the same way in all runs: {how}."
        said.append(f"{text[0].upper()}{text[1:]}")
    return said


def missing(results: Sequence[Result], planned: Sequence[Planned]) -> list[str]:
    """Name what is not finished, by setting and seed."""
    done = {(*result.cell.factors.items(), result.seed) for result in results}
    seeds: dict[str, list[str]] = {}
    for run in planned:
        if (*run.cell.factors.items(), run.seed) not in done:
            seeds.setdefault(run.cell.words, []).append(str(run.seed))
    return [f"{setting} (seed{'s' * (len(own) > 1)} {listing(own)})" for setting, own in seeds.items()]


def _each(results: Sequence[Result], of: Callable[[Result], Any]) -> list[str]:
    return [str(of(result)) for result in results]


def _version(package: str) -> Callable[[Result], Any]:
    return lambda result: result.run.environment.get(package, "not recorded")


def _precision(result: Result) -> Any:
    return (result.run.config.get("machine") or {}).get("precision", "not recorded")


def _training(results: Sequence[Result]) -> str:
    def each(field: str) -> str:
        values = dict.fromkeys(result.run.config.get(field) for result in results)
        return listing([f"{value:,}" if isinstance(value, int) else str(value) for value in values])

    return f"{each('method')} on {each('images')}, {each('steps')} steps of {each('batch_size')} images"


def _plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _time(results: Sequence[Result]) -> str:
    seconds = [float((result.run.summary or {}).get("seconds", 0)) for result in results]
    one = f"a run took {duration(statistics.median(seconds))}"
    spread = f" (median), {duration(min(seconds))} to {duration(max(seconds))}" if min(seconds) < max(seconds) else ""
    return f"{duration(sum(seconds))} of training in all; {one}{spread}"


def _hardware(result: Result) -> str:
    found = result.run.environment
    processes = int(found.get("processes", 1))
    cpu = f"{found.get('cpu', 'not recorded')}, {_plural(int(found.get('threads', 0)), 'thread')}"
    return f"{f'{processes} x ' if processes > 1 else ''}{found.get('gpu', cpu)}, {_precision(result)}"


def _fingerprint(result: Result, split: str) -> Any:
    return ((result.run.environment.get("data") or {}).get(split) or {}).get("fingerprint", "not recorded")
