import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[1] / "benchmarks/gpu.py"


@pytest.mark.slow
@pytest.mark.parametrize("part", ["steps", "epochs", "knn", "losses", "spectrum", "lab"])
def test_each_part_of_the_gpu_benchmark_runs_on_a_cpu_at_tiny_sizes(part):
    command = [sys.executable, SCRIPT, "--device", "cpu", "--quick", "--only", part]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])


def test_without_a_gpu_it_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "there is no GPU here: give --device cpu --quick" in capsys.readouterr().err
