"""A page as its reader has it: checked, and taken apart."""

import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Checks that tags nest, and collects ids, references and text."""

    def __init__(self, text):
        super().__init__()
        self.source, self.open, self.ids, self.links, self.alts, self.text, self.tags = text, [], [], [], [], "", []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes[name] for name in ("src", "href", "xlink:href") if name in attributes]
        self.links += re.findall(r"url\(([^)]*)\)", " ".join(value or "" for value in attributes.values()))
        self.alts += [attributes[name] for name in ("alt", "aria-label") if name in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text += data.replace("\N{NO-BREAK SPACE}", " ")


def check(text):
    """Return a page whose tags nest, whose ids are unique, and which loads nothing and runs nothing."""
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert "script" not in page.tags
    for link in page.links:
        assert link.startswith(("data:", "#")), link
        assert not link.startswith("#") or link[1:] in page.ids
    assert not re.search(r"https?:|@import|file:|//[a-z]", re.sub(r"base64,[\w+/=]*", "", page.source))
    return page
