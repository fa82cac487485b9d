"""`fullrank study show`: what is finished of a study, as one self-contained page and as Markdown."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from fullrank.report import html
from fullrank.report.figures import SIZE
from fullrank.report.svg import inline_svg, svg_file
from fullrank.studies.facts import facts, missing, warnings
from fullrank.studies.parts import Part, Picture, Protocols, Table, Words, in_words
from fullrank.studies.store import Planned
from fullrank.studies.study import Result, Results, Scale, Study
from fullrank.training.runs import write_text

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
    """Write a study's page and its Markdown, NAME-SCALE.html and .md.

    Args:
        study: The study.
        scale: Which of its runs.
        results: Those that are finished.
        planned: All of them.
        folder: Where the two go; it is made if need be.
        figures: Where to write each figure too, as NAME-SCALE-FIGURE.svg, which the Markdown then shows.

    Returns:
        The page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{study.name}-{scale}"
    shown = {}
    if figures is not None:
        figures.mkdir(parents=True, exist_ok=True)
        for key, picture in _pictures(_parts(study, scale, Results(study.cells(scale), results))):
            file = figures / f"{stem}-{key}.svg"
            write_text(file, svg_file(picture.draw(), key, f"{picture.title}. {picture.caption}"))
            shown[key] = Path(os.path.relpath(file, folder)).as_posix()
    write_text(folder / f"{stem}.md", markdown(study, scale, results, planned, figures=shown))
    write_text(folder / f"{stem}.html", page(study, scale, results, planned))
    return folder / f"{stem}.html"


def markdown(
    study: Study,
    scale: Scale,
    results: Sequence[Result],
    planned: Sequence[Planned],
    *,
    figures: Mapping[str, str] | None = None,
) -> str:
    """Return a study as Markdown; the same results give the same text.

    Args:
        study: The study.
        scale: Which of its runs.
        results: Those that are finished.
        planned: All of them.
        figures: Where figures are, by key; those that are not named are left out.
    """
    results = Results(study.cells(scale), results)
    parts = _parts(study, scale, results)
    keys = {id(picture): key for key, picture in _pictures(parts)}
    blocks = [f"# {study.title}", study.question]
    blocks.append("\n".join(f"- {key}: {value}" for key, value in facts(study, scale, results, planned).items()))
    blocks += [f"**Warning**: {warning}" for warning in warnings(results)]
    if not results:
        blocks.append(f"Nothing is finished yet: `{_command(study, scale, planned)}` makes the runs.")
    elif lacking := missing(results, planned):
        blocks.append(f"Missing: {'; '.join(lacking)}. `{_command(study, scale, planned)}` makes them.")
    for part in parts:
        if isinstance(part, Table):
            blocks.append(part.markdown())
        elif isinstance(part, Words):
            blocks.append(part.text)
        elif path := (figures or {}).get(keys[id(part)]):
            blocks += [f"![{part.title}]({path})", f"**{part.title}.** {part.caption}", *in_words(part.protocols)]
    return "\n\n".join(blocks) + "\n"


def page(study: Study, scale: Scale, results: Sequence[Result], planned: Sequence[Planned]) -> str:
    """Return a study as one self-contained HTML page; the same results give the same text."""
    results = Results(study.cells(scale), results)
    parts = _parts(study, scale, results)
    header = [f'<p class="lead">{escape(study.question)}</p>', _facts_list(facts(study, scale, results, planned))]
    header += [f'<p class="warning"><b>Warning.</b> {escape(warning)}</p>' for warning in warnings(results)]
    header.append(_missing_html(study, scale, results, planned))
    return html.document("study", study.title, "\n".join(header), [_body(parts)])


def _parts(study: Study, scale: Scale, results: Results) -> list[Part]:
    return list(study.parts(results, scale)) if results else []


