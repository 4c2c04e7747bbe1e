"""Telemetry of runs: the process that samples, on a double of NVML, and what is left when it is lost."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

from bagel_perf.measure import telemetry as telemetry_module
from bagel_perf.measure.telemetry import SAMPLER_COMMAND, Telemetry, gpu_uuid
from bagel_perf.measure.telemetry_process import PERIOD_S
from bagel_perf.records.runs import Conditions
from fake_nvml import OTHER_UUID, UUID, FakeGpu, sampler_command

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_module, "gpu_uuid", lambda device: UUID)


def conditions_of(command: Sequence[str], seconds: float = 0.0) -> tuple[Conditions, str | None]:
    with Telemetry(CUDA, command) as telemetry:
        return window_of(telemetry, seconds), telemetry.warning


def window_of(telemetry: Telemetry, seconds: float = 0.1) -> Conditions:
    """Conditions of a run that sleeps; of less than some ticks of 10 ms no load is known."""
    telemetry.begin()
    time.sleep(seconds)
    return telemetry.end()


@pytest.mark.usefixtures("on_a_gpu")
def test_conditions_come_from_the_gpu_of_the_device_whatever_its_index() -> None:
    other = FakeGpu(uuid=OTHER_UUID, sm_clock_mhz=[300], energy_mj=[0, 9_000_000])
    ours = FakeGpu(energy_mj=[1_000, 250_000], throttle_bits=[0x4])
    conditions, warning = conditions_of(sampler_command(other, ours))
    assert warning is None
    assert (conditions.sm_clock_mhz, conditions.energy_j) == (1980.0, 249.0)
    assert conditions.throttle_reasons == ("sw_power_cap",)


@pytest.mark.usefixtures("on_a_gpu")
def test_a_run_is_sampled_about_twenty_times_a_second() -> None:
    conditions, _ = conditions_of(sampler_command(FakeGpu(), period_s=PERIOD_S), seconds=1.0)
    assert PERIOD_S == 0.05
    assert 5 <= conditions.num_samples <= 21  # a busy machine samples less, none samples more
    assert 1000 <= conditions.window_ms < 2000


@pytest.mark.usefixtures("on_a_gpu")
def test_each_run_has_its_own_window() -> None:
    fake = FakeGpu(energy_mj=[1_000, 5_000, 6_000, 6_500], temperature_c=[60, 90, 60, 61])
    with Telemetry(CUDA, sampler_command(fake)) as telemetry:
        windows = []
        for _ in range(2):
            telemetry.begin()
            windows.append(telemetry.end())
    assert [(each.energy_j, each.temperature_c) for each in windows] == [(4.0, 90.0), (0.5, 61.0)]


@pytest.mark.usefixtures("on_a_gpu")
def test_between_runs_the_gpu_is_left_alone() -> None:
    count_up = FakeGpu(temperature_c=list(range(1000)))
    with Telemetry(CUDA, sampler_command(count_up, period_s=0.01)) as telemetry:
        window_of(telemetry, seconds=0)
        time.sleep(0.5)
        temperature_c = window_of(telemetry, seconds=0).temperature_c
    assert temperature_c is not None and temperature_c < 20


@pytest.mark.usefixtures("on_a_gpu")
def test_a_run_that_failed_before_its_end_is_no_part_of_the_next() -> None:
    with Telemetry(CUDA, sampler_command(FakeGpu(energy_mj=[0, 5_000]))) as telemetry:
        telemetry.begin()
        telemetry.begin()
        assert telemetry.end().energy_j == 0.0


@pytest.mark.usefixtures("on_a_gpu")
def test_a_sampler_that_is_killed_midway_costs_its_values_and_not_the_measurement() -> None:
    with Telemetry(CUDA, sampler_command(FakeGpu(dies_at=3))) as telemetry:
        before, warned_before = window_of(telemetry), telemetry.warning
        after, warned_after = window_of(telemetry), telemetry.warning
        later = window_of(telemetry)
    assert warned_before is None
    assert warned_after is not None and "signal 9" in warned_after
    assert before.sm_clock_mhz == 1980.0
    assert (after.sm_clock_mhz, after.num_samples, later.sm_clock_mhz) == (None, 0, None)
    assert (before.cpu_load is None) == (after.cpu_load is None) == (later.cpu_load is None)


@pytest.mark.usefixtures("on_a_gpu")
def test_a_driver_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REPLY_TIMEOUT_S", "GRACE_S"):
        monkeypatch.setattr(telemetry_module, name, 0.5)
    conditions, warning = conditions_of(sampler_command(FakeGpu(hangs_at=1)))
    assert conditions.sm_clock_mhz is None
    assert warning is not None and "did not answer within 0.5 s" in warning


@pytest.mark.usefixtures("on_a_gpu")
@pytest.mark.parametrize(
    ("command", "words"),
    [
        (SAMPLER_COMMAND, "NVML is not usable"),
        (sampler_command(), "NVML Shared Library Not Found"),
        (sampler_command(FakeGpu(uuid=OTHER_UUID)), "Not Found"),
        ((sys.executable, "-c", "print('nonsense')"), "nonsense"),
        ((sys.executable, "-c", "raise SystemExit(3)"), "exit code 3"),
        (("/no/such/program",), "cannot be started"),
    ],
)
def test_without_nvml_there_is_the_load_of_the_cpu_and_a_warning(command: tuple[str, ...], words: str) -> None:
    conditions, warning = conditions_of(command)
    assert conditions.sm_clock_mhz is None and conditions.window_ms > 0
    assert warning is not None and words in warning


def test_off_cuda_nothing_is_started_and_nothing_is_amiss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **kwargs: pytest.fail("a process was started"))
    with Telemetry(CPU) as telemetry:
        telemetry.begin()
        time.sleep(0.05)
        conditions = telemetry.end()
    assert telemetry.warning is None and conditions.window_ms >= 50
    assert conditions.num_samples == 0


@pytest.mark.usefixtures("on_a_gpu")
def test_the_sampler_ends_with_the_context() -> None:
    with Telemetry(CUDA, sampler_command(FakeGpu())) as telemetry:
        assert telemetry._sampler is not None
        process = telemetry._sampler._process
        telemetry.begin()  # and no end
    assert process.poll() == 0


def test_the_uuid_is_that_of_the_torch_device(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = {0: SimpleNamespace(uuid=OTHER_UUID), 1: SimpleNamespace(uuid=UUID), 2: SimpleNamespace()}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties[device.index])
    assert [gpu_uuid(torch.device("cuda", index)) for index in range(3)] == [OTHER_UUID, UUID, None]
    assert gpu_uuid(CPU) is None


def test_the_telemetry_process_loads_no_torch() -> None:
    script = "import sys, bagel_perf.measure.telemetry_process; print({'torch', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
