"""`fullrank train`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fullrank.config import OptimConfig, TrainConfig, read_config
from fullrank.errors import FullrankError
from fullrank.registry import METHODS, ORDERS, VIEWS
from fullrank.text import plain_console
from fullrank.training.presets import PRESETS
from fullrank.training.presets import preset as named_preset


@dataclass(frozen=True)
class Train:
    """Train an encoder without labels; with no flags, SimSiam on handwritten digits.

    Flags win over --config, which wins over --preset.
    """

    run_config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)
    preset: Annotated[str | None, tyro.conf.arg(help=f"A named configuration to start from: {', '.join(PRESETS)}.")] = (
        None
    )
    config: Path | None = None
    """A YAML file whose fields replace the preset's; a run's config.yaml is one."""
    resume: Path | None = None
    """A run's folder, to go on with from its last checkpoint."""
    dry_run: bool = False
    """Print the plan (images, order, chunks, steps, parameters, memory) and stop."""

    def run(self) -> int:
        """Train, and write the run's report."""
        from fullrank.report.document import write_report
        from fullrank.training.distributed import processes
        from fullrank.training.loop import resume, train

        if self.dry_run:
            self._point_to_a_recipe()
            return self._print_plan()
        with processes() as world:
            if world.main:
                self._point_to_a_recipe()
            finished = train(self.run_config) if self.resume is None else resume(self.resume, self.run_config)
            if not finished.complete:
                return 128 + (finished.signal or 0)  # as a shell reports a process that a signal ended
            page = world.on_main(write_report, [finished.path], finished.path / "report.html")
            if world.main:
                print(f"report: {page}")
        return 0

    def _point_to_a_recipe(self) -> None:
        """Say where a method's own rate is, when it would get SimSiam's, which is far too high for some."""
        from fullrank.training.presets import LAB

        config = self.run_config
        chosen = self.preset is not None or self.config is not None or self.resume is not None
        if not chosen and config.method != "simsiam" and config.method in LAB and config.optim == OptimConfig():
            print(
                f"the learning rate, {config.optim.base_lr:g}, is SimSiam's; --preset {LAB[config.method]} has one "
                f"that suits {config.method}"
            )

    def _print_plan(self) -> int:
        from fullrank.training.plan import plan

        document, wrong = plan(self.run_config)
        document.print(plain_console())
        if wrong is not None:
            raise wrong
        return 0


def list_choices() -> None:
    """Let `train --help` list what is registered, that of other packages too."""
    for name, registry in (("method", METHODS), ("order", ORDERS), ("views", VIEWS)):
        shown = tyro.conf.arg(metavar="{" + ",".join(registry) + "}")
        TrainConfig.__annotations__[name] = Annotated[str, registry, shown]


def base_config(arguments: list[str]) -> TrainConfig:
    """Return the configuration that flags change: what --preset, --config or --resume name."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in ("--preset", "--config", "--resume"):
        parser.add_argument(flag, nargs="?")
    known, _ = parser.parse_known_args(arguments)
    if known.resume is not None:
        if known.preset is not None or known.config is not None:
            raise FullrankError("--resume goes on with a run as it was configured: leave out --preset and --config")
        from fullrank.training.runs import CONFIG, check_run

        check_run(Path(known.resume))
        return read_config(Path(known.resume) / CONFIG)
    base = named_preset(known.preset) if known.preset is not None else TrainConfig()
    return read_config(Path(known.config), base) if known.config is not None else base
