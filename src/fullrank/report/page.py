"""One self-contained HTML page about a run, or several side by side: no script, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import statistics
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fullrank import score_names
from fullrank.errors import FullrankError
from fullrank.report import figures
from fullrank.report.html import document, figure, legend, named, row, scalar, table
from fullrank.report.side import Score, Side, flatten, sides
from fullrank.report.words import comparison, duration, number, verdict
from fullrank.text import capital
from fullrank.training.runs import RunRecord, read_run, write_text

SAMPLES = "samples.png"
SKIPPED_SHOWN = 20


def write_report(runs: Sequence[Path], out: Path) -> Path:
    """Read run folders and write one page about them.

    Args:
        runs: Run folders, finished or not, in the order to show them. One that is named twice is shown once.
        out: Where the page goes; its folder is made if need be.

    Returns:
        `out`.

    Raises:
        FullrankError: There is no run, one of them cannot be read, or `out` is a folder.
    """
    folders = list({Path(run).resolve(): Path(run) for run in runs}.values())
    if not folders:
        raise FullrankError("no run to report on: name at least one folder made by `fullrank train`")
    out = Path(out)
    if out.is_dir():
        raise FullrankError(f"{out} is a folder: name the page to write, such as {out / 'report.html'}")
    page = render([read_run(folder) for folder in folders])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    return out


def render(runs: Sequence[RunRecord]) -> str:
    """Return the page about some runs as HTML; the same runs give the same text."""
    shown = sides(runs)
    title = " and ".join(side.label for side in shown) if len(shown) < 3 else f"{len(shown)} runs side by side"
    sections = [_summary(shown), _figures(shown), _samples(shown), _trained(shown)]
    return document("report", title, _verdicts(shown), sections)


def _verdicts(shown: Sequence[Side]) -> str:
    items = []
    for side in shown:
        headline, sentences = verdict(side)
        items.append(
            f'<li style="border-color:{side.colour}"><p>{named(side, shown)} '
            f'<span class="level">{headline}</span></p><p>{escape(sentences)}</p></li>'
        )
    compared = "".join(f"<li>{escape(sentence)}</li>" for sentence in comparison(shown))
    beside = f'<h3>Side by side</h3>\n<ul class="compare">{compared}</ul>' if compared else ""
    return f'<ul class="verdicts">{"".join(items)}</ul>\n{beside}'.strip()


def _summary(shown: Sequence[Side]) -> str:
    config = [side.run.config for side in shown]
    rows = [
        row("method", [str(each.get("method", "–")) for each in config]),
        row("order", [_order(side) for side in shown]),
        row("images", [str(each.get("images", "–")) for each in config]),
        row("steps", [_progress(side) for side in shown]),
        row(
            "scores measured at step",
            [f"{side.measured:,}" if side.measured is not None else "–" for side in shown],
        ),
    ]
    known = [
        "train_loss",
        "heldout_loss",
        "knn",
        "online_probe",
        "online_probe_train",
        "auc",
        "rankme",
        "participation_ratio",
        "dead",
    ]
    others = dict.fromkeys(name for side in shown for name in side.scores if name not in known)
    for name in (*known, *others):
        scores = [side.scores.get(name) for side in shown]
        better = next((score.better for score in scores if score), "")
        word, comma, condition = better.partition(",")
        hint = f"{word} is better{comma}{condition}" if word in ("lower", "higher") else ""
        cells = [_value(name, side, score) for side, score in zip(shown, scores, strict=True)]
        rows.append(row(score_names.title(name, centered=True), cells, hint))
    seconds = [(side.run.summary or {}).get("seconds") for side in shown]
    rows.append(row("time", [duration(each) if each is not None else "–" for each in seconds]))
    rows.append(row("images per second", [_throughput(side) for side in shown], "median"))
    rows.append(row("images skipped", [str(len(side.skipped)) for side in shown], "could not be read"))
    return (
        f"<section>\n<h2>Scores</h2>\n{table(shown, rows, 'Scores of each run')}\n{_protocols(shown)}"
        f"{_skipped(shown)}</section>\n"
    )


def _value(name: str, side: Side, score: Score | None) -> str:
    if score is None:
        return "–"
    of = f" of {side.width}" if name == "dead" and side.width else ""
    return number(name, score.value) + of


def _protocols(shown: Sequence[Side]) -> str:
    """List each protocol once, with the scores and the runs that share it."""
    scores = [(side, name, dict(score.protocol)) for side in shown for name, score in side.scores.items()]
    by_protocol: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {}
    for side, name, protocol in scores:
        _, names = by_protocol.setdefault(repr(sorted(protocol.items())), (protocol, {}))
        names.setdefault(side.label, []).append(score_names.title(name, centered=True))
    if not by_protocol:
        return ""
    parts = []
    for protocol, names in by_protocol.values():
        title = ", ".join(dict.fromkeys(name for own in names.values() for name in own))
        of = f" of {', '.join(names)}" if len(names) < len(shown) else ""
        items = "".join(f"<dt>{escape(str(key))}</dt><dd>{scalar(value)}</dd>" for key, value in protocol.items())
        body = f"<dl>{items}</dl>" if items else '<p class="hint">The run names no protocol.</p>'
        parts.append(f"<h3>{escape(capital(title) + of)}</h3>{body}")
    return f"<details><summary>How each score was measured</summary>{''.join(parts)}</details>\n"


def _skipped(shown: Sequence[Side]) -> str:
    parts = []
    for side in shown:
        if side.skipped:
            names = ", ".join(str(name) for name in side.skipped[:SKIPPED_SHOWN])
            more = f" and {len(side.skipped) - SKIPPED_SHOWN} more" if len(side.skipped) > SKIPPED_SHOWN else ""
            parts.append(f"<p>{named(side, shown)} {escape(names)}{more}</p>")
    return f"<details><summary>Images that could not be read</summary>{''.join(parts)}</details>\n" if parts else ""


def _trained(shown: Sequence[Side]) -> str:
    config = _fields([side.run.config for side in shown])
    environment = _fields([side.run.environment for side in shown])
    if len(shown) == 1:
        body = table(shown, _rows(config), "Configuration")
    else:
        differ = {name: values for name, values in config.items() if len(set(values)) > 1}
        same = {name: values[:1] for name, values in config.items() if name not in differ}
        top = table(shown, _rows(differ, "differ"), "Fields of the configuration that differ") if differ else ""
        body = (
            f"<p>{'These fields differ.' if differ else 'The configurations are identical.'}</p>\n{top}\n"
            f"<details><summary>{len(same)} fields are the same in all runs</summary>"
            f"{table([], _rows(same), 'Fields of the configuration that are the same')}</details>"
        )
    rows = [
        row(name, values[:1] if len(set(values)) == 1 else values, field=True, span=len(shown))
        for name, values in environment.items()
    ]
    where = table(shown, rows, "Versions and hardware") if rows else "<p>Not recorded.</p>"
    return (
        f"<section>\n<h2>What was trained</h2>\n{body}\n"
        f"<details><summary>Versions and hardware</summary>{where}</details>\n</section>\n"
    )


def _fields(nested: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    flat = [flatten(each or {}) for each in nested]
    return {name: [scalar(each.get(name)) for each in flat] for name in dict.fromkeys(n for f in flat for n in f)}


def _rows(fields: Mapping[str, Sequence[str]], look: str = "") -> list[str]:
    return [row(name, values, look=look, field=True) for name, values in fields.items()]


def _figures(shown: Sequence[Side]) -> str:
    overlaid = [side for side in shown if side.run.records]
    measured = [side for side in shown if side.width]
    lines = [
        figure(figures.over_steps(overlaid, **what), caption)
        for caption, what in _quantities(shown)
        if overlaid  # a run that has just begun has nothing to draw
    ]
    if measured:
        lines.append(
            figure(
                figures.relative_spectra([(side, side.spectrum(-1)) for side in measured], key="final-spectra"),
                "<b>Last measured spectrum</b>, relative to its largest value. Directions below the dotted line "
                "count as dead.",
            )
        )
    if not any(lines):
        return "<section>\n<h2>Figures</h2>\n<p>Nothing has been recorded yet.</p>\n</section>\n"
    switches = any(side.switch is not None for side in overlaid)
    note = (
        "<p>Thin vertical lines mark where a hybrid order turns from single pass to multiple pass.</p>"
        if switches
        else ""
    )
    parts = [
        f"<section>\n<h2>Over training</h2>\n{note}{legend(shown)}"
        f'<div class="plots">\n{"".join(lines)}</div>\n</section>\n'
    ]
    if measured:
        parts.append(_through_training(measured, shown))
    return "".join(parts)


def _quantities(shown: Sequence[Side]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Name what is drawn over steps, with its caption."""
    methods = len({side.run.config.get("method") for side in shown}) > 1
    own = " Each method has a loss of its own: compare shapes, not heights." if methods else ""
    yield (
        f"<b>Training loss</b>, mean over the steps between two points.{own}",
        {"key": "train-loss", "kind": "train", "name": "loss", "title": "training loss"},
    )
    yield (
        "<b>Loss on held-out images.</b> Lower alone does not mean a better representation: [Li22] read it together "
        f"with AUC.{own}",
        {"key": "heldout-loss", "kind": "measure", "name": "heldout_loss", "title": "held-out loss"},
    )
    yield (
        "<b>k-NN accuracy</b> of the representation, which needs labels.",
        {"key": "knn", "kind": "measure", "name": "knn", "title": "k-NN accuracy (%)", "scale": 100.0},
    )
    yield (
        "<b>Online probe accuracy</b> on held-out images, of a linear classifier that learns beside the encoder. It "
        "lags behind a representation that changes, and catches up as the rates fall.",
        {
            "key": "online-probe",
            "kind": "measure",
            "name": "online_probe",
            "title": "online probe accuracy (%)",
            "scale": 100.0,
        },
    )
    yield (
        "<b>AUC</b> of the cumulative explained variance; lower is better. Dotted: its floor "
        "(D+1)/(2D), when all directions are equal; 1 is a single direction.",
        {"key": "auc", "kind": "measure", "name": "auc", "title": "AUC (0 to 1)", "references": _auc_floor},
    )
    yield (
        "<b>RankMe of centred features</b>, the effective number of directions; higher is better, up to the width D.",
        {"key": "rankme", "kind": "measure", "name": "rankme", "title": "RankMe, centred (directions)"},
    )
    yield (
        "<b>Per-dimension standard deviation</b> of the L2-normalised embeddings. At 0 all embeddings are "
        "one; 1/√M, dotted, is what M equal directions give. It does not see dimensional collapse.",
        {"key": "std", "kind": "train", "name": "std", "title": "std per dimension", "references": _even_std},
    )


