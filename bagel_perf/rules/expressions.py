"""Finds the source text of what an instruction of byte code waits for; none where the source is not the code's.

A jump's position covers its whole statement in some versions of Python and a neighbour in others. So what a condition
asks is found by the instruction right before, which made the value: the innermost expression around it whose truth is
asked anywhere in the source. Only names that the byte code loads may stand in a text, and all of them have to: so a
file that was changed, or that is another one, gives no text rather than a wrong one.
"""

from __future__ import annotations

import ast
import dis
import linecache
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from types import CodeType, ModuleType

from bagel_perf.rules.source_marks import Mark, Marks, Span, contains

MAX_LENGTH = 80
WORDS = ("loop", "stop", "check", "log", "collect", "sum", "count")
"""Of ``Site.around`` that marks have; besides ``truth``, ``index`` and ``update``."""
_NO_VALUE = ("COPY", "SWAP", "NOP", "CACHE", "EXTENDED_ARG", "TO_BOOL", "RESUME", "NOT_TAKEN")
_STORES = ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF")
_COMPARES = ("COMPARE_OP", "IS_OP", "CONTAINS_OP")
_FORMATS = ("FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC", "CONVERT_VALUE")
_OF_PYTEST = "@py"
"""Names of the variables that pytest puts into an assertion, which it writes anew."""
_WRITES = ("STORE_SUBSCR", "STORE_ATTR", "STORE_SLICE")

UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)

Found = tuple[str, frozenset[str]]
"""A text and the words of what is around it."""
NOTHING: Found = ("", frozenset())


class Expressions:
    """Texts of instructions; reads each file and each code object once, however many instructions are asked for.

    What was found is kept by the identity of code objects, so whoever asks keeps these alive.
    """

    def __init__(self) -> None:
        self._sources: dict[str, _Source | None] = {}
        self._codes: dict[int, _Code] = {}
        self._found: dict[tuple[int, int], Found] = {}

    def at(
        self, code: CodeType | None, offsets: Iterable[int], most: int = 3
    ) -> tuple[tuple[str, ...], frozenset[str]]:
        """The first texts of some instructions of a code object, and the words of what is around any of these."""
        texts: dict[str, None] = {}
        around: frozenset[str] = frozenset()
        for offset in offsets if code is not None else ():
            text, words = self.one(code, offset)  # type: ignore[arg-type]
            if text:
                texts[text] = None
                around |= words
            if len(texts) == most:
                break
        return tuple(texts), around

    def one(self, code: CodeType, offset: int) -> Found:
        """Text and surroundings of one instruction; ("", no words) where nothing can be said."""
        key = (id(code), offset)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._look(code, offset)
        return found

    def let_go(self) -> None:
        """Forgets what was read, and keeps what was found."""
        self._sources.clear()
        self._codes.clear()

    def _look(self, code: CodeType, offset: int) -> Found:
        file = code.co_filename
        if file not in self._sources:
            self._sources[file] = _Source.of(file)
        source = self._sources[file]
        if source is None:
            return NOTHING
        known = self._codes.get(id(code))
        if known is None:
            known = self._codes[id(code)] = _Code(code)
        return _Instruction(known, source, known.number_at(offset)).found()


class _Code:
    """The instructions of a code object, which it keeps alive."""

    def __init__(self, code: CodeType) -> None:
        self.code = code
        self.all = [each for each in dis.get_instructions(code) if each.opname != "CACHE"]
        self._offsets = [each.offset for each in self.all]

    def number_at(self, offset: int) -> int:
        return max(bisect_right(self._offsets, offset) - 1, 0)

    def span(self, number: int) -> Span | None:
        """Where an instruction comes from; None for those that Python adds."""
        at = self.all[number].positions
        if at is None or None in (at.lineno, at.end_lineno, at.col_offset, at.end_col_offset):
            return None
        return (at.lineno, at.col_offset), (at.end_lineno, at.end_col_offset)  # type: ignore[return-value]

    def names(self, number: int, span: Span) -> set[str]:
        """Names of the instructions up to this one, and after it, that come from ``span``."""
        found: set[str] = set()
        for step in (-1, 1):
            each = number if step < 0 else number + 1
            while 0 <= each < len(self.all):
                at = self.span(each)
                if at is None or not contains(span, at):
                    if self.all[each].opname not in _NO_VALUE:
                        break
                else:
                    found.update(_names_of(self.all[each]))
                each += step
            if step < 0 and each >= 0:
                found.update(f"?{name}" for name in _names_of(self.all[each])[1:])  # two instructions in one
        return found


