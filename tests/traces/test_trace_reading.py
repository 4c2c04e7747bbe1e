"""Every format of a trace tells the same story, and what is no trace is refused in one line."""

from __future__ import annotations

import dataclasses
import gzip
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from bagel_perf.records.errors import UsageError
from bagel_perf.records.traces import TraceReport
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats import kineto_stream
from bagel_perf.traces.formats.reading import read_trace
from bagel_perf.traces.trace import Trace
from kineto_files import FILES, HEADER, events, new_file, write
from nsys_files import write_new, write_old
from trace_scenes import Scene, Work, two_steps

BUSY_US = 264.0


def story(report: TraceReport) -> dict[str, object]:
    """What a trace says, without the figures that a format cannot keep."""
    return {
        "syncs": report.syncs_by_kind,
        "launches": report.launches,
        "busy_us": round((report.gpu_busy_ms or 0) * 1e3, 3),
        "idle_us": {name: round(time_ms * 1e3, 3) for name, time_ms in report.idle_by_cause_ms.items() if time_ms},
        "price_us": [round(predicted_saving * 1e3, 3) for predicted_saving in report.predicted_saving_ms or ()],
    }


IDLE = {
    "host_sync": 12.0,
    "after_sync": 50.0,
    "cpu_elsewhere": 24.0,
    "launch_bound": 2.0,
    "launch_overhead": 14.0,
    "queued": 4.0,
}
TOLD = {
    "syncs": {"scalar_read": 2},
    "launches": 6,
    "busy_us": BUSY_US,
    "idle_us": IDLE,
    "price_us": [90.0, 90.0],
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_kineto_file_tells_the_same_story(tmp_path: Path, name: str, packed: bool) -> None:
    path = write(tmp_path / "no.suffix", FILES[name](two_steps()), packed=packed)
    report = analyse(read_trace(path))
    assert story(report) == TOLD
    # Older versions write annotations of steps as operators, and that is what they were.
    assert ("ProfilerStep", "forward") in {region.path for region in report.regions}
    assert report.profiler_syncs == 1


def test_a_new_nsys_export_tells_the_story_of_its_copies(tmp_path: Path) -> None:
    report = analyse(read_trace(write_new(two_steps(), tmp_path / "a.sqlite")))
    # There is no profiler that waits in the end; operators are NVTX ranges of PyTorch's emit_nvtx.
    assert story(report) == TOLD | {
        "syncs": {"scalar_read": 2, "explicit_sync": 1},
        "idle_us": IDLE | {"host_sync": 16.0, "cpu_elsewhere": 34.0},
        "price_us": [104.0, 104.0],
    }
    assert report.source.versions == {"EXPORT_PRODUCT_VERSION": "2024.6.2", "EXPORT_SCHEMA_VERSION": "3.16.1"}
    assert ("ProfilerStep", "forward") in {region.path for region in report.regions}
    assert {site.api for site in report.sites} == {"cudaStreamSynchronize", "cudaDeviceSynchronize"}
    assert report.devices[0].name == "Made-up GPU"


def test_an_old_nsys_export_tells_it_too_without_operators(tmp_path: Path) -> None:
    report = analyse(read_trace(write_old(two_steps(), tmp_path / "a.sqlite")))
    assert story(report) == TOLD | {
        "syncs": {"d2h_copy": 2, "explicit_sync": 1},
        # Before its first call nothing is known of the thread.
        "idle_us": {
            "host_sync": 16.0,
            "after_sync": 50.0,
            "cpu_elsewhere": 36.0,
            "launch_overhead": 14.0,
            "queued": 4.0,
        },
        "price_us": [96.0, 96.0],  # without operators the copies stay
    }
    assert any("CUPTI's numbers are assumed" in note for note in report.notes)


def test_a_process_that_sees_one_gpu_only_is_charged_to_that_gpu(tmp_path: Path) -> None:
    report = analyse(read_trace(write_new(two_steps(), tmp_path / "a.sqlite", pid_of_gpu=5)))
    assert [device.device for device in report.devices] == [5]


def test_stacks_of_nsys_name_the_innermost_frame_of_the_program_and_prefer_python(tmp_path: Path) -> None:
    path = write_new(two_steps(), tmp_path / "a.sqlite")
    frames = [
        (1, 0, "cudaStreamSynchronize", "/usr/lib/libcudart.so.12"),
        (1, 1, "at::native::item", "/venv/lib/python3/site-packages/torch/lib/libtorch_cpu.so"),
        (1, 2, "my_extension::read", "/opt/mine/ext.so"),
        (1, 3, "forward models/attention.py:17", "[Python]"),
        (2, 0, "cudaDeviceSynchronize", "/usr/lib/libcudart.so.12"),
        (2, 1, "main", "/opt/mine/app"),
    ]
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE CUDA_CALLCHAINS (id INT, symbol INT, module INT, unresolved INT, stackDepth INT)")
        for i, (chain, depth, symbol, module) in enumerate(frames):
            db.executemany("INSERT INTO StringIds VALUES (?, ?)", [(1 + 2 * i, symbol), (2 + 2 * i, module)])
            db.execute("INSERT INTO CUDA_CALLCHAINS VALUES (?, ?, ?, 0, ?)", (chain, 1 + 2 * i, 2 + 2 * i, depth))
        for chain, name in ((1, "cudaStreamSynchronize_v3020"), (2, "cudaDeviceSynchronize_v3020")):
            of_name = "nameId = (SELECT id FROM StringIds WHERE value = ?)"
            db.execute(f"UPDATE CUPTI_ACTIVITY_KIND_RUNTIME SET callchainId = {chain} WHERE {of_name}", (name,))
    report = analyse(read_trace(path))
    assert report.source.has_stacks
    assert {(site.kind, site.file, site.line, site.function) for site in report.sites} == {
        ("scalar_read", "models/attention.py", 17, "forward"),
        ("explicit_sync", "app", 0, "main"),
    }


def test_replays_that_nsys_records_as_one_interval_keep_the_gpu_busy(tmp_path: Path) -> None:
    scene = Scene()
    for start in (0, 1000, 2000):
        number = scene.call("cudaGraphLaunch", start, start + 10)
        scene.works.append(Work("graph", "", start + 20, start + 900, number))
        scene.wait("cudaStreamSynchronize", start + 30, start + 910)
    report = analyse(read_trace(write_new(scene, tmp_path / "a.sqlite")))
    assert "CUDA GRAPHS: 3 replays" in report.warnings[0]
    assert report.is_idle_reliable
    assert report.gpu_busy_ms == pytest.approx(3 * 0.88)
    assert report.kernels == ()
    assert report.lost_gpu_ms == pytest.approx(2 * 0.12 + 0.01)  # the last wait ends 10 us after its work


def test_calls_of_two_processes_with_the_same_correlation_are_kept_apart(tmp_path: Path) -> None:
    path = write_new(two_steps(), tmp_path / "a.sqlite")
    with sqlite3.connect(path) as db:
        other = 1 << 60
        db.execute(
            "INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME "
            f"SELECT start, end, 0, globalTid + {other}, correlationId, nameId, 0, NULL "
            "FROM CUPTI_ACTIVITY_KIND_RUNTIME WHERE correlationId = 1"
        )
        db.execute("UPDATE CUPTI_ACTIVITY_KIND_RUNTIME SET start = start - 9000 WHERE globalTid > (1 << 60)")
    trace = read_trace(path)
    first = int(trace.call_of_activity[0])
    assert trace.threads[int(trace.calls.thread[first])] == "thread 100"
    assert trace.calls.start_us[first] == trace.calls.start_us.min() + 9


@pytest.mark.parametrize("chunk_bytes", [1, 7, 64, 1000, 1 << 20])
@pytest.mark.parametrize("name", ["new_file", "one_line", "list_first", "open_list", "odd_numbers"])
def test_a_file_reads_the_same_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunk_bytes: int
) -> None:
    path = write(tmp_path / "a.json", FILES[name](two_steps()))
    whole = read_trace(path)
    monkeypatch.setattr(kineto_stream, "CHUNK_BYTES", chunk_bytes)
    assert same(read_trace(path), whole)


