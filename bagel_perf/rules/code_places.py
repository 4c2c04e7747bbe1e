"""Says where an instruction is in words that outlive its process, and reads what stands there."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from types import CodeType

import msgspec

from bagel_perf.rules.expressions import NOTHING, UNREADABLE, Expressions, Found


class CodePlace(msgspec.Struct, frozen=True, kw_only=True):
    """An instruction as another process may find it again: by its file, its function, and the byte code's checksum."""

    file: str
    function: str
    first_line: int
    checksum: int
    offset: int

    @classmethod
    def of(cls, code: CodeType, offset: int) -> CodePlace:
        """The place of an instruction of this process."""
        return cls(
            file=os.path.abspath(code.co_filename),
            function=code.co_qualname,
            first_line=code.co_firstlineno,
            checksum=zlib.crc32(code.co_code),
            offset=offset,
        )

    def is_in(self, code: CodeType) -> bool:
        """Tells whether a code object is the one that the instruction is of."""
        found = code.co_qualname, code.co_firstlineno, zlib.crc32(code.co_code)
        return found == (self.function, self.first_line, self.checksum)


class PlaceTexts:
    """Reads texts at places; compiles each file once."""

    def __init__(self) -> None:
        self._expressions = Expressions()
        self._compiled: dict[str, tuple[CodeType, ...]] = {}

    def at(self, place: CodePlace) -> Found:
        """The text, and the words around it; none where this Python makes other byte code of the file."""
        code = next((each for each in self._codes_of(place.file) if place.is_in(each)), None)
        return NOTHING if code is None else self._expressions.one(code, place.offset)

    def _codes_of(self, file: str) -> tuple[CodeType, ...]:
        if file not in self._compiled:
            try:
                with open(file, "rb") as source:
                    self._compiled[file] = tuple(_inner(compile(source.read(), file, "exec", dont_inherit=True)))
            except (OSError, *UNREADABLE):
                self._compiled[file] = ()
        return self._compiled[file]


def _inner(code: CodeType) -> Iterator[CodeType]:
    """A code object and those inside it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _inner(each)
