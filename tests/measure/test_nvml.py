"""Readings of a GPU, and what is made of them: on a double of NVML."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bagel_perf.measure.machine import THROTTLE_REASONS, Gpu, Reading, throttle_names
from bagel_perf.measure.telemetry_process import count_others, summarize
from fake_nvml import OTHER_UUID, UUID, FakeGpu, FakeNvml, NVMLError

OWNER = os.getpid()


def gpu_on(fake: FakeGpu) -> Gpu:
    return Gpu.of_uuid(FakeNvml([fake]), fake.uuid, OWNER)


def readings_of(fake: FakeGpu, number: int = 3) -> list[Reading]:
    gpu = gpu_on(fake)
    return [gpu.read() for _ in range(number)]


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0, set()),
        (0x1, {"gpu_idle"}),
        (0x4, {"sw_power_cap"}),
        (0x20 | 0x40 | 0x80, {"sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake"}),
        (1 << 40 | 0x8, {"bit_40", "hw_slowdown"}),
    ],
)
def test_a_bit_mask_becomes_names_and_a_bit_without_one_keeps_its_number(bits: int, names: set[str]) -> None:
    assert throttle_names(bits) == names


def test_the_names_stand_at_the_bits_of_pynvml() -> None:
    pynvml = pytest.importorskip("pynvml")
    of_pynvml = {
        "gpu_idle": "GpuIdle",
        "application_clocks": "ApplicationsClocksSetting",
        "sw_power_cap": "SwPowerCap",
        "hw_slowdown": "HwSlowdown",
        "sync_boost": "SyncBoost",
        "sw_thermal_slowdown": "SwThermalSlowdown",
        "hw_thermal_slowdown": "HwThermalSlowdown",
        "hw_power_brake": "HwPowerBrakeSlowdown",
        "display_clocks": "DisplayClockSetting",
    }
    for name, constant in of_pynvml.items():
        assert getattr(pynvml, f"nvmlClocksEventReason{constant}") == 1 << THROTTLE_REASONS.index(name)


@pytest.mark.parametrize("name", [name for name in vars(FakeNvml) if not name.startswith("_")])
def test_the_double_has_only_what_pynvml_has(name: str) -> None:
    pynvml = pytest.importorskip("pynvml")
    ours = getattr(FakeNvml, name)
    assert hasattr(pynvml, name) and (not isinstance(ours, int) or ours == getattr(pynvml, name))


@pytest.mark.parametrize("order", [(UUID, OTHER_UUID), (OTHER_UUID, UUID)])
def test_a_gpu_is_found_by_its_uuid_whatever_its_index(order: tuple[str, str]) -> None:
    fakes = [FakeGpu(uuid=uuid, sm_clock_mhz=[1000 if uuid == UUID else 2000]) for uuid in order]
    assert Gpu.of_uuid(FakeNvml(fakes), UUID, OWNER).read().sm_clock_mhz == 1000


def test_a_part_of_a_gpu_is_found_too() -> None:
    assert gpu_on(FakeGpu(prefix="MIG-", pids=[[OWNER]])).read().own_pids == frozenset({OWNER})


def test_a_gpu_that_is_not_there_is_an_error_of_nvml() -> None:
    with pytest.raises(NVMLError):
        Gpu.of_uuid(FakeNvml([FakeGpu()]), OTHER_UUID, OWNER)


def test_each_value_that_cannot_be_read_is_none_for_itself() -> None:
    reading = gpu_on(FakeGpu(temperature_c=[None], energy_mj=[None], pids=[None], throttle_bits=[None])).read()
    assert (reading.temperature_c, reading.energy_j, reading.own_pids, reading.throttle_reasons) == (None,) * 4
    assert (reading.sm_clock_mhz, reading.memory_clock_mhz, reading.power_w) == (1980, 2619, 500.0)


def test_power_is_the_mean_of_the_last_second_only_where_there_is_none_of_the_moment() -> None:
    assert gpu_on(FakeGpu(power_mw=[None])).read().power_w == 100.0
    assert gpu_on(FakeGpu(power_mw=[None], average_power_mw=[None])).read().power_w is None


def test_the_reading_before_the_run_counts_for_the_energy_alone() -> None:
    idle_first = FakeGpu(
        sm_clock_mhz=[345, 1900, 1980, 1980],
        throttle_bits=[0x1, 0x4, 0, 0x10],
        temperature_c=[90, 60, 64, 63],
        power_mw=[70_000, 600_000, 700_000, 500_000],
        energy_mj=[10_000, 11_000, 12_000, 910_500],
    )
    conditions = summarize(readings_of(idle_first, 4))
    assert (conditions.sm_clock_mhz, conditions.sm_clock_min_mhz, conditions.num_samples) == (1980.0, 1900.0, 3)
    assert conditions.throttle_reasons == ("sw_power_cap", "sync_boost")
    assert (conditions.temperature_c, conditions.power_w, conditions.energy_j) == (64.0, 600.0, 900.5)


@pytest.mark.parametrize("energy_mj", [[None], [5_000, None], [None, 5_000], [5_000, 6_000, 10]])
def test_a_counter_that_is_absent_or_went_back_gives_no_energy(energy_mj: list[int | None]) -> None:
    assert summarize(readings_of(FakeGpu(energy_mj=energy_mj))).energy_j is None


def test_a_gpu_that_tells_nothing_gives_conditions_without_values() -> None:
    silent = FakeGpu(
        sm_clock_mhz=[None],
        memory_clock_mhz=[None],
        throttle_bits=[None],
        temperature_c=[None],
        power_mw=[None],
        average_power_mw=[None],
        energy_mj=[None],
        pids=[None],
    )
    conditions = summarize(readings_of(silent))
    assert (conditions.sm_clock_mhz, conditions.throttle_reasons, conditions.other_processes) == (None, None, None)
    assert conditions.num_samples == 2


@pytest.fixture
def children() -> Iterator[list[int]]:
    """PIDs of two processes that this one started."""
    command = [sys.executable, "-c", "input()"]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE) for _ in range(2)]
    yield [process.pid for process in processes]
    for process in processes:
        process.communicate(b"\n")


def test_the_own_process_its_children_and_those_that_wait_for_it_are_no_others(children: list[int]) -> None:
    readings = readings_of(FakeGpu(pids=[[OWNER, os.getppid(), *children]]))
    assert readings[0].own_pids == frozenset({OWNER, os.getppid(), *children})
    assert count_others(readings) == 0


def test_a_sibling_is_another_process(children: list[int]) -> None:
    ours, sibling = children
    gpu = Gpu(nvml=FakeNvml([]), handle=FakeGpu(pids=[[OWNER, ours, sibling]]), owner=ours)
    assert gpu.read().other_pids == frozenset({sibling})


def test_a_process_that_came_and_went_counts() -> None:
    assert count_others(readings_of(FakeGpu(pids=[[OWNER], [OWNER, 999_999_999], [OWNER]]))) == 1


@pytest.mark.parametrize(
    ("listed", "num_others"),
    [([999_999_991], 0), ([999_999_991, 999_999_992], 1), ([], None)],
)
def test_where_nvml_numbers_processes_as_the_host_does_one_of_them_is_ours(
    listed: list[int], num_others: int | None
) -> None:
    assert count_others(readings_of(FakeGpu(pids=[listed]))) == num_others