def _auc_floor(side: Side) -> tuple[float, str] | None:
    return ((side.width + 1) / (2 * side.width), f"floor, D = {side.width}") if side.width else None


def _even_std(side: Side) -> tuple[float, str] | None:
    out = (side.run.config.get("heads") or {}).get("projector_out")
    return (out**-0.5, f"1/√M, M = {out}") if isinstance(out, int) and out > 0 else None


def _through_training(measured: Sequence[Side], shown: Sequence[Side]) -> str:
    parts = []
    for title, text, draw, key in (
        (
            "Singular values through training",
            "One line a measured step, light to dark; dashed, the untrained encoder (a ResNet's residual branches "
            "start off). A line that drops early has "
            "dead directions. Values below 10⁻⁷ of the largest of all are drawn at that height. As [Li22] Fig. 3.",
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
        panels = []
        for side in measured:
            rows = len(side.run.singular_values)
            thinned = f", {figures.MEASUREMENTS} of them drawn" if rows > figures.MEASUREMENTS else ""
            count = "1 measurement" if rows == 1 else f"{rows} measurements{thinned}"
            caption = f"{named(side, shown)} · {count}, D = {side.width}"
            panels.append(figure(draw(side, measured, key=f"{key}-{side.index}"), caption))
        parts.append(
            f'<section>\n<h2>{title}</h2>\n<p>{text}</p>\n<div class="plots">\n{"".join(panels)}</div>\n</section>\n'
        )
    return "".join(parts)


def _samples(shown: Sequence[Side]) -> str:
    parts = []
    for side in shown:
        path = side.run.path / SAMPLES
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            alt = escape(f"Some training images of {side.label}, and below each the two views made of it")
            recipe = escape(str(side.run.config.get("views", "not recorded")))
            image = f'<img src="data:image/png;base64,{data}" alt="{alt}">'
            parts.append(figure(image, f"{named(side, shown)} · recipe: {recipe}"))
    if not parts:
        return ""
    text = "<p>Images of the first step in the top row, and below each the two random views that the encoder sees.</p>"
    return f'<section class="samples">\n<h2>Images and views</h2>\n{text}\n{"".join(parts)}</section>\n'


def _order(side: Side) -> str:
    switch = f", multiple pass from step {side.switch:,}" if side.switch is not None else ""
    return f"{side.run.config.get('order', '–')}{switch}"


def _progress(side: Side) -> str:
    if side.finished:
        return f"{side.reached:,}"
    return f"{side.reached:,} of {side.planned:,}, unfinished"


def _throughput(side: Side) -> str:
    rates = [record["images_per_second"] for record in side.run.timing if "images_per_second" in record]
    return f"{statistics.median(rates):,.0f}" if rates else "–"
