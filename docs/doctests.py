"""Show doctests as code: a griffe extension, for docstrings hold them below their last section."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

PARAGRAPH = re.compile(r"^(>>> .*?)(?=\n[ \t]*\n|\Z)", re.MULTILINE | re.DOTALL)


class Doctests(Extension):
    """Fence each paragraph that starts with `>>>`."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring:
            obj.docstring.value = PARAGRAPH.sub(r"```pycon\n\1\n```", obj.docstring.value)
