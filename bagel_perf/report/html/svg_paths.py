"""Paths of an SVG in few characters: a page of thousands of bars stays small."""

from __future__ import annotations

import re
from collections.abc import Iterator

DIGITS = 2
"""After the point, of the 72 points that an inch of a drawing has: less than a tenth of a pixel of a screen."""


def compact(path: str) -> str:
    """The same path, rounded, with lines along an axis as ``H`` and ``V``; one that has curves is only rounded."""
    tokens = re.findall(r"[A-Za-z]|[-+]?[0-9.]+(?:e[-+]?[0-9]+)?", path)
    if not re.fullmatch("([ML]00|z)*", "".join(token if token.isalpha() else "0" for token in tokens)):
        return " ".join(token if token.isalpha() else _number(token) for token in tokens)
    return "".join(_lines(iter(tokens)))


def _lines(tokens: Iterator[str]) -> Iterator[str]:
    begin = at = ("", "")
    closing = False
    for command in tokens:
        if command == "z":
            closing = False
            yield "z"
            continue
        to = _number(next(tokens)), _number(next(tokens))
        if closing:
            yield _line(at, begin)
            closing = False
        if command == "M":
            begin = at = to
            yield f"M{to[0]} {to[1]}"
        elif to == at:
            continue
        elif to == begin:
            closing = True  # z draws this line, if it follows
        else:
            yield _line(at, to)
            at = to
    if closing:
        yield _line(at, begin)


def _line(at: tuple[str, str], to: tuple[str, str]) -> str:
    if at[1] == to[1]:
        return f"H{to[0]}"
    return f"V{to[1]}" if at[0] == to[0] else f"L{to[0]} {to[1]}"


def _number(text: str) -> str:
    """Rounded, without zeros that say nothing."""
    rounded = f"{float(text):.{DIGITS}f}".rstrip("0").rstrip(".")
    return "0" if rounded == "-0" else rounded
