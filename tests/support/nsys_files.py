"""Scenes as Nsight Systems sqlite exports of new and old schemas."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trace_scenes import MAIN, Scene, Work

PROCESS = (1 << 56) | (4242 << 24)
# The numbers of a made-up version: a reader that knows them by heart reads nonsense.
COPY_KINDS = {"HtoD": 11, "DtoH": 12, "DtoD": 18}
MEMORY_KINDS = {"Pageable": 30, "Pinned": 31}
SYNC_TYPES = {"Event Sync": 41, "Stream Wait Event": 42, "Stream Sync": 43, "Context Sync": 44}
OLD_COPY_KINDS = {"HtoD": 1, "DtoH": 2, "DtoD": 8}
OLD_SYNC_TYPES = {"Event Sync": 1, "Stream Wait Event": 2, "Stream Sync": 3, "Context Sync": 4}

NEW_SCHEMA = """
CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE META_DATA_EXPORT (name TEXT NOT NULL, value TEXT);
CREATE TABLE TARGET_INFO_GPU (id INTEGER, name TEXT, uuid TEXT);
CREATE TABLE TARGET_INFO_CUDA_DEVICE (gpuId INTEGER, cudaId INTEGER, pid INTEGER, uuid TEXT);
CREATE TABLE ENUM_CUDA_MEMCPY_OPER (id INTEGER PRIMARY KEY, name TEXT, label TEXT);
CREATE TABLE ENUM_CUDA_MEM_KIND (id INTEGER PRIMARY KEY, name TEXT, label TEXT);
CREATE TABLE ENUM_CUPTI_SYNC_TYPE (id INTEGER PRIMARY KEY, name TEXT, label TEXT);
CREATE TABLE ENUM_NSYS_EVENT_TYPE (id INTEGER PRIMARY KEY, name TEXT, label TEXT);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL,
  globalTid INTEGER, correlationId INTEGER, nameId INTEGER NOT NULL, returnValue INTEGER NOT NULL, callchainId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
  contextId INTEGER NOT NULL, greenContextId INTEGER, streamId INTEGER NOT NULL, correlationId INTEGER,
  globalPid INTEGER, demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL, graphNodeId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
  streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, bytes INTEGER NOT NULL,
  copyKind INTEGER NOT NULL, srcKind INTEGER, dstKind INTEGER, graphNodeId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_GRAPH_TRACE (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
  streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, graphId INTEGER, graphExecId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_SYNCHRONIZATION (start INTEGER NOT NULL, end INTEGER NOT NULL,
  deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL, streamId INTEGER NOT NULL, correlationId INTEGER,
  globalPid INTEGER, deprecatedSyncType INTEGER, syncType INTEGER NOT NULL, eventId INTEGER NOT NULL,
  eventSyncId INTEGER);
CREATE TABLE NVTX_EVENTS (start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, text TEXT, globalTid INTEGER,
  textId INTEGER, domainId INTEGER);
"""
# As exported in 2020: every column filled in, no enumerations, no device, driver versions in names.
OLD_SCHEMA = """
CREATE TABLE StringIds (id INTEGER NOT NULL, value TEXT NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INT NOT NULL, end INT NOT NULL, globalTid INT NOT NULL,
  correlationId INT NOT NULL, nameId INT NOT NULL, returnValue INT NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INT NOT NULL, end INT NOT NULL, streamId INT NOT NULL,
  correlationId INT NOT NULL, demangledName INT NOT NULL, shortName INT NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INT NOT NULL, end INT NOT NULL, streamId INT NOT NULL,
  correlationId INT NOT NULL, bytes INT NOT NULL, copyKind INT NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_SYNCHRONIZATION (start INT NOT NULL, end INT NOT NULL, streamId INT NOT NULL,
  correlationId INT NOT NULL, syncType INT NOT NULL, eventId INT NOT NULL);
CREATE TABLE NVTX_EVENTS (start INT NOT NULL, end INT NOT NULL, eventType INT NOT NULL, text TEXT NOT NULL,
  globalTid INT NOT NULL);
"""


def write_new(scene: Scene, path: Path, *, pid_of_gpu: int | None = None) -> Path:
    """An export of 2024 and later; ``pid_of_gpu`` makes device 0 of the process the GPU with that number."""
    with _database(path, NEW_SCHEMA) as db:
        strings = _Strings(db)
        db.executemany(
            "INSERT INTO META_DATA_EXPORT VALUES (?, ?)",
            [("EXPORT_PRODUCT_VERSION", "2024.6.2"), ("EXPORT_SCHEMA_VERSION", "3.16.1"), ("EXPORT_LAZY", "true")],
        )
        db.executemany("INSERT INTO TARGET_INFO_GPU VALUES (?, ?, NULL)", [(i, "Made-up GPU") for i in range(8)])
        if pid_of_gpu is not None:
            db.execute("INSERT INTO TARGET_INFO_CUDA_DEVICE VALUES (?, 0, 4242, '')", (pid_of_gpu,))
        _write_enumerations(db)
        for call in scene.calls:
            row = _row(
                _ns(call.start),
                _ns(call.end),
                0,
                _tid(call.thread),
                call.correlation,
                strings(f"{call.name}_v3020"),
            )
            db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, ?, ?, ?, ?, 0, NULL)", row)
        for work in scene.works:
            _write_work(db, strings, work)
        for sync in scene.syncs:
            row = _row(_ns(sync.start), _ns(sync.end), sync.correlation, PROCESS, SYNC_TYPES[sync.name])
            db.execute(
                "INSERT INTO CUPTI_ACTIVITY_KIND_SYNCHRONIZATION VALUES (?, ?, 0, 1, 7, ?, ?, NULL, ?, 4294967295, 9)",
                row,
            )
        for i, span in enumerate(scene.annotations):
            text, number = (span.name, None) if i % 2 else (None, strings(span.name))
            row = _row(_ns(span.start), _ns(span.end), 159, text, _tid(span.thread), number)
            db.execute("INSERT INTO NVTX_EVENTS VALUES (?, ?, ?, ?, ?, ?, 0)", row)
        for span in scene.ops:
            row = _row(_ns(span.start), _ns(span.end), 160, f"{span.name}, op_id = 5", _tid(span.thread))
            db.execute("INSERT INTO NVTX_EVENTS VALUES (?, ?, ?, ?, ?, NULL, 0)", row)
        db.execute("INSERT INTO NVTX_EVENTS VALUES (5, NULL, 134, 'a mark', ?, NULL, 0)", (_tid(MAIN),))
    return path


def write_old(scene: Scene, path: Path) -> Path:
    """An export of 2020; operators are left out."""
    with _database(path, OLD_SCHEMA) as db:
        strings = _Strings(db)
        for call in scene.calls:
            row = _row(
                _ns(call.start), _ns(call.end), _tid(call.thread), call.correlation, strings(f"{call.name}_v3020")
            )
            db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (?, ?, ?, ?, ?, 0)", row)
        for work in scene.works:
            head = (_ns(work.start), _ns(work.end), work.stream, work.correlation)
            if work.copy is not None:
                row = _row(*head, work.num_bytes, OLD_COPY_KINDS[work.copy])
                db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (?, ?, ?, ?, ?, ?)", row)
            else:
                row = _row(*head, strings(work.name), strings(work.name))
                db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, ?, ?, ?, ?)", row)
        for sync in scene.syncs:
            row = _row(_ns(sync.start), _ns(sync.end), sync.correlation, OLD_SYNC_TYPES[sync.name])
            db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_SYNCHRONIZATION VALUES (?, ?, 7, ?, ?, 0)", row)
        for span in scene.annotations:
            row = _row(_ns(span.start), _ns(span.end), span.name, _tid(span.thread))
            db.execute("INSERT INTO NVTX_EVENTS VALUES (?, ?, 59, ?, ?)", row)
        # Without a timestamp both ends are 0.
        db.execute(
            "INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (0, 0, ?, 0, ?, 0)", (_tid(MAIN), strings("cudaFree"))
        )
    return path


class _Strings:
    """Numbers of strings in the table of strings."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._numbers: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = 1000 + len(self._numbers)
            self._db.execute("INSERT INTO StringIds VALUES (?, ?)", (self._numbers[text], text))
        return self._numbers[text]


def _write_work(db: sqlite3.Connection, strings: _Strings, work: Work) -> None:
    head = (_ns(work.start), _ns(work.end), work.device)
    if work.kind == "graph":
        row = _row(*head, work.stream, work.correlation, PROCESS)
        db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_GRAPH_TRACE VALUES (?, ?, ?, ?, ?, ?, 1, 2)", row)
    elif work.copy is None:
        tail = _row(work.stream, work.correlation, PROCESS, strings(work.name), strings(work.name))
        db.execute(
            "INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (?, ?, ?, 1, NULL, ?, ?, ?, ?, ?, NULL)", (*head, *tail)
        )
    else:
        host, device = MEMORY_KINDS[work.memory], 32
        source, target = {"HtoD": (host, device), "DtoH": (device, host), "DtoD": (device, device)}[work.copy]
        tail = _row(work.stream, work.correlation, PROCESS, work.num_bytes, COPY_KINDS[work.copy], source, target)
        db.execute("INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL)", (*head, *tail))


def _write_enumerations(db: sqlite3.Connection) -> None:
    labels = {"HtoD": "Host-to-Device", "DtoH": "Device-to-Host", "DtoD": "Device-to-Device"}
    rows = [(n, f"CUDA_MEMCPY_KIND_{name.upper()}", labels[name]) for name, n in COPY_KINDS.items()]
    db.executemany("INSERT INTO ENUM_CUDA_MEMCPY_OPER VALUES (?, ?, ?)", rows)
    rows = [(n, f"CUDA_MEMOPR_MEMORY_KIND_{name.upper()}", name) for name, n in MEMORY_KINDS.items()]
    db.executemany(
        "INSERT INTO ENUM_CUDA_MEM_KIND VALUES (?, ?, ?)", [*rows, (32, "CUDA_MEMOPR_MEMORY_KIND_DEVICE", "Device")]
    )
    names = {
        "Event Sync": ("EVENT_SYNCHRONIZE", "Event sync"),
        "Stream Wait Event": ("STREAM_WAIT_EVENT", "Stream wait sync"),
        "Stream Sync": ("STREAM_SYNCHRONIZE", "Stream sync"),
        "Context Sync": ("CONTEXT_SYNCHRONIZE", "Context sync"),
    }
    rows = [
        (n, f"CUPTI_ACTIVITY_SYNCHRONIZATION_TYPE_{names[name][0]}", names[name][1]) for name, n in SYNC_TYPES.items()
    ]
    db.executemany("INSERT INTO ENUM_CUPTI_SYNC_TYPE VALUES (?, ?, ?)", rows)
    types = [(159, "NvtxPushPopRange", "Push/Pop"), (160, "NvtxStartEndRange", "Start/End"), (134, "NvtxMark", "Mark")]
    db.executemany("INSERT INTO ENUM_NSYS_EVENT_TYPE VALUES (?, ?, ?)", types)


@contextmanager
def _database(path: Path, schema: str) -> Iterator[sqlite3.Connection]:
    path.unlink(missing_ok=True)
    db = sqlite3.connect(path)
    db.executescript(schema)
    yield db
    db.commit()
    db.close()


def _row(*values: object) -> tuple[object, ...]:
    return values


def _ns(microseconds: int) -> int:
    return 10_000_000 + microseconds * 1000


def _tid(thread: int) -> int:
    return PROCESS + thread
