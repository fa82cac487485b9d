"""`fullrank study show`: what is finished of a study, as one self-contained page and as Markdown."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fullrank.documents import Document, Fields, Fold, Heading, Only, Part, Picture, Points, Words
from fullrank.documents.html import write_page
from fullrank.documents.markdown import render
from fullrank.documents.svg import svg_file
from fullrank.files import write_text
from fullrank.studies.facts import facts, missing, warnings
from fullrank.studies.store import Planned
from fullrank.studies.study import Result, Results, Scale, Study

NAMED = 8  # missing settings that are named without being asked


def write(
    study: Study,
    scale: Scale,
    results: Sequence[Result],
    planned: Sequence[Planned],
    folder: Path,
    *,
    figures: Path | None = None,
) -> Path:
    """Write a study's page and its Markdown to a folder, NAME-SCALE.html and .md, and return the page.

    With `figures`, a folder, each figure is a file too, NAME-SCALE-FIGURE.svg, which the Markdown then shows.
    """
    made = document(study, scale, results, planned)
    folder.mkdir(parents=True, exist_ok=True)
    stem, shown = f"{study.name}-{scale}", {}
    for part in made.parts:
        if isinstance(part, Picture) and figures is not None:
            figures.mkdir(parents=True, exist_ok=True)
            file = figures / f"{stem}-{part.key}.svg"
            write_text(file, svg_file(part.draw(), part.key, f"{part.title}. {part.caption}"))
            shown[part.key] = Path(os.path.relpath(file, folder)).as_posix()
    write_text(folder / f"{stem}.md", render(made, shown))
    return write_page(made, folder / f"{stem}.html")


def document(study: Study, scale: Scale, results: Sequence[Result], planned: Sequence[Planned]) -> Document:
    """Say what is finished of a study; the same results make the same document."""
    results = Results(study.cells(scale), results)
    said = facts(study, scale, results, planned)
    parts: list[Part] = [Words(study.question, "lead"), Fields(said)]
    parts += [Words(warning, "warning") for warning in warnings(results)]
    parts += _missing(study, scale, results, planned)
    if results:
        parts.append(Only("page", [Heading("Results")]))
        keys: Counter[str] = Counter()
        for part in study.parts(results, scale):
            if isinstance(part, Picture):
                keys[part.key] += 1
                part = replace(part, key=f"{part.key}-{keys[part.key]}") if keys[part.key] > 1 else part
            parts.append(part)
    return Document("study", study.title, parts, {"study": study.name, "scale": scale, "facts": said})


def _missing(study: Study, scale: Scale, results: Sequence[Result], planned: Sequence[Planned]) -> list[Part]:
    seeds = max((run.seed + 1 for run in planned), default=3)
    command = Words(f"fullrank study run {study.name} --scale {scale} --seeds {seeds}", "command")
    if not results:
        return [Words("Nothing is finished yet. This makes the runs:"), command]
    lacking, runs = missing(results, planned), len(planned) - len(results)
    said: list[Part] = [Points(lacking), Words("This makes them:"), command]
    return [Fold(f"{runs} run{'s' * (runs != 1)} missing", said, opened=len(lacking) <= NAMED)] if lacking else []
