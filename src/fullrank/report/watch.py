"""`fullrank watch`: the report of runs, served on this machine and drawn again while they go on.

The page is the one that `fullrank report` writes, with a line of script that asks every two seconds whether a run has
recorded something, and loads it again then. The server reads run folders and writes nothing. It knows two addresses and
no file names, so a request cannot ask for another file.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fullrank.documents import Document, Words
from fullrank.documents.html import page
from fullrank.errors import FullrankError
from fullrank.report.document import SAMPLES, document
from fullrank.text import once
from fullrank.training.runs import CONFIG, METRICS, SPECTRA, SUMMARY, read_run

_WATCHED = (CONFIG, METRICS, SPECTRA, SUMMARY, SAMPLES)
_SCRIPT = """<script>
const shown = "STAMP";
setInterval(async () => { if (await (await fetch("stamp")).text() !== shown) location.reload(); }, 2000);
</script>
"""


class Watched:
    """Runs that are looked at again and again; `places` are run folders, and folders that runs are or will be in."""

    def __init__(self, places: Sequence[Path]) -> None:
        self.places = places
        self._lock = threading.Lock()  # one page is drawn at a time; matplotlib asks for that
        self._drawn: tuple[str, str] = ("", "")

    def folders(self) -> list[Path]:
        """Return the run folders there are now, each once, in the order of `places`."""
        inside = [
            [each] if (each / CONFIG).is_file() else sorted(file.parent for file in each.glob(f"*/{CONFIG}"))
            for each in self.places
        ]
        return once(run for runs in inside for run in runs)

    def stamp(self) -> str:
        """Return a text that changes when a run has recorded something, or a run was added."""
        marks = []
        for file in (run / name for run in self.folders() for name in _WATCHED):
            with suppress(FileNotFoundError):
                facts = file.stat()
                marks.append((str(file), facts.st_mtime_ns, facts.st_size))
        return f"{hash(tuple(marks)) & 0xFFFFFFFFFFFF:x}"

    def page(self) -> str:
        """Return the page of what is recorded now; it is drawn again only when something was."""
        with self._lock:
            stamp = self.stamp()
            if stamp != self._drawn[0]:
                text = page(self._document())
                self._drawn = (stamp, text.replace("</body>", f"{_SCRIPT.replace('STAMP', stamp)}</body>", 1))
            return self._drawn[1]

    def _document(self) -> Document:
        runs, unread = [], []
        for folder in self.folders():
            try:
                runs.append(read_run(folder))
            except (FullrankError, OSError) as error:  # a run that is damaged, or is being removed
                unread.append(Words(str(error), tone="warning"))
        if runs:
            found = document(runs)
            return Document("watch", found.title, [*unread, *found.parts], found.data, found.looks)
        waiting = f"No run is in {', '.join(map(str, self.places))} yet. This page shows the first when it starts."
        return Document("watch", "Waiting for a run", [*unread, Words(waiting)])


def serve(places: Sequence[Path], host: str, port: int) -> ThreadingHTTPServer:
    """Return a server of the page of runs, which the caller runs; `port` 0 takes a free one."""
    for place in places:
        if not place.is_dir():
            raise FullrankError(
                f"{place} is not a folder: give runs made by `fullrank train`, or the folder they are in"
            )
    watched = Watched(places)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {"/": (watched.page, "text/html"), "/stamp": (watched.stamp, "text/plain")}
            answer, kind = answers.get(self.path.partition("?")[0], (None, ""))
            if answer is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            body = answer().encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing of each request."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise FullrankError(
            f"cannot listen at {host}:{port}: {error}; choose another --port, or 0 for a free one"
        ) from None
    server.daemon_threads = True
    return server
