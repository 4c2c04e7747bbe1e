"""Chooses what to write instead of a wait by how it is written: its expression, and what is around it.

A pattern is a form of expression of some kinds; the first that fits a site gives its hint, and where none does the
kind's own hint stays. A new kind needs an entry in ``records.sites`` alone.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

from bagel_perf.records.sites import HINTS, Hint, Kind, SyncSite
from bagel_perf.verdicts.hint_texts import PATTERN_HINTS

READS = ("item", "tolist", "numpy", "cpu")
COUNTS = ("sum", "count_nonzero")
MASK_PREFIXES = ("is_", "isnan", "isinf", "isfinite", "isin", "has_", "in_", "eq", "ne", "gt", "ge", "lt", "le")
MASK_WORDS = ("mask", "valid", "done", "finished", "keep", "alive", "active", "hit", "true")
_CLOSERS = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of one expression that waits: its tree, the words of ``Site.around``, and whether it did again."""

    tree: ast.AST
    around: frozenset[str]
    is_repeated: bool

    @property
    def call(self) -> str:
        """Last name of the function that the expression calls, "" where it is no call."""
        return _last_name(self.tree.func) if isinstance(self.tree, ast.Call) else ""

    def has_keyword(self, name: str) -> bool:
        return isinstance(self.tree, ast.Call) and any(each.arg == name for each in self.tree.keywords)

    @property
    def read(self) -> ast.AST:
        """What is read: ``x`` of ``x.item()``, ``int(x)`` and ``f"{x}"``; else the expression itself."""
        tree = self.tree
        if isinstance(tree, ast.JoinedStr) and tree.values and isinstance(tree.values[0], ast.FormattedValue):
            tree = tree.values[0].value
        if isinstance(tree, ast.Call):
            if isinstance(tree.func, ast.Attribute) and tree.func.attr in READS and not tree.args:
                return tree.func.value
            if isinstance(tree.func, ast.Name) and tree.func.id in ("int", "float", "bool") and len(tree.args) == 1:
                return tree.args[0]
        return tree


def hint_of(site: SyncSite) -> Hint:
    """What to write instead at a site."""
    name = pattern_of(site)
    return HINTS[site.kind] if name is None else PATTERN_HINTS[name]


def pattern_of(site: SyncSite) -> str | None:
    """Name of the pattern that a site is of; None where nothing is known but its kind."""
    around = frozenset(site.around)
    for expression in site.expressions:
        tree = parsed(expression)
        if tree is None:
            continue
        is_write = expression.endswith(" = ...")
        look = Look(tree, around | {"index"} if is_write else around, site.count > 1 or "loop" in around)
        for name, kinds, fits in PATTERNS:
            if site.kind in kinds and fits(look):
                return name
    return None


def parsed(expression: str) -> ast.AST | None:
    """The tree of an expression as reports have it: cut at the end, and with ``= ...`` for a write."""
    text = expression.removesuffix(" = ...")
    if text == expression and text.endswith("..."):
        return _parsed_head(text[:-3])
    try:
        (statement,) = ast.parse(text).body
    except (SyntaxError, ValueError):
        return None
    return statement.value if isinstance(statement, ast.Expr) else statement


def _parsed_head(text: str) -> ast.AST | None:
    """The tree of a text that was cut, with its brackets closed after the last item that is whole."""
    for end in range(len(text), 0, -1):
        if end == len(text) or text[end] == "," or text[end - 1] in _CLOSERS:
            try:
                return ast.parse(text[:end] + _closers(text[:end]), mode="eval").body
            except (SyntaxError, ValueError):
                continue
    return None


def _closers(text: str) -> str:
    missing: list[str] = []
    for char in text:
        if char in _CLOSERS:
            missing.append(_CLOSERS[char])
        elif missing and char == missing[-1]:
            missing.pop()
    return "".join(reversed(missing))


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_reduction(look: Look) -> bool:
    """``max(lengths)``, alone or read; of one argument, since ``max(a, b)`` compares once."""
    tree = look.read
    return (
        isinstance(tree, ast.Call)
        and isinstance(tree.func, ast.Name)
        and tree.func.id in ("max", "min", "sorted", "any", "all")
        and len(tree.args) == 1
    )


def _is_element(look: Look) -> bool:
    """``times[i].item()``, ``int(times[i])``, ``if times[i] > limit``: a number that another variable picks."""
    if "log" in look.around or not look.is_repeated:
        return False
    if isinstance(look.tree, ast.Compare):
        return any(map(_is_picked, (look.tree.left, *look.tree.comparators)))
    return _is_picked(look.read) and (look.read is not look.tree or "truth" in look.around)


