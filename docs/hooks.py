"""What the site takes from elsewhere while it is built: the notebook, commands' help, public names, files of the root.

A page asks for them by a comment in a line of its own:

    <!-- file: CHANGELOG.md -->          a file of the repository's root
    <!-- help: study run -->             `fullrank study run --help`
    <!-- names: fullrank.losses -->      the docstrings of all names in `__all__`
    <!-- names: fullrank.losses info_nce dcl -->
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))
MARK = re.compile(r"^<!-- (file|help|names): (.+) -->$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make a page of each notebook, which stays beside it to be downloaded."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            text = notebook_page(json.loads(file.content_string), Path(file.src_uri).name)
            files.append(File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put what a page asks for in the place of the comment."""
    made = {"file": root_file, "help": command_help, "names": public_names}
    return MARK.sub(lambda mark: made[mark[1]](mark[2]), markdown)


def notebook_page(notebook: dict[str, Any], name: str) -> str:
    """Return a notebook as Markdown: its text, its code and what the code printed and drew."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        language = "bash" if source.startswith("%%bash\n") else "python"
        parts.append(f"```{language}\n{source.removeprefix('%%bash').strip()}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            text = "".join(output.get("text", data.get("text/plain", "")))
            if "image/png" in data:
                parts.append(f'<img alt="what the code draws" src="data:image/png;base64,{data["image/png"].strip()}">')
            elif text:
                parts.append(f'``` {{.text .output title="Output"}}\n{text.rstrip()}\n```')
    title, rest = parts[0].split("\n", 1)
    return "\n\n".join([title, f"[Download this page as a notebook]({name}).", rest.strip(), *parts[1:]])


def root_file(name: str) -> str:
    """Return a file of the repository's root, with links as `docs` sees them."""
    return (ROOT / name).read_text().replace("](docs/", "](")


def command_help(command: str) -> str:
    """Return what a command prints with `--help`."""
    words = [] if command == "fullrank" else command.split()
    done = subprocess.run(
        [sys.executable, "-m", "fullrank", *words, "--help"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise PluginError(f"`fullrank {' '.join(words)} --help` failed: {done.stderr.strip()[-500:]}")
    return f"```text\n{done.stdout.strip()}\n```"


def public_names(asked: str) -> str:
    """Return mkdocstrings' request for names of a module, all public ones where none is given."""
    module, *names = asked.split()
    loaded = importlib.import_module(module)
    names = names or [name for name in loaded.__all__ if not name.startswith("__")]
    return "\n\n".join(f"::: {module}.{name}" for name in names if not isinstance(getattr(loaded, name), ModuleType))
