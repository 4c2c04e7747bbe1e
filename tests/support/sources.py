"""The package's own source, for tests that look at its text: modules by name, their trees, what they import."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bagel_perf", "kernels_baseline", "kernels_optimized")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


@functools.cache
def source_of(module: str) -> str:
    return FILES[module].read_text(encoding="utf-8")


@functools.cache
def tree_of(source: str) -> ast.Module:
    return ast.parse(source)


@functools.cache
def nodes_of(source: str) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree_of(source)))


@functools.cache
def imports_of(source: str) -> tuple[str, ...]:
    """Full names of what a module imports, wherever in it; ``from a import b`` gives ``a.b``."""
    return tuple(_imports_of(source))


def _imports_of(source: str) -> Iterator[str]:
    for node in nodes_of(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def broken(modules: Iterable[str], rule: Callable[[str, str], object]) -> dict[str, object]:
    """What a rule, which is given a name and a source, finds in each module that breaks it."""
    found = {module: rule(module, source_of(module)) for module in modules}
    return {module: each for module, each in found.items() if each}
