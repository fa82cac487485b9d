"""`fullrank export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Export:
    """Write a run's encoder as timm loads it, with a model card: a folder for the Hugging Face Hub as it is."""

    what: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN|CHECKPOINT")]
    """A run's folder, finished or not, for its newest checkpoint; or a checkpoint."""
    out: Path
    """The folder to make."""
    branch: Literal["online", "target"] = "online"
    """Whose encoder: the branch that gradients train, or its moving average, which byol and mocov3 have."""

    def run(self) -> int:
        """Write the folder."""
        from fullrank.exporting.export import export

        encoder, made = export(self.what, self.out, branch=self.branch)
        assert encoder.config is not None
        steps = f"step {encoder.source['step']:,} of {encoder.config.steps:,}"
        print(f"{self.out}: {encoder.branch} branch, {steps}, D = {encoder.width}")
        print(f"timm builds it as {made.architecture}, with the same features; README.md says how")
        print("before you upload it, name a license in README.md")
        return 0
