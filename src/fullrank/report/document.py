"""What `fullrank report` has to say about runs: verdicts, scores, curves, spectra, views, how they were trained.

No run's name is drawn in a figure: the page's key and captions carry them, so that long names cost no room and none is
read as a formula. Reference: [Li22] Fig. 3 (singular values) and Fig. 6 (cumulative explained variance).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from fullrank import documents as doc
from fullrank.documents import plots, spectra
from fullrank.documents.html import check_page, write_page
from fullrank.documents.scores import better, how_measured, score_table
from fullrank.errors import FullrankError
from fullrank.measure.scores import SCORES, kind_of
from fullrank.report.side import Side, comparison, sides, verdict
from fullrank.text import capital, duration, flatten, once
from fullrank.training.runs import RunRecord, read_run
from fullrank.training.scores import series

SAMPLES = "samples.png"
POINTS = 300  # of a line over steps; more cannot be seen and make the page heavy
MEASUREMENTS = 40  # lines in a figure through training
DIRECTIONS = 256  # points of a line in a figure through training
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
    folders = once(runs)
    if not folders:
        raise FullrankError("give at least one run: fullrank report RUN [RUN ...]")
    check_page(out)
    return write_page(document([read_run(folder) for folder in folders]), out)


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
    data = []
    for side in shown:
        scores = [score.as_dict() for score in side.scores.values()]
        data.append({"name": side.label, "step": max(side.run.measured, default=None), "scores": scores})
    return doc.Document("report", title, parts, {"runs": data}, shown)


def _scores(shown: Sequence[Side]) -> Iterator[doc.Part]:
    def row(name: str, write: Callable[[Side], Any]) -> list[Any]:
        return [name, *(doc.MISSING if (said := write(side)) is None else str(said) for side in shown), ""]

    def steps(side: Side) -> str:
        return f"{side.run.reached:,}" + ("" if side.run.finished else f" of {side.run.planned:,}, unfinished")

    def order(side: Side) -> str:
        name = str(side.run.config.get("order", doc.MISSING))
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
    yield score_table(shown, names, above, below)
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
        if label := say_ends(overlaid, name, axis):
            caption = _STD if name == "std" else capital("; ".join(filter(None, (kind.sees, better(name)))))
            yield doc.Picture(
                name.replace("_", "-"),
                capital(what),
                caption,
                partial(over_steps, overlaid, name, axis),
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
            spectra_through_training,
            "Singular values through training",
            "One line a measured step, light to dark; dashed, the untrained encoder (a ResNet's residual branches "
            "start off). A line that drops early has dead directions. "
            "Values below 10⁻⁷ of the largest of all are drawn at that height. As [Li22] Fig. 3.",
        ),
        (
            "explained",
            explained_through_training,
            "Cumulative explained variance through training",
            "The share of the sum of singular values in the leading directions; the area under a line is its "
            "AUC. The faster a line rises, the fewer directions carry the representation. As [Li22] Fig. 6.",
        ),
    ):
        yield doc.Heading(title)
        yield doc.Words(text)
        for side in measured:
            rows, last = len(side.run.singular_values), side.run.spectrum()
            thinned = f", {MEASUREMENTS} of them drawn" if rows > MEASUREMENTS else ""
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


@plots.style()
def over_steps(sides: Sequence[Side], name: str, title: str) -> Figure:
    """Draw a quantity of the records over gradient steps, a line for each run; dotted what equal directions give."""
    figure, ax = plots.single()
    scale, references = kind_of(name).scale, {}
    for side in sides:
        steps, values = _thin(*series(side.run, name))
        ax.plot(steps, values * scale, **plots.line(side, len(steps), side.index / len(sides)))
        out = (side.run.config.get("heads") or {}).get("projector_out")
        if name == "auc" and side.run.width and len(steps):
            references[(side.run.width + 1) / (2 * side.run.width)] = f"floor, D = {side.run.width}"
        elif name == "std" and out and len(steps):
            references[out**-0.5] = f"1/√M, M = {out}"
    for place, (value, text) in enumerate(references.items()):
        ax.axhline(value, **plots.REFERENCE)
        plots.aside(ax, text, (1 - 0.25 * place, value), (-2, 3), xycoords=ax.get_yaxis_transform(), ha="right")
    last = max(1, *(max(side.run.planned, side.run.reached) for side in sides))
    ax.set_xlim(-0.015 * last, 1.015 * last)
    plots.step_axis(ax)
    plots.mark_switches(ax, [(side.run.switch, side.color) for side in sides])
    ax.set_ylabel(title)
    return figure


def say_ends(sides: Sequence[Side], name: str, title: str) -> str:
    """Say in words what `over_steps` draws; empty where no run has it."""
    said = []
    for side in sides:
        steps, values = series(side.run, name)
        if len(steps):
            first, last = (kind_of(name).write(v) if np.isfinite(v) else "no number" for v in values[[0, -1]])
            said.append(f"{side.label}: {first} at step {steps[0]:,}, {last} at step {steps[-1]:,}.")
    return f"{title} over gradient steps. {' '.join(said)}" if said else ""


@plots.style()
def spectra_through_training(side: Side, beside: Sequence[Side]) -> Figure:
    """Draw a run's singular values at each measured step, on axes that hold those of all runs beside it."""
    every = [other.run.singular_values for other in beside if other.run.width]
    top = max(float(values.max()) for values in every)
    low = min((float(values[values > 0].min()) for values in every if (values > 0).any()), default=math.inf)
    low = max(low, plots.LOWEST * top) if top > 0 else plots.LOWEST
    shown = np.maximum(side.run.singular_values, low)
    figure, ax = plots.single()
    _through_training(ax, side, beside, np.arange(1, shown.shape[1] + 1), shown)
    ax.set_yscale("log")
    ax.set_ylim(low * 0.7, max(top, low) * 1.5)
    ax.set_xlim(0, max(other.run.width or 0 for other in beside) * 1.01 + 1)
    ax.set_xlabel("direction, largest first")
    ax.set_ylabel("singular value")
    return figure


