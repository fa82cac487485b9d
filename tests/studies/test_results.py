"""The results that are committed: whole, small, and what the committed tables say."""

from functools import cache
from pathlib import Path

import pytest
import yaml

from fullrank.studies import store
from fullrank.studies.registry import STUDIES
from fullrank.studies.show import finished
from fullrank.studies.store import Store, planned

RESULTS = Path(__file__).parents[2] / "results"
STORE = Store(RESULTS, "lab")
COMPLETE = {"ema": 2, "nnsiam": 2, "warmup": 2}
"""Studies of which every setting has been run at lab scale, with its seeds."""
SHOWN = (
    *COMPLETE,
    "orders",
    "subsets",
    "hybrid-switch",
    "regime",
    "forecast",
    "collapse",
    "boundaries",
    "decay",
    "heads",
    "width-depth",
    "vit",
    "distill",
    "places",
)
"""Those whose tables are committed."""


@pytest.fixture(autouse=True, scope="module")
def read_once():
    """Each file is read once, for studies share runs."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("read_run", "evaluated", "inspections"):
            patch.setattr(store, name, cache(getattr(store, name)))
        yield


@pytest.mark.parametrize("name", COMPLETE)
def test_every_setting_has_its_runs(name):
    assert not [run.name for run in planned(STUDIES[name], "lab", range(COMPLETE[name])) if STORE.find(run) is None]


@pytest.mark.parametrize("name", SHOWN)
def test_the_committed_tables_are_rebuilt_from_results(name):
    assert finished(name, "lab", RESULTS).document().markdown() == (RESULTS / f"{name}-lab.md").read_text("utf-8")


def test_results_are_small_files_of_runs_that_a_study_has():
    known = {run.name for study in STUDIES.values() for run in planned(study, "lab", range(3))}
    kept = list((RESULTS / "lab").iterdir())
    assert {path.name for path in kept} <= known
    assert max(file.stat().st_size for path in kept for file in path.iterdir()) < 100_000
    places = {run.name for run in planned(STUDIES["places"], "lab", range(3))}
    for path in kept:
        config = yaml.safe_load((path / "config.yaml").read_text("utf-8"))
        own = ("tiny-imagenet-32/train.parquet", "tiny-imagenet-32/validation.parquet")
        assert (config["images"], config["eval_images"]) == (own if path.name in places else ("cifar10", "held out"))


def test_a_result_takes_the_place_of_an_older_one_whole(tmp_path):
    folder, target = tmp_path / "run", tmp_path / "results" / "lab" / "run"
    folder.mkdir()
    target.mkdir(parents=True)
    for name in ("config.yaml", "metrics.jsonl", "spectra.safetensors", "scores.json", "summary.json"):
        (folder / name).write_text("{}\n")
    (target / "evaluation.json").write_text("of the run before")
    Store(tmp_path / "results", "lab").keep(folder, "run", {})
    assert {file.name for file in target.iterdir()} == {file.name for file in folder.iterdir()}
