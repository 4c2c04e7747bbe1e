"""The event list of a Kineto file, chunk by chunk, whatever the file puts before and after it.

Where a chunk ends is guessed (``}`` ``,`` ``{``) and the decoder proves the guess: a cut inside a string or a nested
list leaves something open, which never decodes, and then an earlier cut is tried. Numbers and texts are read whatever
is written in their place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bagel_perf.traces.formats.foreign import cut_off, damaged, no_events, too_deep
from bagel_perf.traces.formats.kineto_events import AnySlice, MalformedError, clean, decode, decode_any, parse_integer
from bagel_perf.traces.tables import Floats, Mask

# Larger ones save calls, until their objects no longer fit into the processor's cache.
CHUNK_BYTES = 1 << 20
MAX_HEADER_BYTES = 64 << 20
MAX_EVENT_BYTES = 256 << 20
MAX_CUTS_TRIED = 32
MAX_KEYS_TRIED = 100
SAMPLE_BYTES = 1 << 20

_KEY = re.compile(rb'"traceEvents"\s*:\s*\[')
_CUT = re.compile(rb"\}\s*(,)\s*\{")
_FRACTIONAL_TIME = re.compile(rb'"ts"\s*:\s*"?(\d{1,20})\.\d{0,20}[1-9]')
# Above this a float64 has no room for nanoseconds beside the microseconds.
_EXACT_ABOVE_US = 2**43
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class EventStream:
    """Chunks of events of one file; ``header`` holds the keys before the list and, in the end, those after it.

    ``is_closed`` is whether the list ends in a bracket: the Chrome format lets a bare list leave it out. ``sample`` is
    the text at the beginning of the list.
    """

    def __init__(self, read: Callable[[int], bytes], path: Path) -> None:
        self._read = read
        self._path = path
        self._exact = False
        self._is_bare = False
        self._after: bytes | None = None
        self._num_bytes = 0
        self.header: dict[str, Any] = {}
        self.is_closed = True
        self.sample = b""

    def chunks(self) -> Iterator[list[Any]]:
        """Lists of events in the order of the file; raises ``UsageError`` where it is cut off or damaged."""
        try:
            yield from self._chunks()
        except RecursionError as problem:
            raise too_deep(self._path) from problem

    def _chunks(self) -> Iterator[list[Any]]:
        buffer = self._begin()
        # A copy, because a search that is under way forbids its text to grow.
        self.sample = bytes(buffer[:SAMPLE_BYTES])
        times = islice(_FRACTIONAL_TIME.finditer(self.sample), 100)
        self._exact = any(int(time.group(1)) > _EXACT_ABOVE_US for time in times)
        wanted = 0
        while self._after is None:
            data = self._next()
            buffer += data
            if data and len(buffer) < wanted:
                continue
            events = self._take(buffer) if data else self._take_last(buffer)
            # An event that is longer than a piece is tried again only when twice as much of it is there.
            wanted = 0 if events else min(2 * len(buffer), MAX_EVENT_BYTES + 1)
            yield events
        self._end(self._after)

    def _next(self) -> bytes:
        data = self._read(CHUNK_BYTES)
        self._num_bytes += len(data)
        return data

    def _begin(self) -> bytearray:
        """Reads up to the list of events, and gives its bracket with what was read of it."""
        head = bytearray()
        while True:
            data = self._next()
            head += data
            text = head.removeprefix(_BYTE_ORDER_MARK).lstrip()
            if text.startswith(b"["):
                self._is_bare = True
                return text
            for match in islice(_KEY.finditer(text), MAX_KEYS_TRIED):
                header = _object(text[: match.end()] + b"]}")
                if header is not None:
                    self.header = header
                    return text[match.end() - 1 :]
            if not data or len(head) > MAX_HEADER_BYTES or (text and not text.startswith(b"{")):
                raise no_events(self._path, head[:SAMPLE_BYTES])

    def _take(self, buffer: bytearray) -> list[Any]:
        """Removes complete events from a buffer that has more to come."""
        for comma in islice(_commas(buffer), MAX_CUTS_TRIED):
            buffer[comma] = ord("]")
            found = self._decode(buffer, comma + 1)
            buffer[comma] = ord(",")
            if found is None:
                continue
            events, stop = found
            if stop <= comma:
                self._after = bytes(buffer[stop:])
            else:
                buffer[comma] = ord("[")
                del buffer[:comma]
            return events
        if len(buffer) > MAX_EVENT_BYTES:
            raise damaged(self._path, self._num_bytes - len(buffer))
        return []

    def _take_last(self, buffer: bytearray) -> list[Any]:
        """All events of a buffer that nothing follows."""
        close = buffer.rfind(b"]") + 1
        if close and self._ends_well(buffer[close:]):
            try:
                with memoryview(buffer) as view:
                    events = decode(view[:close], exact=self._exact)
                self._after = bytes(buffer[close:])
                return events
            except msgspec.DecodeError:
                pass  # the bracket belongs to something after the list, or the list needs mending
        found = self._decode(buffer, len(buffer))
        if found is None and self._is_bare:
            self.is_closed = False
            found = self._decode(_closed(buffer), len(buffer) + 1)
        if found is None:
            raise cut_off(self._path, self._num_bytes)
        events, stop = found
        self._after = bytes(buffer[stop:])
        return events

    def _decode(self, buffer: bytearray, end: int) -> tuple[list[Any], int] | None:
        """The events of ``buffer[:end]`` and where their list ends; None if something is open at ``end``."""
        try:
            with memoryview(buffer) as view:
                return decode(view[:end], exact=self._exact), end
        except msgspec.DecodeError as problem:
            # Half a surrogate pair at the end passes for text that goes on.
            if "truncated" in str(problem) and b"\\u" not in buffer[max(end - 16, 0) : end]:
                return None
        text = buffer[:end].decode("utf-8", "surrogateescape")
        try:
            events, stop = decode_any(text)
        except MalformedError as problem:
            if problem.cut_off:
                return None
            if problem.too_deep:
                raise too_deep(self._path) from problem
            raise damaged(self._path, self._num_bytes - len(buffer) + problem.position) from problem
        return events, len(text[:stop].encode("utf-8", "surrogateescape"))

    def _ends_well(self, after: bytearray) -> bool:
        return not after.strip() if self._is_bare else _object(_as_object(after)) is not None

    def _end(self, after: bytes) -> None:
        """Reads the keys that follow the list."""
        while len(after) < MAX_HEADER_BYTES and (data := self._next()):
            after += data
        if self._is_bare:
            if after.strip():
                raise damaged(self._path, self._num_bytes - len(after))
            return
        trailer = _object(_as_object(after))
        if trailer is None:
            raise cut_off(self._path, self._num_bytes)
        self.header |= trailer


def _commas(buffer: bytearray) -> Iterator[int]:
    """Places of commas between two objects, last first."""
    end = len(buffer)
    while (brace := buffer.rfind(b"}", 0, end)) >= 0:
        if match := _CUT.match(buffer, brace):
            yield match.start(1)
        end = brace


def _closed(buffer: bytearray) -> bytearray:
    """The buffer with the bracket that its list lacks, and without a comma in front of it."""
    text = buffer.rstrip()
    text = text.removesuffix(b",") + b"]"
    return text.ljust(len(buffer) + 1)


def _as_object(after: bytes | bytearray) -> bytes:
    text = bytes(after).lstrip()
    return b"{" + text.removeprefix(b",")


def _object(text: bytes | bytearray) -> dict[str, Any] | None:
    """The JSON object that ``text`` is, None if it is none. Raises ``RecursionError`` where it is nested too deeply."""
    try:
        found = json.loads(bytes(text).decode("utf-8", "replace"), strict=False, parse_int=parse_integer)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


MAX_SPAN_US = 30 * 86400e6
"""No recording is longer; what lies further from the rest of its trace has no time that can be believed."""
MAX_TIME_US = float(2**53)
"""Microseconds that a float64 counts one by one: 285 years."""
MAX_IDENTITY = 2**31 - 1
MAX_LABEL = 40
MAX_VERSION = 100

_TS = attrgetter("ts")
_DIGITS = re.compile(r"[0-9]+")


def floats(values: Sequence[float | Decimal]) -> Floats:
    """The numbers, NaN for those that are none."""
    try:
        return np.fromiter(values, np.float64, len(values))
    except (ValueError, ArithmeticError):
        return np.array([_float(value) for value in values], np.float64)


def is_within(values: Floats, limit: float) -> Mask:
    """Which of the values are numbers between ``-limit`` and ``limit``."""
    known = np.isfinite(values)
    within: Mask = known & (np.abs(np.where(known, values, 0.0)) <= limit)
    return within


def origin_of(slices: Sequence[AnySlice]) -> Decimal | None:
    """A whole time in the middle of those that can be read, to count others from; None if none can be read."""
    times_us = floats([each.ts for each in slices])
    readable = np.flatnonzero(is_within(times_us, MAX_TIME_US))
    if not len(readable):
        return None
    middle = readable[np.argsort(times_us[readable])[len(readable) // 2]]
    return Decimal(math.floor(slices[int(middle)].ts))


def since(slices: Sequence[AnySlice], origin: Decimal | None) -> Floats:
    """The begin of each slice after ``origin``, exactly where the slices are exact; NaN where it cannot be read."""
    if origin is None:
        return np.full(len(slices), np.nan)
    if not isinstance(slices[0].ts, Decimal):
        return floats(list(map(_TS, slices))) - float(origin)
    return np.array([_difference(each.ts, origin) for each in slices])


def number_in(identity: int | str) -> int:
    """The number in ``7`` or ``stream 7``, 0 if there is none that a device or stream can have."""
    found = _DIGITS.search(str(identity))
    number = int(found.group()) if found and len(found.group()) <= 10 else 0
    return number if number <= MAX_IDENTITY else 0


def shortened(text: str, max_chars: int) -> str:
    """The text, with a mark in place of what is beyond ``max_chars``."""
    return text if len(text) <= max_chars else f"{text[:max_chars]}…"


def versions(header: Mapping[str, Any]) -> dict[str, str]:
    """Everything of the header that is called a version, and the rank."""
    found = {key: value for key, value in header.items() if key.endswith(("version", "Version"))}
    info = header.get("distributedInfo")
    if isinstance(info, Mapping) and "rank" in info:
        found["rank"] = info["rank"]
    return {
        shortened(clean(key), MAX_VERSION): shortened(clean(str(value)), MAX_VERSION)
        for key, value in found.items()
        if isinstance(value, (str, int, float))
    }


def device_names(header: Mapping[str, Any]) -> dict[int, str]:
    """Names of devices by number, without those of devices that have no number."""
    devices = header.get("deviceProperties") or header.get("computeProperties")
    named = [device for device in devices if isinstance(device, Mapping)] if isinstance(devices, list) else []
    return {
        device["id"]: shortened(clean(device["name"]), MAX_VERSION)
        for device in named
        if type(device.get("id")) is int and isinstance(device.get("name"), str) and device["name"]
    }


def _float(value: float | Decimal) -> float:
    try:
        return float(value)
    except (ValueError, ArithmeticError):
        return float("nan")


def _difference(time: float | Decimal, origin: Decimal) -> float:
    try:
        return float(Decimal(time) - origin)
    except (ValueError, ArithmeticError):
        return float("nan")
