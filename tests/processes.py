"""Processes for tests, forked from one that has imported torch and fullrank already: to start one takes no seconds.

They are real processes, with a number, signals and an exit code of their own; only the start of Python is spared.
"""

import multiprocessing
import os
import sys
import time
import warnings
from datetime import timedelta

import torch
import torch.multiprocessing as mp

from fullrank.cli import main

multiprocessing.set_forkserver_preload(["fullrank.cli", "fullrank.training.loop", "fullrank.models.methods", __name__])


def run_in_processes(function, folder, processes):
    """Call `function(rank, folder)` in processes at once, joined by gloo; what one raises, this raises."""
    mp.start_processes(_start, (function, str(folder), processes), nprocs=processes, start_method="forkserver")


def run_in_two(function, folder):
    """Call `function(rank, folder)` in two processes."""
    run_in_processes(function, folder, 2)


def _start(rank, function, folder, processes):
    _by_itself()
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=processes, timeout=timedelta(seconds=60)
    )
    function(rank, folder)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _by_itself():
    """Start workers as a program does: those of another server would outlive a process that is killed."""
    multiprocessing.set_start_method(None, force=True)


class Command:
    """`fullrank ARGUMENTS` in a process of its own, its output in a file; used like `subprocess.Popen`, in a `with`.

    At the end of the `with`, however that comes, it is told to end, with the processes that it started.
    """

    def __init__(self, arguments, output):
        self.output = output
        arguments = [str(each) for each in arguments]
        self.process = multiprocessing.get_context("forkserver").Process(target=_command, args=(arguments, str(output)))
        self.process.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.is_alive():
            self.process.terminate()  # a study tells its runs, which are in sessions of their own
            self.process.join(120)
        if self.process.is_alive():
            self.process.kill()

    def send_signal(self, number):
        os.kill(self.process.pid, number)

    def wait(self, timeout=120):
        """Wait for the end; return the exit code, -N where signal N killed it."""
        self.process.join(timeout)
        assert self.process.exitcode is not None, f"still running after {timeout} s: {self.output.read_text()}"
        return self.process.exitcode


def _command(arguments, output):
    _by_itself()
    os.setsid()  # a group of its own, which a test may signal
    with open(output, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(main(arguments))


def wait_for(condition, seconds=120):
    """Wait until `condition()` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        time.sleep(0.01)
