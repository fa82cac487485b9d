"""What `fullrank report` has to say about runs: verdicts, scores, curves, spectra, views, how they were trained."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fullrank import documents as doc
from fullrank.documents import spectra
from fullrank.documents.html import check_page, write_page
from fullrank.documents.scores import better, how_measured, score_table
from fullrank.errors import FullrankError
from fullrank.measure.scores import SCORES, kind_of
from fullrank.report import figures
from fullrank.report.side import Side, comparison, sides, verdict
from fullrank.text import capital, duration, flatten
from fullrank.training.runs import RunRecord, read_run

SAMPLES = "samples.png"
_FIRST = ("loss", "heldout_loss", "knn", "online_probe", "online_probe_train", "auc", "rankme_centered")
_NOT_DRAWN = ("online_probe_train", "participation_ratio", "nesum", "dead")
_STD = (
    "Of each dimension of the L2-normalized embeddings. At 0 all embeddings are one; 1/√M, dotted, is what M equal "
    "directions give. It does not see dimensional collapse."
)


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Read run folders and write one page about them.

    They are shown in this order, finished or not, and one that is named twice once. Returns `out`.
    """
    folders = list({Path(run).resolve(): Path(run) for run in runs}.values())
    if not folders:
        raise FullrankError("give at least one run: fullrank report RUN [RUN ...]")
    check_page(Path(out))
    return write_page(document([read_run(folder) for folder in folders]), Path(out))


def document(runs: Sequence[RunRecord]) -> doc.Document:
    """Say what runs have recorded; the same runs make the same document."""
    shown = sides(runs)
    title = " and ".join(side.label for side in shown) if len(shown) < 3 else f"{len(shown)} runs side by side"
    parts: list[doc.Part] = []
    for side in shown:
        headline, sentences = verdict(side)
        parts.append(doc.Statement(side, headline, [sentences]))
    if said := comparison(shown):
        parts += [doc.Heading("Side by side"), doc.Points(said)]
    for section in (_scores, _over_training, _spectra, _samples, _trained):
        parts += section(shown)
    runs_said = [
        {
            "name": side.label,
            "step": max(side.run.measured, default=None),
            "scores": [score.as_dict() for score in side.scores.values()],
        }
        for side in shown
    ]
    return doc.Document("report", title, parts, {"runs": runs_said}, shown)


