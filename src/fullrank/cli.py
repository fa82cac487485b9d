"""The command line: parses, runs a command, and turns what can go wrong into one line and an exit code."""

from __future__ import annotations

import errno
import functools
import io
import itertools
import operator
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Annotated, Any

import tyro

from fullrank._version import __version__
from fullrank.commands import COMMANDS, Evaluate, Train, base_config, list_choices
from fullrank.config import TrainConfig, nearest_setting
from fullrank.errors import FullrankError, OtherProcessError, env_count, nearest

PROGRAM = "fullrank"
DESCRIPTION = (
    "Train Siamese image encoders without labels, see whether their representation collapses, and prevent it by the "
    "order in which data is presented. With --debug, an error shows where in the program it came from; --version "
    "prints the version."
)
_ADVICE = {
    "train": "lower --batch-size, --image-size or --backbone.width, or keep fewer images decoded with --cache stream",
    "demo": "it needs about 1 GB",
    "inspect": "look at fewer images with --limit",
    "evaluate": "take fewer training images with --limit",
    "rank": "give fewer runs at once",
    "report": "give fewer runs at once",
    "watch": "give fewer runs at once",
    "study": "run fewer at once with --jobs 1",
}
"""What to do where memory is out."""
_FORMER = {"--hold": "--cache", "--linear.hold": "--linear.cache", "--monitor.images": "--monitor.num-images"}
"""Flags of before, and what they are called now."""
_GONE = {
    "--launcher": "`--only N` makes one run of a study, a task of any scheduler's array (docs/howto/many-gpus.md)",
}
"""Flags that are no more, and what is there instead."""


class WrongFlagError(FullrankError):
    """Report a command line with a flag or a word that there is none of."""


def entry_point() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run one command.

    Returns:
        0, or 1 for an error that is printed in one line, 2 for wrong flags, or 128 + N when signal N stopped it.
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal that is not UTF-8 shows ? for what it has no character for
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    debug = "--debug" in arguments
    arguments = [each for each in arguments if each != "--debug"]
    if arguments == ["--version"]:
        print(f"{PROGRAM} {__version__}")
        return 0
    try:
        arguments = [_renamed(each, arguments[0]) for each in arguments]
        if env_count("WORLD_SIZE", 1) > 1:
            return _run_with_others(arguments, debug=debug)
        return _parse(arguments).run()
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - else Python complains when it flushes at its end
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return _report(error, "".join(arguments[:1]), debug=debug)


def _renamed(argument: str, command: str) -> str:
    """Return a flag under the name that its command has for it; say so where it is called otherwise today."""
    flag, equals, value = argument.partition("=")
    if flag.startswith("--"):
        value = os.path.expanduser(value)  # shells leave --images=~/photos as it is
    if flag in _GONE:
        raise WrongFlagError(f"{flag} is gone: {_GONE[flag]}")
    if flag in ("--backbone", "--backbone.name"):  # a section of settings in train, a setting elsewhere
        return f"--backbone{'.name' if command == 'train' else ''}{equals}{value}"
    if flag not in _FORMER:
        return f"{flag}{equals}{value}"
    print(f"{PROGRAM}: {flag} is called {_FORMER[flag]} now", file=sys.stderr)
    return f"{_FORMER[flag]}{equals}{value}"


