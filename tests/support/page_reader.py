"""An HTML page as its elements and attributes."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser


class Reader(HTMLParser):
    """Counts elements, and collects all attributes as (tag, name, value)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def all(self, name: str) -> list[str]:
        return [value for _, each, value in self.attributes if each == name]