def _scores(shown: Sequence[Side]) -> Iterator[doc.Part]:
    def row(name: str, write: Callable[[Side], Any]) -> list[Any]:
        return [name, *("–" if (said := write(side)) is None else str(said) for side in shown), ""]

    def steps(side: Side) -> str:
        return f"{side.run.reached:,}" + ("" if side.run.finished else f" of {side.run.planned:,}, unfinished")

    def order(side: Side) -> str:
        name = str(side.run.config.get("order", "–"))
        return name if side.run.switch is None else f"{name}, multiple pass from step {side.run.switch:,}"

    def speed(side: Side) -> str | None:
        rates = [record["images_per_second"] for record in side.run.timing if "images_per_second" in record]
        return f"{statistics.median(rates):,.0f} (median)" if rates else None

    above = [
        row("method", lambda side: side.run.config.get("method")),
        row("order", order),
        row("images", lambda side: side.run.config.get("images")),
        row("steps", steps),
        row("width D", lambda side: side.run.width),
        row("scores measured at step", lambda side: f"{side.run.measured[-1]:,}" if side.run.measured else None),
    ]
    below = [
        row("time", lambda side: (seconds := (side.run.summary or {}).get("seconds")) and duration(seconds)),
        row("images per second", speed),
        row("images that could not be read", lambda side: len(_skipped(side))),
    ]
    taken = dict.fromkeys(name for side in shown for name in side.scores)
    names = sorted(taken, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
    yield doc.Heading("Scores")
    yield score_table([side.scored for side in shown], names, above, below)
    scores = [(side.label, score) for side in shown for score in side.scores.values()]
    yield doc.Fold("How each score was measured", how_measured(scores))
    for side in shown:
        yield from doc.unreadable(_skipped(side), side)


def _skipped(side: Side) -> list[str]:
    return [str(name) for name in (side.run.summary or {}).get("skipped") or []]


def _trained(shown: Sequence[Side]) -> Iterator[doc.Part]:
    config = _values([side.run.config for side in shown])
    same = {name: values[0] for name, values in config.items() if len(set(values)) == 1}
    rows = [[name, *values] for name, values in config.items() if name not in same]
    yield doc.Heading("What was trained")
    if rows:
        yield doc.Words("These fields differ.")
        words = range(1, len(shown) + 1)
        marked = range(len(rows))
        yield doc.Table("Fields that differ", ["field", *shown], rows, text=words, marked=marked, captioned=False)
    yield doc.Fold("Configuration" if len(shown) == 1 else f"{len(same)} fields are the same", [doc.Fields(same)])
    environment = _values([side.run.environment for side in shown])
    said = {name: "; ".join(dict.fromkeys(values)) for name, values in environment.items()}
    yield doc.Fold("Versions and hardware", [doc.Fields(said)])


def _values(nested: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    flat = [flatten(each or {}) for each in nested]
    names = dict.fromkeys(name for each in flat for name in each)
    return {name: [doc.value_text(each.get(name)) for each in flat] for name in names}


def _over_training(shown: Sequence[Side]) -> Iterator[doc.Part]:
    overlaid = [side for side in shown if side.run.records]
    taken = dict.fromkeys(name for side in shown for name in side.scores if name in SCORES)
    names = [name for name in dict.fromkeys([*_FIRST, "std", *taken]) if name not in _NOT_DRAWN]
    yield doc.Heading("Over training")
    if any(side.run.switch is not None for side in overlaid):
        yield doc.Words("Thin vertical lines mark where a hybrid order turns from single pass to multiple pass.")
    if not overlaid:
        yield doc.Words("Nothing has been recorded yet.")
    for name in names:
        kind = kind_of(name)
        what = "standard deviation" if name == "std" else kind.title
        axis = what if name == "std" else kind.axis
        if label := figures.say_ends(overlaid, name, axis):
            caption = _STD if name == "std" else capital("; ".join(filter(None, (kind.sees, better(name)))))
            yield doc.Picture(
                name.replace("_", "-"),
                capital(what),
                caption,
                partial(figures.over_steps, overlaid, name, axis),
                label=label,
            )
    if measured := [(side, side.run.spectrum()) for side in shown if side.run.width]:
        yield doc.Picture(
            "final-spectra",
            "Last measured spectrum",
            "Relative to its largest value. Directions below the dotted line count as dead.",
            lambda: spectra.relative_spectra(measured),
            label=spectra.say_dead(measured),
        )


def _spectra(shown: Sequence[Side]) -> Iterator[doc.Part]:
    measured = [side for side in shown if side.run.width]
    if not measured:
        return
    for key, draw, title, text in (
        (
            "spectra",
            figures.spectra_through_training,
            "Singular values through training",
            "One line a measured step, light to dark; dashed, the untrained encoder (a ResNet's residual branches "
            "start off). A line that drops early has dead directions. "
            "Values below 10⁻⁷ of the largest of all are drawn at that height. As [Li22] Fig. 3.",
        ),
        (
            "explained",
            figures.explained_through_training,
            "Cumulative explained variance through training",
            "The share of the sum of singular values in the leading directions; the area under a line is its "
            "AUC. The faster a line rises, the fewer directions carry the representation. As [Li22] Fig. 6.",
        ),
    ):
        yield doc.Heading(title)
        yield doc.Words(text)
        for side in measured:
            rows, last = len(side.run.singular_values), side.run.spectrum()
            thinned = f", {figures.MEASUREMENTS} of them drawn" if rows > figures.MEASUREMENTS else ""
            count = "1 measurement" if rows == 1 else f"{rows} measurements{thinned}"
            yield doc.Picture(
                f"{key}-{side.index}",
                title,
                f"{count}, D = {side.run.width}",
                partial(draw, side, measured),
                label=f"{title} of {side.label}, {count}. At the last step AUC is {last.auc:.3f}, the largest singular "
                f"value {last.singular_values[0]:.3g} and the smallest {last.singular_values[-1]:.2g}.",
                subject=side,
            )


def _samples(shown: Sequence[Side]) -> Iterator[doc.Part]:
    found = [(side, side.run.path / SAMPLES) for side in shown if (side.run.path / SAMPLES).is_file()]
    if found:
        yield doc.Heading("Images and views")
        yield doc.Words("In the top row images of the first step, and below each the two views that the encoder sees.")
    for side, path in found:
        label = f"Some training images of {side.label}, and below each the two views made of it"
        yield doc.Photo(path.read_bytes(), f"recipe: {side.run.config.get('views', 'not recorded')}", label, side)
