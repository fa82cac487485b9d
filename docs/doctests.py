"""What mkdocstrings would not show: a griffe extension.

Doctests, which docstrings hold below their last section, become code; a class's fields, which comments describe where
they are declared, a section "Attributes".
"""

from __future__ import annotations

import re
from typing import Any

from griffe import Attribute, Class, Docstring, Extension, Object

PARAGRAPH = re.compile(r"^(>>> .*?)(?=\n[ \t]*\n|\Z)", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"(?:^|  )\s*# (.*)$")


class Doctests(Extension):
    """Rewrite docstrings."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Fence each paragraph that starts with `>>>`."""
        if obj.docstring:
            obj.docstring.value = PARAGRAPH.sub(r"```pycon\n\1\n```", obj.docstring.value)

    def on_class_members(self, *, cls: Class, **_: Any) -> None:
        """List the fields that have a comment."""
        found = {name: comment(member) for name, member in cls.members.items() if isinstance(member, Attribute)}
        lines = [f"    {name}: {text}" for name, text in found.items() if text and not name.startswith("_")]
        if lines and cls.docstring and "\nAttributes:" not in cls.docstring.value:
            parts = [cls.docstring.value, "Attributes:\n" + "\n".join(lines)]
            cls.docstring = Docstring("\n\n".join(parts), lineno=cls.docstring.lineno, parent=cls)


def comment(field: Attribute) -> str:
    """Return what stands behind a field's declaration, or else above it, as a sentence; empty where nothing does."""
    source = field.lines_collection[field.filepath]
    first, last = (field.lineno or 1) - 1, (field.endlineno or 1) - 1
    words = COMMENT.findall(source[last])
    while not COMMENT.search(source[last]) and (above := re.match(r"\s+# (.*)$", source[first - 1])):
        words.insert(0, above[1])
        first -= 1
    text = " ".join(words)
    return f"{text[:1].upper()}{text[1:]}." if text else ""
