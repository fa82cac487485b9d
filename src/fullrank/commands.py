"""The commands: a dataclass each, whose fields are its flags; what it does is imported when it runs."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fullrank.config import Branch, Count, OptimConfig, Scale, TrainConfig, read_config
from fullrank.documents import Document, Table, Words
from fullrank.errors import FullrankError
from fullrank.evaluation.options import EvaluateOptions
from fullrank.inspection.options import InspectOptions
from fullrank.ranking.options import RankOptions
from fullrank.registry import METHODS, ORDERS, VIEWS
from fullrank.shapes import Checked
from fullrank.text import Progress, expanded, plain_console
from fullrank.training.presets import PRESETS
from fullrank.training.presets import preset as named_preset

if TYPE_CHECKING:
    from fullrank.studies.jobs import Place
    from fullrank.studies.run import ToMake

_RESULTS = Path("results")
_RUNS, _ENCODERS = (tyro.conf.arg(metavar=f"{name} [{name} ...]", help_behavior_hint="") for name in ("RUN", "X"))


@dataclass(frozen=True)
class Demo:
    """Train on handwritten digits with two orders, multiple pass and hybrid, and compare them; needs no network."""

    full: bool = False
    """Train where the order matters: on CIFAR-10, which is downloaded, in ten minutes on a CPU core. Without it, on
    digits, in three minutes; there the orders do not differ."""

    out: Path | None = None
    """Folder for the two runs and their report; runs/demo, numbered if taken, when left out."""

    def run(self) -> int:
        """Run the demo."""
        from fullrank.demo import demo

        return demo(self.out, full=self.full)


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
                return 128 + finished.signal  # as a shell reports a process that a signal ended
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


@dataclass(frozen=True)
class Report:
    """Write one self-contained HTML page about one run or several: curves, spectra, sample views, a verdict."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], _RUNS]
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


@dataclass(frozen=True)
class Watch:
    """Serve one page about runs on this machine, drawn again while they train."""

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], _RUNS]
    """Folders made by `fullrank train`, or the folder they are in: new runs appear by themselves."""
    port: int = 8765
    """Port of the page; 0 takes a free one."""
    host: str = "127.0.0.1"
    """The address to listen at. The default can be reached from this machine alone."""
    open: bool = False
    """Open the page in a browser."""

    def run(self) -> int:
        """Serve the page until Ctrl-C."""
        if not self.runs:
            raise FullrankError("give at least one run, or the folder that runs are in: fullrank watch runs")
        import webbrowser

        from fullrank.report.watch import serve

        with serve(self.runs, self.host, self.port) as server:
            address = f"http://{self.host}:{server.server_port}/"
            said = f"watching {', '.join(map(str, self.runs))} at {address} (Ctrl-C ends it)"
            plain_console().print(said, soft_wrap=True)
            if self.open:
                webbrowser.open(address)
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()
        return 0


@dataclass(frozen=True, kw_only=True)
class Inspect(InspectOptions):
    """Measure any encoder: singular values, label-free scores, and a verdict on collapse.

    Prints a table, a verdict on each X and what can be compared, and writes one self-contained HTML page.
    """

    what: Annotated[tyro.conf.Positional[tuple[str, ...]], _ENCODERS]
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
            path = expanded(name)
            if path.suffix.lower() in PICKLES[1:] and path.is_file():
                check_backbone(name, self.backbone)
        from fullrank.inspection.inspect import inspect
        from fullrank.inspection.result import document

        out = Path("inspect.html") if self.out is None and not self.json else self.out
        return present(lambda told: document(inspect(self.what, self, progress=told)), json=self.json, out=out)


@dataclass(frozen=True, kw_only=True)
class Evaluate(EvaluateOptions):
    """Score runs with labels: probes on the frozen encoder, each score with its protocol.

    Takes k-NN where no probe is named. Prints a table, and keeps the scores of a run in its scores.json.
    """

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], _RUNS]
    """Folders made by `fullrank train`, or checkpoint files, whose scores are printed and not kept."""
    json: bool = False
    """Print everything as JSON, for programs."""

    def run(self) -> int:
        """Evaluate, print and keep."""
        from fullrank.evaluation.evaluate import evaluate
        from fullrank.evaluation.linear import StoppedError
        from fullrank.evaluation.result import document
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


