"""`fullrank report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about one run or several: curves, spectra, sample views, a verdict."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders made by `fullrank train`."""
    out: Path | None = None
    """The page to write; the run's report.html for one run, ./report.html for several, when left out."""

    def run(self) -> int:
        """Write the page."""
        from fullrank.report.document import write_report
        from fullrank.training.runs import only_runs

        runs = only_runs(self.runs)
        out = self.out or (runs[0] / "report.html" if len(runs) == 1 else Path("report.html"))
        print(f"report: {write_report(runs, out)}")
        return 0
