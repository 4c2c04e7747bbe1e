"""Kineto's JSON (torch.profiler, 1.8 and later, CUDA or ROCm) into a ``Trace``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from itertools import compress
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from bagel_perf.traces.formats.assembly import Rows, assemble
from bagel_perf.traces.formats.foreign import empty, foreign, left_out, not_pytorch, other_device, timeless, wrong_value
from bagel_perf.traces.formats.kineto_events import (
    MAX_TIME_DIGITS,
    AnySlice,
    Begin,
    End,
    ExactSlice,
    Slice,
    Unreadable,
    WrongValueError,
)
from bagel_perf.traces.formats.kineto_stream import (
    MAX_IDENTITY,
    MAX_LABEL,
    MAX_SPAN_US,
    EventStream,
    device_names,
    floats,
    is_within,
    number_in,
    origin_of,
    shortened,
    since,
    versions,
)
from bagel_perf.traces.tables import (
    DEVICE_TO_DEVICE,
    DEVICE_TO_HOST,
    HOST_TO_DEVICE,
    KERNEL,
    MEMCPY,
    MEMSET,
    NONE,
    OTHER_COPY,
    Columns,
    Ints,
    Numbering,
)
from bagel_perf.traces.trace import Api, Source, Trace, api_of

# The second spelling is that of PyTorch 1.8 to 1.12. Annotations repeated on the GPU are left out: they are no work.
_TABLE_BY_CATEGORY = {
    "cpu_op": "ops",
    "Operator": "ops",
    "user_annotation": "annotations",
    "python_function": "frames",
    "overhead": "overhead",
    "Overhead": "overhead",
    "cuda_runtime": "calls",
    "cuda_driver": "calls",
    "hip_runtime": "calls",
    "Runtime": "calls",
    "kernel": "kernels",
    "Kernel": "kernels",
    "gpu_memcpy": "memcpys",
    "Memcpy": "memcpys",
    "gpu_memset": "memsets",
    "Memset": "memsets",
    "cuda_sync": "syncs",
}
# Launches take 2 us and more. In microseconds such times occur only where kernels are waited for, and never in all.
MIN_LAUNCHES, USUAL_LAUNCH_NS, LEAST_LAUNCH_NS = 3, 1500.0, 500.0
IN_NANOSECONDS = "ts and dur are taken for nanoseconds: in microseconds each launch would take milliseconds"
_DUR, _NAME, _ARGS = attrgetter("dur"), attrgetter("name"), attrgetter("args")
_THREAD: Callable[[AnySlice], tuple[int | str, int | str]] = attrgetter("pid", "tid")
_EXTERNAL, _CORRELATION = attrgetter("external"), attrgetter("correlation")
_KINDS = {"kernels": KERNEL, "memcpys": MEMCPY, "memsets": MEMSET}
_DIRECTIONS = (
    (re.compile(r"dtoh|device\s*to\s*host|device\s*->\s*(host|page|pinned)", re.IGNORECASE), DEVICE_TO_HOST),
    (re.compile(r"htod|host\s*to\s*device|(host|pageable|pinned)\s*->\s*device", re.IGNORECASE), HOST_TO_DEVICE),
    (re.compile(r"dtod|ptop|device\s*to\s*device|device\s*->\s*device", re.IGNORECASE), DEVICE_TO_DEVICE),
)


def read_kineto(read: Callable[[int], bytes], path: Path, num_bytes: int) -> Trace:
    """The trace whose (unpacked) text ``read`` gives; raises ``UsageError`` where it is none, cut off or damaged."""
    stream = EventStream(read, path)
    reader = _Reader()
    num_events = 0
    try:
        for events in stream.chunks():
            num_events += len(events)
            reader.take(events)
    except WrongValueError as problem:
        raise wrong_value(path, str(problem)) from problem
    _check(reader, stream, path, num_events)
    in_nanoseconds = reader.counts_nanoseconds(says_so=stream.header.get("displayTimeUnit") == "ns")
    if in_nanoseconds:
        reader.rows.scale(1e-3)
    notes = () if stream.is_closed else ("the list of events is not closed, so the file may have been cut off",)
    source = Source(
        format="kineto",
        file=path.name,
        num_bytes=num_bytes,
        num_events=num_events,
        versions=versions(stream.header),
        device_names=device_names(stream.header),
        notes=notes + (IN_NANOSECONDS,) * in_nanoseconds + reader.notes(),
        num_unreadable_activities=reader.num_unreadable_activities,
    )
    return assemble(source, reader.rows, names=tuple(reader.names), threads=tuple(map(_label, reader.threads)))


def copy_direction(name: str) -> int:
    """The direction that the name of a copy states."""
    return next((direction for pattern, direction in _DIRECTIONS if pattern.search(name)), OTHER_COPY)


def _check(reader: _Reader, stream: EventStream, path: Path, num_events: int) -> None:
    """Raises ``UsageError`` unless there are events of PyTorch, and none that are another accelerator's alone."""
    if not num_events:
        raise empty(path)
    if not reader.tells_of_gpu and (error := other_device(path, reader.others, stream.sample)):
        raise error
    if not reader.rows.any():
        raise timeless(path) if reader.num_unreadable else not_pytorch(path) if reader.others else foreign(path)


