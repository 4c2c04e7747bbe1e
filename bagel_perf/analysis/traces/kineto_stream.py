"""The event list of a Kineto file, chunk by chunk, whatever the file puts before and after it.

Where a chunk ends is guessed (``}`` ``,`` ``{``) and the decoder proves the guess: a cut inside a string or a nested
list leaves something open, which never decodes, and then an earlier cut is tried.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from bagel_perf.analysis.traces.failures import cut_off, damaged, too_deep
from bagel_perf.analysis.traces.foreign import no_events
from bagel_perf.analysis.traces.kineto_events import MalformedError, decode, decode_any, parse_integer

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
