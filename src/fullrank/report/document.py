"""What `fullrank report` has to say about runs: verdicts, scores, curves, spectra, views, how they were trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fullrank.documents import (
    Document,
    Fields,
    Fold,
    Heading,
    Hinted,
    Part,
    Photo,
    Picture,
    Points,
    Protocols,
    Statement,
    Table,
    Words,
)
from fullrank.documents.html import check_page, write_page
from fullrank.documents.parts import value_text
from fullrank.errors import FullrankError
from fullrank.measure.scores import SCORES, kind_of
from fullrank.report import figures
from fullrank.report.side import Side, flatten, sides
from fullrank.report.words import comparison, duration, verdict
from fullrank.text import capital
from fullrank.training.runs import RunRecord, read_run

SAMPLES = "samples.png"
SKIPPED_SHOWN = 20
_FIRST = ("loss", "heldout_loss", "knn", "online_probe", "online_probe_train", "auc", "rankme_centered")


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Read run folders and write one page about them.

    Args:
        runs: Run folders, finished or not, in the order to show them. One that is named twice is shown once.
        out: Where the page goes; its folder is made if need be.

    Returns:
        `out`.

    Raises:
        FullrankError: There is no run, one of them cannot be read, or `out` cannot be written.
    """
    folders = list({Path(run).resolve(): Path(run) for run in runs}.values())
    if not folders:
        raise FullrankError("no run to report on: name at least one folder made by `fullrank train`")
    check_page(Path(out))
    return write_page(document([read_run(folder) for folder in folders]), Path(out))


def document(runs: Sequence[RunRecord]) -> Document:
    """Say what runs have recorded; the same runs make the same document."""
    shown = sides(runs)
    title = " and ".join(side.label for side in shown) if len(shown) < 3 else f"{len(shown)} runs side by side"
    parts: list[Part] = []
    for side in shown:
        headline, sentences = verdict(side)
        parts.append(Statement(side, headline, [sentences]))
    if said := comparison(shown):
        parts += [Heading("Side by side", 3), Points(said)]
    for section in (_scores, _over_training, _spectra, _samples, _trained):
        parts += section(shown)
    data = {
        "runs": [
            {"name": side.label, "step": side.measured, "scores": [score.as_dict() for score in side.scores.values()]}
            for side in shown
        ]
    }
    return Document("report", title, parts, data, shown)


def _scores(shown: Sequence[Side]) -> Iterator[Part]:
    configs = [side.run.config for side in shown]
    rows: list[list[Any]] = [
        ["method", *(str(config.get("method", "–")) for config in configs)],
        ["order", *map(_order, shown)],
        ["images", *(str(config.get("images", "–")) for config in configs)],
        ["steps", *map(_progress, shown)],
        ["scores measured at step", *("–" if side.measured is None else f"{side.measured:,}" for side in shown)],
    ]
    taken = dict.fromkeys(name for side in shown for name in side.scores)
    for name in (*(first for first in _FIRST if first in taken), *(name for name in taken if name not in _FIRST)):
        kind = kind_of(name)
        hint = "" if kind.direction == "none" else f"{kind.direction} is better"
        hint += ", with a lower AUC" if name == "heldout_loss" else ""
        cells = []
        for side in shown:
            of = f" of {side.width}" if name == "dead" and side.width else ""
            cells.append(side.scores[name].text + of if name in side.scores else "–")
        rows.append([Hinted(kind.title, hint), *cells])
    seconds = [(side.run.summary or {}).get("seconds") for side in shown]
    rows += [
        ["time", *("–" if each is None else duration(each) for each in seconds)],
        [
            Hinted("images per second", "median"),
            *(f"{side.throughput:,.0f}" if side.throughput else "–" for side in shown),
        ],
        [Hinted("images skipped", "could not be read"), *(str(len(side.skipped)) for side in shown)],
    ]
    yield Heading("Scores")
    yield Table("Scores of each run", ["", *shown], rows, captioned=False)
    yield Fold("How each score was measured", [Fields(fields, title) for title, fields in _protocols(shown).items()])
    skipped = []
    for side in shown:
        if side.skipped:
            more = f" and {len(side.skipped) - SKIPPED_SHOWN} more" if len(side.skipped) > SKIPPED_SHOWN else ""
            skipped.append(Words(", ".join(side.skipped[:SKIPPED_SHOWN]) + more, subject=side))
    if skipped:
        yield Fold("Images that could not be read", skipped)


