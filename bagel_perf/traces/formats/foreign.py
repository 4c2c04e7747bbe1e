"""The errors of reading a trace, each one line with what is allowed and a remedy; foreign formats are named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from bagel_perf.records.errors import UsageError

READABLE = "a torch.profiler trace (JSON with traceEvents, gzipped or not) or an Nsight Systems sqlite export"
RECORD = "record one with prof.export_chrome_trace(PATH) or nsys export --type sqlite"
COPY_AGAIN = "copy or export it again"


def foreign(path: Path) -> UsageError:
    """The file is something else."""
    return UsageError("file is no trace", value=path, allowed=READABLE, remedy=RECORD)


def empty(path: Path) -> UsageError:
    """The file has no bytes, or its trace no events of a known kind."""
    return UsageError("trace is empty", value=path, allowed=READABLE, remedy=RECORD)


def unreadable(path: Path, reason: str) -> UsageError:
    """The system does not give the file."""
    return UsageError("trace cannot be read", value=path, allowed=reason, remedy=RECORD)


def cut_off(path: Path, num_bytes: int) -> UsageError:
    """The file ends in the middle, after ``num_bytes`` of (unpacked) text."""
    allowed = f"the text ends unfinished after {num_bytes} bytes"
    return UsageError("trace is cut off", value=path, allowed=allowed, remedy=COPY_AGAIN)


def damaged(path: Path, position: int | None = None) -> UsageError:
    """The file is of the right kind and cannot be read on."""
    allowed = "it cannot be unpacked" if position is None else f"it is no JSON near byte {position}"
    return UsageError("trace is damaged", value=path, allowed=allowed, remedy=COPY_AGAIN)


def too_deep(path: Path) -> UsageError:
    """The text nests values more deeply than any writer of traces."""
    allowed = "its lists and objects are nested too deeply"
    return UsageError("trace is damaged", value=path, allowed=allowed, remedy=COPY_AGAIN)


def wrong_value(path: Path, what: str) -> UsageError:
    """A value shows that the trace was not written by what recorded it."""
    return UsageError("trace has a value that cannot be", value=path, allowed=what, remedy=RECORD)


def timeless(path: Path) -> UsageError:
    """No event has a time that a trace can have."""
    allowed = "ts and dur count microseconds"
    return UsageError("no time in the trace can be read", value=path, allowed=allowed, remedy=RECORD)


_TORCH = "record with torch.profiler, which sees HIP as well, and prof.export_chrome_trace(PATH)"
_PERFETTO = "prof.export_chrome_trace(PATH) writes what can be read"
_NSYS = "nsys profile --trace=cuda,nvtx, then nsys export --type sqlite"
_UNPACK = "unpack it and name the trace in it"

_KINDS_BY_SUFFIX = {
    ".ncu-rep": ("file is a report of Nsight Compute, which has no timeline", _NSYS),
    ".pftrace": ("file is a Perfetto trace (protobuf)", _PERFETTO),
    ".perfetto-trace": ("file is a Perfetto trace (protobuf)", _PERFETTO),
    ".pb": ("file is a trace of JAX or TensorFlow (XPlane)", RECORD),
    ".qdstrm": ("file is an unfinished recording of Nsight Systems", "nsys export --type sqlite of the .nsys-rep"),
}
_KINDS_BY_MAGIC = {
    b"NVR\x00": _KINDS_BY_SUFFIX[".ncu-rep"],
    b"\x89HDF": ("file is an HDF5 export", "nsys export --type sqlite"),
    b"PAR1": ("file is a Parquet export", "nsys export --type sqlite"),
    b"ARROW1": ("file is an Arrow export", "nsys export --type sqlite"),
    b"\x28\xb5\x2f\xfd": ("trace is packed", "unpack it with zstd -d"),
    b"\x04\x22\x4d\x18": ("trace is packed", "unpack it with lz4 -d"),
    b"7z\xbc\xaf\x27\x1c": ("trace is packed", "unpack it with 7z x"),
    b"Rar!": ("trace is packed", "unpack it with unrar x"),
    b"\x80\x02": ("file is a pickle, as torch.cuda.memory snapshots are", RECORD),
    b"\x80\x04": ("file is a pickle, as torch.cuda.memory snapshots are", RECORD),
    b"\x80\x05": ("file is a pickle, as torch.cuda.memory snapshots are", RECORD),
    b"<": ("file is a page or XML", RECORD),
    b"\xff\xfe": ("trace is UTF-16", "iconv -f UTF-16 -t UTF-8"),
    b"\xfe\xff": ("trace is UTF-16", "iconv -f UTF-16 -t UTF-8"),
    b"{\x00": ("trace is UTF-16", "iconv -f UTF-16LE -t UTF-8"),
    b"[\x00": ("trace is UTF-16", "iconv -f UTF-16LE -t UTF-8"),
    b"\x00{": ("trace is UTF-16", "iconv -f UTF-16BE -t UTF-8"),
    b"\x00[": ("trace is UTF-16", "iconv -f UTF-16BE -t UTF-8"),
}
_TAR = (257, b"ustar")
_ROCPROF = "file is a trace of rocprof"
_TEXTS = (
    (re.compile(rb'"schema"\s*:\s*"bagel-perf\.trace"'), "file is a report about a trace", "name the trace itself"),
    (re.compile(rb'"schema"\s*:\s*"bagel-perf\.\w+"'), "file is a result of bagel-perf", "bagel-perf report FILE"),
    (re.compile(rb'"rocprofiler-sdk-tool"'), _ROCPROF, _TORCH),
    (re.compile(rb'"schema"\s*:\s*"\d[^"]*"[^\0]*"nodes"\s*:'), "file is an execution trace, without times", RECORD),
    (re.compile(rb'"traceEvents"\s*:'), "traceEvents of the file are no list", RECORD),
)
_ROCPROF_TEXT = re.compile(rb'"BeginNs"')
_ASCEND_TEXT = re.compile(rb'"(Ascend Hardware|AscendCL@[^"]*|async_npu)"')
_ROCPD, _NCU_TABLE = "rocpd_", "ncu_"

_MAKERS = {
    "xpu_": "Intel XPU",
    "mtia_": "MTIA",
    "privateuse1_": "PrivateUse1 device",
    "hpu": "Gaudi HPU",
    "glow_": "Glow device",
    "npu_": "Ascend NPU",
    "mlu_": "Cambricon MLU",
    "musa_": "MUSA GPU",
}


def check_start(path: Path, start: bytes) -> None:
    """Raises ``UsageError`` that names the format where the first bytes of a file tell that it is no trace."""
    for magic, (what, remedy) in _KINDS_BY_MAGIC.items():
        if start.startswith(magic):
            raise UsageError(what, value=path, allowed=READABLE, remedy=remedy)
    place, magic = _TAR
    if start[place:].startswith(magic):
        raise UsageError("file is a tar archive", value=path, allowed=READABLE, remedy=_UNPACK)
    if start.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] in (b"{", b"["):
        return
    suffix = ".pftrace" if _is_protobuf(start) and path.suffix not in _KINDS_BY_SUFFIX else path.suffix
    if suffix in _KINDS_BY_SUFFIX:
        what, remedy = _KINDS_BY_SUFFIX[suffix]
        raise UsageError(what, value=path, allowed=READABLE, remedy=remedy)


def no_events(path: Path, head: bytes | bytearray) -> UsageError:
    """The error for JSON without a list of events, by what its beginning looks like."""
    for pattern, what, remedy in _TEXTS:
        if pattern.search(head):
            return UsageError(what, value=path, allowed=READABLE, remedy=remedy)
    return UsageError("file is no trace", value=path, allowed=READABLE, remedy=RECORD)


def other_device(path: Path, categories: Iterable[str], sample: bytes) -> UsageError | None:
    """The error for events that are another accelerator's or recorder's; None if nothing tells of one.

    ``sample`` is the beginning of the list of events.
    """
    if _ROCPROF_TEXT.search(sample):
        return UsageError(_ROCPROF, value=path, allowed=READABLE, remedy=_TORCH)
    makers = sorted({maker for category in categories if (maker := _maker_of(category))})
    if not makers and _ASCEND_TEXT.search(sample):
        makers = ["Ascend NPU"]
    if not makers:
        return None
    allowed = "traces of CUDA and ROCm GPUs are analysed"
    remedy = "record on such a GPU, or the host alone with activities=[ProfilerActivity.CPU]"
    return UsageError(f"trace is of {' and '.join(makers)}", value=path, allowed=allowed, remedy=remedy)


def not_pytorch(path: Path) -> UsageError:
    """The error for events none of which has a category of torch.profiler."""
    allowed = "its events have no category that torch.profiler writes"
    return UsageError("file is a Chrome trace of something else", value=path, allowed=allowed, remedy=RECORD)


def other_database(path: Path, tables: Iterable[str]) -> UsageError:
    """The error for a database that is no Nsight Systems export."""
    if any(table.startswith(_ROCPD) for table in tables):
        return UsageError(_ROCPROF, value=path, allowed=READABLE, remedy=_TORCH)
    return UsageError("sqlite file is no trace", value=path, allowed=READABLE, remedy=RECORD)


def without_cuda(path: Path) -> UsageError:
    """The error for an Nsight Systems export that has tables, and none about CUDA."""
    allowed = "it was recorded without --trace=cuda, or nothing ran on a GPU"
    return UsageError("Nsight Systems export has no CUDA rows", value=path, allowed=allowed, remedy=_NSYS)


def left_out(num_by_category: Mapping[str, int]) -> tuple[str, ...]:
    """Notes about events of other accelerators beside those of CUDA."""
    found: dict[str, int] = {}
    for category, number in num_by_category.items():
        if maker := _maker_of(category):
            found[maker] = found.get(maker, 0) + number
    return tuple(f"events of {maker} left out: {number}" for maker, number in sorted(found.items()))


def _maker_of(category: str) -> str | None:
    return next((maker for prefix, maker in _MAKERS.items() if category.startswith(prefix)), None)


def _is_protobuf(start: bytes) -> bool:
    """Whether bytes begin like a list of messages and are no text."""
    return start[:1] == b"\x0a" and any(byte < 9 or byte > 127 for byte in start[:64])
