"""Documents as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fullrank import documents as doc


def render(document: doc.Document, figures: Mapping[str, str] | None = None) -> str:
    """Return a document as Markdown, with the figures whose places are named by their keys; always the same text."""
    return "\n\n".join([f"# {document.title}", *blocks(document.parts, figures or {})]) + "\n"


def blocks(parts: Iterable[doc.Part], figures: Mapping[str, str]) -> list[str]:
    """Return the parts as blocks of Markdown."""
    found: list[str] = []
    for part in parts:
        match part:
            case doc.Heading():
                found.append(f"## {part.text}")
            case doc.Words():
                about = f"**{part.subject.label}** " if part.subject else ""
                warning = "**Warning**: " if part.tone == "warning" else ""
                text = part.text
                if part.tone == "command":
                    text = f"```python\n{text}\n```" if "\n" in text else f"`{text}`"
                found.append(f"{about}{warning}{text}")
            case doc.Points():
                found.append("\n".join(f"- {item}" for item in part.items))
            case doc.Fields():
                found += [f"**{part.heading}**"] if part.heading else []
                found.append("\n".join(f"- {key}: {doc.value_text(value)}" for key, value in part.values.items()))
            case doc.Table():
                found.append(table(part))
            case doc.Picture() if path := figures.get(part.key):
                found += [
                    f"![{part.title}]({path})",
                    f"**{part.title}.** {part.caption}",
                    *doc.in_words(part.protocols),
                ]
            case doc.Statement():
                found.append(f"**{part.subject.label}**: {part.headline}. {' '.join(part.sentences)}")
                if part.remedies:
                    tries = "\n".join(f"- {text} ({source})" for text, source in part.remedies)
                    found.append(f"{part.trying}:\n\n{tries}")
            case doc.Fold():
                found += [f"**{part.summary}**", *blocks(part.parts, figures)]
            case doc.Only(where="page"):
                found += blocks(part.parts, figures)
    return found


def table(part: doc.Table) -> str:
    """Return a table, its title above, its note and its protocols below.

    >>> print(table(doc.Table("k-NN", ["order", "ours"], [["hybrid", "48.3"]], "One seed.", {"k-NN": {"k": 20}})))
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
    rule = "|" + "".join("---|" if place in words else "---:|" for place in range(len(part.header)))
    above = [f"**{part.title}**", ""] if part.captioned else []
    below = [text for note in (part.note, *doc.in_words(part.protocols)) if note for text in ("", note)]
    return "\n".join([*above, _row(part.header), rule, *map(_row, part.rows), *below])


def _row(cells: Sequence[doc.Cell]) -> str:
    return "| " + " | ".join(doc.plain(cell).replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
