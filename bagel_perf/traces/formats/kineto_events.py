"""Events of a Kineto file, decoded by type: only the fields that are asked about, and nothing of the other phases.

A chunk that does not fit the types (numbers that are no numbers, NaN, a phase that nobody knows) is decoded again by
the standard library and mended event by event: slower, and no reason to refuse a trace.
"""

from __future__ import annotations

import functools
import json
import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

import msgspec

# All phases of the Chrome format, of which X (complete), B (begin) and E (end) are intervals of a thread.
_OTHER_PHASES = "bnesTtpFfiICMPNODRcVv(),="
_NO_NUMBER = re.compile(r"(?<=[:\[,])\s*[-+]?(?:nan|inf|infinity)(?:\(\w*\))?(?=\s*[,}\]])", re.IGNORECASE)
# Bytes that are no UTF-8 arrive as U+DC80 to U+DCFF.
_HALF_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")
MAX_TIME_DIGITS = 19
"""Of whole microseconds, or nanoseconds since 1970."""
_TRAILING_COMMA = re.compile(r",(?=\s*[}\]])")
# Longer integers are no number of anything, and Python refuses to read those of thousands of digits.
_MAX_DIGITS = 40
_MAX_INTEGER = 2**63


class Args(msgspec.Struct, gc=False, frozen=True):
    """The arguments of an event that say what launched it, where it ran, and (since PyTorch 2.14) who called it.

    ``external`` is the number of an operator or annotation, and of the innermost one around a call.
    """

    correlation: int = -1
    external: int = msgspec.field(default=-1, name="External id")
    device: int = -1
    stream: int = -1
    num_bytes: int = msgspec.field(default=0, name="bytes")
    caller: str = msgspec.field(default="", name="CallFrom")


NO_ARGS = Args()


class Slice(msgspec.Struct, gc=False, tag_field="ph", tag="X"):
    """An interval of a thread, or its begin or end."""

    ts: float
    cat: str = ""
    name: str = ""
    pid: int | str = 0
    tid: int | str = 0
    dur: float = 0.0
    args: Args = NO_ARGS


class Begin(Slice, gc=False, tag_field="ph", tag="B"):
    """The begin of a slice."""


class End(Slice, gc=False, tag_field="ph", tag="E"):
    """The end of the slice that began last on its thread."""


