"""The command line. Each command is a dataclass whose fields are its flags; what it does is imported when it runs."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fullrank._version import __version__
from fullrank.config import TrainConfig, read_config
from fullrank.errors import FullrankError, OtherProcessError
from fullrank.inspection.options import Options
from fullrank.ranking.options import Options as RankingOptions
from fullrank.training.presets import PRESETS
from fullrank.training.presets import preset as named_preset

PROGRAM = "fullrank"


@dataclass(frozen=True)
class Demo:
    """Train on handwritten digits with two orders, multiple pass and hybrid, and compare them; needs no network."""

    out: Path | None = None
    """Folder for the two runs and their report; runs/demo, numbered if taken, when left out."""

    def run(self) -> int:
        """Run the demo."""
        from fullrank.demo import demo

        return demo(self.out)


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
        from fullrank.training.distributed import processes
        from fullrank.training.loop import resume, train

        if self.dry_run:
            return self._print_plan()
        with processes() as world:
            finished = train(self.run_config) if self.resume is None else resume(self.resume, self.run_config)
            if not finished.complete:
                return 128 + (finished.signal or 0)  # as a shell reports a process that a signal ended
            world.on_main(_write_report, [finished.path], finished.path / "report.html")
        return 0

    def _print_plan(self) -> int:
        from rich.console import Console
        from rich.table import Table

        from fullrank.training.plan import plan

        table = Table(show_header=False, box=None, padding=(0, 2))
        for heading, text in plan(self.run_config):
            table.add_row(heading, text)
        Console().print(table, highlight=False, markup=False)
        return 0


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about one run or several: curves, spectra, sample views, a verdict."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders made by `fullrank train`."""
    out: Path | None = None
    """The page to write; the run's report.html for one run, ./report.html for several, when left out."""

    def run(self) -> int:
        """Write the page."""
        if not self.runs:
            raise FullrankError("give at least one run: fullrank report RUN [RUN ...]")
        out = self.out or (self.runs[0] / "report.html" if len(self.runs) == 1 else Path("report.html"))
        _write_report(list(self.runs), out)
        return 0


@dataclass(frozen=True)
class Inspect:
    """Measure any encoder: singular values, label-free scores, and a verdict on collapse.

    Prints a table, a verdict on each X and what can be compared, and writes one self-contained HTML page.
    """

    what: tyro.conf.Positional[tuple[str, ...]]
    """A run's folder or a checkpoint of `fullrank train`; the name of a timm model (give --images); a weights file
    (.safetensors, .pt, .pth; give --backbone and --images); a feature matrix (.npy, .safetensors, .parquet)."""
    options: Annotated[Options, tyro.conf.arg(name="")] = field(default_factory=Options)
    out: Path | None = None
    """The page to write; ./inspect.html when left out, and none with --json."""
    json: bool = False
    """Print everything as JSON, for programs."""

    def run(self) -> int:
        """Inspect, print and write."""
        import json

        from rich.console import Console

        from fullrank.inspection.compare import comparison
        from fullrank.inspection.inspect import inspect
        from fullrank.inspection.table import show
        from fullrank.report.html import check_page
        from fullrank.report.inspection import write_inspection
        from fullrank.training.progress import counting

        out = Path("inspect.html") if self.out is None and not self.json else self.out
        if out is not None:
            check_page(out)
        with counting(Console(stderr=True)) as progress:
            found = inspect(self.what, self.options, progress=progress)
        if self.json:
            document = {
                "fullrank": __version__,
                "inspected": [each.as_dict() for each in found],
                "comparison": comparison(found),
            }
            print(json.dumps(document, indent=2, allow_nan=False))
        else:
            show(found, Console())
        if out is not None:
            print(f"page: {write_inspection(found, out)}", file=sys.stderr if self.json else sys.stdout)
        return 0


