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
from fullrank.errors import FullrankError
from fullrank.measure.scores import SCORES, kind_of
from fullrank.report import figures
from fullrank.report.side import Side, flatten, sides
from fullrank.report.words import better, comparison, duration, verdict
from fullrank.text import capital
from fullrank.training.runs import RunRecord, read_run

SAMPLES = "samples.png"
SKIPPED_SHOWN = 20
_FIRST = ("loss", "heldout_loss", "knn", "online_probe", "online_probe_train", "auc", "rankme_centered")


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Read run folders and write one page about them.

    They are shown in this order, finished or not, and one that is named twice once. Returns `out`.

    Raises:
        FullrankError: There is no run, one of them cannot be read, or `out` cannot be written.
    """
    folders = list({Path(run).resolve(): Path(run) for run in runs}.values())
    if not folders:
        raise FullrankError("no run to report on: name at least one folder made by `fullrank train`")
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
        parts += [doc.Heading("Side by side", 3), doc.Points(said)]
    for section in (_scores, _over_training, _spectra, _samples, _trained):
        parts += section(shown)
    runs_said = [
        {"name": side.label, "step": side.measured, "scores": [score.as_dict() for score in side.scores.values()]}
        for side in shown
    ]
    return doc.Document("report", title, parts, {"runs": runs_said}, shown)


def _scores(shown: Sequence[Side]) -> Iterator[doc.Part]:
    def row(name: str, write: Callable[[Side], Any], hint: str = "") -> list[Any]:
        return [doc.Hinted(name, hint), *("–" if (said := write(side)) is None else str(said) for side in shown)]

    def score(name: str, side: Side) -> str | None:
        of = f" of {side.width}" if name == "dead" and side.width else ""
        return side.scores[name].text + of if name in side.scores else None

    rows = [
        row("method", lambda side: side.run.config.get("method")),
        row("order", _order),
        row("images", lambda side: side.run.config.get("images")),
        row("steps", lambda side: f"{side.reached:,}" + ("" if side.finished else f" of {side.planned:,}, unfinished")),
        row("scores measured at step", lambda side: None if side.measured is None else f"{side.measured:,}"),
    ]
    taken = dict.fromkeys(name for side in shown for name in side.scores)
    for name in sorted(taken, key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST)):
        rows.append(row(kind_of(name).title, partial(score, name), better(name)))
    rows += [
        row("time", lambda side: (seconds := (side.run.summary or {}).get("seconds")) and duration(seconds)),
        row("images per second", _throughput, "median"),
        row("images skipped", lambda side: len(side.skipped), "could not be read"),
    ]
    yield doc.Heading("Scores")
    yield doc.Table("Scores of each run", ["", *shown], rows, captioned=False)
    yield doc.Fold("How each score was measured", _protocols(shown))
    skipped = []
    for side in shown:
        if side.skipped:
            more = f" and {len(side.skipped) - SKIPPED_SHOWN} more" if len(side.skipped) > SKIPPED_SHOWN else ""
            skipped.append(doc.Words(", ".join(side.skipped[:SKIPPED_SHOWN]) + more, subject=side))
    if skipped:
        yield doc.Fold("Images that could not be read", skipped)


def _throughput(side: Side) -> str | None:
    rates = [record["images_per_second"] for record in side.run.timing if "images_per_second" in record]
    return f"{statistics.median(rates):,.0f}" if rates else None


def _order(side: Side) -> str | None:
    switch = f", multiple pass from step {side.switch:,}" if side.switch is not None else ""
    return f"{side.run.config.get('order', '–')}{switch}"


def _protocols(shown: Sequence[Side]) -> list[doc.Fields]:
    """Return each protocol once, with the scores and the runs that share it."""
    shared: dict[str, tuple[dict[str, Any], dict[str, None], dict[str, None]]] = {}
    for side in shown:
        for score in side.scores.values():
            key = repr(sorted(score.protocol.items()))
            _, titles, labels = shared.setdefault(key, (dict(score.protocol), {}, {}))
            titles[score.kind.title] = labels[side.label] = None
    return [
        doc.Fields(protocol, capital(", ".join(titles)) + ("" if len(of) == len(shown) else f" of {', '.join(of)}"))
        for protocol, titles, of in shared.values()
    ]


def _trained(shown: Sequence[Side]) -> Iterator[doc.Part]:
    yield doc.Heading("What was trained")
    config = _values([side.run.config for side in shown])
    if len(shown) == 1:
        rows = [[name, *values] for name, values in config.items()]
        yield doc.Table("Configuration", ["field", "value"], rows, text=[1], captioned=False)
    else:
        same = {name: values[0] for name, values in config.items() if len(set(values)) == 1}
        rows = [[name, *values] for name, values in config.items() if name not in same]
        yield doc.Words("These fields differ." if rows else "The configurations are identical.")
        if rows:
            words = range(1, len(shown) + 1)
            marked = range(len(rows))
            yield doc.Table("Fields that differ", ["field", *shown], rows, text=words, marked=marked, captioned=False)
        yield doc.Fold(f"{len(same)} fields are the same in all runs", [doc.Fields(same)])
    environment = _values([side.run.environment for side in shown])
    said = {name: values[0] if len(set(values)) == 1 else "; ".join(values) for name, values in environment.items()}
    yield doc.Fold("Versions and hardware", [doc.Fields(said)])


def _values(nested: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    flat = [flatten(each or {}) for each in nested]
    names = dict.fromkeys(name for each in flat for name in each)
    return {name: [doc.value_text(each.get(name)) for each in flat] for name in names}


def _floor(side: Side) -> tuple[float, str] | None:
    return ((side.width + 1) / (2 * side.width), f"floor, D = {side.width}") if side.width else None


def _even_std(side: Side) -> tuple[float, str] | None:
    out = (side.run.config.get("heads") or {}).get("projector_out")
    return (out**-0.5, f"1/√M, M = {out}") if isinstance(out, int) and out > 0 else None


_REFERENCES = {"auc": _floor, "std": _even_std}
_CAPTIONS = {
    "loss": "The mean over the steps between two points.",
    "heldout_loss": "Lower alone does not mean a better representation: [Li22] read it together with AUC.",
    "knn": "Of the representation; it needs labels.",
    "online_probe": "On held-out images, of a linear classifier that learns beside the encoder. It lags behind a "
    "representation that changes, and catches up as the rates fall.",
    "auc": "Of the cumulative explained variance; lower is better. Dotted: its floor (D+1)/(2D), when all directions "
    "are equal; 1 is a single direction.",
    "rankme_centered": "The effective number of directions; higher is better, up to the width D.",
    "std": "Of each dimension of the L2-normalized embeddings. At 0 all embeddings are one; 1/√M, dotted, is what M "
    "equal directions give. It does not see dimensional collapse.",
}
_NOT_DRAWN = ("online_probe_train", "participation_ratio", "nesum", "dead")


def _curves(overlaid: Sequence[Side], shown: Sequence[Side]) -> Iterator[doc.Picture]:
    methods = len({side.run.config.get("method") for side in shown}) > 1
    own = " Each method has a loss of its own: compare shapes, not heights." if methods else ""
    taken = [name for side in shown for name in side.scores if name in SCORES and name not in _NOT_DRAWN]
    for name in dict.fromkeys([*_CAPTIONS, *taken]):
        kind = kind_of(name)
        what = "standard deviation" if name == "std" else kind.title
        axis = f"{what} (%)" if kind.share else what
        if label := figures.say_ends(overlaid, name, axis):
            references, scale = _REFERENCES.get(name, lambda side: None), 100.0 if kind.share else 1.0
            draw = partial(figures.over_steps, overlaid, name, title=axis, scale=scale, references=references)
            caption = _CAPTIONS.get(name, kind.sees) + (own if name.endswith("loss") else "")
            yield doc.Picture(name.replace("_", "-"), capital(what), caption, draw, label=label)


def _over_training(shown: Sequence[Side]) -> Iterator[doc.Part]:
    yield doc.Heading("Over training")
    overlaid = [side for side in shown if side.run.records]
    if any(side.switch is not None for side in overlaid):
        yield doc.Words("Thin vertical lines mark where a hybrid order turns from single pass to multiple pass.")
    pictures = list(_curves(overlaid, shown))
    if measured := [(side, side.spectrum(-1)) for side in shown if side.width]:
        pictures.append(
            doc.Picture(
                "final-spectra",
                "Last measured spectrum",
                "Relative to its largest value. Directions below the dotted line count as dead.",
                lambda: spectra.relative_spectra(measured),
                label=spectra.say_dead(measured),
            )
        )
    yield from pictures
    if not pictures:
        yield doc.Words("Nothing has been recorded yet.")


def _spectra(shown: Sequence[Side]) -> Iterator[doc.Part]:
    measured = [side for side in shown if side.width]
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
            rows, last = len(side.run.singular_values), side.spectrum(-1)
            thinned = f", {figures.MEASUREMENTS} of them drawn" if rows > figures.MEASUREMENTS else ""
            count = "1 measurement" if rows == 1 else f"{rows} measurements{thinned}"
            yield doc.Picture(
                f"{key}-{side.index}",
                title,
                f"{count}, D = {side.width}",
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