def same(a: Trace, b: Trace) -> bool:
    tables = ("calls", "activities", "syncs", "ops", "annotations", "frames")
    if (a.names, a.threads, a.source.num_events) != (b.names, b.threads, b.source.num_events):
        return False
    return all(
        np.array_equal(getattr(getattr(a, table), column.name), getattr(getattr(b, table), column.name))
        for table in tables
        for column in dataclasses.fields(getattr(a, table))
    )


def test_text_that_looks_like_the_end_of_an_event_does_not_cut_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = two_steps()
    scene.op('"}, {"ph": "X"', 400, 410)
    found = events(scene)
    found[0]["args"] |= {"frames": [{"a": 1}, {"b": "]}, {"}, {"c": [{}, {}]}], "text": '}],"traceEvents":[{'}
    header = {"note": '"traceEvents": [ {"ph": "X"} ]', **HEADER}
    for chunk_bytes in (3, 50, 1 << 20):
        monkeypatch.setattr(kineto_stream, "CHUNK_BYTES", chunk_bytes)
        trace = read_trace(write(tmp_path / "a.json", json.dumps({**header, "traceEvents": found})))
        assert len(trace.ops) == 11
        assert '"}, {"ph": "X"' in trace.names


def test_names_of_any_bytes_are_kept_and_can_be_written(tmp_path: Path) -> None:
    scene = two_steps()
    scene.op("naïve ☃", 400, 410)
    data = new_file(scene).encode()
    path = tmp_path / "a.json"
    path.write_bytes(data.replace(b'"aten::mm"', b'"aten::m\xff\x01"'))
    names = read_trace(path).names
    assert "naïve ☃" in names
    assert next(name for name in names if name.startswith("aten::m")).encode("utf-8")


