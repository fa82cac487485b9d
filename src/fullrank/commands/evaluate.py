"""`fullrank evaluate`."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import tyro

from fullrank.errors import FullrankError
from fullrank.evaluation.options import EvaluateOptions


@dataclass(frozen=True, kw_only=True)
class Evaluate(EvaluateOptions):
    """Score runs with labels: probes on the frozen encoder, each score with its protocol.

    Prints a table, and keeps the scores of a run in its scores.json.
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Folders made by `fullrank train`, or checkpoint files, whose scores are printed and not kept."""
    json: bool = False
    """Print everything as JSON, for programs."""

    def run(self) -> int:
        """Evaluate, print and keep."""
        from fullrank.commands.present import present
        from fullrank.evaluation.evaluate import evaluate
        from fullrank.evaluation.linear import StoppedError
        from fullrank.evaluation.result import document
        from fullrank.text import plain_console
        from fullrank.training.distributed import processes
        from fullrank.training.progress import counting
        from fullrank.training.runs import only_runs

        with processes() as world:
            names = [str(run) for run in world.on_main(only_runs, self.runs)]
            try:
                with counting(plain_console(stderr=True), shown=world.main) as progress:
                    found = evaluate(names, self, progress=progress)
            except StoppedError as stopped:
                if world.main:
                    print(stopped, file=sys.stderr)
                return 128 + stopped.signal
            with world.raise_together():
                if not any(each.scores for each in found):
                    raise FullrankError("; ".join(f"{each.name}: {each.missing}" for each in found))
            return present(lambda _: document(found), json=self.json) if world.main else 0
