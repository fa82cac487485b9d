"""What `fullrank inspect` has to say: verdicts, scores side by side, spectra, and what can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fullrank.documents import (
    Document,
    Fields,
    Fold,
    Heading,
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
from fullrank.documents.scores import Scored, comparison, how_measured, obstacle, score_table
from fullrank.encoders import OTHERS
from fullrank.inspection.result import Inspection
from fullrank.measure.protocols import UNKNOWN
from fullrank.measure.scores import title
from fullrank.text import capital, grouped, listing

TRY = "If it was trained without negatives, as SimSiam is, try to"
RANKED = ("auc", "rankme", "participation_ratio", "lidar", "cluster_learnability")
"""Scores whose best is said."""
KEY_SCORES = ("auc", "rankme", "participation_ratio", "alpha_req", "dead")
"""Scores in a terminal where there are too many X for a column each."""
_MOST_COLUMNS, _MOST_LINES = 3, 3


def document(found: Sequence[Inspection]) -> Document:
    """Say what was found; the same inspections make the same document."""
    of = [Scored(Look(each.name, i), each.scores, each.spectrum.dim) for i, each in enumerate(found)]
    name = " and ".join(each.name for each in found) if len(found) < 3 else f"{len(found)} side by side"
    said = _compared(found, of)
    data = {"inspected": [each.as_dict() for each in found], "comparison": said}
    return Document("inspection", name, list(_parts(found, of, said)), data, [each.look for each in of])


def _parts(found: Sequence[Inspection], of: Sequence[Scored], said: Sequence[str]) -> Iterator[Part]:
    names = list(dict.fromkeys(name for each in found for name in each.scores))
    above = [["images N", *(f"{each.spectrum.protocol['n']:,}" for each in found), ""]]
    above += [["width D", *(f"{each.spectrum.dim:,}" for each in found), ""]]
    few = len(found) <= _MOST_COLUMNS
    if few:
        spectra_of = [(each.name, score) for each in found for name, score in each.scores.items() if name == "auc"]
        yield Only("terminal", how_measured(spectra_of))
    yield Only("terminal", [score_table(of, names, above) if few else _a_line_each(found)])  # a page has room for all
    for each, (look, *_) in zip(found, of, strict=True):
        yield _verdict(each, look)
        if others := each.source.get(OTHERS):
            yield Words(f"other networks in the file fit as well: {others}; --prefix takes one of them", "hint", look)
        if each.skipped:
            more = f" and {len(each.skipped) - _MOST_LINES} more" if len(each.skipped) > _MOST_LINES else ""
            unread = f"left out, it could not be read: {', '.join(each.skipped[:_MOST_LINES])}{more}"
            yield Only("terminal", [Words(unread, "hint", look)])
        if each.unkept:
            yield Words(each.unkept, "warning", look)
    if said:
        yield Only("page", [Heading("Side by side")])
        yield Points(said)
    failed = [(each.name, score) for each in found for score in each.scores.values() if score.value is None]
    missing = grouped((f"{who}: {score.why}", score.kind.title) for who, score in failed)
    yield Only("page", [Heading("Scores"), score_table(of, names, above)])
    if missing:
        items = [f"{', '.join(titles)} of {why}" for why, titles in missing.items()]
        yield Fold("Scores that could not be taken", [Points(items)])
    yield Only("page", [Heading("Spectra"), *_spectra(found, of), Heading("What was inspected")])
    for each, (look, *_) in zip(found, of, strict=True):
        yield Fields({"kind": each.kind, **each.source}, subject=look)
        if each.skipped:
            yield Fold("Images that could not be read", [Points(each.skipped)])
    scores = [(each.name, score) for each in found for score in each.scores.values()]
    yield Fold("How each score was measured", how_measured(scores))


def _a_line_each(found: Sequence[Inspection]) -> Table:
    header = ["", "N", "D", *(title(name) for name in KEY_SCORES), "verdict"]
    rows = [
        [
            *(each.name, f"{each.spectrum.protocol['n']:,}", f"{each.spectrum.dim:,}"),
            *(each.scores[name].text if name in each.scores else "–" for name in KEY_SCORES),
            each.verdict.level,
        ]
        for each in found
    ]
    return Table("Scores", header, rows, text=[len(header) - 1], captioned=False)


def _verdict(each: Inspection, look: Look) -> Statement:
    verdict = each.verdict
    layer = f" of the {verdict.layer}" if verdict.layer not in (None, UNKNOWN) else ""
    remedies = verdict.remedies if verdict.confidence != "low" else ()
    return Statement(
        look,
        f"{verdict.headline}{layer}",
        [f"{capital('; '.join(verdict.reasons))}.", f"Confidence {verdict.confidence}: {verdict.certainty}."],
        [(capital(remedy.text), remedy.source) for remedy in remedies],
        TRY,
    )


def _compared(found: Sequence[Inspection], of: Sequence[Scored]) -> list[str]:
    said = comparison(of, RANKED)
    if len({each.width for each in of}) > 1:
        able = [
            title(name) for name in dict.fromkeys(n for each in found for n in each.scores) if not obstacle(of, name)
        ]
        said.append(f"Between different widths D, what can be compared is {listing(able) if able else 'nothing'}.")
    unknown = [each.name for each in found if each.spectrum.protocol.get("images") == UNKNOWN]
    if said and unknown:
        said.append(f"{listing(unknown)}: a matrix does not say which images and which layer it is of; you must know.")
    return said


def _spectra(found: Sequence[Inspection], of: Sequence[Scored]) -> Iterator[Picture]:
    shown = [(each.look, one.spectrum) for each, one in zip(of, found, strict=True)]
    twins = [(each.look, one.untrained) for each, one in zip(of, found, strict=True) if one.untrained is not None]
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
