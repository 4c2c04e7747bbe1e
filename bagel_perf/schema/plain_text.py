"""What a string may hold that people read: no character that hides, turns text around, or steers a terminal."""

from __future__ import annotations

import unicodedata

REPLACEMENT = "\ufffd"
FORBIDDEN_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn")
"""Controls, marks that turn the direction of text around, lone surrogates, and what is no character."""


def clean_text(text: str) -> str:
    """``text`` with a mark in place of each such character; line feeds stay."""
    if text.isascii() and text.isprintable():
        return text
    kept = (
        char if char == "\n" or unicodedata.category(char) not in FORBIDDEN_CATEGORIES else REPLACEMENT for char in text
    )
    return "".join(kept)


def one_line(text: str) -> str:
    """``text`` on one line and clean: foreign text may not begin a line of its own."""
    return clean_text(" ".join(text.split()))
