"""Values of TOML."""

from __future__ import annotations

import json

from bagel_perf.schema.plain_text import clean_text


def quoted(text: str) -> str:
    """A basic string of TOML, whose escapes are those of JSON; what no file should hold has a mark in its place."""
    return json.dumps(clean_text(text), ensure_ascii=False)
