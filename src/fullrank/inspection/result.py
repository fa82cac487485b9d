"""What an inspection found, and says: verdicts, scores side by side, spectra, and what can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fullrank import documents as doc
from fullrank.documents import spectra
from fullrank.documents.scores import Scored, comparison, how_measured, obstacle, score_table, unspanned_note
from fullrank.encoders import OTHERS
from fullrank.measure.protocols import UNKNOWN
from fullrank.measure.scores import Score, title
from fullrank.measure.spectrum import Spectrum
from fullrank.measure.verdict import Verdict
from fullrank.text import capital, grouped, listing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRY = "If it was trained without negatives, as SimSiam is, try to"
RANKED = ("auc", "rankme", "participation_ratio", "lidar", "cluster_learnability")
"""Scores whose best is said."""
KEY_SCORES = ("auc", "rankme", "participation_ratio", "dead")
"""Scores in a terminal where there are too many X for a column each."""
_MOST_COLUMNS = 3


@dataclass(frozen=True, repr=False)
class Inspection(doc.Shown):
    """What was found out about one X.

    Attributes:
        name: What it was given as, or so much of its end as tells it from the others.
        kind: What it turned out to be.
        source: What is known of where it came from.
        spectrum: Singular values of its features, centered; the protocol is the features' own.
        untrained: The same of the same network with random weights on the same images; None where there is none.
        scores: By name.
        verdict: On the spectrum.
        skipped: Names of the images that could not be read.
        unkept: Why a run's scores could not be kept in its folder; empty where they were.
    """

    name: str
    kind: str
    source: Mapping[str, Any]
    spectrum: Spectrum
    untrained: Spectrum | None
    scores: Mapping[str, Score]
    verdict: Verdict
    skipped: tuple[str, ...] = ()
    unkept: str = ""

    def __repr__(self) -> str:
        tries = "".join(f"\n- {remedy.text}" for remedy in self.verdict.remedies)
        scores = ", ".join(f"{s.kind.title} {s.text}" for s in self.scores.values() if not s.why)
        return f"Inspection({self.name!r}): {self.verdict.text}{tries}\n{scores}"

    def document(self) -> doc.Document:
        """Return what `fullrank inspect` says of it."""
        return document([self])

    def rows(self) -> list[dict[str, Any]]:
        """Return the scores, a row each; what could not be taken has None for a value."""
        return [
            {"score": score.name, "value": score.value, "direction": score.kind.direction, "why": score.why}
            for score in self.scores.values()
        ]

    def plot(self) -> Figure:
        """Draw the singular values, and those of the untrained network where there are some."""
        look = doc.Look(self.name, 0)
        twins = [] if self.untrained is None else [(look, self.untrained)]
        return spectra.relative_spectra([(look, self.spectrum)], twins)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        return {
            "name": self.name,
            "kind": self.kind,
            "source": dict(self.source),
            "protocol": dict(self.spectrum.protocol),
            "verdict": asdict(self.verdict),
            "scores": [score.as_dict() for score in self.scores.values()],
            "singular_values": self.spectrum.singular_values.tolist(),
            "untrained_singular_values": None if self.untrained is None else self.untrained.singular_values.tolist(),
            "skipped": list(self.skipped),
        }


def document(found: Sequence[Inspection]) -> doc.Document:
    """Say what was found; the same inspections make the same document."""
    of = [Scored(each.name, i, each.scores) for i, each in enumerate(found)]
    name = " and ".join(each.name for each in found) if len(found) < 3 else f"{len(found)} side by side"
    said = _compared(found, of)
    data = {"inspected": [each.as_dict() for each in found], "comparison": said}
    return doc.Document("inspection", name, list(_parts(found, of, said)), data, of)


def _parts(found: Sequence[Inspection], of: Sequence[Scored], said: Sequence[str]) -> Iterator[doc.Part]:
    scores = [(each.name, score) for each in found for score in each.scores.values()]
    names = list(dict.fromkeys(score.name for _, score in scores))
    above = [["images N", *(f"{each.spectrum.protocol['n']:,}" for each in found), ""]]
    above += [["width D", *(f"{each.spectrum.dim:,}" for each in found), ""]]
    few = len(found) <= _MOST_COLUMNS
    yield doc.Only(
        "terminal", [score_table(of, names, above) if few else _a_line_each(found, of)]
    )  # a page has room for all
    if few:
        yield doc.Only("terminal", how_measured((who, score) for who, score in scores if score.name == "auc"))
    for each, look in zip(found, of, strict=True):
        yield _verdict(each, look)
        if others := each.source.get(OTHERS):
            yield doc.Words(
                f"other networks in the file fit as well: {others}; --prefix takes one of them", "hint", look
            )
        if each.unkept:
            yield doc.Words(each.unkept, "warning", look)
    if said:
        yield doc.Only("page", [doc.Heading("Side by side")])
        yield doc.Points(said)
    missing = grouped((f"{who}: {score.why}", score.kind.title) for who, score in scores if score.value is None)
    yield doc.Only("page", [doc.Heading("Scores"), score_table(of, names, above)])
    if missing:
        items = [f"{', '.join(titles)} of {why}" for why, titles in missing.items()]
        yield doc.Fold("Scores that could not be taken", [doc.Points(items)])
    yield doc.Only("page", [doc.Heading("Spectra"), *_spectra(found, of), doc.Heading("What was inspected")])
    for each, look in zip(found, of, strict=True):
        yield doc.Fields({"kind": each.kind, **each.source}, subject=look)
        yield from doc.unreadable(each.skipped, look)
    yield doc.Fold("How each score was measured", how_measured(scores))


def _a_line_each(found: Sequence[Inspection], of: Sequence[Scored]) -> doc.Table:
    header = ["", "N", "D", *(title(name) for name in KEY_SCORES), "verdict"]
    rows = [
        [
            *(each.name, f"{each.spectrum.protocol['n']:,}", f"{each.spectrum.dim:,}"),
            *(scored.cell(name) for name in KEY_SCORES),
            each.verdict.level,
        ]
        for each, scored in zip(found, of, strict=True)
    ]
    note = unspanned_note(of, KEY_SCORES)
    return doc.Table("Scores", header, rows, "".join(note), text=[len(header) - 1], captioned=False)


def _verdict(each: Inspection, look: doc.Look) -> doc.Statement:
    verdict = each.verdict
    layer = f" ({verdict.layer})" if verdict.layer not in (None, UNKNOWN) else ""
    return doc.Statement(
        look,
        f"{verdict.headline}{layer}",
        verdict.sentences,
        [(capital(remedy.text), remedy.source) for remedy in verdict.remedies],
        TRY,
    )


def _compared(found: Sequence[Inspection], of: Sequence[Scored]) -> list[str]:
    said = comparison(of, RANKED)
    if len({each.spectrum.dim for each in found}) > 1:
        able = [
            title(name) for name in dict.fromkeys(n for each in found for n in each.scores) if not obstacle(of, name)
        ]
        said.append(f"Between different widths D, what can be compared is {listing(able) if able else 'nothing'}.")
    unknown = [each.name for each in found if each.spectrum.protocol.get("images") == UNKNOWN]
    if said and unknown:
        said.append(f"{listing(unknown)}: a matrix does not say which images and which layer it is of; you must know.")
    return said


def _spectra(found: Sequence[Inspection], of: Sequence[Scored]) -> Iterator[doc.Picture]:
    shown = [(look, each.spectrum) for look, each in zip(of, found, strict=True)]
    twins = [(look, each.untrained) for look, each in zip(of, found, strict=True) if each.untrained is not None]
    dotted = ""
    if twins:
        dotted = " Thin and dotted: the same network with random weights (a ResNet's residual branches start off)."
    yield doc.Picture(
        "spectra",
        "Singular values",
        "Relative to the largest. Directions below the dotted line count as dead; values below 10⁻⁷ are drawn at that "
        f"height. As [Li22] Fig. 3.{dotted}",
        lambda: spectra.relative_spectra(shown, twins),
        label=spectra.say_dead(shown),
    )
    yield doc.Picture(
        "explained",
        "Cumulative explained variance",
        "The share of the sum of singular values in the leading directions. The area under a line is its AUC. As "
        f"[Li22] Fig. 6.{dotted}",
        lambda: spectra.explained(shown, twins),
        label=spectra.say_areas(shown),
    )
