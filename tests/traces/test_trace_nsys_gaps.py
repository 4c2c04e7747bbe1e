"""What an Nsight Systems export lacks is said, and never read as a number or a count of 0."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bagel_perf.records.errors import UsageError
from bagel_perf.traces.analyse import analyse
from bagel_perf.traces.formats.reading import read_trace
from bagel_perf.traces.trace import Trace
from nsys_files import write_new, write_old
from trace_scenes import two_steps

RUNTIME, KERNEL = "CUPTI_ACTIVITY_KIND_RUNTIME", "CUPTI_ACTIVITY_KIND_KERNEL"


def changed(tmp_path: Path, *statements: str) -> Trace:
    """The trace of two steps after some changes of its database."""
    path = write_new(two_steps(), tmp_path / "a.sqlite")
    with closing(sqlite3.connect(path)) as db, db:
        for table in (RUNTIME, KERNEL):  # without the constraints, which columns of other versions do not have
            db.execute(f"CREATE TABLE loose AS SELECT * FROM {table}")
            db.execute(f"DROP TABLE {table}")
            db.execute(f"ALTER TABLE loose RENAME TO {table}")
        for statement in statements:
            db.execute(statement)
    trace = read_trace(path)
    analyse(trace)
    return trace


def names(trace: Trace) -> set[str]:
    return {trace.names[number] for number in trace.activities.name if not trace.names[number].startswith("Memcpy")}


def test_without_names_of_strings_calls_and_kernels_are_counted_as_unnamed(tmp_path: Path) -> None:
    trace = changed(tmp_path, "DROP TABLE StringIds")
    assert trace.source.num_unnamed_calls == len(trace.calls)
    assert trace.source.notes == (
        "calls without a name (the export lacks StringIds), so waits and launches are unknown: 11",
        "kernels without a name (the export lacks StringIds): 6",
    )
    assert {trace.names[number].split()[0] for number in trace.calls.name} == {"call"}


def test_a_single_call_without_a_name_is_counted(tmp_path: Path) -> None:
    trace = changed(tmp_path, f"UPDATE {RUNTIME} SET nameId = NULL WHERE correlationId = 1")
    assert trace.source.num_unnamed_calls == 1


@pytest.mark.parametrize("value", ["0", "NULL", "-1", "123456"])
def test_a_kernel_without_its_whole_name_has_its_short_one(tmp_path: Path, value: str) -> None:
    trace = changed(tmp_path, f"UPDATE {KERNEL} SET demangledName = {value}")
    assert names(trace) == {"gemm"}
    assert not trace.source.notes


def test_a_kernel_without_any_name_has_a_number(tmp_path: Path) -> None:
    trace = changed(tmp_path, f"UPDATE {KERNEL} SET demangledName = 0, shortName = 77 WHERE correlationId = 1")
    assert names(trace) == {"gemm", "kernel 77 (name unknown)"}
    assert trace.source.notes == ("kernels without a name: 1",)


@pytest.mark.parametrize("column", ["globalTid", "globalPid", "deviceId", "streamId", "correlationId", "callchainId"])
def test_null_in_any_other_column_is_unknown(tmp_path: Path, column: str) -> None:
    table = RUNTIME if column in ("globalTid", "callchainId") else KERNEL
    trace = changed(tmp_path, f"UPDATE {table} SET {column} = NULL WHERE correlationId = 1")
    assert len(trace.calls) == 11
    assert trace.activities.device.min() == 0


def test_a_process_of_null_is_the_only_one_that_there_is(tmp_path: Path) -> None:
    trace = changed(tmp_path, f"UPDATE {KERNEL} SET globalPid = NULL")
    assert (trace.call_of_activity >= 0).all()


@pytest.mark.parametrize("value", ["NULL", "-5", "9000000000000000000"])
def test_a_row_without_a_time_is_left_out_and_counted(tmp_path: Path, value: str) -> None:
    whole = changed(tmp_path)
    trace = changed(tmp_path, f"UPDATE {KERNEL} SET start = {value} WHERE correlationId = 1")
    assert len(trace.activities) == len(whole.activities) - 1
    assert trace.end_us == whole.end_us
    assert trace.source.num_unreadable_activities == 1
    assert trace.source.notes[0] == "events left out because their time cannot be read: 1"


def test_a_table_without_times_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="column start is missing"):
        changed(tmp_path, f"ALTER TABLE {KERNEL} RENAME COLUMN start TO begin")


def test_numbers_that_are_texts_are_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no numbers") as caught:
        changed(tmp_path, f"UPDATE {KERNEL} SET streamId = '{'9' * 5000}'")
    assert len(str(caught.value)) < 300


def test_an_old_export_without_processes_is_matched_by_number_alone(tmp_path: Path) -> None:
    path = write_old(two_steps(), tmp_path / "old.sqlite")
    assert (read_trace(path).call_of_activity >= 0).all()
