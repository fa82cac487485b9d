"""Results of finished runs: small files, apart from the runs' own folders, so that they can be kept in a repository.

    results/lab/simsiam-resnet18-hybrid-s0-1a2b3c4d/
        config.yaml  metrics.jsonl  timing.jsonl  spectra.safetensors  summary.json  scores.json

No weights, and no path of the machine: images are called what the study calls them.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from typing import Any, get_args

import yaml

import fullrank
from fullrank.config import TrainConfig, to_dict
from fullrank.errors import FullrankError, choose
from fullrank.files import atomic_path, write_text
from fullrank.measure.scores import Score, kind_of
from fullrank.studies.study import PROBES, Cell, Result, Scale, Study
from fullrank.text import flatten
from fullrank.training.runs import CONFIG, METRICS, SPECTRA, SUMMARY, TIMING, RunRecord, read_run
from fullrank.training.scores import KEPT, evaluated, kept

_KEPT = (CONFIG, METRICS, TIMING, *KEPT, SUMMARY)
_WHOLE = (CONFIG, METRICS, SPECTRA, SUMMARY)
_NO_RESULT = (
    *("data_dir", "cache", "out", "checkpoint_every", "keep_checkpoints"),
    *("monitor.tensorboard", "monitor.wandb"),
)
"""Fields that decide where and how a run is made, not what it computes; all of `machine` is left out too."""


_FIRST_NAMES = {"monitor.num_images": "monitor.images"}
"""What fields were called when runs of studies were first made: the names of runs follow from them."""


_FIRST_DEFAULTS = {"monitor.log_every": 50}
"""What fields that are left open now were set to when runs of studies were first made."""


def settings(config: TrainConfig) -> dict[str, Any]:
    """Return what decides the result of a run, by dotted name: the fields that differ from their defaults.

    Fields at their defaults are left out, so that a later version's new field does not make every old run another one.
    """
    defaults, own = _defaults(), _filled(config) | {"method": _method(config)}
    decided = {name: value for name, value in own.items() if _decides(name) and value != defaults.get(name)}
    return {_FIRST_NAMES.get(name, name): value for name, value in decided.items()}


@cache
def _defaults() -> dict[str, Any]:
    return _filled(TrainConfig())


def _filled(config: TrainConfig) -> dict[str, Any]:
    own = flatten(to_dict(config))
    return own | {name: first for name, first in _FIRST_DEFAULTS.items() if own[name] is None}


def _decides(field: str) -> bool:
    return field not in _NO_RESULT and not field.startswith("machine.")


def _method(config: TrainConfig) -> str:
    """Return a method's name as the names of runs have it: as it was when runs of studies were first made."""
    return config.method.replace("_", "-") if config.method.startswith("vicreg_") else config.method


def run_name(config: TrainConfig) -> str:
    """Return a name for people, that ends with eight digits which follow from the settings.

    >>> run_name(TrainConfig(order="hybrid", seed=2))
    'simsiam-resnet18_w16-hybrid-s2-803bb4fc'
    """
    digest = hashlib.sha256(json.dumps(settings(config), sort_keys=True).encode()).hexdigest()[:8]
    return f"{_method(config)}-{config.backbone.name}-{config.order}-s{config.seed}-{digest}"


def check_same(config: TrainConfig, run: RunRecord) -> None:
    """Raise `FullrankError` where a run's configuration is not, in what decides its result, the one that is wanted."""
    has = flatten(run.config)
    has |= {name: has[first] for name, first in _FIRST_NAMES.items() if first in has}
    for name, value in flatten(to_dict(config)).items():
        if not _decides(name) or name in ("images", "eval_images", "target.teacher"):
            continue
        if value is not None and name in has and has[name] != value:
            raise FullrankError(
                f"{run.path} is of a run with {name}={has[name]}, not {value}: a default has changed since; move it "
                "away to make the run again"
            )


@dataclass(frozen=True)
class Planned:
    """A run of a study, finished or not."""

    cell: Cell
    seed: int
    config: TrainConfig  # a teacher is called by its run's name

    @cached_property
    def name(self) -> str:
        """The name of its folders."""
        return run_name(self.config)