@plots.style()
def explained_through_training(side: Side, beside: Sequence[Side]) -> Figure:
    """Draw a run's cumulative explained variance at each measured step; the area under a line is its AUC."""
    shown = np.stack([side.run.spectrum(row).explained.numpy() for row in range(len(side.run.singular_values))])
    share = np.arange(1, shown.shape[1] + 1) / shown.shape[1]
    figure, ax = plots.single()
    _through_training(ax, side, beside, 100 * share, 100 * shown)
    plots.explained_axes(ax)
    return figure


def _through_training(ax: Axes, side: Side, beside: Sequence[Side], x: np.ndarray, lines: np.ndarray) -> None:
    """Draw one line a measured step, early ones light, late ones dark, on a scale common to all runs."""
    colors, norm = plots.late_is_dark(), Normalize(0, max(1, *(other.run.planned for other in beside)))
    points = np.unique(np.linspace(0, len(x) - 1, DIRECTIONS).round().astype(int))
    for row in np.unique(np.linspace(0, len(lines) - 1, MEASUREMENTS).round().astype(int)):
        step = int(side.run.spectrum_steps[row])
        look: dict[str, Any] = {"color": colors(norm(step)), "linewidth": 1.1}
        if step == 0:
            look = {"color": "#D55E00", "linewidth": 1.3, "linestyle": "--", "zorder": 3}
        ax.plot(x[points], lines[row][points], **look)
    bar = plots.color_bar(ax, colors, norm, "gradient step", format=EngFormatter(sep=""))
    bar.locator = MaxNLocator(4, integer=True)
    bar.update_ticks()


def _thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average neighbors until a line has few enough points; its first and last step stay in place."""
    size = math.ceil(len(steps) / POINTS)
    if size <= 1:
        return steps, values
    starts = np.arange(0, len(steps), size)
    counts = np.diff(np.append(starts, len(steps)))
    middles = np.add.reduceat(steps, starts) / counts
    middles[0], middles[-1] = steps[0], steps[-1]
    return middles, np.add.reduceat(values, starts) / counts
