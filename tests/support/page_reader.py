"""An HTML page as its elements and attributes."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from html.parser import HTMLParser


class Reader(HTMLParser):
    """Counts elements, and collects all attributes as (tag, name, value), and scripts as (type, text)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append((dict(attrs).get("type") or "", ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            kind, text = self.scripts[-1]
            self.scripts[-1] = kind, text + data

    def all(self, name: str) -> list[str]:
        return [value for _, each, value in self.attributes if each == name]

    @property
    def policy(self) -> str:
        """The content security policy."""
        (policy,) = (value for value in self.all("content") if "default-src" in value)
        return policy

    @property
    def running(self) -> list[str]:
        """Texts of all scripts that are no data."""
        return [text for kind, text in self.scripts if kind not in ("application/json", "text/plain")]


def hash_of(script: str) -> str:
    """What a policy has to name for a script of this text, computed anew."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
