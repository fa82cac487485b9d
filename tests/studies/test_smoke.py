"""Every study from its start to its page, with few steps of very small encoders on the digits."""

import io
from dataclasses import replace

import pytest
from rich.console import Console
from tests.pages import check
from tests.studies.shrinking import shrink

from fullrank.studies.registry import STUDIES
from fullrank.studies.run import ToMake
from fullrank.studies.show import FinishedRuns
from fullrank.studies.store import Store, planned


def smallest(study):
    """Return the study with its first and last setting that differ when they are small, and the teacher of these."""
    cells = study.cells("lab")
    chosen = [cells[0], next(cell for cell in reversed(cells) if shrink(cell).config != shrink(cells[0]).config)]
    chosen += [next(each for each in cells if each.factors == cell.teacher) for cell in chosen if cell.teacher]
    unique = {tuple(cell.factors.items()): shrink(cell) for cell in chosen}
    return replace(study, cells=lambda scale: list(unique.values()))


OFTEN = ("orders", "forecast", "vit")
"""The largest page, a fit over runs of others, another family of encoders; students and teachers are in test_run.py."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow) for name in STUDIES]
)
def test_a_study_runs_from_its_start_to_its_page(name, here, place, tmp_path, no_drawing):
    study = smallest(STUDIES[name])
    said = io.StringIO()
    failed = ToMake(study, "lab", [0], place).make(Console(file=said, width=200))
    assert failed == 0, said.getvalue()
    runs = planned(study, "lab", [0])
    results = Store(place.results, "lab").results(runs)
    assert len(results) == len(runs) >= 2
    for result in results:
        assert {"knn", "logistic"} <= set(result.scores)
        assert bool(result.label_free) == result.cell.label_free
    page = FinishedRuns(study, "lab", results, runs).write(tmp_path / "pages", figures=tmp_path / "figures")
    shown = check(page.read_text("utf-8"))
    assert f"{len(runs)} of {len(runs)} finished" in shown.text
    assert "table" in shown.tags
    if name not in ("distill", "forecast", "collapse"):  # a table alone; and two runs cannot be fitted
        assert "figure" in shown.tags
        assert list((tmp_path / "figures").glob("*.svg"))
