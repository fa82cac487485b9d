"""The types that others' type checkers see: the example is right as it stands, and a wrong use is found."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")

EXAMPLE = Path(__file__).parent / "typed_example.py"


def check(file: Path, cache: Path) -> str:
    """Return what mypy says with a user's strictest settings, and without this project's own."""
    options = ["--strict", "--config-file=", "--follow-imports=silent", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--cache-dir", cache, file],
        capture_output=True,
        text=True,
        cwd=cache,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_types_from_outside(tmp_path_factory, tmp_path):
    cache = tmp_path_factory.mktemp("cache")
    assert check(EXAMPLE, cache) == ""
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import torch, fullrank\nname: str = fullrank.spectrum(torch.eye(3)).auc\nfullrank.trian()\n")
    said = check(wrong, cache)
    assert "wrong.py:2: error: Incompatible types in assignment" in said
    assert 'wrong.py:3: error: Module has no attribute "trian"' in said
