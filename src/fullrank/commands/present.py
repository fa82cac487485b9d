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
    """Make a document while a bar tells how far it is, show it, and return the exit code.

    Args:
        make: Makes it.
        json: Print it for programs instead of people.
        out: Where to write it as a page; nowhere when omitted.
        notes: What else to say, such as which files were written.
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
