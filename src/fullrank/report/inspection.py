"""One self-contained HTML page about inspected encoders and features, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from fullrank.inspection.compare import comparison, obstacle
from fullrank.inspection.result import Inspection
from fullrank.inspection.table import number
from fullrank.report import figures
from fullrank.report.html import check_page, document, figure, legend, named, row, scalar, table
from fullrank.report.look import Look
from fullrank.text import capital
from fullrank.training.runs import write_text

TRY = "What to try, if it was trained without negatives, as SimSiam is"


def write_inspection(found: Sequence[Inspection], out: Path) -> Path:
    """Write one page about inspections.

    Args:
        found: What to show, in this order.
        out: Where the page goes; its folder is made if need be.

    Returns:
        `out`.

    Raises:
        FullrankError: `out` is a folder, or cannot be written.
    """
    check_page(out)
    write_text(out, render(found))
    return out


def render(found: Sequence[Inspection]) -> str:
    """Return the page as HTML; the same inspections give the same text."""
    looks = [Look(each.name, index) for index, each in enumerate(found)]
    title = " and ".join(each.name for each in found) if len(found) < 3 else f"{len(found)} side by side"
    sections = [_scores(found, looks), _figures(found, looks), _protocols(found, looks)]
    return document("inspection", title, _verdicts(found, looks), sections)


def _verdicts(found: Sequence[Inspection], looks: Sequence[Look]) -> str:
    items = []
    for each, look in zip(found, looks, strict=True):
        verdict = each.verdict
        tries = "".join(
            f'<li>{escape(capital(remedy.text))} <span class="hint">({escape(remedy.source)})</span></li>'
            for remedy in verdict.remedies
        )
        remedies = f"<details><summary>{TRY}</summary><ul>{tries}</ul></details>" if tries else ""
        layer = f" of the {verdict.layer}" if verdict.layer not in (None, "not stated") else ""
        items.append(
            f'<li style="border-color:{look.colour}"><p>{named(look, looks)} '
            f'<span class="level">{escape(verdict.headline.lower() + layer)}</span></p>'
            f"<p>{escape(capital('; '.join(verdict.reasons)))}.</p>"
            f"<p>Confidence {verdict.confidence}: {escape(verdict.certainty)}.</p>{remedies}</li>"
        )
    compared = "".join(f"<li>{escape(capital(sentence))}.</li>" for sentence in comparison(found))
    beside = f'<h3>Side by side</h3>\n<ul class="compare">{compared}</ul>' if compared else ""
    return f'<ul class="verdicts">{"".join(items)}</ul>\n{beside}'.strip()


def _scores(found: Sequence[Inspection], looks: Sequence[Look]) -> str:
    rows = [
        row("kind", [each.kind for each in found]),
        row("images N", [f"{each.spectrum.protocol['n']:,}" for each in found]),
        row("width D", [f"{each.spectrum.dim:,}" for each in found]),
    ]
    widths = len({each.spectrum.dim for each in found}) > 1
    missing: dict[str, dict[str, list[str]]] = {}
    for name in dict.fromkeys(name for each in found for name in each.scores):
        scores = [each.scores.get(name) for each in found]
        known = next(score for score in scores if score is not None)
        better = f"{known.better} is better" if known.better in ("lower", "higher") else "neither is better by itself"
        mark = " *" if widths and not obstacle(found, name) else ""
        rows.append(row(name + mark, [number(score) for score in scores], f"{better}; range {known.range}"))
        for each, score in zip(found, scores, strict=True):
            if score is not None and score.value is None:
                missing.setdefault(score.why, {}).setdefault(each.name, []).append(name)
    starred = "<p>* can be compared here, between different widths D; the others cannot.</p>" if widths else ""
    why = "".join(
        f"<li>{escape(', '.join(names))} of {escape(who)}: {escape(reason)}</li>"
        for reason, of in missing.items()
        for who, names in of.items()
    )
    gaps = f"<details><summary>Scores that could not be taken</summary><ul>{why}</ul></details>\n" if why else ""
    return f"<section>\n<h2>Scores</h2>\n{starred}{table(looks, rows, 'Scores')}\n{gaps}</section>\n"


def _figures(found: Sequence[Inspection], looks: Sequence[Look]) -> str:
    shown = [(look, each.spectrum) for look, each in zip(looks, found, strict=True)]
    twins = [
        (Look(f"{each.name}, untrained", look.index), each.untrained)
        for look, each in zip(looks, found, strict=True)
        if each.untrained is not None
    ]
    dotted = (
        " Thin and dotted: the same network with random weights (a ResNet's residual branches start off)."
        if twins
        else ""
    )
    pictures = [
        figure(
            figures.relative_spectra(shown, key="spectra", beside=twins),
            "<b>Singular values</b>, relative to the largest. Directions below the dotted line count as dead; values "
            f"below 10⁻⁷ are drawn at that height. As [Li22] Fig. 3.{dotted}",
        ),
        figure(
            figures.explained(shown, key="explained", beside=twins),
            "<b>Cumulative explained variance</b>: the share of the sum of singular values in the leading directions. "
            f"The area under a line is its AUC. As [Li22] Fig. 6.{dotted}",
        ),
    ]
    return f'<section>\n<h2>Spectra</h2>\n{legend(looks)}<div class="plots">\n{"".join(pictures)}</div>\n</section>\n'


def _protocols(found: Sequence[Inspection], looks: Sequence[Look]) -> str:
    parts = []
    for each, look in zip(found, looks, strict=True):
        source = "".join(f"<dt>{escape(str(key))}</dt><dd>{scalar(value)}</dd>" for key, value in each.source.items())
        groups: dict[str, tuple[list[str], dict]] = {}
        for score in each.scores.values():
            names, _ = groups.setdefault(repr(sorted(score.protocol.items(), key=repr)), ([], dict(score.protocol)))
            names.append(score.name)
        how = "".join(
            f"<h3>{escape(', '.join(names))}</h3><dl>"
            + "".join(f"<dt>{escape(str(key))}</dt><dd>{scalar(value)}</dd>" for key, value in protocol.items())
            + "</dl>"
            for names, protocol in groups.values()
        )
        left_out = "".join(f"<li>{escape(name)}</li>" for name in each.skipped)
        unread = f"<h3>Images that could not be read</h3><ul>{left_out}</ul>" if left_out else ""
        parts.append(
            f"<h3>{named(look, looks)}</h3><dl>{source}</dl>{unread}"
            f"<details><summary>How each score was measured</summary>{how}</details>"
        )
    return f"<section>\n<h2>What was inspected</h2>\n{''.join(parts)}</section>\n"