class ExactSlice(msgspec.Struct, gc=False, tag_field="ph", tag="X"):
    """A slice whose time has more digits than a float64 keeps: fractions of microseconds since 1970."""

    ts: Decimal
    cat: str = ""
    name: str = ""
    pid: int | str = 0
    tid: int | str = 0
    dur: float = 0.0
    args: Args = NO_ARGS


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A slice of whose time nothing can be made."""

    cat: str


AnySlice: TypeAlias = Slice | ExactSlice


class WrongValueError(ValueError):
    """A number that no clock or counter gives, or a text that is none: whoever wrote it cannot be believed."""


class MalformedError(ValueError):
    """The text is no list of events; ``position`` is where it stops being one, ``cut_off`` whether it just ends.

    ``too_deep`` is whether it is nested more deeply than can be followed.
    """

    def __init__(self, position: int, *, cut_off: bool = False, too_deep: bool = False) -> None:
        super().__init__(position)
        self.position = position
        self.cut_off = cut_off
        self.too_deep = too_deep


def decode(text: bytearray | memoryview, *, exact: bool = False) -> list[Any]:
    """The events of a JSON list, those of other phases than X, B and E as empty objects.

    Raises ``msgspec.DecodeError``. With ``exact``, complete slices are ``ExactSlice``.
    """
    try:
        return _decoder(exact).decode(text)
    except msgspec.DecodeError:
        raise
    except (ValueError, RecursionError) as problem:  # no UTF-8, thousands of digits, thousands of levels
        raise msgspec.DecodeError(type(problem).__name__) from problem


def decode_any(text: str) -> tuple[list[AnySlice | Unreadable | None], int]:
    """The events of a JSON list that ``decode`` refuses, None for other phases, and where the list ends in ``text``.

    Raises ``MalformedError``.
    """
    decoder = json.JSONDecoder(strict=False, parse_int=_parse_counted)
    try:
        try:
            found, end = decoder.raw_decode(text)
        except json.JSONDecodeError:
            # The same number of characters, so that positions stay true.
            mended = _TRAILING_COMMA.sub(" ", _NO_NUMBER.sub(lambda match: "NaN".rjust(len(match.group())), text))
            found, end = decoder.raw_decode(mended)
    except json.JSONDecodeError as problem:
        raise MalformedError(problem.pos, cut_off=_is_cut_off(problem)) from problem
    except RecursionError as problem:
        raise MalformedError(0, too_deep=True) from problem
    return [_mend(event) if isinstance(event, Mapping) else None for event in found], end


def parse_integer(text: str) -> int | float:
    """An integer of JSON, as a float where it is too long for anything that is counted."""
    return int(text) if len(text) <= _MAX_DIGITS else float(text)


def _parse_counted(text: str) -> int:
    """An integer of an event; raises ``WrongValueError`` where it is too long for anything that is counted."""
    if len(text) > _MAX_DIGITS:
        raise WrongValueError(f"a number has {len(text)} digits")
    return int(text)


def clean(value: object, max_chars: int | None = None) -> str:
    """A text that any output can write: bytes that are no UTF-8 arrive as surrogates. Cut to ``max_chars``."""
    return str(value or "")[:max_chars].encode("utf-8", "replace").decode("utf-8")


@functools.cache
def _decoder(exact: bool) -> msgspec.json.Decoder[list[Any]]:
    others = [
        msgspec.defstruct(f"Phase{ord(phase)}", [], tag_field="ph", tag=phase, gc=False) for phase in _OTHER_PHASES
    ]
    slices = [ExactSlice if exact else Slice, Begin, End]
    # Lax, because older files write numbers of threads and times as strings.
    union = functools.reduce(operator.or_, [*slices, *others])
    return msgspec.json.Decoder(list[union], strict=False)  # type: ignore[valid-type]


def _is_cut_off(problem: json.JSONDecodeError) -> bool:
    longest_literal = len("-Infinity")
    at_end = problem.pos >= len(problem.doc.rstrip()) - longest_literal
    return at_end or problem.msg.startswith("Unterminated string")


def _mend(event: Mapping[str, Any]) -> AnySlice | Unreadable | None:
    kind = {"X": ExactSlice, "B": Begin, "E": End}.get(str(event.get("ph")))
    if kind is None:
        return None
    time, length = _time(event, "ts", None), _time(event, "dur", 0)
    if time is None or length is None:
        return Unreadable(clean(event.get("cat")))
    slice_type: Any = kind
    mended_slice: AnySlice = slice_type(
        ts=time if kind is ExactSlice else float(time),
        cat=_text(event.get("cat")),
        name=_text(event.get("name")),
        pid=_identity(event.get("pid")),
        tid=_identity(event.get("tid")),
        dur=float(length),
        args=_mended_args(event.get("args")),
    )
    return mended_slice


def _time(event: Mapping[str, Any], field: str, default: object) -> Decimal | None:
    """A time, None where something else is in its place; raises ``WrongValueError`` for what no clock gives."""
    value = event.get(field, default)
    try:
        number = Decimal(str(value)) if isinstance(value, (str, int, float)) else None
    except InvalidOperation:
        return None
    if number is not None and not number.is_finite():
        raise WrongValueError(f"{field} of an event is {number}")
    if number is not None and number.adjusted() >= MAX_TIME_DIGITS:
        raise WrongValueError(f"{field} of an event has {number.adjusted() + 1} digits")
    return number


def _text(value: object) -> str:
    """A text; raises ``WrongValueError`` where it has half of a character. Bytes that are no UTF-8 are replaced."""
    if isinstance(value, str) and _HALF_CHARACTER.search(value):
        raise WrongValueError("a text of an event has half of a character, a lone surrogate")
    return clean(value)


def _mended_args(args: object) -> Args:
    fields = args if isinstance(args, Mapping) else {}
    return Args(
        correlation=_integer(fields.get("correlation"), -1),
        external=_integer(fields.get("External id"), -1),
        device=_integer(fields.get("device"), -1),
        stream=_integer(fields.get("stream"), -1),
        num_bytes=_integer(fields.get("bytes"), 0),
        caller=clean(fields.get("CallFrom")),
    )


def _decimal(value: object) -> Decimal | None:
    try:
        number = Decimal(str(value)) if isinstance(value, (str, int, float)) else Decimal("NaN")
    except (InvalidOperation, ValueError):
        return None
    return number if number.is_finite() and number.adjusted() < _MAX_DIGITS else None


def _integer(value: object, default: int) -> int:
    """The number that is given; one of more than 64 bits stays too large for them."""
    number = _decimal(value)
    if number is None:
        return _MAX_INTEGER if value == math.inf else default
    return max(min(math.floor(number), _MAX_INTEGER), -_MAX_INTEGER)


def _identity(value: object) -> int | str:
    number = _decimal(value)
    is_integer = number is not None and abs(number) < _MAX_INTEGER
    return math.floor(number) if number is not None and is_integer else _text(value)