class _Source:
    """The text of a file, by lines in UTF-8, and its marks."""

    def __init__(self, lines: list[bytes], marks: Marks) -> None:
        self.lines = lines
        self.marks = marks

    @classmethod
    def of(cls, file: str) -> _Source | None:
        """None where there is no source, or none that can be read."""
        linecache.checkcache(file)
        lines = linecache.getlines(file, _globals_of(file))
        if not lines:
            return None
        try:
            return cls([line.encode() for line in lines], Marks(ast.parse("".join(lines))))
        except UNREADABLE:  # as a notebook's cell with commands of its own
            return None

    def text(self, span: Span) -> str:
        """A stretch of source as it stands on its line; anew without comments where it is several."""
        (first, start), (last, stop) = span
        lines = self.lines[first - 1 : last]
        if len(lines) != last - first + 1:
            return ""
        lines = [*lines[:-1], lines[-1][:stop]]
        lines[0] = lines[0][start:]
        text = b"".join(lines).decode(errors="replace")
        if last == first:
            return text.strip()
        tree = _expression(text)
        return "" if tree is None else ast.unparse(tree)


def _globals_of(file: str) -> dict[str, object] | None:
    """Of the module that came from a file, which knows how to read itself out of an archive."""
    modules: list[ModuleType] = list(sys.modules.values())
    return next((vars(each) for each in modules if getattr(each, "__file__", None) == file), None)


class _Instruction:
    """One instruction, beside its source."""

    def __init__(self, code: _Code, source: _Source, number: int) -> None:
        self._code = code
        self._source = source
        self._number = number
        self._name = code.all[number].opname

    def found(self) -> Found:
        own = self._code.span(self._number)
        if own is None:
            return NOTHING
        if _asks_truth(self._name):
            text, words = self._asked()
            return (text, words | {"truth"}) if text else NOTHING
        if self._name in _COMPARES:
            return self._compared(self._number, own)
        if self._name in _FORMATS:
            return self._formatted()
        if self._name in _WRITES:
            return self._written(own)
        text, words = self._shown(own, own, self._number)
        each = self._code.all[self._number]
        is_index = "SUBSCR" in each.opname or "SLICE" in each.opname or each.argrepr == "[]"
        return text, words | {"index"} if text and is_index else words

    def _written(self, own: Span) -> Found:
        marks = self._source.marks.around(own)
        whole = next((mark.span for mark in marks if mark.kind == "augment" and mark.shown == own), None)
        if whole is not None:  # as x[mask] += 1
            return self._shown(whole, whole, self._number)
        return self._shown(own, own, self._number, "{} = ...")

    def _asked(self) -> Found:
        """What was asked for its truth: what the instruction before made, or the variable that it loads besides."""
        before = self._before(self._number)
        made = None if before is None else self._code.span(before)
        if before is None or made is None:
            return NOTHING
        names = _names_of(self._code.all[before])
        if len(names) > 1:  # stores or loads one variable, then loads the one that is asked
            return names[-1], self._words(self._code.span(self._number) or made)
        if self._code.all[before].opname in _COMPARES and self._marked(made, "chain", "case"):
            return self._compared(before, made)
        is_pytests = bool(names) and names[0].startswith(_OF_PYTEST)
        return self._tested(before, made, "assert" if is_pytests else "test")

    def _tested(self, number: int, span: Span, kind: str = "test") -> Found:
        """The innermost expression around a span that is asked for its truth."""
        marks = self._source.marks.around(span)
        mark = next((mark for mark in marks if mark.kind in (kind, "scope")), None)
        if mark is None or mark.kind == "scope":
            return NOTHING
        return self._shown(mark.shown, mark.span, number)

    def _compared(self, number: int, span: Span) -> Found:
        """One comparison of a chain, a case of a match, or all of a comparison."""
        mark = self._marked(span, "chain", "case")
        right = self._before(number)
        made = None if right is None else self._code.span(right)
        if mark is None:
            if right is not None and made is not None and self._source.text(span).startswith("not"):
                return self._tested(right, made)  # asks in the same instruction
            return self._shown(span, span, number)
        if mark.kind == "case":
            return self._shown(span, span, number, "case {}")
        if made is None:
            return NOTHING
        last = len(mark.parts) - 1
        which = next((i for i in range(1, last) if made[1] <= mark.parts[i][1]), last)
        pair = (mark.parts[which - 1][0], mark.parts[which][1])
        if _names_in(self._source.text(pair)) is None and self._shown(span, span, number)[0]:  # brackets around one
            return _short(_pair_of(mark.node, which)), self._words(span)
        return self._shown(pair, span, number)

    def _marked(self, span: Span, *kinds: str) -> Mark | None:
        """The mark of exactly this span, if it is of one of the kinds."""
        marks = self._source.marks.around(span)
        return next((mark for mark in marks if mark.span == span and mark.kind in kinds), None)

    def _formatted(self) -> Found:
        """A value that an f-string formats, with its format."""
        before = self._before(self._number)
        skipped = ("CONVERT_VALUE",) if self._name == "FORMAT_SIMPLE" else ("LOAD_CONST", "CONVERT_VALUE")
        for name in skipped:  # the format, and the conversion by repr
            if before is not None and self._code.all[before].opname == name:
                before = self._before(before)
        made = None if before is None else self._code.span(before)
        if made is None:
            return NOTHING
        nodes = [mark.node for mark in self._source.marks.around(made) if mark.kind == "format" and mark.span == made]
        if len(nodes) != 1 or not isinstance(nodes[0], ast.FormattedValue):
            return NOTHING
        return _short(ast.unparse(ast.JoinedStr([nodes[0]]))), self._words(made) | {"log"}

    def _before(self, number: int) -> int | None:
        """The instruction that made the value on top of the stack."""
        number -= 1
        while number >= 0:
            name = self._code.all[number].opname
            if name not in _NO_VALUE and not (name in _STORES and self._code.all[number - 1].opname == "COPY"):
                return number
            number -= 1
        return None

    def _shown(self, span: Span, whole: Span, number: int, form: str = "{}") -> Found:
        """The text of ``span``, a part of ``whole``, if the byte code around the instruction can come from that."""
        known = _names_in(self._source.text(whole).removeprefix("assert "))
        if known is None or not _agree(self._code.names(number, whole), *known):
            return NOTHING
        return form.format(_short(self._source.text(span))), self._words(span)

    def _words(self, span: Span) -> frozenset[str]:
        words = set()
        for mark in self._source.marks.around(span):
            if mark.kind == "scope":
                break
            if mark.kind in WORDS:
                words.add(mark.kind)
            elif mark.kind == "augment" and span in (mark.span, mark.shown):
                words.add("update")
            elif mark.kind == "format":
                words.add("log")
        return frozenset(words)


