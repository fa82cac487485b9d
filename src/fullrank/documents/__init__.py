"""Documents: what a command has to say, once, and how it looks in a terminal, on a page, in Markdown and to programs.

    found = Document("inspection", "resnet18", [Heading("Scores"), Table(...), Picture(...)], data={...})
    found.print(console)
    write_page(found, Path("inspect.html"))

`inspect`, `evaluate`, `rank`, `report` and `study show` each make one. `parts` says what one is made of; `html`,
`markdown` and `terminal` show each kind of part in one place.
"""

from fullrank.documents.looks import Look
from fullrank.documents.parts import (
    Cell,
    Document,
    Fields,
    Fold,
    Heading,
    Hinted,
    Only,
    Part,
    Photo,
    Picture,
    Points,
    Protocols,
    Statement,
    Table,
    Words,
)

__all__ = [
    "Cell",
    "Document",
    "Fields",
    "Fold",
    "Heading",
    "Hinted",
    "Look",
    "Only",
    "Part",
    "Photo",
    "Picture",
    "Points",
    "Protocols",
    "Statement",
    "Table",
    "Words",
]
