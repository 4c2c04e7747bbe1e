"""The load of the host's cores, with this process and without."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bagel_perf.measure.machine import CpuTimes, cpu_loads


def times(total_s: float, busy_s: float, own_s: float) -> CpuTimes:
    return CpuTimes(total_s=total_s, busy_s=busy_s, own_s=own_s)


def test_load_is_the_share_of_all_cores_that_was_not_idle() -> None:
    load, of_others = cpu_loads(times(100, 40, 5), times(116, 44, 8))  # 16 core seconds, 4 busy, 3 of them ours
    assert (load, of_others) == (0.25, 1 / 16)


def test_shares_stay_shares_where_ticks_are_coarse() -> None:
    assert cpu_loads(times(0, 0, 0), times(1, 1.01, 1.02)) == (1.0, 0.0)


@pytest.mark.parametrize("end", [None, times(100, 40, 5)])
def test_a_clock_that_stands_gives_no_load(end: CpuTimes | None) -> None:
    assert cpu_loads(times(100, 40, 5), end) == (None, None)


def test_waiting_for_a_disk_is_idle_and_stolen_time_is_not(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  100 0 100 500 200 0 0 100 50 0\ncpu0 1 1 1 1\n")
    read = CpuTimes.now(stat)
    assert read is not None and read.busy_s / read.total_s == 0.3


@pytest.mark.parametrize("text", ["", "cpu  1 2 3", "cpu a b c d e f g h"])
def test_a_system_that_keeps_no_times_gives_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "stat").write_text(text)
    assert CpuTimes.now(tmp_path / "stat") is None
    assert CpuTimes.now(tmp_path / "nowhere") is None


def test_a_busy_loop_is_ours() -> None:
    start, deadline = CpuTimes.now(), time.monotonic() + 0.3
    while time.monotonic() < deadline:
        pass
    load, of_others = cpu_loads(start, CpuTimes.now())
    if load is None or of_others is None:
        pytest.skip("this system keeps no times of its cores")
    assert load > of_others
