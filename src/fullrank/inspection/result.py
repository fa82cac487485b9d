"""What an inspection found, for tables, pages and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fullrank.documents import Document, Look
from fullrank.documents.shown import Shown
from fullrank.measure.scores import Score
from fullrank.measure.spectrum import Spectrum
from fullrank.measure.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Inspection(Shown):
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
        """Return the verdict, what to try, and the scores that can be taken, for people to read."""
        tries = "".join(f"\n- {remedy.text}" for remedy in self.verdict.remedies)
        scores = ", ".join(f"{s.kind.title} {s.text}" for s in self.scores.values() if not s.why)
        return f"Inspection({self.name!r}): {self.verdict.text}{tries}\n{scores}"

    def document(self) -> Document:
        """Return what `fullrank inspect` says of it."""
        from fullrank.inspection.document import document

        return document([self])

    def rows(self) -> list[dict[str, Any]]:
        """Return the scores, a row each; what could not be taken has None for a value."""
        return [
            {"score": score.name, "value": score.value, "direction": score.kind.direction, "why": score.why}
            for score in self.scores.values()
        ]

    def plot(self) -> Figure:
        """Draw the singular values, and those of the untrained network where there are some."""
        from fullrank.documents import spectra

        look = Look(self.name, 0)
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