@dataclass(frozen=True, kw_only=True)
class Rank(RankOptions):
    """Rank runs without labels, by held-out loss and AUC together; forecast their accuracy where some have labels.

    Prints a table and what can and cannot be decided. Given one run, ranks the steps at which it was measured.
    """

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], _RUNS]
    """Folders made by `fullrank train`, or checkpoints in them (RUN/checkpoints/step_*.pt)."""
    out: Path | None = None
    """A page to write, such as rank.html: loss against AUC, forecast against measured accuracy, rank correlations."""
    json: bool = False
    """Print everything as JSON, for programs."""

    def run(self) -> int:
        """Rank, print and write."""
        from fullrank.ranking.rank import rank
        from fullrank.training.runs import only_runs

        notes = () if self.fit is None else (f"fit: {self.fit}",)
        runs = only_runs(self.runs)
        return present(
            lambda told: rank(runs, self, progress=told).document(), json=self.json, out=self.out, notes=notes
        )


@dataclass(frozen=True)
class Export:
    """Write a run's encoder as timm loads it, with a model card: a folder for the Hugging Face Hub as it is."""

    what: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN|CHECKPOINT")]
    """A run's folder, finished or not, whose newest checkpoint is taken; or a checkpoint."""
    out: Path
    """The folder to make."""
    branch: Branch = "online"
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


@dataclass(frozen=True)
class ListStudies(Checked):
    """Name the studies, and how many of their runs are finished."""

    scale: Scale = "lab"
    """Scale of the runs to count."""
    seeds: Count = 3
    """Seeds of each setting."""
    results: Path | None = None
    """Folder of the results; ./results where it is, else those that came with the package when left out."""

    def run(self) -> int:
        """Print a table."""
        from fullrank.studies.registry import STUDIES
        from fullrank.studies.store import Store, planned

        folder, rows = _results_folder(self.results), []
        for study in STUDIES.values():
            runs = planned(study, self.scale, range(self.seeds))
            finished = f"{len(Store(folder, self.scale).results(runs))} of {len(runs)}" if runs else "–"
            rows.append((study.name, study.title, finished))
        said = f"Runs at {self.scale} scale, {self.seeds} seed{'s' * (self.seeds > 1)} each, results of {folder}."
        _print(Table("studies", ("study", "about", "finished"), rows, text=(1,)), said)
        return 0


@dataclass(frozen=True)
class RunStudy(Checked):
    """Make the runs of a study that are not finished; give the same command again after an interruption."""

    name: tyro.conf.Positional[str]
    """A study; `fullrank study list` names them."""
    scale: Scale = "lab"
    """lab: minutes a run on a CPU core; paper: the published settings."""
    seeds: Count = 3
    """Seeds of each setting, from 0."""
    jobs: Count = 1
    """Runs at a time."""
    only: int | None = None
    """Make this run alone, by its number in --dry-run: one task of a scheduler's array, such as Slurm's."""
    images: str | None = None
    """Where the study's training images are on this machine: a folder or .parquet, in place of the name it gives."""
    eval_images: str | None = None
    """Where its held-out images are."""
    threads: int | None = None
    """CPU threads of a run; when left out torch's default, or 1 where several run at a time."""
    processes: Count = 1
    """Processes that train one run on this machine, by torchrun: give the number of its GPUs."""
    work: Path = Path("runs/studies")
    """Folder of the runs, with their checkpoints."""
    results: Path = _RESULTS
    """Folder of the results: small files, that can be committed."""
    dry_run: bool = False
    """Print the runs, by number, with their steps and which are finished; train nothing."""

    def run(self) -> int:
        """Run the study, and write its page."""
        from fullrank.studies.registry import find
        from fullrank.studies.run import ToMake
        from fullrank.studies.store import Store
        from fullrank.training.signals import sigterm_interrupts

        found, console = ToMake(find(self.name), self.scale, range(self.seeds), self.place()), plain_console()
        if self.dry_run:
            return self._plan(found)
        try:
            with sigterm_interrupts():
                failed = found.make(console, at_a_time=self.jobs, only=self.only)
        except KeyboardInterrupt:
            console.print("stopped; what had begun is saved: give the same command again to go on")
            return 130
        if self.only is None and Store(self.results, self.scale).results(found.runs):
            ShowStudy(self.name, self.scale, self.seeds, self.results).run()
        return 1 if failed else 0

    def place(self) -> Place:
        """Return where images are and runs go."""
        from fullrank.studies.jobs import Place

        threads = self.threads or (1 if self.jobs > 1 else None)
        return Place(self.images, self.eval_images, self.work, self.results, threads, self.processes)

    def _plan(self, found: ToMake) -> int:
        needed = {job.name: "again, for its weights" if job.name in found.again else "to make" for job in found.jobs}
        rows = []
        for number, run in enumerate(found.runs):
            state = needed.get(run.name, "done")
            rows.append((str(number), run.name, run.cell.words, str(run.seed), f"{run.config.steps:,}", state))
        table = Table("runs", ("no.", "run", "setting", "seed", "steps", ""), rows, text=(1, 2, 5), whole=(1, 5))
        _print(table, f"{len(found.jobs)} of {len(found.runs)} runs to make.")
        return 0


