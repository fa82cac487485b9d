"""What the site takes from elsewhere while it is built: the notebook, commands' help, public names, files of the root.

A page asks for them by a comment in a line of its own:

    <!-- file: CHANGELOG.md -->          a file of the repository's root
    <!-- help: ## -->                    the `--help` of all commands, each below such a heading
    <!-- names: fullrank.losses -->      the docstrings of all names in `__all__`
    <!-- names: fullrank.losses info_nce dcl -->
    <!-- names: fullrank.registry Registry | members: false -->    with an option of mkdocstrings
    <!-- scores: features views -->      the table of all scores that need features or views, of `SCORES`

The line below such a comment is for readers of the repository, who see the pages as they are: it says what the site
shows there (docstrings, scores, a file, help), and links to the source. For them a link to a name is one to its file,
`src/fullrank/api.py#fullrank.rank`, and one to the quickstart is one to the notebook, which a git host renders.

`jupyter execute --inplace docs/quickstart.ipynb` takes the notebook's outputs anew.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from io import StringIO
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from fullrank.cli import main
from fullrank.measure.scores import SCORES, ScoreKind

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAPERS = "\n\n[Li22]: https://arxiv.org/abs/2209.15007\n[Garrido23]: https://arxiv.org/abs/2206.02574\n"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\n]*\r(?!\n)")  # colors, and what a progress bar has written over
MARK = re.compile(r"^<!-- (file|help|names|scores): (.+) -->\n\*(?:Docstrings|Scores|File|Help): .+\*$", re.MULTILINE)
NAME = re.compile(r"\]\((?:\.\./)+src/[^)#]+#(fullrank[\w.]+)\)")
NOTEBOOK = re.compile(r"\]\(((?:\.\./)*[\w/-]+)\.ipynb\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make a page of each notebook, which stays beside it to be downloaded."""
    from mkdocs.structure.files import File

    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            text = notebook_page(json.loads(file.content_string), Path(file.src_uri).name)
            files.append(File.generated(config, file.src_uri.removesuffix(".ipynb") + ".md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put what a page asks for in the place of the comment, and link the two papers."""
    if not page.file.generated_by:  # a notebook's own page is where it can be downloaded
        markdown = NOTEBOOK.sub(r"](\1.md)", markdown)
    return filled(markdown) + PAPERS


def filled(markdown: str) -> str:
    """Put what a page asks for in the place of the comment, and link names to where the site describes them."""
    markdown = NAME.sub(r"][\1]", markdown)
    made = {"file": root_file, "help": command_help, "names": public_names, "scores": score_table}
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
        printed = ""
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                drawn = f"data:image/png;base64,{data['image/png'].strip()}"
                parts.append(f'<img class="plot" alt="what the code draws" src="{drawn}">')
            elif output.get("name") != "stderr":
                text = "".join(output.get("text", data.get("text/plain", "")))
                printed += text if text.endswith("\n") else f"{text}\n"
        if printed.strip():
            shown = CONTROL.sub("", printed).strip("\n")
            parts.append(f'``` {{.text .output title="Output"}}\n{shown}\n```')
    title, rest = parts[0].split("\n", 1)
    return "\n\n".join([title, f"[Download this page as a notebook]({name}).", rest.strip(), *parts[1:]])


def root_file(name: str) -> str:
    """Return a file of the repository's root, with links as `docs` sees them."""
    return (ROOT / name).read_text().replace("](docs/", "](")


def command_help(heading: str) -> str:
    """Return what each command prints with `--help`, under headings of this level."""
    with patch.dict(os.environ, COLUMNS="100"):
        return "\n\n".join(_helps((), heading))


def _helps(words: tuple[str, ...], heading: str) -> Iterator[str]:
    with redirect_stdout(StringIO()) as printed, suppress(SystemExit):
        main([*words, "--help"])
    text = printed.getvalue().strip()
    if words:
        yield f"{heading} fullrank {' '.join(words)}"
    lines = (line if line[:1] in "│╭╰" else textwrap.fill(line, 100) for line in text.splitlines())
    yield "\n".join(["```text", *lines, "```"])
    usage = text.partition("\n\n")[0]
    below = re.search(r"\[-h\]\s+\{([\w,\s]+)\}$", usage)
    for name in re.split(r",\s*", below[1]) if below else ():
        yield from _helps((*words, name), heading)


def public_names(asked: str) -> str:
    """Return mkdocstrings' request for names of a module, all public classes and functions where none is given.

    Losses as modules are left out: they have the docstrings of their functions.
    """
    asked, _, option = asked.partition(" | ")
    module, *names = asked.split()
    if option:
        return "\n\n".join(f"::: {module}.{name}\n    options:\n      {option}" for name in names)
    loaded = importlib.import_module(module)
    loss = getattr(loaded, "Loss", ())

    def shown(item: Any) -> bool:
        return inspect.isfunction(item) or (inspect.isclass(item) and not issubclass(item, loss))

    requests = []
    for name in names or [name for name in loaded.__all__ if shown(getattr(loaded, name))]:
        item = attrgetter(name)(loaded)
        hidden = f"{module}.{name}" in sys.modules  # a function that has the name of the file it is in
        requests.append(f"::: {item.__module__ if hidden else module}.{name}")
        if again := _overridden(item):
            requests[-1] += f'\n    options:\n      filters: ["!^_[^_]", "!^(__repr__|{"|".join(again)})$"]'
    return "\n\n".join(requests)


def _overridden(item: Any) -> list[str]:
    """Return the members that a base class of ours describes."""
    bases = [base for base in getattr(item, "__mro__", ())[1:] if base.__module__.startswith("fullrank.")]
    return [name for name in vars(item) if name[0] != "_" and any(name in vars(base) for base in bases)]


def score_table(asked: str) -> str:
    """Return a table of the scores that need one of these: features, views, labels, training."""
    rows = [_score_row(kind) for kind in SCORES.values() if kind.needs in asked.split()]
    heads = [head for head in rows[0] if any(row[head] for row in rows)]
    lines = [" | ".join(row[head] for head in heads) for row in ({head: head for head in heads}, *rows)]
    lines.insert(1, " | ".join("---" for _ in heads))
    return "\n".join(f"| {line} |" for line in lines)


def _score_row(kind: ScoreKind) -> dict[str, str]:
    module = "fullrank.measure.quality"
    described = kind.function is not None and str(kind.function.__module__).startswith(module)
    source, _, address = kind.source.partition(", http")
    return {
        "score": f"[{kind.title}][{module}.{kind.name}]" if described else kind.title,
        "better": kind.direction.replace("none", "neither"),
        "sees": kind.sees,
        "range": kind.range,
        "centered": {"centered": "yes", "uncentered": "no"}.get(kind.spectrum or "", ""),
        "source": f"[{source}](http{address})" if address else source,
        "name": f"`{kind.name}`",
    }
