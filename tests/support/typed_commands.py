"""Commands that a page tells people to type, the output that it shows, and what they really print."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from bagel_perf.cli import main

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", flags=re.M | re.S)
"""A fenced block: its language, and its text."""


def told(page: Path) -> Iterator[tuple[list[str], list[str]]]:
    """The words of each command of a page that has output, and the lines of that."""
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if not language:
            for part in re.split(r"^\$ bagel-perf ", block, flags=re.M)[1:]:
                command, *lines = part.splitlines()
                yield shlex.split(command), [line for line in map(plain, lines) if line not in ("...", "")]


def plain(line: str) -> str:
    """Words alone: rules are as wide as their table."""
    return " ".join(line.replace("\u2500", "").split())


def printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, [*map(plain, out.splitlines()), *map(plain, err.splitlines())]


def is_in_order(lines: list[str], found: list[str]) -> bool:
    rest = iter(found)
    return all(line in rest for line in lines)