def _pictures(parts: Iterable[Part]) -> list[tuple[str, Picture]]:
    """Return the pictures, each with a key of its own."""
    found: dict[str, Picture] = {}
    for part in parts:
        if isinstance(part, Picture):
            number = 2
            key = part.key
            while key in found:
                key, number = f"{part.key}-{number}", number + 1
            found[key] = part
    return list(found.items())


def _command(study: Study, scale: Scale, planned: Sequence[Planned]) -> str:
    seeds = max((run.seed + 1 for run in planned), default=3)
    return f"fullrank study run {study.name} --scale {scale} --seeds {seeds}"


def _missing_html(study: Study, scale: Scale, results: Sequence[Result], planned: Sequence[Planned]) -> str:
    command = f'<p class="scroll command"><code>{escape(_command(study, scale, planned))}</code></p>'
    if not results:
        return f"<p>Nothing is finished yet. This makes the runs, and then this page again:</p>{command}"
    lacking = missing(results, planned)
    if not lacking:
        return ""
    items = f'<ul class="compare">{"".join(f"<li>{escape(each)}</li>" for each in lacking)}</ul>'
    runs = len(planned) - len(results)
    summary = f"{runs} run{'s' * (runs != 1)} missing"
    opened = " open" if len(lacking) <= NAMED else ""
    return f"<details{opened}><summary>{summary}</summary>{items}<p>This makes them:</p>{command}</details>"


def _facts_list(said: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(key)}</dt><dd>{escape(value)}</dd>' for key, value in said.items())}</dl>"


def _body(parts: Sequence[Part]) -> str:
    """Return the parts as HTML; pictures that follow each other share a grid."""
    keys = {id(picture): key for key, picture in _pictures(parts)}
    blocks = []
    for kind, group in groupby(parts, type):
        if kind is Picture:
            drawn = "".join(_picture(part, keys[id(part)]) for part in group if isinstance(part, Picture))
            blocks.append(f'<div class="plots">\n{drawn}</div>')
        else:
            blocks += [_table(part) if isinstance(part, Table) else _words(part) for part in group]
    return f"<section>\n<h2>Results</h2>\n{''.join(blocks)}\n</section>\n" if blocks else ""


def _table(part: Table) -> str:
    rows = []
    for cells in part.rows:
        heads = "".join(f'<th scope="row">{escape(cell)}</th>' for cell in cells[: part.names])
        numbers = (
            f'<td class="{"beside" if place in part.beside else "own"}">{escape(cell)}</td>'
            for place, cell in enumerate(cells[part.names :], start=part.names)
        )
        rows.append(f"<tr>{heads}{''.join(numbers)}</tr>\n")
    head = "".join(
        f'<th scope="col" class="{"name" if place < part.names else "beside" if place in part.beside else "own"}">'
        f"{escape(cell)}</th>"
        for place, cell in enumerate(part.header)
    )
    note = f'<p class="hint">{escape(part.note)}</p>\n' if part.note else ""
    return (
        f"<h3>{escape(part.title)}</h3>\n{html.grid(head, rows, part.title, look='numbers')}\n"
        f"{note}{_protocols(part.protocols)}"
    )


def _picture(part: Picture, key: str) -> str:
    drawn = part.draw()
    label = f"{part.title}. {part.caption}"
    caption = f"<b>{escape(part.title)}.</b> {escape(part.caption)}{_protocols(part.protocols)}"
    return html.figure(inline_svg(drawn, key, label), caption, wide=drawn.get_figwidth() > SIZE[0])


def _words(part: Part) -> str:
    return f"<p>{escape(part.text)}</p>\n" if isinstance(part, Words) else ""


def _protocols(protocols: Protocols) -> str:
    said = "".join(
        f"<h4>{escape(title)}</h4><dl>"
        f"{''.join(f'<dt>{escape(key)}</dt><dd>{escape(value)}</dd>' for key, value in fields.items())}</dl>"
        for title, fields in protocols.items()
    )
    return f'<details class="how"><summary>How it was measured</summary>{said}</details>\n' if said else ""
