"""How every command shows its document: printed, as JSON for programs, and as a page."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from fullrank.documents import Document
from fullrank.text import Progress, plain_console


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
