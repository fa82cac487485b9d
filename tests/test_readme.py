"""Every command line and block of Python that the README shows can be given as it stands."""

import doctest
import re
import shlex
from pathlib import Path

import pytest
import yaml

from fullrank.cli import _parse
from fullrank.config import TrainConfig, to_dict

ROOT = Path(__file__).parent.parent
TEXTS = {"README.md": (ROOT / "README.md").read_text()}
COMMANDS = [
    (name, found[0].strip())
    for name, text in TEXTS.items()
    for found in re.finditer(r"^ {4}(?:fullrank |torchrun [^\n]*-m fullrank )[^\n]*$", text, re.MULTILINE)
]
BLOCKS = [
    (name, number, block)
    for name, text in TEXTS.items()
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
]
PLACEHOLDERS = {"...": None, "NAME": "orders", "SEEDS": "3"}


def test_there_are_examples():
    assert COMMANDS
    assert BLOCKS


@pytest.mark.parametrize(("name", "line"), COMMANDS)
def test_every_command_line_can_be_given(name, line, tmp_path, monkeypatch):
    run = tmp_path / "runs/hybrid"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(yaml.safe_dump(to_dict(TrainConfig())))
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line, comments=True)
    arguments = [PLACEHOLDERS.get(word, word) for word in words[words.index("fullrank") + 1 :]]
    assert _parse([word for word in arguments if word is not None])


@pytest.mark.parametrize(("name", "number", "block"), BLOCKS)
def test_every_block_of_python_compiles(name, number, block):
    source = doctest.script_from_examples(block) if block.startswith(">>>") else block
    compile(source, f"{name}, block {number}", "exec")
