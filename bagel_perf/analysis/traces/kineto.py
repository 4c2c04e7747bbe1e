"""Kineto's JSON (torch.profiler, 1.8 and later, CUDA or ROCm) into a ``Trace``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from bagel_perf.analysis.traces.assembly import Rows, assemble
from bagel_perf.analysis.traces.columns import Columns, Numbering
from bagel_perf.analysis.traces.failures import empty, foreign
from bagel_perf.analysis.traces.kineto_events import AnySlice, Begin, End, ExactSlice, Slice, Unreadable
from bagel_perf.analysis.traces.kineto_stream import EventStream
from bagel_perf.analysis.traces.table import (
    DEVICE_TO_DEVICE,
    DEVICE_TO_HOST,
    HOST_TO_DEVICE,
    KERNEL,
    MEMCPY,
    MEMSET,
    NONE,
    OTHER_COPY,
    Floats,
    Ints,
)
from bagel_perf.analysis.traces.trace import Source, Trace

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
    for events in stream.chunks():
        num_events += len(events)
        kinds = set(map(type, events))
        for whole in {Slice, ExactSlice} & kinds:
            reader.add([event for event in events if type(event) is whole])
        if Unreadable in kinds:
            reader.num_unreadable += sum(type(event) is Unreadable for event in events)
        if {Begin, End} & kinds:
            reader.pair([event for event in events if type(event) is Begin or type(event) is End])
    if not num_events:
        raise empty(path)
    if not reader.rows.any():
        raise foreign(path)
    notes = () if stream.is_closed else ("the list of events is not closed, so the file may have been cut off",)
    source = Source(
        format="kineto",
        file=path.name,
        num_bytes=num_bytes,
        num_events=num_events,
        versions=_versions(stream.header),
        device_names=_device_names(stream.header),
        notes=notes + reader.notes(),
    )
    return assemble(source, reader.rows, names=tuple(reader.names), threads=tuple(map(_label, reader.threads)))


def copy_direction(name: str) -> int:
    """The direction that the name of a copy states."""
    return next((direction for pattern, direction in _DIRECTIONS if pattern.search(name)), OTHER_COPY)


class _Sinks(dict[str, Callable[[AnySlice], None]]):
    """Where slices of a category go; those of other categories go nowhere."""

    def __missing__(self, category: str) -> Callable[[AnySlice], None]:
        return _drop


def _drop(each: AnySlice) -> None:
    """Forgets a slice."""


class _Reader:
    """Sorts slices into tables."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.names: Numbering[str] = Numbering()
        self.threads: Numbering[tuple[int | str, int | str]] = Numbering()
        self._first: Decimal | None = None
        self._open: dict[tuple[int | str, int | str], list[Slice]] = {}
        self._num_unpaired = 0
        self._num_negative = 0
        self.num_unreadable = 0

    def add(self, slices: list[AnySlice]) -> None:
        """Appends complete slices, each to the table of its category."""
        if not slices:
            return
        if self._first is None:
            self._first = Decimal(slices[0].ts)
        by_table: dict[str, list[AnySlice]] = {table: [] for table in _TABLE_BY_CATEGORY.values()}
        sinks = _Sinks({category: by_table[table].append for category, table in _TABLE_BY_CATEGORY.items()})
        for each in slices:
            sinks[each.cat](each)
        for table, chosen in by_table.items():
            if chosen:
                self._add_to(table, chosen)

    def pair(self, halves: Iterable[Slice]) -> None:
        """Appends the slices whose begin and end are events of their own, as the Chrome format allows."""
        for half in halves:
            stack = self._open.setdefault((half.pid, half.tid), [])
            if type(half) is Begin:
                stack.append(half)
            elif stack:
                begun = stack.pop()
                whole = Slice(ts=begun.ts, cat=begun.cat, name=begun.name, pid=begun.pid, tid=begun.tid)
                whole.dur = half.ts - begun.ts
                whole.args = begun.args
                self.add([whole])
            else:
                self._num_unpaired += 1

    def notes(self) -> tuple[str, ...]:
        """What had to be left out."""
        num_unpaired = self._num_unpaired + sum(map(len, self._open.values()))
        found = {
            "slices left out because their begin or end is missing": num_unpaired,
            "events left out because their time cannot be read": self.num_unreadable,
            "events that end before they begin, taken to have no length": self._num_negative,
        }
        return tuple(f"{what}: {number}" for what, number in found.items() if number)

    def _add_to(self, table: str, slices: list[AnySlice]) -> None:
        start_us, length_us = self._since_first(slices), _floats([each.dur for each in slices])
        self._num_negative += int((length_us < 0).sum())
        columns: dict[str, Any] = {
            "start_us": start_us,
            "end_us": start_us + np.maximum(length_us, 0.0),
            "name": self.names.of([each.name for each in slices], len(slices)),
        }
        if table in ("ops", "annotations", "frames", "overhead", "calls"):
            pids, tids = [each.pid for each in slices], [each.tid for each in slices]
            columns["thread"] = self.threads.of(zip(pids, tids, strict=True), len(slices))
        if table in ("ops", "annotations", "calls"):
            columns["external"] = _integers([each.args.external for each in slices])
        if table in ("calls", "syncs", *_KINDS):
            columns["correlation"] = _integers([each.args.correlation for each in slices])
        if table == "frames":
            callers = [each.args.caller for each in slices]
            columns["caller"] = np.array([self.names[caller] if caller else NONE for caller in callers])
        if table == "calls":
            columns["site"] = np.full(len(slices), NONE)
        if table in _KINDS:
            columns |= self._gpu_columns(slices, columns["name"], _KINDS[table])
        target: Columns = getattr(self.rows, "activities" if table in _KINDS else table)
        target.add(**columns)

    def _since_first(self, slices: list[AnySlice]) -> Floats:
        assert self._first is not None
        if isinstance(slices[0].ts, Decimal):
            return np.array([float(Decimal(each.ts) - self._first) for each in slices])
        return _floats([each.ts for each in slices]) - float(self._first)

    def _gpu_columns(self, slices: list[AnySlice], name: Ints, kind: int) -> dict[str, Any]:
        device = _integers([each.args.device for each in slices])
        stream = _integers([each.args.stream for each in slices])
        for row in np.flatnonzero(device < 0):
            device[row] = _number_in(slices[row].pid)
        for row in np.flatnonzero(stream < 0):
            stream[row] = _number_in(slices[row].tid)
        columns = {
            "device": device,
            "stream": stream,
            "kind": np.full(len(slices), kind),
            "num_bytes": _integers([each.args.num_bytes for each in slices]),
            "copy": np.full(len(slices), OTHER_COPY),
            "pageable": np.zeros(len(slices), np.bool_),
        }
        if kind == MEMCPY:
            distinct, place = np.unique(name, return_inverse=True)
            texts = list(self.names)
            columns["copy"] = np.array([copy_direction(texts[each]) for each in distinct])[place]
            columns["pageable"] = np.array(["pageable" in texts[each].lower() for each in distinct])[place]
        return columns


