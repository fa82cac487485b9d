"""`fullrank study show`: what is finished of a study, as one self-contained page and as Markdown."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from fullrank.data.images import in_common
from fullrank.documents import Document, Fields, Fold, Heading, Only, Part, Picture, Points, Words, value_text
from fullrank.documents.html import write_page
from fullrank.documents.markdown import render
from fullrank.documents.plots import svg_file
from fullrank.errors import FullrankError
from fullrank.files import write_text
from fullrank.shapes import Range, fit
from fullrank.studies.registry import find
from fullrank.studies.store import Planned, Store, planned, seeds_with_results
from fullrank.studies.study import Result, Results, Scale, Study
from fullrank.studies.views.scores import counted
from fullrank.text import duration, grouped, listing

_PACKAGES = ("fullrank", "torch", "torchvision", "timm", "numpy", "python")
_TRAINED = ("method", "images", "steps", "batch_size")
_NAMED = 8  # missing settings that are named without being asked


@dataclass(frozen=True)
class FinishedRuns:
    """What is finished of a study."""

    study: Study
    scale: Scale
    found: Sequence[Result]
    runs: Sequence[Planned]  # all that was planned, finished or not

    @cached_property
    def results(self) -> Results:
        """What was found, in the order of the study's settings."""
        return Results(self.study.cells(self.scale), self.found)

    @property
    def facts(self) -> dict[str, str]:
        """Where the study is from, how far it is, and what its runs were made with."""
        results, seeds = self.results, sorted({run.seed for run in self.runs})
        named = f"{len(seeds)} seed{'s' * (len(seeds) != 1)} ({', '.join(map(str, seeds))})"
        said = {
            "source": self.study.source,
            "scale": self.scale,
            "runs": f"{len(results)} of {len(self.runs)} finished; {named}",
        }
        if results:
            made = [
                (field, counted([value_text(result.run.config.get(field)) for result in results])) for field in _TRAINED
            ]
            seconds = [float((result.run.summary or {}).get("seconds", 0)) for result in results]
            of = [(package, counted(list(map(_version(package), results)))) for package in _PACKAGES]
            took = duration(sum(seconds)), duration(statistics.median(seconds))
            said["training"] = ", ".join(f"{field} {found}" for field, found in made)
            said["time"] = f"{took[0]} of training, {took[1]} a run (median)"
            said["hardware"] = counted(list(map(_hardware, results)))
            said["versions"] = "; ".join(f"{package} {found}" for package, found in of)
        return said

    @property
    def missing(self) -> list[str]:
        """What is not finished, by setting and seed."""
        done = {(*result.cell.factors.items(), result.seed) for result in self.results}
        lacking = [run for run in self.runs if (*run.cell.factors.items(), run.seed) not in done]
        seeds = grouped((run.cell.words, str(run.seed)) for run in lacking)
        return [f"{setting} (seed{'s' * (len(own) > 1)} {listing(own)})" for setting, own in seeds.items()]

    def document(self) -> Document:
        """Return its page; the same results make the same document."""
        study, results = self.study, self.results
        parts: list[Part] = [Words(study.question, "lead"), Fields(self.facts)]
        parts += [Words(warning, "warning") for warning in warnings(results)]
        parts += self._how_to_go_on()
        if results:
            parts.append(Only("page", [Heading("Results")]))
            keys: Counter[str] = Counter()
            for part in study.parts(results, self.scale):
                if isinstance(part, Picture):
                    keys[part.key] += 1
                    part = replace(part, key=f"{part.key}-{keys[part.key]}") if keys[part.key] > 1 else part
                parts.append(part)
        data = {"study": study.name, "scale": self.scale, "facts": self.facts}
        return Document("study", study.title, parts, data)

    def _how_to_go_on(self) -> list[Part]:
        seeds = max((run.seed + 1 for run in self.runs), default=3)
        command = Words(f"fullrank study run {self.study.name} --scale {self.scale} --seeds {seeds}", "command")
        if not self.results:
            return [Words("Nothing is finished yet. This makes the runs:"), command]
        if not self.missing:
            return []
        count = len(self.runs) - len(self.results)
        said: list[Part] = [Points(self.missing), Words("This makes them:"), command]
        return [Fold(f"{count} run{'s' * (count != 1)} missing", said, opened=len(self.missing) <= _NAMED)]

    def write(self, folder: Path, *, figures: Path | None = None) -> Path:
        """Write the page and its Markdown to a folder, NAME-SCALE.html and .md, and return the page.

        With `figures`, a folder, each figure is a file too, NAME-SCALE-FIGURE.svg, which the Markdown then shows.
        """
        made = self.document()
        folder.mkdir(parents=True, exist_ok=True)
        stem, shown = f"{self.study.name}-{self.scale}", {}
        for part in made.parts:
            if isinstance(part, Picture) and figures is not None:
                figures.mkdir(parents=True, exist_ok=True)
                file = figures / f"{stem}-{part.key}.svg"
                write_text(file, svg_file(part.draw(), part.key, f"{part.title}. {part.caption}"))
                shown[part.key] = Path(os.path.relpath(file, folder)).as_posix()
        write_text(folder / f"{stem}.md", render(made, shown))
        return write_page(made, folder / f"{stem}.html")


def finished(name: str, scale: Scale, folder: Path, seeds: int | None = None) -> FinishedRuns:
    """Read what is finished of a study in a folder of results.

    Raises:
        FullrankError: There is no such study, nothing of it is finished, or `seeds` is below 1.
    """
    fit(seeds, Annotated[int, Range(1, 2**14)] | None, "seeds")
    study, store = find(name), Store(folder, scale)
    runs = planned(study, scale, range(seeds or seeds_with_results(study, store)))
    results = store.results(runs)
    if not results:
        raise FullrankError(
            f"no run of {name} at {scale} scale is finished in {folder}: `fullrank study run {name} --scale {scale}` "
            "makes them, and another folder of results can be named"
        )
    return FinishedRuns(study, scale, results, runs)


def warnings(results: Sequence[Result]) -> list[str]:
    """Say where results that stand beside each other were not made alike; tables say how scores were not."""
    said = []
    names: dict[Literal["train", "held_out"], str] = {"train": "Training", "held_out": "Held-out"}
    for split, what in names.items():
        alike: dict[Any, list[str]] = {}
        for result in results:
            config = result.run.config
            drawn = config.get("seed") if split == "train" and config.get("subset", 1.0) < 1 else None
            images = config.get("images"), config.get("eval_images"), config.get("subset"), drawn
            alike.setdefault(images, []).append(str(result.run.images(split).get("fingerprint", "not recorded")))
        for (images, *_), found in alike.items():
            if len(set(prints := in_common(found))) > 1:
                said.append(f"{what} images called {images} are not the same: fingerprints {counted(prints)}.")
    others = [(f"made with different versions of {package}", _version(package)) for package in _PACKAGES]
    for how, of in (*others, ("trained in different precisions", _precision)):
        if len(set(found := list(map(of, results)))) > 1:
            said.append(f"Runs were {how}: {counted(found)}.")
    return said


def _version(package: str) -> Callable[[Result], str]:
    return lambda result: str(result.run.environment.get(package, "not recorded"))


def _precision(result: Result) -> str:
    return str((result.run.config.get("machine") or {}).get("precision", "not recorded"))


def _hardware(result: Result) -> str:
    found = result.run.environment
    cpu = f"{found.get('cpu', 'not recorded')}, threads {found.get('threads', 0)}"
    return f"{found.get('processes', 1)} x {found.get('gpu', cpu)}, {_precision(result)}"