def test_nanoseconds_survive_in_times_since_1970(tmp_path: Path) -> None:
    event = '{"ph": "X", "cat": "cpu_op", "name": "a", "pid": 1, "tid": 1, "ts": 1705000000123456.789, "dur": 1.5}'
    text = f'{{"traceEvents": [{event}, {event.replace("456.789", "460.123")}]}}'
    trace = read_trace(write(tmp_path / "a.json", text))
    assert trace.ops.start_us.tolist() == [0.0, 3.334]


def test_a_list_that_nothing_closes_is_read_and_noted(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "a.json", FILES["open_list"](two_steps())))
    assert any("not closed" in note for note in trace.source.notes)


def test_times_that_make_no_sense_are_counted_in_the_notes(tmp_path: Path) -> None:
    events = [
        {"ph": "X", "cat": "cpu_op", "name": "good", "pid": 1, "tid": 1, "ts": 1.0, "dur": 2.0},
        {"ph": "X", "cat": "cpu_op", "name": "backwards", "pid": 1, "tid": 1, "ts": 5.0, "dur": -2.0},
        {"ph": "X", "cat": "cpu_op", "name": "when", "pid": 1, "tid": 1, "ts": "noon", "dur": 2.0},
    ]
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({"traceEvents": events}))
    trace = read_trace(path)
    assert trace.source.notes == (
        "events left out because their time cannot be read: 1",
        "events that end before they begin, taken to have no length: 1",
    )
    assert len(trace.ops) == 2


def test_progress_is_told_in_bytes_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", new_file(two_steps()), packed=True)
    heard: list[tuple[int, int]] = []
    read_trace(path, lambda done, total: heard.append((done, total)))
    assert heard[0][1] == path.stat().st_size
    assert heard[-1][0] == path.stat().st_size


def test_gpus_of_rocm_and_of_no_number_are_read(tmp_path: Path) -> None:
    scene = Scene()
    scene.op("aten::item", 0, 60)
    scene.memcpy((2, 50), (10, 40), "DtoH", api="hipMemcpyWithStream")
    scene.kernel((70, 75), (80, 90), api="hipExtModuleLaunchKernel")
    scene.wait("hipDeviceSynchronize", 95, 99, row=None)
    scene.kernel((100, 104), (106, 108), api="hipLaunchKernel")
    found = events(scene)
    for event in found:
        if event.get("cat") in ("kernel", "gpu_memcpy"):
            event |= {"args": {"correlation": event["args"]["correlation"]}, "pid": 3, "tid": "stream 2"}
            event["name"] = event["name"].replace("Memcpy DtoH (Device -> Pinned)", "CopyDeviceToHost")
    report = analyse(read_trace(write(tmp_path / "a.json", json.dumps({"traceEvents": found}))))
    assert report.syncs_by_kind == {"scalar_read": 1, "explicit_sync": 1}
    assert report.launches == 2
    assert [device.device for device in report.devices] == [3]