def _protocols(shown: Sequence[Side]) -> Protocols:
    """Return each protocol once, by the scores and the runs that share it."""
    by_protocol: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {}
    for side in shown:
        for score in side.scores.values():
            key = repr(sorted(score.protocol.items()))
            _, names = by_protocol.setdefault(key, (dict(score.protocol), {}))
            names.setdefault(side.label, []).append(score.kind.title)
    found = {}
    for protocol, names in by_protocol.values():
        title = ", ".join(dict.fromkeys(name for own in names.values() for name in own))
        found[capital(title) + (f" of {', '.join(names)}" if len(names) < len(shown) else "")] = protocol
    return found


def _trained(shown: Sequence[Side]) -> Iterator[Part]:
    yield Heading("What was trained")
    config = _fields([side.run.config for side in shown])
    if len(shown) == 1:
        yield Table(
            "Configuration", ["field", "value"], [[k, *v] for k, v in config.items()], text=[1], captioned=False
        )
    else:
        differ = {name: values for name, values in config.items() if len(set(values)) > 1}
        same = {name: values[0] for name, values in config.items() if name not in differ}
        yield Words("These fields differ." if differ else "The configurations are identical.")
        if differ:
            rows = [[name, *values] for name, values in differ.items()]
            places = range(1, len(shown) + 1)
            yield Table(
                "Fields that differ", ["field", *shown], rows, text=places, marked=range(len(rows)), captioned=False
            )
        yield Fold(f"{len(same)} fields are the same in all runs", [Fields(same)])
    environment = _fields([side.run.environment for side in shown])
    said = {name: values[0] if len(set(values)) == 1 else "; ".join(values) for name, values in environment.items()}
    yield Fold("Versions and hardware", [Fields(said)])


