"""Random programs that ask values for their truth, each of which holds the text that is found against itself.

Runs under any Python: ``python asked_programs.py FOLDER`` writes programs there, runs them, and prints
[number asked, number without a text, [[program, text], ...] of the wrong ones] as JSON.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from types import FrameType
from typing import Any

NAMES = ("a", "b", "c", "d")
STATEMENTS = (
    "if {}:\n        pass\n    elif {}:\n        pass",
    "while {}:\n        if {}:\n            break\n        break",
    "for i in range(2):\n        if {} or {}:\n            continue\n        x = {}",
    "x = {}",
    "x = f({}, {})",
    "x = [{} for i in range(2) if {} if {}]",
    "x = (lambda a: {})(b)",
    "x = f'{{{}}} {{{}}}'",
    "try:\n        assert {}, 'no'\n    except AssertionError:\n        pass\n    finally:\n        x = {}",
    "match 3:\n        case y if {}:\n            pass\n        case _ if {}:\n            pass",
    "x = {{1: {}, 2: {}}}",
    "if (\n        {}  # one\n        and {}\n    ):\n        x = 1",
    "x = ({}\n         or {}\n         )",
    "def inner(a=a):\n        return {}\n    inner()",
)


def program(rng: random.Random, number: int) -> str:
    """A function of a, b, c, d and f."""
    body = []
    for _ in range(6):
        form = rng.choice(STATEMENTS)
        texts = [expression(rng, 3) for _ in range(form.replace("{{", "").count("{}"))]
        body.append("    " + form.format(*texts))
    return "\n".join([f"def run_{number}(a, b, c, d, f):", *body, ""])


def expression(rng: random.Random, depth: int) -> str:
    """An expression, in brackets where it is no name or call."""
    if depth == 0 or rng.random() < 0.15:
        return rng.choice(NAMES)
    parts = [expression(rng, depth - 1) for _ in range(3)]
    form = rng.choice(
        ("f({0})", "f({0}, {1})", "({0} and {1})", "({0} or {1})", "({0} or {1} and {2})", "(not {0})", "({0} < {1})",
         "({0} < {1} < {2})", "({0} if {1} else {2})", "({0} and {1} and {2})", "(n := {0})", "{0} < {1}")
    )  # fmt: skip
    return form.format(*parts) if form[0] in "(f" else f"({form.format(*parts)})"


class Value:
    """A value that remembers what it was made of; equal ones are the same object."""

    known: dict[str, Value] = {}  # noqa: RUF012
    judge: Any = None

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def of(cls, name: str) -> Value:
        return cls.known.setdefault(name, cls(name))

    def __lt__(self, other: object) -> Value:
        return Value.of(f"({name_of(self)} < {name_of(other)})")

    def __gt__(self, other: object) -> Value:
        return Value.of(f"({name_of(other)} < {name_of(self)})")

    def __bool__(self) -> bool:
        if Value.judge is not None:
            Value.judge(self, sys._getframe(1))
        return sum(map(ord, self.name)) % 2 == 0


def name_of(value: object) -> str:
    return value.name if isinstance(value, Value) else repr(value)


def made(*values: object) -> Value:
    return Value.of(f"f({', '.join(map(name_of, values))})")


def run(folder: Path, number: int) -> tuple[int, int, list[list[str]]]:
    """(values that were asked, those without a text, the wrong texts) of so many programs."""
    from bagel_perf.rules.expressions import Expressions

    rng, expressions = random.Random(7), Expressions()
    asked, unknown, wrong = 0, 0, []

    def judge(value: Value, frame: FrameType) -> None:
        nonlocal asked, unknown
        Value.judge = None
        asked += 1
        text, _ = expressions.one(frame.f_code, frame.f_lasti)
        if not text or text.endswith("..."):
            unknown += 1
        elif eval(text, {"f": made, "__builtins__": {}}, dict(frame.f_locals)) is not value:
            wrong.append([frame.f_code.co_filename, text])
        Value.judge = judge

    for each in range(number):
        file = folder / f"asked_{each}.py"
        file.write_text(program(rng, each), encoding="utf-8")
        names: dict[str, Any] = {}
        exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), names)
        Value.judge = judge
        try:
            names[f"run_{each}"](*map(Value.of, NAMES), made)
        finally:
            Value.judge = None
    return asked, unknown, wrong


if __name__ == "__main__":
    import byte_code

    byte_code._without_torch()
    print(json.dumps(run(Path(sys.argv[1]), 150)))
