"""Instructions of functions that a test wrote into a file, and the texts that are found for them, without torch.

Runs under any Python: ``python byte_code.py FILE`` prints {function: [[opname, text, [words]], ...]} as JSON, of the
instructions that could wait.
"""

from __future__ import annotations

import dis
import json
import sys
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
WAITING = ("CALL", "BINARY_SUBSCR", "STORE_SUBSCR", "TO_BOOL", "UNARY_NOT", "COMPARE_OP", "FORMAT", "BINARY_OP")


def waiting(code: CodeType) -> list[tuple[str, int]]:
    """(name, offset) of the instructions that may wait."""
    return [
        (each.opname, each.offset)
        for each in dis.get_instructions(code)
        if each.opname.startswith(WAITING)
        or ("JUMP" in each.opname and ("_IF_TRUE" in each.opname or "_IF_FALSE" in each.opname))
    ]


def codes_of(code: CodeType) -> list[CodeType]:
    """A code object and those inside it."""
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return [code, *(found for each in inner for found in codes_of(each))]


def texts_of(file: Path) -> dict[str, list[list[Any]]]:
    """What is found for each instruction of a file that may wait, by the name of the function."""
    from bagel_perf.rules.expressions import Expressions

    expressions = Expressions()
    found: dict[str, list[list[Any]]] = {}
    for code in codes_of(compile(file.read_bytes(), str(file), "exec", dont_inherit=True)):
        for name, offset in waiting(code):
            text, words = expressions.one(code, offset)
            found.setdefault(code.co_qualname, []).append([name, text, sorted(words)])
    return found


def _without_torch() -> None:
    """The packages around the module alone, without what they import."""
    for name in ("bagel_perf", "bagel_perf.measure", "bagel_perf.syncs"):
        package = ModuleType(name)
        package.__path__ = [str(ROOT.joinpath(*name.split(".")))]
        sys.modules[name] = package


if __name__ == "__main__":
    _without_torch()
    print(json.dumps(texts_of(Path(sys.argv[1]))))
