"""Nsight Systems' sqlite export into a ``Trace``; schemas from 2020 to 2026."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bagel_perf.traces.formats.assembly import Rows, assemble
from bagel_perf.traces.formats.foreign import damaged, empty, other_database, without_cuda
from bagel_perf.traces.formats.nsys_tables import Export, call_sites, numbers_named
from bagel_perf.traces.tables import (
    DEVICE_TO_DEVICE,
    DEVICE_TO_HOST,
    GRAPH,
    HOST_TO_DEVICE,
    KERNEL,
    MEMCPY,
    MEMSET,
    NONE,
    OTHER_COPY,
    Ints,
    Mask,
    Numbering,
)
from bagel_perf.traces.trace import Source, Trace, plain_name

# A packed thread number holds machine, process and thread; without its lowest bits it is the process.
THREADS_PER_PROCESS = 1 << 24

_CALL_TABLES = ("CUPTI_ACTIVITY_KIND_RUNTIME", "CUPTI_ACTIVITY_KIND_DRIVER")
_GPU_TABLES = {
    "CUPTI_ACTIVITY_KIND_KERNEL": KERNEL,
    "CUPTI_ACTIVITY_KIND_MEMCPY": MEMCPY,
    "CUPTI_ACTIVITY_KIND_MEMSET": MEMSET,
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": GRAPH,
}
_SYNC_TABLE = "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION"
_NVTX_TABLE = "NVTX_EVENTS"
_TABLES_OF_ALL = ("StringIds", "META_DATA_EXPORT")
MAX_SPAN_NS = 30 * 86400 * 10**9
"""No recording is longer; what lies further from the rest of its trace has no time that can be believed."""
_GPU_COLUMNS = (
    *("start", "end", "deviceId", "streamId", "correlationId", "globalPid", "demangledName", "shortName", "bytes"),
    *("copyKind", "srcKind", "dstKind"),
)
_DIRECTIONS = (
    (("HTOD", "HOST_TO_DEVICE"), 1, HOST_TO_DEVICE),
    (("DTOH", "DEVICE_TO_HOST"), 2, DEVICE_TO_HOST),
    (("DTOD", "DEVICE_TO_DEVICE", "PTOP", "PEER_TO_PEER"), 8, DEVICE_TO_DEVICE),
)
# PyTorch's emit_nvtx appends these to the names of operators.
_OPERATOR = re.compile(r"^(?P<name>.+?), (seq|op_id) ?= ?\d+")


def read_nsys(path: Path, num_bytes: int, shown: Path | None = None) -> Trace:
    """The trace of an export; raises ``UsageError`` where the file is another database, damaged or without events.

    ``shown`` is what errors call a file that is a copy.
    """
    shown = shown or path
    try:
        with Export(path) as export:
            if not export.tables & {*_CALL_TABLES, *_GPU_TABLES, _SYNC_TABLE, _NVTX_TABLE, *_TABLES_OF_ALL}:
                raise other_database(shown, export.tables)
            reader = _Reader(export)
            reader.read()
            if not reader.rows.any():
                raise empty(shown) if export.tables & {*_CALL_TABLES, *_GPU_TABLES} else without_cuda(shown)
    except (sqlite3.Error, UnicodeDecodeError) as problem:
        raise damaged(shown) from problem
    source = Source(
        format="nsys",
        file=shown.name,
        num_bytes=num_bytes,
        num_events=reader.num_events,
        versions=reader.versions,
        device_names=reader.device_names,
        notes=reader.notes(),
        num_unnamed_calls=reader.num_unnamed_calls,
        num_unreadable_activities=reader.num_unreadable_activities,
    )
    return assemble(
        source,
        reader.rows,
        names=tuple(reader.names),
        threads=tuple(f"thread {thread % THREADS_PER_PROCESS}" for thread in reader.threads),
        sites=reader.sites,
        num_stream_waits=reader.num_stream_waits,
    )


class _Reader:
    """Reads table by table; strings and processes get numbers on the way."""

    def __init__(self, export: Export) -> None:
        self._export = export
        self._strings = export.texts("StringIds", "id", "value")
        self._zero_ns: int | None = None
        self._processes: Numbering[int] = Numbering()
        columns_of = {
            **dict.fromkeys((*_GPU_TABLES, _SYNC_TABLE), "globalPid"),
            **dict.fromkeys(_CALL_TABLES, "globalTid"),
        }
        self._has_processes = all(
            column in export.columns(table) for table, column in columns_of.items() if table in export.tables
        )
        self._site_of_chain, self.sites = call_sites(export, self._strings)
        self.rows = Rows()
        self.names: Numbering[str] = Numbering()
        self.threads: Numbering[int] = Numbering()
        self.num_events = 0
        self.num_stream_waits = 0
        self.num_unnamed_calls = 0
        self.num_unreadable_activities = 0
        self._num_unreadable = 0
        self._num_unnamed_kernels = 0
        exported = export.pairs("META_DATA_EXPORT", "name", "value")
        self.versions = {name: value for name, value in exported.items() if "VERSION" in name}
        self.device_names = {
            number: name.strip() for number, name in export.texts("TARGET_INFO_GPU", "id", "name").items()
        }

    def read(self) -> None:
        """Reads everything that a trace is made of."""
        for table in _CALL_TABLES:
            self._read_calls(table)
        for table, kind in _GPU_TABLES.items():
            self._read_activities(table, kind)
        self._read_syncs()
        self._read_ranges()

    def notes(self) -> tuple[str, ...]:
        """What was assumed or left out."""
        used = {"ENUM_CUDA_MEMCPY_OPER": "CUPTI_ACTIVITY_KIND_MEMCPY", "ENUM_CUPTI_SYNC_TYPE": _SYNC_TABLE}
        missing = [
            enumeration
            for enumeration, table in used.items()
            if table in self._export.tables and enumeration not in self._export.tables
        ]
        why = "" if "StringIds" in self._export.tables else " (the export lacks StringIds)"
        found = {
            f"calls without a name{why}, so waits and launches are unknown": self.num_unnamed_calls,
            f"kernels without a name{why}": self._num_unnamed_kernels,
            "events left out because their time cannot be read": self._num_unreadable,
            "events of the GPU among those left out": self.num_unreadable_activities,
        }
        assumed = (f"the export lacks {', '.join(missing)}; CUPTI's numbers are assumed",) if missing else ()
        return assumed + tuple(f"{what}: {number}" for what, number in found.items() if number)

    def _rows(self, table: str, columns: Sequence[str], where: str = "end > 0") -> Iterator[dict[str, Ints]]:
        """Rows of integers whose times can be believed; others are counted."""
        for rows in self._export.integers(table, columns, where):
            start_ns, end_ns = rows["start"], rows["end"]
            if self._zero_ns is None and (start_ns >= 0).any():
                self._zero_ns = int(np.median(start_ns[start_ns >= 0]))
            zero_ns = self._zero_ns or 0
            readable = (start_ns >= 0) & (np.abs(start_ns - zero_ns) <= MAX_SPAN_NS)
            readable &= np.abs(end_ns - zero_ns) <= MAX_SPAN_NS
            num_unreadable = int((~readable).sum())
            self._num_unreadable += num_unreadable
            self.num_unreadable_activities += num_unreadable if table in _GPU_TABLES else 0
            if readable.any():
                yield {name: column[readable] for name, column in rows.items()} if num_unreadable else rows

    def _read_calls(self, table: str) -> None:
        for columns in self._rows(table, ("start", "end", "globalTid", "correlationId", "nameId", "callchainId")):
            thread, name_id = columns["globalTid"], columns["nameId"]
            self.num_unnamed_calls += self._num_unknown(name_id)
            self.rows.calls.add(
                **self._times(columns),
                thread=self.threads.of(thread.tolist()),
                name=self._named([name_id], "call", plain=True),
                correlation=self._correlation(columns["correlationId"], thread - thread % THREADS_PER_PROCESS),
                site=self._sites(columns["callchainId"]),
            )

    def _read_activities(self, table: str, kind: int) -> None:
        directions = self._export.texts("ENUM_CUDA_MEMCPY_OPER", "id", "name", "label")
        memories = self._export.texts("ENUM_CUDA_MEM_KIND", "id", "name", "label")
        gpu_by_ordinal = self._gpus()
        for columns in self._rows(table, _GPU_COLUMNS):
            num_rows = len(columns["start"])
            copy = np.full(num_rows, OTHER_COPY)
            if kind == MEMCPY:
                for words, fallback, direction in _DIRECTIONS:
                    copy[_among(columns["copyKind"], numbers_named(directions, words, fallback))] = direction
            pageable = numbers_named(memories, ["PAGEABLE"], NONE - 1)
            is_pageable = _among(columns["srcKind"], pageable) | _among(columns["dstKind"], pageable)
            process = columns["globalPid"] // THREADS_PER_PROCESS % THREADS_PER_PROCESS
            device = np.maximum(columns["deviceId"], 0)
            self.rows.activities.add(
                **self._times(columns),
                device=np.array(
                    [gpu_by_ordinal.get(pair, pair[1]) for pair in zip(process.tolist(), device.tolist(), strict=True)],
                    np.int64,
                ),
                stream=columns["streamId"],
                kind=np.full(num_rows, kind),
                name=self._activity_names(kind, columns, copy, is_pageable),
                correlation=self._correlation(columns["correlationId"], columns["globalPid"]),
                num_bytes=np.maximum(columns["bytes"], 0),
                copy=copy,
                pageable=is_pageable & (kind == MEMCPY),
            )

    def _read_syncs(self) -> None:
        types = self._export.texts("ENUM_CUPTI_SYNC_TYPE", "id", "name", "label")
        stream_waits = numbers_named(types, ["STREAM_WAIT"], 2)
        events = numbers_named(types, ["EVENT_SYNC"], 1) - stream_waits
        streams = numbers_named(types, ["STREAM_SYNC"], 3)
        labels = self.names.of(["Context Sync", "Event Sync", "Stream Sync"])
        columns_read = ("start", "end", "correlationId", "globalPid", "syncType")
        for columns in self._rows(_SYNC_TABLE, columns_read):
            between_streams = _among(columns["syncType"], stream_waits)
            self.num_stream_waits += int(between_streams.sum())
            kept = {name: column[~between_streams] for name, column in columns.items()}
            name = np.full(len(kept["start"]), labels[0])
            name[_among(kept["syncType"], events)] = labels[1]
            name[_among(kept["syncType"], streams)] = labels[2]
            correlation = self._correlation(kept["correlationId"], kept["globalPid"])
            self.rows.syncs.add(**self._times(kept), name=name, correlation=correlation)

    def _read_ranges(self) -> None:
        """NVTX ranges; those that name an operator of PyTorch become operators."""
        types = self._export.texts("ENUM_NSYS_EVENT_TYPE", "id", "name", "label")
        ranges = numbers_named(types, ["PUSHPOP", "PUSH_POP"], 59) | numbers_named(types, ["STARTEND", "START_END"], 60)
        texts = self._export.strings(_NVTX_TABLE, "text")
        has_type = "eventType" in self._export.columns(_NVTX_TABLE)
        wanted = f"end > start AND eventType IN ({', '.join(map(str, sorted(ranges)))})" if has_type else "end > start"
        for columns in self._rows(_NVTX_TABLE, ("start", "end", "globalTid", "textId", "rowid"), wanted):
            labels = [
                texts.get(row) or self._strings.get(number, "")
                for row, number in zip(columns["rowid"].tolist(), columns["textId"].tolist(), strict=True)
            ]
            matches = [_OPERATOR.match(label) for label in labels]
            is_op = np.array(
                [bool(match) or label.startswith("aten::") for match, label in zip(matches, labels, strict=True)]
            )
            plain = [match["name"] if match else label for match, label in zip(matches, labels, strict=True)]
            spans = {
                **self._times(columns),
                "thread": self.threads.of(columns["globalTid"].tolist()),
                "name": self.names.of(plain),
            }
            self.rows.ops.add(**{name: column[is_op] for name, column in spans.items()})
            self.rows.annotations.add(**{name: column[~is_op] for name, column in spans.items()})

    def _times(self, columns: dict[str, Ints]) -> dict[str, np.ndarray]:
        start_ns, end_ns = columns["start"], columns["end"]
        self.num_events += len(start_ns)
        zero_ns = self._zero_ns or 0
        return {"start_us": (start_ns - zero_ns) / 1e3, "end_us": (np.maximum(end_ns, start_ns) - zero_ns) / 1e3}

    def _named(self, string_ids: Sequence[Ints], what: str, *, plain: bool = False) -> Ints:
        """Numbers of names for numbers of strings; the first of the columns that has a string counts."""
        distinct, place = np.unique(np.stack(string_ids), axis=1, return_inverse=True)
        texts = [self._text(numbers, what) for numbers in distinct.T.tolist()]
        return self.names.of([plain_name(text) if plain else text for text in texts])[place.reshape(-1)]

    def _text(self, numbers: Sequence[int], what: str) -> str:
        texts = (self._strings.get(number, "").strip() for number in numbers)
        return next(filter(None, texts), f"{what} {max(numbers)} (name unknown)")

    def _num_unknown(self, string_ids: Ints) -> int:
        """How many of the numbers stand for no string."""
        distinct, count = np.unique(string_ids, return_counts=True)
        pairs = zip(distinct.tolist(), count.tolist(), strict=True)
        return sum(number for string_id, number in pairs if not self._strings.get(string_id, "").strip())

    def _activity_names(self, kind: int, columns: dict[str, Ints], copy: Ints, pageable: Mask) -> Ints:
        if kind == KERNEL:
            return self._kernel_names(columns["demangledName"], columns["shortName"])
        if kind != MEMCPY:
            return self.names.of([{MEMSET: "Memset", GRAPH: "CUDA graph"}[kind]] * len(copy))
        words = {HOST_TO_DEVICE: "HtoD", DEVICE_TO_HOST: "DtoH", DEVICE_TO_DEVICE: "DtoD", OTHER_COPY: "other"}
        pairs = zip(copy.tolist(), pageable.tolist(), strict=True)
        return self.names.of([f"Memcpy {words[way]}{' (Pageable)' * slow}" for way, slow in pairs])

    def _kernel_names(self, demangled: Ints, short: Ints) -> Ints:
        """Names of kernels, the short ones where 0 or NULL stands for the whole ones."""
        is_known = np.isin(demangled, [number for number in np.unique(demangled).tolist() if number in self._strings])
        if is_known.all():
            return self._named([demangled], "kernel")
        self._num_unnamed_kernels += self._num_unknown(np.where(is_known, demangled, short))
        return self._named([demangled, short], "kernel")

    def _correlation(self, correlation: Ints, process: Ints) -> Ints:
        """Numbers that no two processes share; a call and its activity have the same."""
        if not self._has_processes:
            return correlation
        if len(self._processes) == 1:  # NULL is the only one that there is
            process = np.where(process == NONE, next(iter(self._processes)), process)
        distinct, place = np.unique(process, return_inverse=True)
        number = self._processes.of(distinct.tolist())[place]
        return np.where(correlation >= 0, (number << 32) | correlation, NONE)

    def _sites(self, chain: Ints) -> Ints:
        if not self.sites:
            return np.full(len(chain), NONE)
        return np.array([self._site_of_chain.get(number, NONE) for number in chain.tolist()], np.int64)

    def _gpus(self) -> dict[tuple[int, int], int]:
        """The number of a GPU by process and the number by which that process calls it."""
        found: dict[tuple[int, int], int] = {}
        for columns in self._export.integers("TARGET_INFO_CUDA_DEVICE", ("pid", "cudaId", "gpuId")):
            rows = zip(columns["pid"].tolist(), columns["cudaId"].tolist(), columns["gpuId"].tolist(), strict=True)
            found |= {(pid, ordinal): gpu for pid, ordinal, gpu in rows if gpu != NONE}
        return found


def _among(column: Ints, numbers: set[int]) -> Mask:
    return np.isin(column, sorted(numbers))
