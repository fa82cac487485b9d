"""Two processes for tests, joined by gloo."""

import warnings
from datetime import timedelta

import torch
import torch.multiprocessing as mp


def run_in_two(function, folder):
    """Call `function(rank, folder)` in two processes at once; what one raises, this raises."""
    mp.start_processes(_start, (function, str(folder)), nprocs=2, start_method="spawn")


def _start(rank, function, folder):
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    function(rank, folder)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
