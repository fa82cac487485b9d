"""What a person sees while a run trains."""

import io
from dataclasses import replace

from rich.console import Console

from fullrank.training.progress import TrainingProgress
from tests.training.tiny import tiny


def test_the_first_line_says_how_long_it_takes_from_the_speed_of_its_steps():
    console = Console(file=io.StringIO(), width=200)
    progress = TrainingProgress(replace(tiny(), steps=6, batch_size=32), "run", 0, console)
    progress.step(1)
    progress.log(1, -0.5, images_per_second=16.0)
    assert console.file.getvalue() == "run  1/6 steps  16 images/s  loss -0.5000  10.0 s left\n"
