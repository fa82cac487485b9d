"""What an inspection found, for tables, pages and programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fullrank.measure.scores import Score
from fullrank.measure.spectrum import Spectrum
from fullrank.measure.verdict import Verdict


@dataclass(frozen=True)
class Inspection:
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