BROKEN = {
    "empty": b"",
    "blank": b" \n\t",
    "binary": b"\x00\x01\x02 not a trace" * 10,
    "text": b"just a log line",
    "foreign object": b'{"schema": "bagel-perf.result", "version": 1}',
    "number": b"17",
    "no events": b'{"traceEvents": []}',
    "no events, bare": b"[]",
    "events of others": b'[{"ph": "X", "cat": "gpu", "name": "a", "ts": 1, "dur": 1, "pid": 1, "tid": 1}]',
    "header cut off": b'{"schemaVersion": 1, "deviceProp',
    "half an escape": b'{"traceEvents": [{"ph": "X", "cat": "cpu_op", "name": "a\\u00',
    "zip": b"PK\x03\x04" + b"x" * 50,
    "zstd": b"\x28\xb5\x2f\xfd" + b"x" * 50,
    "gzip of nothing": gzip.compress(b""),
    "gzip, damaged": gzip.compress(b'{"traceEvents": [' + b" " * 9999)[:-20] + b"\x00" * 20,
    "header of gzip": b"\x1f\x8b",
    "header of sqlite": b"SQLite format 3\x00",
    "sqlite, damaged": b"SQLite format 3\x00" + b"\x07" * 5000,
    "word for a value": b'{"traceEvents": [{"ph": "X", "name": oops, "ts": 1}, {"ph": "X", "name": "b", "ts": 2}]}',
    "deep": b'{"traceEvents": ' + b"[" * 100_000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_trace_is_refused_in_one_line_that_names_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(BROKEN[name])
    with pytest.raises(UsageError) as caught:
        read_trace(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    assert caught.value.allowed
    assert caught.value.remedy


@pytest.mark.parametrize("name", ["new_file", "one_line", "list_first", "bare_list"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, name: str, packed: bool) -> None:
    data = FILES[name](two_steps()).rstrip().encode()
    data = gzip.compress(data) if packed else data
    path = tmp_path / "a.json"
    for cut in range(1, 200, 7):
        path.write_bytes(data[: len(data) - cut])
        whole_events = data[: len(data) - cut].rstrip(b" \n,").endswith(b"\n }")
        if name == "bare_list" and not packed and whole_events:
            assert read_trace(path).source.notes  # between two events the bracket is all that a list lacks
            continue
        with pytest.raises(UsageError, match=r"cut off|damaged|no trace"):
            read_trace(path)


def test_a_folder_a_missing_file_and_a_report_to_export_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        read_trace(tmp_path)
    with pytest.raises(UsageError, match=r"cannot be read \(.*gone.json\); No such file"):
        read_trace(tmp_path / "gone.json")
    with pytest.raises(UsageError, match=r"nsys export --type sqlite .*a.nsys-rep"):
        read_trace(tmp_path / "a.nsys-rep")


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as db:
        db.execute("CREATE TABLE people (id INTEGER)")
    with pytest.raises(UsageError, match="sqlite file is no trace"):
        read_trace(tmp_path / "a.db")


def test_an_export_without_events_or_with_texts_for_times_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trace is empty"):
        read_trace(write_new(Scene(), tmp_path / "a.sqlite").resolve())
    path = write_new(two_steps(), tmp_path / "b.sqlite")
    with sqlite3.connect(path) as db:
        db.execute("UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET start = 'soon'")
    with pytest.raises(UsageError, match="holds no numbers"):
        read_trace(path)


def test_an_export_that_cannot_be_written_to_is_read(tmp_path: Path) -> None:
    path = write_new(two_steps(), tmp_path / "odd name?#.sqlite")
    path.chmod(0o444)
    read_trace(path)
    assert [each.name for each in tmp_path.iterdir()] == ["odd name?#.sqlite"]
