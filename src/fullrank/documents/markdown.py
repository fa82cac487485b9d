"""Documents as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fullrank.documents.parts import (
    Document,
    Fields,
    Fold,
    Heading,
    Only,
    Part,
    Picture,
    Points,
    Statement,
    Table,
    Words,
    in_words,
    plain,
    value_text,
)


def render(document: Document, figures: Mapping[str, str] | None = None) -> str:
    """Return a document as Markdown; the same document gives the same text.

    Args:
        document: What to write.
        figures: Where its figures are, by key; those that are not named are left out.
    """
    return "\n\n".join([f"# {document.title}", *blocks(document.parts, figures or {})]) + "\n"


def blocks(parts: Iterable[Part], figures: Mapping[str, str]) -> list[str]:
    """Return the parts as blocks of Markdown."""
    found: list[str] = []
    for part in parts:
        if isinstance(part, Heading):
            found.append(f"{'#' * part.depth} {part.text}")
        elif isinstance(part, Words):
            about = f"**{part.subject.label}** " if part.subject else ""
            warning = "**Warning**: " if part.tone == "warning" else ""
            found.append(f"{about}{warning}`{part.text}`" if part.tone == "command" else f"{about}{warning}{part.text}")
        elif isinstance(part, Points):
            found.append("\n".join(f"- {item}" for item in part.items))
        elif isinstance(part, Fields):
            above = part.title or (part.subject.label if part.subject else "")
            found += [f"**{above}**"] if above else []
            found.append("\n".join(f"- {key}: {value_text(value)}" for key, value in part.values.items()))
        elif isinstance(part, Table):
            found.append(table(part))
        elif isinstance(part, Picture) and (path := figures.get(part.key)):
            found += [f"![{part.title}]({path})", f"**{part.title}.** {part.caption}", *in_words(part.protocols)]
        elif isinstance(part, Statement):
            found.append(f"**{part.subject.label}**: {part.headline}. {' '.join(part.sentences)}")
            if part.remedies:
                tries = "\n".join(f"- {text} ({source})" for text, source in part.remedies)
                found.append(f"{part.trying}:\n\n{tries}")
        elif isinstance(part, Fold):
            found += [f"**{part.summary}**", *blocks(part.parts, figures)]
        elif isinstance(part, Only) and part.where == "page":
            found += blocks(part.parts, figures)
    return found


def table(part: Table) -> str:
    """Return a table, its title above, its note and its protocols below.

    >>> print(table(Table("k-NN", ["order", "ours"], [["hybrid", "48.3"]], "One seed.", {"k-NN": {"k": 20}})))
    **k-NN**
    <BLANKLINE>
    | order | ours |
    |---|---:|
    | hybrid | 48.3 |
    <BLANKLINE>
    One seed.
    <BLANKLINE>
    k-NN: k 20.
    """
    words = {*range(part.names), *part.text}
    lines = [
        row([plain(cell) for cell in part.header]),
        "|" + "".join("---|" if place in words else "---:|" for place in range(len(part.header))),
        *(row([plain(cell) for cell in cells]) for cells in part.rows),
    ]
    below = [text for note in (part.note, *in_words(part.protocols)) if note for text in ("", note)]
    above = [f"**{part.title}**", ""] if part.captioned else []
    return "\n".join([*above, *lines, *below])


def row(cells: Sequence[str]) -> str:
    """Return a row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
