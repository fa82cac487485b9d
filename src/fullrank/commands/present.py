"""How every command shows its document: printed, as JSON for programs, and as a page."""

from __future__ import annotations

import sys
from pathlib import Path

from fullrank.documents import Document
from fullrank.text import plain_console


def present(document: Document, *, json: bool, out: Path | None = None, notes: tuple[str, ...] = ()) -> int:
    """Show a document, and return the exit code.

    Args:
        document: What to show.
        json: Print it for programs instead of people.
        out: Where to write it as a page; nowhere when omitted.
        notes: What else to say, such as which files were written.
    """
    from fullrank.documents.html import write_page

    if json:
        print(document.json())
    else:
        document.print(plain_console())
    if out is not None:
        notes = (*notes, f"page: {write_page(document, out)}")
    for note in notes:
        print(note, file=sys.stderr if json else sys.stdout)
    return 0
