"""A second of products of matrices on a real GPU shows in its clock, its power and its energy."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from bagel_perf.measure.gpu_lock import gpu_lock
from bagel_perf.measure.machine import THROTTLE_REASONS
from bagel_perf.measure.telemetry import Telemetry
from bagel_perf.records.errors import EnvironmentUnfit
from bagel_perf.records.runs import Conditions

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

DEVICE = torch.device("cuda")


@pytest.fixture(scope="module")
def telemetry() -> Iterator[Telemetry]:
    with Telemetry(DEVICE) as telemetry:
        if telemetry.warning is not None:
            pytest.skip(telemetry.warning)
        yield telemetry


@pytest.fixture(scope="module")
def busy(telemetry: Telemetry) -> Conditions:
    return conditions_of(telemetry, busy=True)


def conditions_of(telemetry: Telemetry, *, busy: bool, seconds: float = 1.5) -> Conditions:
    x_DD = torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16)
    torch.cuda.synchronize()
    telemetry.begin()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if busy:
            for _ in range(8):
                x_DD @ x_DD
            torch.cuda.synchronize()
        else:
            time.sleep(0.01)
    return telemetry.end()


def test_the_clocks_are_those_of_a_gpu_at_work(busy: Conditions) -> None:
    assert busy.num_samples >= 10
    assert busy.sm_clock_mhz is not None and 500 < busy.sm_clock_mhz < 4000
    assert busy.memory_clock_mhz is not None and 500 < busy.memory_clock_mhz < 20000
    assert busy.temperature_c is not None and 15 < busy.temperature_c < 110


def test_throttle_reasons_are_known_by_name(busy: Conditions) -> None:
    assert busy.throttle_reasons is not None
    assert set(busy.throttle_reasons) <= set(THROTTLE_REASONS)


def test_energy_and_the_mean_of_the_power_agree(busy: Conditions) -> None:
    assert busy.power_w is not None and 50 < busy.power_w < 2000
    if busy.energy_j is None:
        pytest.skip("this GPU has no energy counter")
    # The counter is updated in steps, and the first samples lie on the way up from idle.
    assert 0.6 < busy.energy_j / (busy.power_w * busy.window_ms / 1e3) < 1.6


def test_work_takes_more_energy_than_waiting(telemetry: Telemetry, busy: Conditions) -> None:
    time.sleep(1)
    idle = conditions_of(telemetry, busy=False)
    if idle.energy_j is None or busy.energy_j is None:
        pytest.skip("this GPU has no energy counter")
    assert 1.5 * idle.energy_j / idle.window_ms < busy.energy_j / busy.window_ms


def test_this_process_is_no_other(busy: Conditions) -> None:
    assert busy.other_processes in (0, None)


def test_begin_and_end_cost_milliseconds(telemetry: Telemetry) -> None:
    costs_ms = []
    for _ in range(20):
        start = time.perf_counter()
        telemetry.begin()
        telemetry.end()
        costs_ms.append((time.perf_counter() - start) * 1e3)
    print(f"begin and end together: median {sorted(costs_ms)[10]:.2f} ms, highest {max(costs_ms):.2f} ms")
    assert sorted(costs_ms)[10] < 100


def test_a_held_gpu_is_refused() -> None:
    with gpu_lock(DEVICE), pytest.raises(EnvironmentUnfit, match="another run"), gpu_lock(DEVICE):
        pytest.fail("a GPU is held twice")