def _report(error: Exception, command: str, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    if isinstance(error, OtherProcessError):
        return 1
    message = str(error)
    if _out_of_memory(error):
        message = f"out of memory: {_ADVICE.get(command, 'give it less at once')}, or close other programs"
    elif _alone(error):
        message = "another process has ended, or the network between them has failed: see what torchrun and it say"
        message += "; what was saved before is whole: give the command again"
        message += ", to train with --resume RUN" if command == "train" else ""
    elif not isinstance(error, (FullrankError, OSError)):
        first = (message.splitlines() or [""])[0]
        message = f"{type(error).__name__}: {first}; this is a fault of {PROGRAM}: report it with what --debug shows"
    if isinstance(error, OSError):  # a full disk, a folder that cannot be written
        message = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        if error.errno == errno.ENOSPC:
            message += "; what was saved before is whole: free some space and give the command again"
            message += ", to train with --resume RUN" if command == "train" else ""
    print(f"{PROGRAM}: error: {message}", file=sys.stderr, flush=True)
    return 2 if isinstance(error, WrongFlagError) else 1


def _out_of_memory(error: Exception) -> bool:
    """Tell whether Python, torch (a RuntimeError on CPU and GPU) or Arrow had no memory left."""
    words = ("not enough memory", "out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(each in str(error) for each in words)
    )


def _alone(error: Exception) -> bool:
    """Tell whether gloo or NCCL found another process gone."""
    name = type(error).__name__
    return isinstance(error, RuntimeError) and ("/gloo/" in str(error) or (name.startswith("Dist") and "Error" in name))


def _run_with_others(arguments: list[str], *, debug: bool) -> int:
    """Run a command in one of the processes that torchrun started: the main one reads it and says what is wrong."""
    from fullrank.training.distributed import processes

    def read() -> Train | Evaluate | int:
        try:
            command = _parse(arguments)
        except SystemExit as leaving:  # --help or wrong values, which tyro has printed
            return int(leaving.code or 0)
        except WrongFlagError as error:
            return _report(error, "".join(arguments[:1]), debug=debug)
        if not isinstance(command, (Train, Evaluate)) or (isinstance(command, Train) and command.dry_run):
            raise FullrankError(
                "torchrun is for train and evaluate: start `fullrank train --dry-run` and other commands alone"
            )
        return command

    code: int | None = None
    try:
        with processes() as world:
            try:
                command = world.on_main(read)
                return command if isinstance(command, int) else command.run()
            except Exception as error:
                # said before leaving: torchrun ends this process as soon as it sees that another one has failed
                code = _report(error, "".join(arguments[:1]), debug=debug)
                raise  # so that leaving waits for no process that is gone, or waits for this one
    except Exception:
        if code is None:
            raise
        return code


def _parse(arguments: list[str]) -> Any:
    """Parse the command line; --preset, --config and --resume are read first: the other flags change what they name."""
    base = TrainConfig()
    if arguments[:1] == ["train"]:
        base = base_config(arguments[1:])
        list_choices()
    defaults: dict[str, Any] = {"train": {"default": Train(base)}}
    parts = [Annotated[kind, tyro.conf.subcommand(name, **defaults.get(name, {}))] for name, kind in COMMANDS.items()]
    command: Any = functools.reduce(operator.or_, parts)
    if arguments and arguments[0][:1] not in ("-", "") and arguments[0] not in COMMANDS:
        hint = nearest(arguments[0], COMMANDS)
        raise WrongFlagError(f"there is no command {arguments[0]!r}{hint} (there are: {', '.join(COMMANDS)})")
    with _own_errors():
        found, unknown = tyro.cli(
            command, prog=PROGRAM, args=arguments, description=DESCRIPTION, return_unknown_args=True
        )
    if unknown:
        raise _wrong_flag(arguments, unknown)
    return found


class _Held(io.StringIO):
    """Keeps what is written, with the colors of where it will be shown."""

    def isatty(self) -> bool:
        return sys.__stderr__ is not None and sys.__stderr__.isatty()


@contextmanager
def _own_errors() -> Iterator[None]:
    """Let a command's own error about its options out as it is: tyro prints it in a box of its own, and leaves."""
    held = _Held()
    try:
        with redirect_stderr(held):
            yield
    except SystemExit as leaving:
        cause: BaseException | None = leaving
        while cause is not None and not isinstance(cause, FullrankError):
            cause = cause.__context__
        if cause is None:
            raise
        held = _Held()
        raise cause from None
    finally:
        print(held.getvalue(), end="", file=sys.stderr)


def _wrong_flag(arguments: list[str], unknown: list[str]) -> WrongFlagError:
    """Name what no flag or word of the command is, and the flag that is nearest to it."""
    words = list(itertools.takewhile(lambda each: not each.startswith("-"), arguments))
    with redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
        _parse([*words, "--help"])
    known = sorted(set(re.findall(r"--[a-z][\w.-]*", printed.getvalue())))
    wrong = next((each for each in unknown if each.startswith("-")), unknown[0]).partition("=")[0]
    command = " ".join([PROGRAM, *words[:1]])
    below = [flag for flag in known if flag.startswith(f"{wrong}.")]
    # the name of a section of settings, or of a setting
    hint = f"; give one of {', '.join(below)}" if below else nearest_setting(wrong, known)
    return WrongFlagError(f"{command} takes no {wrong!r}{hint} ({command} --help lists what it takes)")
