"""`fullrank watch`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import tyro

from fullrank.errors import FullrankError


@dataclass(frozen=True)
class Watch:
    """Serve one page about runs on this machine, drawn again while they train."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders made by `fullrank train`, or the folder they are in: new runs appear by themselves."""
    port: int = 8765
    """Where the page is; 0 takes a free port."""
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
        from fullrank.text import plain_console

        with serve(self.runs, self.host, self.port) as server:
            address = f"http://{self.host}:{server.server_port}/"
            said = f"watching {', '.join(map(str, self.runs))} at {address} (Ctrl-C ends it)"
            plain_console().print(said, soft_wrap=True)
            if self.open:
                webbrowser.open(address)
            with contextlib.suppress(KeyboardInterrupt):
                server.serve_forever()
        return 0
