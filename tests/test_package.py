"""The wheel holds what its commands read, nothing else, and works where there is no checkout."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "fullrank"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", build, folder], cwd=ROOT, capture_output=True, text=True, check=True)
    return folder / done.stdout.split()[-1]


def test_the_wheel_holds_the_package_and_its_results_alone(wheel):
    with zipfile.ZipFile(wheel) as opened:
        names = {name for name in opened.namelist() if ".dist-info/" not in name}
    ignored = {"__pycache__"}
    code = {path for path in PACKAGE.rglob("*") if path.is_file() and not ignored & set(path.parts)}
    results = {path for path in (ROOT / "results" / "lab").rglob("*") if path.is_file()}
    wanted = {f"fullrank/{path.relative_to(PACKAGE).as_posix()}" for path in code}
    wanted |= {f"fullrank/{path.relative_to(ROOT).as_posix()}" for path in results}
    assert names == wanted
    assert {"fullrank/py.typed", "fullrank/documents/style.css"} <= names
    assert any(name.startswith("fullrank/training/presets/") and name.endswith(".yaml") for name in names)
    assert results
    assert wheel.stat().st_size < 5e6


@pytest.mark.slow  # test_commands.py shows one away from a checkout
def test_a_study_is_shown_from_the_wheel_in_an_empty_folder(wheel, tmp_path):
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(installed)
    done = subprocess.run(
        [sys.executable, "-m", "fullrank", "study", "show", "subsets"],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Figure 2" in done.stdout
    assert {path.name for path in empty.iterdir()} == {"subsets-lab.html", "subsets-lab.md"}


def test_no_link_of_its_description_leads_nowhere(wheel):
    with zipfile.ZipFile(wheel) as opened:
        name = next(name for name in opened.namelist() if name.endswith("METADATA"))
        text = opened.read(name).decode()
    assert "Description-Content-Type: text/markdown" in text
    assert "# fullrank\n" in text
    assert "| what | command | found | runs |" in text
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets
    assert all(target.startswith("https://") for target in targets)
