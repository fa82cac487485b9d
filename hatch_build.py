"""Turns README's relative links into what works on a package index: a hook of hatchling's.

FULLRANK_URL, or GitHub's own variables in its workflows, says where the repository is. Without, links lose their target
and the figure is left out, for they would lead nowhere.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)]+)\)(\n\n)?")


class Readme(MetadataHookInterface):
    """Gives the package its description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put it in."""
        server, name = (os.environ.get(f"GITHUB_{each}", "") for each in ("SERVER_URL", "REPOSITORY"))
        url = os.environ.get("FULLRANK_URL") or (f"{server}/{name}" if server and name else None)
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": described(text, url, f"v{metadata['version']}")}


def described(text: str, url: str | None, tag: str) -> str:
    r"""Return README as an index shows it.

    >>> described("![Plot](docs/a.svg)\n\nSee [docs](docs/index.md).", None, "v1")
    'See docs.'
    >>> described("![Plot](docs/a.svg)", "https://example.org/x", "v1")
    '![Plot](https://example.org/x/raw/v1/docs/a.svg)'
    """

    def link(found: re.Match[str]) -> str:
        image, words, target, gap = found[1], found[2], found[3], found[4] or ""
        if url is None:
            return "" if image else words + gap
        return f"{image}[{words}]({url}/{'raw' if image else 'blob'}/{tag}/{target}){gap}"

    return LINK.sub(link, text)
