"""Processes for tests, forked from one that has imported torch and fullrank already: to start one takes no seconds.

They are real processes, with a number, signals and an exit code of their own; only the start of Python is spared.
"""

import multiprocessing
import warnings
from datetime import timedelta

import torch
import torch.multiprocessing as mp

multiprocessing.set_forkserver_preload(["fullrank.cli", "fullrank.training.loop", "fullrank.models.methods", __name__])


def run_in_two(function, folder):
    """Call `function(rank, folder)` in two processes at once, joined by gloo; what one raises, this raises."""
    mp.start_processes(_start, (function, str(folder)), nprocs=2, start_method="forkserver")


def _start(rank, function, folder):
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    function(rank, folder)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