def _asks_truth(name: str) -> bool:
    is_jump = "JUMP" in name and ("_IF_TRUE" in name or "_IF_FALSE" in name)
    return is_jump or name in ("TO_BOOL", "UNARY_NOT")


def _names_of(instruction: dis.Instruction) -> tuple[str, ...]:
    """Names of variables and attributes that an instruction reads or writes."""
    value, opcode = instruction.argval, instruction.opcode
    if isinstance(value, tuple) and value and all(isinstance(each, str) for each in value):
        return value if opcode in dis.haslocal or "FAST" in instruction.opname else ()
    is_name = opcode in dis.hasname or opcode in dis.haslocal or opcode in dis.hasfree
    return (value,) if is_name and isinstance(value, str) else ()


def _names_in(text: str) -> tuple[set[str], set[str]] | None:
    """All names in an expression, and those that its own scope reads; None for what is no expression."""
    tree: ast.AST | None = _expression(text)
    if tree is None:
        try:
            tree = ast.parse(text)
        except UNREADABLE:
            return None
        if not isinstance(tree, ast.Module) or [type(each) for each in tree.body] != [ast.AugAssign]:
            return None
    return set(_names(tree, inner=True)), set(_names(tree, inner=False))


def _expression(text: str) -> ast.expr | None:
    """The expression that a text is all of: not ``a) < (b``, which brackets around would make one."""
    try:
        tree = ast.parse(f"_({text}\n)", mode="eval").body
    except UNREADABLE:
        return None
    is_whole = isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name) and not tree.keywords
    return tree.args[0] if isinstance(tree, ast.Call) and is_whole and len(tree.args) == 1 else None


def _names(tree: ast.AST, *, inner: bool) -> Iterator[str]:
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        if not inner and isinstance(node, ast.Lambda):
            continue
        if not inner and isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            pending.append(node.generators[0].iter)
            continue
        if inner and isinstance(node, ast.arg):
            yield node.arg
        pending += ast.iter_child_nodes(node)


def _agree(loaded: set[str], names: set[str], own: set[str]) -> bool:
    if any(name.startswith(_OF_PYTEST) for name in loaded):
        return True
    if "super" in names or any(name.startswith("__") and not name.endswith("__") for name in names):
        return True  # Python loads other names than are written
    certain = {name for name in loaded if not name.startswith("?")}
    possible = certain | {name[1:] for name in loaded if name.startswith("?")}
    return certain <= names and own - {"__debug__"} <= possible


def _pair_of(chain: ast.AST | None, which: int) -> str:
    """One comparison of a chain."""
    assert isinstance(chain, ast.Compare)
    operands = [chain.left, *chain.comparators]
    return ast.unparse(ast.Compare(operands[which - 1], [chain.ops[which - 1]], [operands[which]]))


def _short(text: str) -> str:
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 3]}..."
