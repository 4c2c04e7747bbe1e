"""A trace reads the same from a pipe or an archive, and what is none is named."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import sqlite3
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from bagel_perf.records.errors import UsageError
from bagel_perf.records.traces import TraceReport
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats import reading
from bagel_perf.traces.formats.reading import read_trace
from kineto_files import events, new_file
from nsys_files import write_new
from trace_scenes import two_steps


def zipped(**files: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("_", "."), content)
    return data.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "zip": lambda data: zipped(a_json=data),
    "gzip in a zip": lambda data: zipped(a_json_gz=gzip.compress(data), README_md=b"about it"),
    "two members of gzip": lambda data: gzip.compress(data[:100]) + gzip.compress(data[100:]),
    "mark of UTF-8": lambda data: b"\xef\xbb\xbf" + data,
}


def kineto() -> bytes:
    return new_file(two_steps()).encode()


def database(tmp_path: Path) -> bytes:
    return write_new(two_steps(), tmp_path / "whole.sqlite").read_bytes()


def unnamed(report: TraceReport) -> TraceReport:
    return replace(report, source=replace(report.source, file="", num_bytes=0))


def told(path: Path) -> TraceReport:
    return unnamed(analyse(read_trace(path)))


def piped(path: Path, data: bytes) -> Path:
    """A FIFO into which the data are written."""
    os.mkfifo(path)
    threading.Thread(target=path.write_bytes, args=(data,), daemon=True).start()
    return path


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_packed_trace_says_what_the_plain_one_says(tmp_path: Path, packing: str) -> None:
    plain, packed = tmp_path / "a.json", tmp_path / "packed"
    plain.write_bytes(kineto())
    packed.write_bytes(PACKINGS[packing](kineto()))
    assert told(packed) == told(plain)
    assert read_trace(packed).source.num_bytes == packed.stat().st_size
    assert told(piped(tmp_path / "pipe", packed.read_bytes())) == told(plain)


@pytest.mark.parametrize("packing", ["gzip", "zip", "xz"])
def test_a_packed_database_is_read_by_way_of_a_file_that_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    data = database(tmp_path)
    packed = tmp_path / "packed"
    packed.write_bytes(PACKINGS[packing](data))
    whole = told(tmp_path / "whole.sqlite")
    assert told(packed) == whole
    assert told(piped(tmp_path / "pipe", data)) == whole
    assert not list((tmp_path / "temporary").iterdir())


def test_stdin_is_read_and_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(kineto()))))
    source = read_trace(Path("-")).source
    assert (source.file, source.num_bytes) == ("stdin", len(gzip.compress(kineto())))


def test_a_stdin_that_nothing_is_piped_into_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="nothing comes from stdin"):
        read_trace(Path("-"))


def test_nothing_is_told_of_the_progress_of_a_pipe(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    read_trace(piped(tmp_path / "pipe", kineto()), lambda done, total: heard.append((done, total)))
    assert not heard


def layered(data: bytes, num_layers: int) -> bytes:
    return data if not num_layers else layered(gzip.compress(data), num_layers - 1)


def tar(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.json"), io.BytesIO(data))
    return file.getvalue()


def of_categories(*categories: str, **more: Any) -> bytes:
    found = [
        {"ph": "X", "cat": category, "name": "a", "pid": 1, "tid": 1, "ts": 1, "dur": 2, **more}
        for category in categories
    ]
    return json.dumps({"traceEvents": found}).encode()


FOREIGN: dict[str, tuple[bytes, str]] = {
    "a.zip": (zipped(a_json=b"{}", b_json=b"{}"), "archive holds 2 traces"),
    "empty.zip": (zipped(), "archive holds 0 traces"),
    "a.tar": (tar(b"{}"), "file is a tar archive"),
    "a.tgz": (gzip.compress(tar(b"{}")), "file is a tar archive"),
    "layers": (layered(b"{}", 6), "packed too often"),
    "a.zst": (b"\x28\xb5\x2f\xfd....", "unpack it with zstd -d"),
    "utf16": (kineto().decode().encode("utf-16"), "UTF-16"),
    "utf16be": (kineto().decode().strip().encode("utf-16-be"), "UTF-16"),
    "a.ncu-rep": (b"NVR\x00....", "Nsight Compute"),
    "a.pftrace": (b"....", "Perfetto"),
    "a.perfetto-trace": (b"....", "Perfetto"),
    "protobuf": (b"\x0a\x10\x08\x01\x00\xff", "Perfetto"),
    "snapshot": (b"\x80\x04\x95", "pickle"),
    "page": (b"<html>", "page"),
    "result": (b'{"schema": "bagel-perf.result", "version": 2}', "result of bagel-perf"),
    "report": (b'{"schema": "bagel-perf.trace", "version": 1}', "name the trace itself"),
    "rocprofv3": (b'{"rocprofiler-sdk-tool": [{}]}', "trace of rocprof"),
    "rocprof": (of_categories("", args={"BeginNs": "1", "EndNs": "2"}), "trace of rocprof"),
    "null": (b'{"traceEvents": null}', "are no list"),
    "object": (b'{"traceEvents": {}}', "are no list"),
    "numbers": (b"[1, 2, 3]", "file is no trace"),
    "other": (of_categories("toplevel", "blink"), "Chrome trace of something else"),
    "npu": (of_categories("cpu_op", "async_npu"), "Ascend NPU"),
    "xpu": (of_categories("cpu_op", "xpu_runtime", "kernel"), "Intel XPU"),
    "mtia": (of_categories("cpu_op", "mtia_ccp_events", "mtia_runtime"), "trace is of MTIA"),
    "private": (of_categories("cpu_op", "privateuse1_driver"), "PrivateUse1"),
    "hpu": (of_categories("cpu_op", "hpu_op"), "Gaudi"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_trace_of_cuda_is_named_in_one_line(tmp_path: Path, name: str) -> None:
    data, what = FOREIGN[name]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UsageError, match=what) as caught:
        read_trace(path)
    assert "\n" not in str(caught.value)
    assert caught.value.allowed
    assert caught.value.remedy


def test_events_of_another_accelerator_beside_those_of_cuda_are_noted(tmp_path: Path) -> None:
    others = json.loads(of_categories("xpu_runtime", "xpu_driver", "mtia_runtime"))["traceEvents"]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"traceEvents": events(two_steps(), 0) + others}))
    assert read_trace(path).source.notes == ("events of Intel XPU left out: 2", "events of MTIA left out: 1")


def test_a_json_file_is_read_whatever_its_name_says(tmp_path: Path) -> None:
    path = tmp_path / "a.pftrace"
    path.write_bytes(kineto())
    assert len(read_trace(path).calls)


@pytest.mark.parametrize("packing", ["gzip", "xz", "bzip2", "zip"])
def test_an_archive_cut_anywhere_is_refused(tmp_path: Path, packing: str) -> None:
    data = PACKINGS[packing](kineto())
    path = tmp_path / "a"
    for cut in range(20, len(data), 211):
        path.write_bytes(data[:cut])
        with pytest.raises(UsageError, match=r"cut off|damaged"):
            read_trace(path)


def test_what_unpacks_to_more_than_may_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_SPOOLED_BYTES", 5000)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(database(tmp_path)))
    with pytest.raises(UsageError, match="it unpacks to more than"):
        read_trace(path)


@pytest.mark.parametrize("target", ["nowhere", "a"])
def test_links_that_lead_nowhere_are_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "a").symlink_to(tmp_path / target)
    with pytest.raises(UsageError, match="trace cannot be read"):
        read_trace(tmp_path / "a")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.json"
    path.touch()
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UsageError, match="Permission denied"):
        read_trace(path)


def test_a_database_of_rocprof_and_an_export_without_cuda_are_named(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "rocm.db") as db:
        db.execute("CREATE TABLE rocpd_kernel_dispatch (id INTEGER)")
    with pytest.raises(UsageError, match="trace of rocprof"):
        read_trace(tmp_path / "rocm.db")
    with sqlite3.connect(tmp_path / "osrt.sqlite") as db:
        db.execute("CREATE TABLE StringIds (id INTEGER, value TEXT)")
        db.execute("CREATE TABLE OSRT_API (start INTEGER, end INTEGER)")
    with pytest.raises(UsageError, match="without --trace=cuda"):
        read_trace(tmp_path / "osrt.sqlite")