@dataclass(frozen=True)
class ShowStudy(Checked):
    """Write a study's page and tables from its results: ours beside the published."""

    name: tyro.conf.Positional[str]
    """A study; `fullrank study list` names them."""
    scale: Scale = "lab"
    """Scale of the runs to show."""
    seeds: Count | None = None
    """Seeds of each setting, from 0; as many as a third of the settings have results of when left out."""
    results: Path | None = None
    """Folder of the results; ./results where it is, else those that came with the package when left out."""
    out: Path | None = None
    """Folder to write NAME-SCALE.html and .md to; the results' own when left out, or here for the package's."""
    figures: Path | None = None
    """Folder to write each figure to as well, as NAME-SCALE-FIGURE.svg, which the .md then shows."""

    def run(self) -> int:
        """Print the tables and write the page."""
        from fullrank.studies.show import finished
        from fullrank.studies.store import published

        folder = _results_folder(self.results)
        found = finished(self.name, self.scale, folder, self.seeds)
        page = found.write(self.out or (Path() if folder == published() else folder), figures=self.figures)
        print(page.with_suffix(".md").read_text("utf-8"))
        print(f"page: {page}")
        return 0


def _results_folder(asked: Path | None) -> Path:
    """Return where results are read: what was asked for, `./results`, or what came with the package."""
    from fullrank.studies.store import published

    if asked is not None and asked.exists() and not asked.is_dir():
        raise FullrankError(f"--results {asked} is a file: name the folder of the results")
    return asked or (_RESULTS if _RESULTS.is_dir() else published())


def _print(table: Table, said: str) -> None:

    Document(table.title, table.title, [table, Words(said)]).print(plain_console())


@dataclass(frozen=True)
class StudyCommand:
    """Run the papers' tables and figures, and our own, at laptop scale or at the papers'."""

    action: Annotated[
        Annotated[ListStudies, tyro.conf.subcommand("list")]
        | Annotated[RunStudy, tyro.conf.subcommand("run")]
        | Annotated[ShowStudy, tyro.conf.subcommand("show")],
        tyro.conf.arg(name=""),
    ]

    def run(self) -> int:
        """Do what was asked."""
        return self.action.run()


def present(
    make: Callable[[Progress], Document], *, json: bool, out: Path | None = None, notes: tuple[str, ...] = ()
) -> int:
    """Make a document while a bar tells how far it is, show it as JSON or to people, and return the exit code.

    It is written to `out` as a page too; `notes` are what else to say, such as which files were written.
    """
    from fullrank.documents.html import check_page, write_page
    from fullrank.training.progress import counting

    if out is not None:
        check_page(out)
    with counting(plain_console(stderr=True)) as progress:
        document = make(progress)
    if json:
        print(document.json())
    else:
        document.print(plain_console())
    if out is not None:
        notes = (*notes, f"page: {write_page(document, out)}")
    for note in notes:
        print(note, file=sys.stderr if json else sys.stdout)
    return 0


COMMANDS: dict[str, Any] = {
    "demo": Demo,
    "train": Train,
    "report": Report,
    "watch": Watch,
    "inspect": Inspect,
    "evaluate": Evaluate,
    "rank": Rank,
    "export": Export,
    "study": StudyCommand,
}
