"""Every option that a program in tests/benchmarks reads is one that it, or what it imports there, declares."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
PROGRAMS = sorted(BENCHMARKS.glob("*.py"))


def declared(tree: ast.Module) -> set[str]:
    """Names that ``add_argument`` gives, here and in programs of the folder that this one imports."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            flags = [*node.args, *(each.value for each in node.keywords if each.arg == "dest")]
            names |= {text.lstrip("-").replace("-", "_") for text in map(text_of, flags) if text}
        if isinstance(node, ast.ImportFrom) and (path := BENCHMARKS / f"{node.module}.py").is_file():
            names |= declared(ast.parse(path.read_text(encoding="utf-8")))
    return names


def text_of(node: ast.expr) -> str:
    """The text that this is, else none."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def read(tree: ast.Module) -> set[str]:
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (ast.unparse(node.value) == "options" or ast.unparse(node.value).endswith(".options"))
    }


@pytest.mark.parametrize("program", PROGRAMS, ids=[each.stem for each in PROGRAMS])
def test_a_program_reads_options_that_it_has(program: Path) -> None:
    tree = ast.parse(program.read_text(encoding="utf-8"))
    assert read(tree) <= declared(tree)