class _Sinks(dict[str, Callable[[AnySlice], None]]):
    """Where slices of a category go; those of other categories go to lists of their own."""

    def __init__(self, sinks: Mapping[str, Callable[[AnySlice], None]]) -> None:
        super().__init__(sinks)
        self.others: dict[str, list[AnySlice]] = {}

    def __missing__(self, category: str) -> Callable[[AnySlice], None]:
        found = self.others[category] = []
        self[category] = found.append
        return found.append


class _CopyFacts(dict[str, tuple[int, bool]]):
    """Direction of a copy, and whether memory of it is pageable, by name."""

    def __missing__(self, name: str) -> tuple[int, bool]:
        facts = self[name] = (copy_direction(name), "pageable" in name.lower())
        return facts


class _Reader:
    """Sorts slices into tables."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.names: Numbering[str] = Numbering()
        self.threads: Numbering[tuple[int | str, int | str]] = Numbering()
        self.others: dict[str, int] = {}
        self.num_unreadable = 0
        self.num_unreadable_activities = 0
        self._origin: Decimal | None = None
        self._open: dict[tuple[int | str, int | str], list[Slice]] = {}
        self._copy_facts = _CopyFacts()
        self._num_unpaired = 0
        self._num_negative = 0
        self._num_wide = 0

    @property
    def tells_of_gpu(self) -> bool:
        """Whether there are events of CUDA or HIP; kernels alone may be those of another accelerator."""
        return self.rows.calls.any() or self.rows.syncs.any() or (self.rows.activities.any() and not self.others)

    def counts_nanoseconds(self, *, says_so: bool) -> bool:
        """Whether times are nanoseconds: launches then take a thousand units and more, which no microseconds are.

        The format counts microseconds, and its header says only how to display them; unless it names nanoseconds, all
        times have to be whole and all launches as long.
        """
        calls = self.rows.calls
        if not calls.any():
            return False
        is_launch = np.array([api_of(name) == Api.LAUNCH for name in self.names], np.bool_)
        start_us = calls.column("start_us")
        length_us = (calls.column("end_us") - start_us)[is_launch[calls.column("name").astype(np.int64)]]
        if len(length_us) < MIN_LAUNCHES or np.median(length_us) < USUAL_LAUNCH_NS:
            return False
        return says_so or bool(length_us.min() >= LEAST_LAUNCH_NS and (start_us == np.rint(start_us)).all())

    def take(self, events: list[Any]) -> None:
        """Appends what there is in a list of decoded events."""
        kinds = set(map(type, events))
        for whole in {Slice, ExactSlice} & kinds:
            self.add([event for event in events if type(event) is whole])
        if Unreadable in kinds:
            for event in events:
                if type(event) is Unreadable:
                    self._miss(_TABLE_BY_CATEGORY.get(event.cat, ""), 1)
        if {Begin, End} & kinds:
            self.add(self._paired([event for event in events if type(event) is Begin or type(event) is End]))

    def add(self, slices: list[AnySlice]) -> None:
        """Appends complete slices, each to the table of its category."""
        if self._origin is None:
            self._origin = origin_of(slices)
        by_table: dict[str, list[AnySlice]] = {table: [] for table in _TABLE_BY_CATEGORY.values()}
        sinks = _Sinks({category: by_table[table].append for category, table in _TABLE_BY_CATEGORY.items()})
        for each in slices:
            sinks[each.cat](each)
        for table, chosen in by_table.items():
            if chosen:
                self._add_to(table, chosen)
        for category, left in sinks.others.items():
            self.others[category] = self.others.get(category, 0) + len(left)

    def notes(self) -> tuple[str, ...]:
        """What had to be left out."""
        num_unpaired = self._num_unpaired + sum(map(len, self._open.values()))
        found = {
            "slices left out because their begin or end is missing": num_unpaired,
            "events left out because their time cannot be read": self.num_unreadable,
            "events of the GPU among those left out": self.num_unreadable_activities,
            "events that end before they begin, taken to have no length": self._num_negative,
            "numbers of more than 64 bits, taken as unknown": self._num_wide,
        }
        return left_out(self.others) + tuple(f"{what}: {number}" for what, number in found.items() if number)

    def _miss(self, table: str, number: int) -> None:
        self.num_unreadable += number
        self.num_unreadable_activities += number if table in _KINDS else 0

    def _paired(self, halves: Iterable[Slice]) -> list[AnySlice]:
        """The slices whose begin and end are events of their own, as the Chrome format allows."""
        found: list[AnySlice] = []
        for half in halves:
            stack = self._open.setdefault((half.pid, half.tid), [])
            if type(half) is Begin:
                stack.append(half)
            elif stack:
                begun = stack.pop()
                whole = Slice(ts=begun.ts, cat=begun.cat, name=begun.name, pid=begun.pid, tid=begun.tid)
                whole.dur = half.ts - begun.ts
                whole.args = begun.args
                found.append(whole)
            else:
                self._num_unpaired += 1
        return found

    def _add_to(self, table: str, slices: list[AnySlice]) -> None:
        start_us, length_us = since(slices, self._origin), floats(list(map(_DUR, slices)))
        if not (np.isfinite(start_us) | (self._origin is None)).all() or not np.isfinite(length_us).all():
            raise WrongValueError("the time of an event is no number")
        if max(np.abs(start_us).max(), np.abs(length_us).max()) > 10.0**MAX_TIME_DIGITS:
            raise WrongValueError(f"the time of an event has more than {MAX_TIME_DIGITS} digits")
        readable = is_within(start_us, MAX_SPAN_US) & is_within(length_us, MAX_SPAN_US)
        if not readable.all():
            self._miss(table, int((~readable).sum()))
            slices = list(compress(slices, readable))
            start_us, length_us = start_us[readable], length_us[readable]
        if not slices:
            return
        self._num_negative += int((length_us < 0).sum())
        columns: dict[str, Any] = {
            "start_us": start_us,
            "end_us": start_us + np.maximum(length_us, 0.0),
            "name": self.names.of(map(_NAME, slices), len(slices)),
        }
        if table in ("ops", "annotations", "frames", "overhead", "calls"):
            columns["thread"] = self.threads.of(map(_THREAD, slices), len(slices))
        arguments = list(map(_ARGS, slices))
        if table in ("ops", "annotations", "calls"):
            columns["external"] = self._integers(list(map(_EXTERNAL, arguments)))
        if table in ("calls", "syncs", *_KINDS):
            columns["correlation"] = self._integers(list(map(_CORRELATION, arguments)))
        if table == "frames":
            callers = [each.caller for each in arguments]
            columns["caller"] = np.array([self.names[caller] if caller else NONE for caller in callers])
        if table == "calls":
            columns["site"] = np.full(len(slices), NONE)
        if table in _KINDS:
            columns |= self._gpu_columns(slices, _KINDS[table])
        target: Columns = getattr(self.rows, "activities" if table in _KINDS else table)
        target.add(**columns)

    def _gpu_columns(self, slices: list[AnySlice], kind: int) -> dict[str, Any]:
        device = self._integers([each.args.device for each in slices])
        stream = self._integers([each.args.stream for each in slices])
        for row in np.flatnonzero((device < 0) | (device > MAX_IDENTITY)):
            device[row] = number_in(slices[row].pid)
        for row in np.flatnonzero((stream < 0) | (stream > MAX_IDENTITY)):
            stream[row] = number_in(slices[row].tid)
        columns = {
            "device": device,
            "stream": stream,
            "kind": np.full(len(slices), kind),
            "num_bytes": np.maximum(self._integers([each.args.num_bytes for each in slices]), 0),
            "copy": np.full(len(slices), OTHER_COPY),
            "pageable": np.zeros(len(slices), np.bool_),
        }
        if kind == MEMCPY:
            facts = [self._copy_facts[each.name] for each in slices]
            columns["copy"] = np.array([direction for direction, _ in facts])
            columns["pageable"] = np.array([pageable for _, pageable in facts])
        return columns

    def _integers(self, values: list[int]) -> Ints:
        try:
            return np.fromiter(values, np.int64, len(values))
        except OverflowError:
            self._num_wide += sum(abs(value) >= 2**63 for value in values)
            return np.array([value if abs(value) < 2**63 else NONE for value in values], np.int64)


def _label(thread: tuple[int | str, int | str]) -> str:
    pid, tid = (shortened(str(part), MAX_LABEL) for part in thread)
    return f"thread {tid}" if pid == tid else f"thread {tid} of process {pid}"
