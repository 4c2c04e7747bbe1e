"""Reads JSON that says one thing: no key twice in an object, no number that JSON does not have, no nesting without end.

``json`` takes the last of two equal keys, where another reader takes the first, and makes infinity of ``1e999``.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any, NoReturn


def parse_json(content: str | bytes) -> Any:
    """The value of a document, UTF-8 where it is bytes.

    ``ValueError`` says in one line why it is none, ``RecursionError`` is raised where it is nested too deeply.
    """
    text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_float=_finite)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"key {json.dumps(name[:80])} is given twice in an object")
    return found


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"number {text[:40]} is out of range")
    return number