def _fields(nested: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    flat = [flatten(each or {}) for each in nested]
    names = dict.fromkeys(name for each in flat for name in each)
    return {name: [value_text(each.get(name)) for each in flat] for name in names}


class _Quantity(NamedTuple):
    """What is drawn over steps."""

    name: str
    title: str
    axis: str
    caption: str
    references: Callable[[Side], tuple[float, str] | None] = lambda side: None


def _quantities(shown: Sequence[Side]) -> Iterable[_Quantity]:
    methods = len({side.run.config.get("method") for side in shown}) > 1
    own = " Each method has a loss of its own: compare shapes, not heights." if methods else ""
    yield _Quantity("loss", "Training loss", "training loss", f"The mean over the steps between two points.{own}")
    yield _Quantity(
        "heldout_loss",
        "Loss on held-out images",
        "held-out loss",
        f"Lower alone does not mean a better representation: [Li22] read it together with AUC.{own}",
    )
    yield _Quantity("knn", "k-NN accuracy", "k-NN accuracy (%)", "Of the representation; it needs labels.")
    yield _Quantity(
        "online_probe",
        "Online probe accuracy",
        "online probe accuracy (%)",
        "On held-out images, of a linear classifier that learns beside the encoder. It lags behind a representation "
        "that changes, and catches up as the rates fall.",
    )
    yield _Quantity(
        "auc",
        "AUC",
        "AUC (0 to 1)",
        "Of the cumulative explained variance; lower is better. Dotted: its floor (D+1)/(2D), when all directions are "
        "equal; 1 is a single direction.",
        lambda side: ((side.width + 1) / (2 * side.width), f"floor, D = {side.width}") if side.width else None,
    )
    yield _Quantity(
        "rankme_centered",
        "RankMe of centered features",
        "RankMe, centered (directions)",
        "The effective number of directions; higher is better, up to the width D.",
    )
    yield _Quantity(
        "std",
        "Per-dimension standard deviation",
        "std per dimension",
        "Of the L2-normalized embeddings. At 0 all embeddings are one; 1/√M, dotted, is what M equal directions give. "
        "It does not see dimensional collapse.",
        _even_std,
    )
    known = ("step", "kind", "lr", "loss", "std", "online_probe_train")
    drawn = ("heldout_loss", "knn", "online_probe", "auc", "rankme_centered")
    for name in dict.fromkeys(name for side in shown for name in side.scores):
        kind = SCORES.get(name)
        if kind is not None and name not in known + drawn and name not in ("participation_ratio", "nesum", "dead"):
            unit = f"{kind.title} (%)" if kind.share else kind.title
            yield _Quantity(name, capital(kind.title), unit, kind.sees)


def _even_std(side: Side) -> tuple[float, str] | None:
    out = (side.run.config.get("heads") or {}).get("projector_out")
    return (out**-0.5, f"1/√M, M = {out}") if isinstance(out, int) and out > 0 else None


def _over_training(shown: Sequence[Side]) -> Iterator[Part]:
    yield Heading("Over training")
    overlaid = [side for side in shown if side.run.records]
    if any(side.switch is not None for side in overlaid):
        yield Words("Thin vertical lines mark where a hybrid order turns from single pass to multiple pass.")
    found = False
    for what in _quantities(shown):
        label = figures.say_ends(overlaid, what.name, what.axis)
        if label:
            found = True
            yield Picture(what.name.replace("_", "-"), what.title, what.caption, _curve(overlaid, what), label=label)
    measured = [(side, side.spectrum(-1)) for side in shown if side.width]
    if measured:
        yield Picture(
            "final-spectra",
            "Last measured spectrum",
            "Relative to its largest value. Directions below the dotted line count as dead.",
            lambda: figures.relative_spectra(measured),
            label=figures.say_dead(measured),
        )
    elif not found:
        yield Words("Nothing has been recorded yet.")


def _curve(overlaid: Sequence[Side], what: _Quantity) -> Callable[[], Any]:
    scale = 100.0 if kind_of(what.name).share else 1.0
    return lambda: figures.over_steps(overlaid, what.name, title=what.axis, scale=scale, references=what.references)


def _spectra(shown: Sequence[Side]) -> Iterator[Part]:
    measured = [side for side in shown if side.width]
    for title, text, draw, key in (
        (
            "Singular values through training",
            "One line a measured step, light to dark; dashed, the untrained encoder (a ResNet's residual branches "
            "start off). A line that drops early has dead directions. "
            "Values below 10⁻⁷ of the largest of all are drawn at that height. As [Li22] Fig. 3.",
            figures.spectra_through_training,
            "spectra",
        ),
        (
            "Cumulative explained variance through training",
            "The share of the sum of singular values in the leading directions; the area under a line is its "
            "AUC. The faster a line rises, the fewer directions carry the representation. As [Li22] Fig. 6.",
            figures.explained_through_training,
            "explained",
        ),
    ):
        if measured:
            yield Heading(title)
            yield Words(text)
        for side in measured:
            rows = len(side.run.singular_values)
            thinned = f", {figures.MEASUREMENTS} of them drawn" if rows > figures.MEASUREMENTS else ""
            count = "1 measurement" if rows == 1 else f"{rows} measurements{thinned}"
            last = side.spectrum(-1)
            yield Picture(
                f"{key}-{side.index}",
                title,
                f"{count}, D = {side.width}",
                _through(draw, side, measured),
                label=f"{title} of {side.label}, {count}. At the last step AUC is {last.auc:.3f}, the largest singular "
                f"value {last.singular_values[0]:.3g} and the smallest {last.singular_values[-1]:.2g}.",
                subject=side,
            )


def _through(draw: Callable[..., Any], side: Side, measured: Sequence[Side]) -> Callable[[], Any]:
    return lambda: draw(side, measured)


def _samples(shown: Sequence[Side]) -> Iterator[Part]:
    found = [(side, side.run.path / SAMPLES) for side in shown if (side.run.path / SAMPLES).is_file()]
    if not found:
        return
    yield Heading("Images and views")
    yield Words("Images of the first step in the top row, and below each the two random views that the encoder sees.")
    for side, path in found:
        label = f"Some training images of {side.label}, and below each the two views made of it"
        yield Photo(path.read_bytes(), f"recipe: {side.run.config.get('views', 'not recorded')}", label, side)


def _order(side: Side) -> str:
    switch = f", multiple pass from step {side.switch:,}" if side.switch is not None else ""
    return f"{side.run.config.get('order', '–')}{switch}"


def _progress(side: Side) -> str:
    return f"{side.reached:,}" if side.finished else f"{side.reached:,} of {side.planned:,}, unfinished"
