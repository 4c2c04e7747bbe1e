"""Opens a trace, a file, pipe or stdin, whatever it is packed in, and says in one line why a file is none."""

from __future__ import annotations

import bz2
import gzip
import lzma
import stat
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, TypeAlias

from bagel_perf.records.errors import UsageError
from bagel_perf.records.store import GZIP_MAGIC
from bagel_perf.traces.formats.foreign import READABLE, check_start, cut_off, damaged, empty, unreadable
from bagel_perf.traces.formats.kineto import read_kineto
from bagel_perf.traces.formats.nsys import read_nsys
from bagel_perf.traces.trace import Trace

STDIN = Path("-")
START_BYTES = 512
MAX_LAYERS = 4
MAX_SPOOLED_BYTES = 64 << 30
"""What is written to a temporary file at most: a database, or an archive from a pipe."""

_ZIP_MAGIC = b"PK\x03\x04"
_EMPTY_ZIP_MAGIC = b"PK\x05\x06"
_OPEN_BY_MAGIC: dict[bytes, Callable[[Any], Any]] = {
    GZIP_MAGIC: lambda file: gzip.GzipFile(fileobj=file),
    b"\xfd7zXZ": lzma.LZMAFile,
    b"BZh": bz2.BZ2File,
}
_TRACES = (".json", ".gz", ".xz", ".bz2", ".sqlite", ".db", ".zip")
_PIPES = ("/dev/fd", "/proc")
_COPY_BYTES = 1 << 20


class Piece:
    """A file whose start can be looked at before it is read; ``num_read`` bytes were taken from it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._start = b""
        self.num_read = 0

    def start(self) -> bytes:
        """The first bytes, which stay to be read."""
        while len(self._start) < START_BYTES and (data := self._file.read(START_BYTES - len(self._start))):
            self.num_read += len(data)
            self._start += data
        return self._start

    def read(self, num_bytes: int = -1) -> bytes:
        """The next bytes, empty at the end."""
        if self._start:
            data, self._start = self._start, b""
            if 0 <= num_bytes < len(data):
                data, self._start = data[:num_bytes], data[num_bytes:]
            return data
        found: bytes = self._file.read(num_bytes)
        self.num_read += len(found)
        return found


class Packed(Piece):
    """A file or pipe as it lies there.

    ``size`` is None for a pipe, ``path`` what messages call it, ``name`` what reports call it.
    """

    def __init__(self, file: IO[bytes], path: Path, size: int | None) -> None:
        super().__init__(file)
        self.file = file
        self.path = path
        self.size = size
        is_pipe = size is None and str(path).startswith(_PIPES)
        self.name = "stdin" if path == STDIN else "pipe" if is_pipe else path.name

    @property
    def num_bytes(self) -> int:
        """How many bytes it has, or had so far."""
        return self.num_read if self.size is None else self.size


@contextmanager
def opened(path: Path) -> Iterator[Packed]:
    """The file, pipe or (``-``) stdin; raises ``UsageError`` where it cannot be read."""
    packed: Packed | None = None
    try:
        if path == STDIN:
            packed = Packed(_stdin(), path, None)
            yield packed
            return
        if path.is_dir():
            raise UsageError("trace is a folder", value=path, allowed="one file", remedy="name a trace in it")
        about = path.stat()
        with path.open("rb") as file:
            packed = Packed(file, path, about.st_size if stat.S_ISREG(about.st_mode) else None)
            yield packed
    except EOFError as problem:
        raise cut_off(path, packed.num_bytes if packed else 0) from problem
    except (zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, NotImplementedError) as problem:
        raise damaged(path) from problem
    except OSError as problem:
        if problem.strerror is None:  # of bz2
            raise damaged(path) from problem
        raise unreadable(path, problem.strerror) from problem


@contextmanager
def unpacked(packed: Packed) -> Iterator[tuple[Piece, int]]:
    """The bytes without gzip, xz, bzip2 or zip around them, and how many of these were."""
    with ExitStack() as stack:
        piece: Piece = packed
        for num_layers in range(MAX_LAYERS + 1):
            start = piece.start()
            if start.startswith((_ZIP_MAGIC, _EMPTY_ZIP_MAGIC)):
                whole = packed.file if not num_layers and packed.size is not None else _spooled(stack, piece)
                piece = Piece(stack.enter_context(_only_trace(stack, whole, packed.path)))
                continue
            opener = next((found for magic, found in _OPEN_BY_MAGIC.items() if start.startswith(magic)), None)
            if opener is None:
                yield piece, num_layers
                return
            piece = Piece(stack.enter_context(opener(piece)))
        allowed = f"at most {MAX_LAYERS} layers of packing"
        raise UsageError("trace is packed too often", value=packed.path, allowed=allowed, remedy="unpack it")


@contextmanager
def on_disk(piece: Piece) -> Iterator[Path]:
    """A temporary file with all bytes, removed in the end."""
    with tempfile.TemporaryDirectory(prefix="bagel_perf_") as folder:
        path = Path(folder, "trace.sqlite")
        with path.open("wb") as file:
            _copy(piece, file)
        yield path


def _stdin() -> IO[bytes]:
    stream: IO[bytes] | None = getattr(sys.stdin, "buffer", None)
    if stream is None or stream.closed or stream.isatty():
        allowed = "a trace has to be piped into it"
        raise UsageError("nothing comes from stdin", value=STDIN, allowed=allowed, remedy="zcat FILE | ... trace -")
    return stream


def _spooled(stack: ExitStack, piece: Piece) -> IO[bytes]:
    """A temporary file with all bytes, which can be read in any order."""
    file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    _copy(piece, file)
    return file


def _copy(piece: Piece, file: IO[bytes]) -> None:
    num_bytes = 0
    while data := piece.read(_COPY_BYTES):
        num_bytes += len(data)
        if num_bytes > MAX_SPOOLED_BYTES:
            raise OSError(0, f"it unpacks to more than {MAX_SPOOLED_BYTES >> 30} GiB")
        file.write(data)
    file.flush()


def _only_trace(stack: ExitStack, file: IO[bytes], path: Path) -> IO[bytes]:
    """The file of an archive that may be a trace; raises ``UsageError`` unless there is one."""
    archive = stack.enter_context(zipfile.ZipFile(file))
    inside = [each for each in archive.infolist() if not each.is_dir() and not each.filename.startswith("__MACOSX/")]
    found = [each for each in inside if each.filename.lower().endswith(_TRACES)] if len(inside) > 1 else inside
    if len(found) != 1:
        what = f"archive holds {len(found)} traces"
        raise UsageError(what, value=path, allowed="one, which is read as it is", remedy="unpack it and name one")
    if found[0].flag_bits & 1:
        raise UsageError("archive is encrypted", value=path, allowed=READABLE, remedy="unpack it")
    return archive.open(found[0])


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
