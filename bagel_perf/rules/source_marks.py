"""Finds in a source text whose truth each place asks for, and what stands around it: a loop, a stop check, a log call.

Positions are (line, column) with columns in bytes of UTF-8, as byte code has them.
"""

from __future__ import annotations

import ast
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Position = tuple[int, int]
Span = tuple[Position, Position]

_LOGS = """
print log info debug warning error critical exception log_dict log_metrics add_scalar add_scalars set_postfix
set_description set_postfix_str write
"""
LOGS = frozenset(_LOGS.split())
SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of source: ``test`` (``shown`` is what is asked), ``chain`` of comparisons, ``case`` of a match,
    ``format`` of an f-string, ``assert``, ``augment`` (``shown`` is what is written anew), ``scope``, or a word of
    ``SyncSite.around``.

    ``parts`` are the operands of a chain; ``node`` is that of a chain or ``format``.
    """

    span: Span
    kind: str
    shown: Span
    parts: tuple[Span, ...] = ()
    node: ast.AST | None = None


class Marks:
    """The marks of one source text, found by position in logarithmic time."""

    def __init__(self, tree: ast.AST) -> None:
        found = [mark for node in ast.walk(tree) for mark in _marks_of(node)]
        found.sort(key=lambda mark: (mark.span[0], (-mark.span[1][0], -mark.span[1][1])))  # the outer one first
        self._marks = found
        self._starts = [mark.span[0] for mark in found]
        self._parents = _parents(found)

    def around(self, span: Span) -> Iterator[Mark]:
        """The marks that contain a span, innermost first."""
        number = bisect_right(self._starts, span[0]) - 1
        while number >= 0:
            mark = self._marks[number]
            if contains(mark.span, span):
                yield mark
            number = self._parents[number]


def contains(outer: Span, inner: Span) -> bool:
    """Whether a span lies in another one."""
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def span_of(node: ast.AST) -> Span:
    """Where a node that has a position begins and ends."""
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]


def _parents(marks: Sequence[Mark]) -> list[int]:
    """For each mark the number of the innermost one around it, -1 for none."""
    parents: list[int] = []
    open_marks: list[int] = []
    for number, mark in enumerate(marks):
        while open_marks and not contains(marks[open_marks[-1]].span, mark.span):
            open_marks.pop()
        parents.append(open_marks[-1] if open_marks else -1)
        open_marks.append(number)
    return parents


def _marks_of(node: ast.AST) -> Iterator[Mark]:
    if isinstance(node, ast.If | ast.While | ast.Assert | ast.IfExp):
        yield from _tests(node.test)
        if isinstance(node, ast.Assert):
            yield Mark(span_of(node), "assert", span_of(node.test))
        word = _word_of(node)
        if word:
            yield _plain(span_of(node.test), word)
    if isinstance(node, LOOPS):
        start = node.test if isinstance(node, ast.While) else node.body[0]
        yield _plain((span_of(start)[0], span_of(node.body[-1])[1]), "loop")
    elif isinstance(node, COMPREHENSIONS):
        yield from _comprehension(node)
    elif isinstance(node, ast.BoolOp):  # the last value is the result, and not asked
        yield from (_test(value) for value in node.values[:-1])
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _test(node.operand)
    elif isinstance(node, ast.Compare) and len(node.ops) > 1:
        parts = tuple(map(span_of, (node.left, *node.comparators)))
        yield Mark(span_of(node), "chain", span_of(node), parts, node)
    elif isinstance(node, ast.match_case):
        yield from () if node.guard is None else _tests(node.guard)
    elif isinstance(node, ast.MatchValue | ast.MatchSingleton):
        yield _plain(span_of(node), "case")
    elif isinstance(node, ast.FormattedValue):
        yield Mark(span_of(node.value), "format", span_of(node.value), (), node)
    elif isinstance(node, SCOPES):
        yield _plain(span_of(node), "scope")
    else:
        yield from _uses(node)


def _tests(node: ast.expr) -> Iterator[Mark]:
    """The expressions whose truth decides a condition, as Python takes it apart."""
    pending = [node]
    while pending:
        each = pending.pop()
        if isinstance(each, ast.BoolOp):
            pending += each.values
        elif isinstance(each, ast.UnaryOp) and isinstance(each.op, ast.Not):
            pending.append(each.operand)
        elif isinstance(each, ast.IfExp):
            pending += (each.body, each.orelse)  # its test is one of its own
        else:
            yield _test(each)


def _test(node: ast.expr) -> Mark:
    shown = node
    while isinstance(shown, ast.NamedExpr):
        shown = shown.value
    return Mark(span_of(node), "test", span_of(shown))


def _plain(span: Span, kind: str) -> Mark:
    return Mark(span, kind, span)


def _word_of(node: ast.If | ast.While | ast.Assert | ast.IfExp) -> str:
    """``stop`` for what ends a loop or a function, ``check`` for what may raise."""
    if isinstance(node, ast.While):
        return "stop"
    if isinstance(node, ast.Assert):
        return "check"
    if isinstance(node, ast.If):
        branches = [*node.body, *node.orelse]
        if any(isinstance(each, ast.Raise) for each in branches):
            return "check"
        if any(isinstance(each, ast.Break | ast.Return) for each in branches):
            return "stop"
    return ""


def _comprehension(node: ast.expr) -> Iterator[Mark]:
    repeated = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]  # type: ignore[attr-defined]
    for generator in node.generators:  # type: ignore[attr-defined]
        repeated += generator.ifs
        for condition in generator.ifs:
            yield from _tests(condition)
    yield from (_plain(span_of(each), "loop") for each in repeated)


def _uses(node: ast.AST) -> Iterator[Mark]:
    """What a value is for, where that can be seen: a log, a list, a sum, or its length alone."""
    if isinstance(node, ast.Call):
        name = _last_name(node.func)
        if name in LOGS:
            yield _plain(span_of(node), "log")
        elif name in ("append", "extend"):
            yield _plain(span_of(node), "collect")
        elif name == "len" and node.args:
            yield _plain(span_of(node.args[0]), "count")
        elif name in ("numel", "size", "nelement", "dim") and isinstance(node.func, ast.Attribute):
            yield _plain(span_of(node.func.value), "count")
    elif isinstance(node, ast.Attribute) and node.attr == "shape":
        yield _plain(span_of(node.value), "count")
    elif isinstance(node, ast.AugAssign):
        yield Mark(span_of(node), "augment", span_of(node.target))
        yield _plain(span_of(node.value), "sum")


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