def _floats(values: list[float] | list[float | Decimal]) -> Floats:
    return np.fromiter(values, np.float64, len(values))


def _integers(values: list[int]) -> Ints:
    try:
        return np.fromiter(values, np.int64, len(values))
    except OverflowError:
        return np.array([value if abs(value) < 2**63 else NONE for value in values], np.int64)


def _number_in(identity: int | str) -> int:
    """The number in ``7`` or ``stream 7``, 0 if there is none."""
    found = re.search(r"\d+", str(identity))
    return int(found.group()) if found else 0


def _label(thread: tuple[int | str, int | str]) -> str:
    pid, tid = thread
    return f"thread {tid}" if pid == tid else f"thread {tid} of process {pid}"


def _versions(header: Mapping[str, Any]) -> dict[str, str]:
    """Everything of the header that is called a version, and the rank."""
    found = {key: str(value) for key, value in header.items() if key.endswith(("version", "Version"))}
    info = header.get("distributedInfo")
    if isinstance(info, Mapping) and "rank" in info:
        found["rank"] = str(info["rank"])
    return found


def _device_names(header: Mapping[str, Any]) -> dict[int, str]:
    devices = header.get("deviceProperties") or header.get("computeProperties") or []
    pairs = ((device.get("id"), device.get("name")) for device in devices if isinstance(device, Mapping))
    return {number: str(name) for number, name in pairs if isinstance(number, int) and name}
