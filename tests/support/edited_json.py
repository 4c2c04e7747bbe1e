"""Edits of JSON at a place, for files that say something else than they should."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Edit = Callable[[dict[str, Any]], object]


def setting(place: str, value: Any) -> Edit:
    """Sets what stands at a place such as ``deltas.0.verdict``."""
    *parents, last = place.split(".")

    def edit(data: Any) -> None:
        for parent in parents:
            data = data[int(parent) if parent.isdecimal() else parent]
        data[int(last) if last.isdecimal() else last] = value

    return edit
