"""Opens a trace whatever it is packed in, and says in one line why a file is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from bagel_perf.analysis.traces.failures import READABLE, empty
from bagel_perf.analysis.traces.foreign import check_start
from bagel_perf.analysis.traces.kineto import read_kineto
from bagel_perf.analysis.traces.nsys import read_nsys
from bagel_perf.analysis.traces.trace import Trace
from bagel_perf.analysis.traces.unpacking import Packed, Piece, on_disk, opened, unpacked
from bagel_perf.schema.errors import UsageError

OnProgress: TypeAlias = Callable[[int, int], None]

_SQLITE = b"SQLite format 3\x00"
_REPORTS = (".nsys-rep", ".qdrep")


def read_trace(path: Path, on_progress: OnProgress = lambda done, total: None) -> Trace:
    """The trace in a file, a pipe or (``-``) stdin: Kineto JSON or an Nsight Systems sqlite export, packed or not.

    ``on_progress`` hears how many bytes of a file are read, and of how many; nothing about a pipe. Raises
    ``UsageError`` where the file is missing, empty, cut off, damaged, or something else.
    """
    if path.suffix in _REPORTS:
        remedy = f"nsys export --type sqlite {path}"
        raise UsageError("report has to be exported first", value=path, allowed=READABLE, remedy=remedy)
    with opened(path) as packed, unpacked(packed) as (piece, num_layers):
        start = piece.start()
        if not start:
            raise empty(path)
        if not start.startswith(_SQLITE):
            check_start(path, start)
            trace = _read_json(piece, packed, on_progress)
        elif not num_layers and packed.size is not None:
            trace = read_nsys(path, packed.num_bytes)
        else:
            with on_disk(piece) as copy:
                trace = read_nsys(copy, packed.num_bytes, path)
        # Of a pipe it is known only now how long it was.
        source = replace(trace.source, file=packed.name, num_bytes=packed.num_bytes)
        return replace(trace, source=source)


def _read_json(piece: Piece, packed: Packed, on_progress: OnProgress) -> Trace:
    def tell() -> None:
        if packed.size is not None:
            on_progress(packed.file.tell(), packed.size)

    with _read_ahead(piece, tell) as read:
        return read_kineto(read, packed.path, packed.num_bytes)


@contextmanager
def _read_ahead(piece: Piece, tell: Callable[[], None]) -> Iterator[Callable[[int], bytes]]:
    """A ``read`` whose next piece is unpacked while the last one is decoded."""
    with ThreadPoolExecutor(1) as pool:
        pending: list[Future[bytes]] = []

        def read(num_bytes: int) -> bytes:
            tell()
            data = (pending.pop() if pending else pool.submit(piece.read, num_bytes)).result()
            if data:
                pending.append(pool.submit(piece.read, num_bytes))
            return data

        yield read