def planned(study: Study, scale: Scale, seeds: Sequence[int]) -> list[Planned]:
    """Return the runs of a study, a teacher before its students, each once."""
    choose("scale", scale, get_args(Scale))
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
    """The folder of results of one scale, within the folder `root` of all results."""

    def __init__(self, root: Path, scale: Scale) -> None:
        self.scale: Scale = scale
        self.path = root / scale

    def find(self, run: Planned) -> Result | None:
        """Return the result of a run of which all was measured that its setting asks for, or None.

        Raises:
            FullrankError: What is there under its name is of other settings, or damaged.
        """
        result = self._finished(run)
        return None if result is None or (run.cell.label_free and not result.label_free) else result

    def results(self, runs: Sequence[Planned]) -> list[Result]:
        """Return what is finished of some runs, where they have no label-free scores too: other studies made those."""
        return [result for run in runs if (result := self._finished(run)) is not None]

    def _finished(self, run: Planned) -> Result | None:
        if not self.holds(run):
            return None
        path = self.path / run.name
        record = read_run(path)
        if not {"steps", "scores"} <= set(record.summary or {}) or not record.of_kind("measure"):
            raise FullrankError(f"the result {path} is damaged: delete the folder to have it made again")
        check_same(run.config, record)
        scores = evaluated(path, run.config.steps)
        label_free = inspections(path, run.config.steps, run.config.images) if run.cell.label_free else []
        if not set(PROBES[self.scale]) <= {score.name for score in scores}:
            return None
        return Result(run.cell, run.seed, record, scores, label_free)

    def holds(self, run: Planned) -> bool:
        """Whether a trained run's files are there, whatever its evaluations."""
        return all((self.path / run.name / file).is_file() for file in _WHOLE)

    def keep(self, folder: Path, name: str, names: Mapping[str, str]) -> None:
        """Copy the small files of a finished run; the summary, by which it counts as finished, comes last.

        An older result of that name is replaced whole; `names` are what to call paths of this machine.
        """
        target = self.path / name
        target.mkdir(parents=True, exist_ok=True)
        (target / SUMMARY).unlink(missing_ok=True)
        with atomic_path(target / SPECTRA) as temporary:
            shutil.copyfile(folder / SPECTRA, temporary)
        for file in _KEPT:
            if not (folder / file).is_file():
                (target / file).unlink(missing_ok=True)
            else:
                write_text(target / file, _renamed((folder / file).read_text("utf-8"), file, names))


def published() -> Path:
    """Return the folder of the results that came with the package, or lie in the checkout that it is imported from."""
    package = Path(fullrank.__file__).parent
    packaged = package / "results"  # pyproject.toml puts them there
    return packaged if packaged.is_dir() else package.parent.parent / "results"


def inspections(folder: Path, steps: int, images: str) -> list[Score]:
    """Return the label-free scores that were taken of a run at its end; none where those of views were not.

    They are of the same images for all runs of a study, those on shares of the images too.

    Raises:
        FullrankError: The file is damaged.
    """
    found = [
        each.score
        for each in kept(folder)
        if each.by == "inspect" and each.step == steps and each.asked.get("images") == images
    ]
    return found if any(kind_of(score.name).needs == "views" for score in found) else []


def seeds_with_results(study: Study, store: Store) -> int:
    """Return how many seeds, from 0, have results of a third of the settings that seed 0 has, or more; 1 at least.

    Some settings belong to other studies too, which may have more seeds.
    """

    def finished(seed: int) -> int:
        return len(store.results(planned(study, store.scale, [seed])))

    first = finished(0)
    return next(seed for seed in count(1) if first == 0 or 3 * finished(seed) < first)


def _renamed(text: str, file: str, names: Mapping[str, str]) -> str:
    """Return the contents of a YAML file, or of JSON lines, with paths called by their names."""
    paths = sorted(names, key=len, reverse=True)
    # a path and what lies in it, but not a part of a longer name or path
    pattern = re.compile(rf"(?<![\w./-])({'|'.join(map(re.escape, paths))})(?!\.?[\w-])") if paths else None

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