def _is_picked(node: ast.AST) -> bool:
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name | ast.Attribute):
        return False
    parts = list(ast.walk(node.slice))
    names = [each.id for each in parts if isinstance(each, ast.Name)]
    is_number = not any(isinstance(each, ast.Slice | ast.Compare | ast.UnaryOp | ast.Call) for each in parts)
    return bool(names) and is_number and not any("mask" in name.lower() for name in names)


def _is_scalar_index(look: Look) -> bool:
    """``x[s]``: the index is read, not the element."""
    return isinstance(look.tree, ast.Subscript) and "index" in look.around and not _has_slice(look)


def _has_slice(look: Look) -> bool:
    return isinstance(look.tree, ast.Subscript) and any(
        isinstance(each, ast.Slice) for each in ast.walk(look.tree.slice)
    )


def _is_number_of_true(look: Look) -> bool:
    """``int(mask.sum())``, ``mask.sum().item()``."""
    tree = look.read
    return (
        tree is not look.tree
        and isinstance(tree, ast.Call)
        and isinstance(tree.func, ast.Attribute)
        and tree.func.attr in COUNTS
        and _is_mask(tree.func.value)
    )


def _is_mask(node: ast.AST) -> bool:
    """Whether an expression is of truth values, as far as its form or its name tells."""
    if isinstance(node, ast.Compare | ast.UnaryOp) or (
        isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd | ast.BitOr | ast.BitXor)
    ):
        return True
    name = _last_name(node.func if isinstance(node, ast.Call) else node).lower()
    return name.startswith(MASK_PREFIXES) or any(word in name for word in MASK_WORDS)


def _is_logged(look: Look) -> bool:
    return bool(look.around & {"log", "collect", "sum"})


def _is_host_index(look: Look) -> bool:
    return isinstance(look.tree, ast.Subscript)


def _is_batch(look: Look) -> bool:
    return "loop" in look.around and look.call in ("to", "cuda")


def _is_construction(look: Look) -> bool:
    return look.call in ("tensor", "as_tensor", "asarray", "new_tensor")


def _in_loop(look: Look) -> bool:
    return "loop" in look.around


_READ: tuple[Kind, ...] = ("scalar_read",)
_SIZE: tuple[Kind, ...] = ("scalar_read", "tensor_as_size")
_MASK: tuple[Kind, ...] = ("mask_gather", "mask_scatter")
_NONZERO: tuple[Kind, ...] = ("nonzero",)
_DOWN: tuple[Kind, ...] = ("d2h_copy",)
_UP: tuple[Kind, ...] = ("pageable_upload",)

PATTERNS: tuple[tuple[str, tuple[Kind, ...], Callable[[Look], bool]], ...] = (
    ("reduction", _READ, _is_reduction),
    ("printing", ("scalar_read", "d2h_copy", "mask_gather"), lambda look: look.call in ("print", "repr", "str")),
    ("equality", _READ, lambda look: look.call in ("equal", "allclose")),
    ("fill", _READ, lambda look: look.call in ("masked_fill", "masked_fill_")),
    ("constant", _READ, lambda look: look.call in ("full", "new_full")),
    ("range", _SIZE, lambda look: look.call in ("linspace", "logspace", "arange")),
    ("slice", _SIZE, lambda look: _has_slice(look) or look.call == "narrow"),
    ("element", _READ, _is_element),
    ("stop", _READ, lambda look: {"stop", "loop"} <= look.around),
    ("check", _READ, lambda look: "check" in look.around),
    ("number_of_true", _READ, _is_number_of_true),
    ("log", _READ, _is_logged),
    ("scalar_index", _READ, _is_scalar_index),
    ("gather_to_count", ("mask_gather",), lambda look: "count" in look.around),
    ("masked_update", _MASK, lambda look: "update" in look.around),
    ("repeat", _NONZERO, lambda look: look.call == "repeat_interleave" and not look.has_keyword("output_size")),
    ("one_hot", _NONZERO, lambda look: look.call == "one_hot"),
    ("bins", _NONZERO, lambda look: look.call == "bincount"),
    ("nonzero_to_count", _NONZERO, lambda look: "count" in look.around and look.call in ("nonzero", "argwhere")),
    ("unique_to_count", _NONZERO, lambda look: "count" in look.around and look.call == "unique"),
    ("list", _DOWN, lambda look: look.call == "tolist"),
    ("copies_in_loop", _DOWN, _in_loop),
    ("host_index", _UP, _is_host_index),
    ("construction", _UP, _is_construction),
    ("batch", _UP, _is_batch),
    ("timing", ("explicit_sync",), lambda look: look.call == "synchronize" and _in_loop(look)),
)
"""(name, kinds, whether it fits), in the order in which they are tried."""