@dataclass(frozen=True)
class Rank:
    """Rank runs without labels, by held-out loss and AUC together; forecast their accuracy where some have labels.

    Prints a table and what can and cannot be decided. Given one run, ranks the steps at which it was measured.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders made by `fullrank train`, or checkpoints in them (RUN/checkpoints/step_*.pt)."""
    options: Annotated[RankingOptions, tyro.conf.arg(name="")] = field(default_factory=RankingOptions)
    out: Path | None = None
    """A page to write, such as rank.html: loss against AUC, forecast against measured accuracy, rank correlations."""
    json: bool = False
    """Print everything as JSON, for programs."""

    def run(self) -> int:
        """Rank, print and write."""
        import json

        from rich.console import Console

        from fullrank.ranking.rank import rank
        from fullrank.ranking.table import show
        from fullrank.report.html import check_page
        from fullrank.report.ranking import write_ranking
        from fullrank.training.progress import counting

        if self.out is not None:
            check_page(self.out)
        with counting(Console(stderr=True)) as progress:
            found = rank(self.runs, self.options, progress=progress)
        if self.json:
            print(json.dumps({"fullrank": __version__, **found.as_dict()}, indent=2, allow_nan=False))
        else:
            show(found, Console())
        where = sys.stderr if self.json else sys.stdout
        if self.options.fit is not None:
            print(f"fit: {self.options.fit}", file=where)
        if self.out is not None:
            print(f"page: {write_ranking(found, self.out)}", file=where)
        return 0


def _write_report(runs: list[Path], out: Path) -> None:
    from fullrank.report.page import write_report

    print(f"report: {write_report(runs, out)}")


def entry_point() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run one command.

    Returns:
        0, or 1 for an error that is printed in one line, or 128 + N when signal N stopped it. Wrong flags leave with 2.
    """
    if arguments == ["--version"]:
        print(f"{PROGRAM} {__version__}")
        return 0
    try:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            return _run_with_others(arguments)
        return _parse(arguments).run()
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - else Python complains when it flushes at its end
        return 128 + signal.SIGPIPE
    except (FullrankError, OSError) as error:
        return _report(error)
    except KeyboardInterrupt:
        return 130


def _report(error: FullrankError | OSError) -> int:
    if isinstance(error, OtherProcessError):
        return 1
    message = str(error)
    if isinstance(error, OSError):  # a full disk, a folder that cannot be written
        message = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        if error.errno == errno.ENOSPC:
            message += "; what was saved before is whole: free some space and go on with `fullrank train --resume RUN`"
    print(f"{PROGRAM}: error: {message}", file=sys.stderr, flush=True)
    return 1


def _run_with_others(arguments: list[str]) -> int:
    """Run a command in one of the processes that torchrun started: the main one reads it and says what is wrong."""
    from fullrank.training.distributed import processes

    def read() -> Train | int:
        try:
            command = _parse(arguments)
        except SystemExit as leaving:  # --help or wrong flags, which tyro has printed
            return int(leaving.code or 0)
        if not isinstance(command, Train) or command.dry_run:
            raise FullrankError("torchrun is for training: start `fullrank train --dry-run` and other commands alone")
        return command

    with processes() as world:
        try:
            command = world.on_main(read)
            return command if isinstance(command, int) else command.run()
        except (FullrankError, OSError) as error:
            # said before leaving: torchrun ends this process as soon as it sees that another one has failed
            return _report(error)


def _parse(arguments: list[str]) -> Demo | Train | Report | Inspect | Rank:
    """Parse the command line; --preset, --config and --resume are read first: the other flags change what they name."""
    base = TrainConfig()
    if arguments[:1] == ["train"]:
        base = _base_config(arguments[1:])
    command = (
        Annotated[Demo, tyro.conf.subcommand("demo")]
        | Annotated[Train, tyro.conf.subcommand("train", default=Train(base))]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Inspect, tyro.conf.subcommand("inspect")]
        | Annotated[Rank, tyro.conf.subcommand("rank")]
    )
    return tyro.cli(command, prog=PROGRAM, args=arguments, description=DESCRIPTION)


DESCRIPTION = (
    "Train Siamese image encoders without labels, see whether their representation collapses, and prevent it by the "
    "order in which "
    "data is presented."
)


def _base_config(arguments: list[str]) -> TrainConfig:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for flag in ("--preset", "--config", "--resume"):
        parser.add_argument(flag, nargs="?")
    known, _ = parser.parse_known_args(arguments)
    if known.resume is not None:
        if known.preset is not None or known.config is not None:
            raise FullrankError("--resume goes on with a run as it was configured: leave out --preset and --config")
        from fullrank.training.runs import CONFIG, RunFolder

        RunFolder.check_exists(Path(known.resume))
        return read_config(Path(known.resume) / CONFIG)
    base = named_preset(known.preset) if known.preset is not None else TrainConfig()
    return read_config(Path(known.config), base) if known.config is not None else base
