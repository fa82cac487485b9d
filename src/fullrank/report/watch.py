"""`fullrank watch`: the report of runs, served on this machine and drawn again while they go on.

The page is the one that `fullrank report` writes, with one script that asks every two seconds whether a run has
recorded something. The server reads run folders and writes nothing. It knows three addresses and no file names, so a
request cannot ask for another file.
"""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rich.console import Console

from fullrank.documents import Document, Words
from fullrank.documents.html import page
from fullrank.errors import FullrankError
from fullrank.report.document import SAMPLES, document
from fullrank.training.runs import CONFIG, METRICS, SPECTRA, SUMMARY, read_run

_WATCHED = (CONFIG, METRICS, SPECTRA, SUMMARY, SAMPLES)
_SCRIPT = """<script>
let shown = "STAMP";
setInterval(async () => {
  try {
    const now = await (await fetch("stamp", {cache: "no-store"})).text();
    document.body.classList.remove("lost");
    if (now === shown) return;
    const fresh = new DOMParser().parseFromString(await (await fetch(".", {cache: "no-store"})).text(), "text/html");
    const opened = [...document.querySelectorAll("details")].map(each => each.open);
    for (const part of ["header", "main"]) document.querySelector(part).replaceWith(fresh.querySelector(part));
    document.querySelectorAll("details").forEach((each, place) => { if (opened[place]) each.open = true; });
    document.title = fresh.title;
    shown = now;
  } catch { document.body.classList.add("lost"); }
}, 2000);
</script>
<style>body.lost::before { content: "fullrank watch has stopped: this page is no longer renewed"; position: fixed;
top: 0; left: 0; right: 0; padding: .4em; text-align: center; background: #b00020; color: #fff; z-index: 9; }</style>
"""


class Watched:
    """Runs that are looked at again and again.

    Args:
        places: Run folders, and folders that runs are or will be in.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self.places = places
        self._lock = threading.Lock()  # one page is drawn at a time; matplotlib asks for that
        self._drawn: tuple[str, str] = ("", "")

    def folders(self) -> list[Path]:
        """Return the run folders there are now, each once, in the order of `places`."""
        found: dict[Path, Path] = {}
        for place in self.places:
            inside = (
                [place] if (place / CONFIG).is_file() else sorted(file.parent for file in place.glob(f"*/{CONFIG}"))
            )
            found.update({run.resolve(): run for run in inside})
        return list(found.values())

    def stamp(self) -> str:
        """Return a text that changes when a run has recorded something, or a run was added."""
        marks = []
        for run in self.folders():
            for name in _WATCHED:
                try:
                    facts = (run / name).stat()
                except FileNotFoundError:
                    continue
                marks.append((str(run), name, facts.st_mtime_ns, facts.st_size))
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
        return Document("watch", "Waiting for a run", [*unread, Words(waiting)], {}, [])


def serve(places: Sequence[Path], host: str, port: int) -> ThreadingHTTPServer:
    """Return a server of the page of runs; the caller runs it.

    Args:
        places: Run folders, and folders that runs are or will be in.
        host: The address to listen at; `127.0.0.1` can be reached from this machine alone.
        port: The port; 0 takes a free one.

    Raises:
        FullrankError: A folder does not exist, or the address cannot be taken.
    """
    for place in places:
        if not place.is_dir():
            raise FullrankError(
                f"{place} is not a folder: give runs made by `fullrank train`, or the folder they are in"
            )
    watched = Watched(places)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.path.partition("?")[0]
            if asked not in ("/", "/stamp"):
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            text = watched.page() if asked == "/" else watched.stamp()
            body = text.encode()
            self.send_response(HTTPStatus.OK)
            kind = "text/html" if asked == "/" else "text/plain"
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


def watch(places: Sequence[Path], *, host: str, port: int, open_browser: bool, console: Console) -> None:
    """Serve the page of runs until Ctrl-C.

    Raises:
        FullrankError: As for `serve`.
    """
    with serve(places, host, port) as server:
        address = f"http://{host}:{server.server_port}/"
        console.print(
            f"watching {', '.join(map(str, places))} at {address} (Ctrl-C ends it)", highlight=False, soft_wrap=True
        )
        if open_browser:
            webbrowser.open(address)
        server.serve_forever()
