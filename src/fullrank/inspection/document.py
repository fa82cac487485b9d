"""What `fullrank inspect` has to say: verdicts, scores side by side, spectra, and what can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fullrank.documents import (
    Document,
    Fields,
    Fold,
    Heading,
    Hinted,
    Look,
    Only,
    Part,
    Picture,
    Points,
    Statement,
    Table,
    Words,
    spectra,
)
from fullrank.encoders import OTHERS
from fullrank.inspection.compare import comparison, obstacle
from fullrank.inspection.result import Inspection
from fullrank.measure.scores import kind_of, title
from fullrank.text import capital, grouped

TRY = "If it was trained without negatives, as SimSiam is, try to"
KEY_SCORES = ("auc", "rankme", "participation_ratio", "alpha_req", "dead")
"""Columns in a terminal where there are too many X for a column each; the page has all scores."""
_MOST_COLUMNS = 3
_MOST_LINES = 3


def document(found: Sequence[Inspection]) -> Document:
    """Say what was found; the same inspections make the same document."""
    looks = [Look(each.name, index) for index, each in enumerate(found)]
    name = " and ".join(each.name for each in found) if len(found) < 3 else f"{len(found)} side by side"
    data = {"inspected": [each.as_dict() for each in found], "comparison": comparison(found)}
    return Document("inspection", name, list(_parts(found, looks)), data, looks)


def _parts(found: Sequence[Inspection], looks: Sequence[Look]) -> Iterator[Part]:
    few = len(found) <= _MOST_COLUMNS
    if few:
        for each, look in zip(found, looks, strict=True):
            about = ", ".join(f"{key} {value}" for key, value in each.source.items())
            yield Only("terminal", [Words(f"{each.kind}, {about}", subject=look)])
            yield Only("terminal", [Fields(each.spectrum.protocol)])
    yield Only("terminal", [_down(found, looks) if few else _across(found)])
    for each, look in zip(found, looks, strict=True):
        yield _verdict(each, look, tries=few)
        yield from _left_out(each, look)
    if said := comparison(found):
        yield Only("page", [Heading("Side by side", 3)])
        yield Points([f"{capital(sentence)}." for sentence in said])
    yield Only("page", list(_page(found, looks)))


def _verdict(each: Inspection, look: Look, *, tries: bool) -> Statement:
    verdict = each.verdict
    layer = f" of the {verdict.layer}" if verdict.layer not in (None, "not stated") else ""
    remedies = verdict.remedies if tries and verdict.confidence != "low" else ()
    return Statement(
        look,
        f"{verdict.headline}{layer}",
        [f"{capital('; '.join(verdict.reasons))}.", f"Confidence {verdict.confidence}: {verdict.certainty}."],
        [(capital(remedy.text), remedy.source) for remedy in remedies],
        TRY,
    )


def _left_out(each: Inspection, look: Look) -> Iterator[Part]:
    if others := each.source.get(OTHERS):
        yield Words(f"other networks in the file fit as well: {others}; --prefix takes one of them", "hint", look)
    for name in each.skipped[:_MOST_LINES]:
        yield Only("terminal", [Words(f"left out, it could not be read: {name}", "hint", look)])
    if len(each.skipped) > _MOST_LINES:
        yield Only("terminal", [Words(f"... and {len(each.skipped) - _MOST_LINES} more", "hint", look)])
    if each.unkept:
        yield Words(each.unkept, "warning", look)


def _page(found: Sequence[Inspection], looks: Sequence[Look]) -> Iterator[Part]:
    yield Heading("Scores")
    widths = len({each.spectrum.dim for each in found}) > 1
    if widths:
        yield Words("* can be compared here, between different widths D; the others cannot.")
    yield _down(found, looks)
    failed = [(each.name, score) for each in found for score in each.scores.values() if score.value is None]
    missing = grouped((f"{who}: {score.why}", score.kind.title) for who, score in failed)
    if missing:
        items = [f"{', '.join(titles)} of {why}" for why, titles in missing.items()]
        yield Fold("Scores that could not be taken", [Points(items)])
    yield Heading("Spectra")
    yield from _spectra(found, looks)
    yield Heading("What was inspected")
    for each, look in zip(found, looks, strict=True):
        yield Fields(each.source, subject=look)
        if each.skipped:
            yield Fold("Images that could not be read", [Points(each.skipped)])
        alike = grouped((repr(sorted(s.protocol.items(), key=repr)), name) for name, s in each.scores.items())
        how = [Fields(each.scores[names[0]].protocol, ", ".join(map(title, names))) for names in alike.values()]
        yield Fold("How each score was measured", how)


def _down(found: Sequence[Inspection], looks: Sequence[Look]) -> Table:
    """Return all scores, a row each."""
    widths = len({each.spectrum.dim for each in found}) > 1
    rows: list[list] = [
        ["images N", *(f"{each.spectrum.protocol['n']:,}" for each in found), ""],
        ["width D", *(f"{each.spectrum.dim:,}" for each in found), ""],
    ]
    for name in dict.fromkeys(name for each in found for name in each.scores):
        kind = kind_of(name)
        scores = [each.scores.get(name) for each in found]
        better = "neither" if kind.direction == "none" else kind.direction
        hint = f"{better} is better" + (" by itself" if kind.direction == "none" else "")
        mark = " *" if widths and not obstacle(found, name) else ""
        hinted = Hinted(f"{kind.title}{mark}", f"{hint}; range {kind.range}" if kind.range else hint)
        rows.append([hinted, *(score.text if score else "–" for score in scores), better])
    return Table("Scores", ["score", *looks, "better"], rows, text=[len(found) + 1], captioned=False)


def _across(found: Sequence[Inspection]) -> Table:
    """Return the scores that matter most, a column each."""
    header = ["", "N", "D", *(title(name) for name in KEY_SCORES), "verdict"]
    rows = [
        [
            each.name,
            f"{each.spectrum.protocol['n']:,}",
            f"{each.spectrum.dim:,}",
            *(each.scores[name].text if name in each.scores else "–" for name in KEY_SCORES),
            each.verdict.level,
        ]
        for each in found
    ]
    return Table("Scores", header, rows, text=[len(header) - 1], captioned=False)


def _spectra(found: Sequence[Inspection], looks: Sequence[Look]) -> Iterator[Picture]:
    shown = [(look, each.spectrum) for look, each in zip(looks, found, strict=True)]
    twins = [(look, each.untrained) for look, each in zip(looks, found, strict=True) if each.untrained is not None]
    dotted = ""
    if twins:
        dotted = " Thin and dotted: the same network with random weights (a ResNet's residual branches start off)."
    yield Picture(
        "spectra",
        "Singular values",
        "Relative to the largest. Directions below the dotted line count as dead; values below 10⁻⁷ are drawn at that "
        f"height. As [Li22] Fig. 3.{dotted}",
        lambda: spectra.relative_spectra(shown, twins),
        label=spectra.say_dead(shown),
    )
    yield Picture(
        "explained",
        "Cumulative explained variance",
        "The share of the sum of singular values in the leading directions. The area under a line is its AUC. As "
        f"[Li22] Fig. 6.{dotted}",
        lambda: spectra.explained(shown, twins),
        label=spectra.say_areas(shown),
    )
