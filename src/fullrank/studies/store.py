"""Results of finished runs: small files, apart from the runs' own folders, so that they can be kept in a repository.

    results/lab/simsiam-resnet18-hybrid-s0-1a2b3c4d/
        config.yaml  metrics.jsonl  spectra.safetensors  summary.json  evaluation.json

No weights, and no path of the machine: images are called what the study calls them.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from fullrank.config import TrainConfig
from fullrank.errors import FullrankError
from fullrank.studies.identity import mismatch, run_name
from fullrank.studies.study import Cell, Result, Scale, Study
from fullrank.training.runs import CONFIG, METRICS, SPECTRA, SUMMARY, TIMING, atomic_path, read_run, write_text

EVALUATION = "evaluation.json"
_KEPT = (CONFIG, METRICS, TIMING, SUMMARY, EVALUATION)


@dataclass(frozen=True)
class Planned:
    """A run of a study, finished or not.

    Attributes:
        cell: Its setting.
        seed: Its seed.
        config: Its configuration; a teacher is called by its run's name.
    """

    cell: Cell
    seed: int
    config: TrainConfig

    @property
    def name(self) -> str:
        """The name of its folders."""
        return run_name(self.config)


def planned(study: Study, scale: Scale, seeds: Sequence[int]) -> list[Planned]:
    """Return the runs of a study, a teacher before its students, each once."""
    cells = study.cells(scale)
    found: dict[str, Planned] = {}

    def add(cell: Cell, seed: int) -> Planned:
        config = replace(cell.config, seed=seed)
        if cell.teacher is not None:
            teacher = next(other for other in cells if other.factors == cell.teacher)
            config = replace(config, target=replace(config.target, teacher=add(teacher, seed).name))
        run = Planned(cell, seed, config)
        return found.setdefault(run.name, run)

    for seed in seeds:
        for cell in cells:
            add(cell, seed)
    return list(found.values())


class Store:
    """A folder of results, of one scale.

    Args:
        root: The folder of all results.
        scale: Which of them.
    """

    def __init__(self, root: Path, scale: Scale) -> None:
        self.scale: Scale = scale
        self.path = root / scale

    def find(self, run: Planned) -> Result | None:
        """Return a finished run's result, or None.

        Raises:
            FullrankError: What is there under its name is of other settings, or damaged.
        """
        path = self.path / run.name
        if not (path / SUMMARY).is_file():
            return None
        record = read_run(path)
        other = mismatch(run.config, record.config)
        if other is not None:
            raise FullrankError(
                f"{path} is of a run with {other}: a default has changed since; move it away to make the run again"
            )
        scores = json.loads((path / EVALUATION).read_text("utf-8"))["scores"] if (path / EVALUATION).is_file() else []
        missing = [probe for probe in run.cell.probes if probe not in {score["name"] for score in scores}]
        return None if missing else Result(run.cell, run.seed, record, scores)

    def results(self, runs: Sequence[Planned]) -> list[Result]:
        """Return what is finished of some runs."""
        return [result for run in runs if (result := self.find(run)) is not None]

    def keep(self, folder: Path, name: str, names: Mapping[str, str]) -> None:
        """Copy the small files of a finished run; the summary, by which it counts as finished, comes last.

        Args:
            folder: The run's own folder.
            name: What to keep it as.
            names: What to call paths of this machine.
        """
        target = self.path / name
        target.mkdir(parents=True, exist_ok=True)
        for file in (*(each for each in _KEPT if each != SUMMARY), SUMMARY):
            if not (folder / file).is_file():
                continue
            write_text(target / file, _renamed((folder / file).read_text("utf-8"), file, names))
        with atomic_path(target / SPECTRA) as temporary:
            shutil.copyfile(folder / SPECTRA, temporary)


def seeds_with_results(study: Study, store: Store) -> int:
    """Return how many seeds, from 0, some run of a study is finished with; 1 where there are none."""
    seeds = 1
    while store.results(planned(study, store.scale, [seeds])):
        seeds += 1
    return seeds


def _renamed(text: str, file: str, names: Mapping[str, str]) -> str:
    """Return the contents of a YAML file, or of JSON lines, with paths called by their names."""
    paths = sorted(names, key=len, reverse=True)
    # a path that stands alone in its text, and not as a part of a longer path or a word
    pattern = re.compile(rf"(?<![\w./-])({'|'.join(map(re.escape, paths))})(?![\w./-])") if paths else None

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rename(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [rename(inner) for inner in value]
        return pattern.sub(lambda found: names[found[1]], value) if pattern and isinstance(value, str) else value

    if file.endswith(".yaml"):
        return yaml.safe_dump(rename(yaml.safe_load(text)), sort_keys=False)
    if file.endswith(".jsonl"):
        return "".join(json.dumps(rename(json.loads(line))) + "\n" for line in text.splitlines())
    return json.dumps(rename(json.loads(text)), indent=2) + "\n"
