"""Opens a trace whatever it is packed in, and says in one line why a file is none."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

from bagel_perf.analysis.traces.failures import READABLE, RECORD, cut_off, damaged, empty
from bagel_perf.analysis.traces.kineto import read_kineto
from bagel_perf.analysis.traces.nsys import read_nsys
from bagel_perf.analysis.traces.trace import Trace
from bagel_perf.schema.errors import UsageError
from bagel_perf.schema.store import GZIP_MAGIC

OnProgress: TypeAlias = Callable[[int, int], None]

_SQLITE = b"SQLite format 3\x00"
_OTHER_PACKINGS = {b"PK\x03\x04": "unzip", b"\x28\xb5\x2f\xfd": "zstd -d", b"\xfd7zXZ": "xz -d", b"BZh": "bunzip2"}
_REPORTS = (".nsys-rep", ".qdrep")


def read_trace(path: Path, on_progress: OnProgress = lambda done, total: None) -> Trace:
    """The trace in a file: Kineto JSON, gzipped or not, or an Nsight Systems sqlite export.

    ``on_progress`` hears how many bytes of the file are read, and of how many. Raises ``UsageError`` where the file is
    missing, empty, cut off, damaged, or something else.
    """
    if path.suffix in _REPORTS:
        remedy = f"nsys export --type sqlite {path}"
        raise UsageError("report has to be exported first", value=path, allowed=READABLE, remedy=remedy)
    try:
        if path.is_dir():
            raise UsageError("trace is a folder", value=path, allowed="one file", remedy="name a trace in it")
        num_bytes = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(_SQLITE))
            file.seek(0)
            if not start:
                raise empty(path)
            if start == _SQLITE:
                return read_nsys(path, num_bytes)
            return _read_json(file, path, start, lambda: on_progress(file.tell(), num_bytes), num_bytes)
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise UsageError("trace cannot be read", value=path, allowed=reason, remedy=RECORD) from problem


def _read_json(file: BinaryIO, path: Path, start: bytes, tell: Callable[[], None], num_bytes: int) -> Trace:
    for magic, tool in _OTHER_PACKINGS.items():
        if start.startswith(magic):
            raise UsageError("trace is packed", value=path, allowed=READABLE, remedy=f"unpack it with {tool}")
    unpacked: BinaryIO = gzip.GzipFile(fileobj=file) if start.startswith(GZIP_MAGIC) else file  # type: ignore[assignment]
    try:
        with _read_ahead(unpacked, tell) as read:
            return read_kineto(read, path, num_bytes)
    except EOFError as problem:
        raise cut_off(path, num_bytes) from problem
    except (zlib.error, gzip.BadGzipFile) as problem:
        raise damaged(path) from problem


@contextmanager
def _read_ahead(file: BinaryIO, tell: Callable[[], None]) -> Iterator[Callable[[int], bytes]]:
    """A ``read`` whose next piece is unpacked while the last one is decoded."""
    with ThreadPoolExecutor(1) as pool:
        pending: list[Future[bytes]] = []

        def read(num_bytes: int) -> bytes:
            tell()
            data = (pending.pop() if pending else pool.submit(file.read, num_bytes)).result()
            if data:
                pending.append(pool.submit(file.read, num_bytes))
            return data

        yield read
