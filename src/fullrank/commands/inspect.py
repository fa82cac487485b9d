"""`fullrank inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from fullrank.inspection.options import InspectOptions


@dataclass(frozen=True, kw_only=True)
class Inspect(InspectOptions):
    """Measure any encoder: singular values, label-free scores, and a verdict on collapse.

    Prints a table, a verdict on each X and what can be compared, and writes one self-contained HTML page.
    """

    what: tyro.conf.Positional[tuple[str, ...]]
    """A run's folder, whose scores are kept in its scores.json, or a checkpoint of `fullrank train`; a folder that
    `fullrank export` wrote or the name of a timm model (give --images); a weights file (.safetensors, .pt, .pth; give
    --backbone and --images); a feature matrix (.npy, .safetensors, .parquet)."""
    out: Path | None = None
    """The page to write; ./inspect.html when left out, and none with --json."""
    json: bool = False
    """Print everything as JSON, for programs."""

    def run(self) -> int:
        """Inspect, print and write."""
        from fullrank.files import PICKLES, check_backbone

        for name in self.what:  # what is known already, before torch is imported, which takes seconds
            path = Path(name).expanduser()
            if path.suffix.lower() in PICKLES[1:] and path.is_file():
                check_backbone(name, self.backbone)
        from fullrank.commands.present import present
        from fullrank.inspection.inspect import inspect
        from fullrank.inspection.result import document

        out = Path("inspect.html") if self.out is None and not self.json else self.out
        return present(lambda told: document(inspect(self.what, self, progress=told)), json=self.json, out=out)
