import io

from rich.console import Console

from fullrank.text import watched
from fullrank.training.progress import counting


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_pipe_shows_no_progress_though_colors_are_forced(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as notebooks do for the commands in their cells
    for file, seen in ((io.StringIO(), False), (Terminal(), True)):
        console = Console(file=file)
        assert console.is_terminal
        assert watched(console) == seen
        with counting(console) as progress:
            progress("images", 1, 2)
        assert bool(file.getvalue()) == seen
