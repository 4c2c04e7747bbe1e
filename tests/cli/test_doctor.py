"""``doctor`` says what a machine can measure, and nothing odd about the machine ends it."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from bagel_perf.cli import main
from bagel_perf.commands import doctor, doctor_machine
from bagel_perf.commands.doctor import torch_row
from bagel_perf.measure.gpu_lock import lock_of_uuid
from bagel_perf.measure.torch_facts import facts
from bagel_perf.records.diagnosis import Row, TorchFacts
from fake_nvml import UUID, FakeGpu, FakeNvml

CUDA_BUILD = TorchFacts(version="2.13.0+cu130", cuda="13.0", sees_gpu=True, records_kernels=True)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with nothing in it, which is also that of the locks."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def gpu_row(gpu: FakeGpu, nowhere: Path) -> Row:
    found = doctor_machine.look(FakeNvml([gpu]), nowhere / "driver")
    assert found.is_there and found.may_be_there
    (row,) = found.rows
    return row


def test_the_command_tells_as_json_what_it_found_and_ends_well(capfd: pytest.CaptureFixture[str]) -> None:
    begun_s = time.monotonic()
    assert main(["doctor", "--json", "-"]) == 0
    assert torch.cuda.is_available() or time.monotonic() - begun_s < 10  # 1 s where nothing else runs
    out, err = capfd.readouterr()
    data = json.loads(out)
    assert (data["schema"], data["version"]) == ("bagel-perf.doctor", 1)
    rows = {row["what"]: row for row in data["rows"]}
    assert {row["state"] for row in rows.values()} <= {"ok", "limited", "missing"}
    assert {"Python", "torch", "profiler", "Triton", "CPU cores", "memory", "git", "nsys", "diffusers"} <= rows.keys()
    assert torch.__version__ in rows["torch"]["found"]
    assert err.rstrip().splitlines()[-1] == f"next: {data['next']}"


def test_quiet_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--quiet", "--json", str(tmp_path / "d.json")]) == 0
    assert capfd.readouterr() == ("", "")
    assert json.loads((tmp_path / "d.json").read_text())["rows"]


def test_a_gpu_that_nothing_disturbs_is_ok(nowhere: Path) -> None:
    row = gpu_row(FakeGpu(), nowhere)
    assert (row.state, row.remedy, row.is_needed) == ("ok", "", False)
    assert row.found == "NVIDIA H200, driver 570.1, 1.5 of 140 GiB in use, 1980 of 1980 MHz, clocks are not locked"
    assert gpu_row(FakeGpu(throttle_bits=[2]), nowhere).found.endswith("clocks are set")
    assert gpu_row(FakeGpu(throttle_bits=[1]), nowhere).found.endswith("MHz"), "an idle GPU does not tell"


@pytest.mark.parametrize(
    ("gpu", "means", "remedy"),
    [
        (FakeGpu(pids=[[1234567]]), "1 other process has a context on it", "stop them"),
        (FakeGpu(has_mig=True), "MIG is on", ""),
        (FakeGpu(is_persistent=False), "persistence mode is off", "nvidia-smi -i 0 -pm 1"),
        (FakeGpu(pids=[None]), "NVML does not tell which processes use it", ""),
    ],
)
def test_what_disturbs_latencies_on_a_gpu_is_named_with_its_remedy(
    gpu: FakeGpu, means: str, remedy: str, nowhere: Path
) -> None:
    row = gpu_row(gpu, nowhere)
    assert row.state == "limited" and means in row.means and remedy in row.remedy


def test_a_gpu_that_another_run_holds_is_what_to_mend_first(nowhere: Path) -> None:
    with lock_of_uuid(UUID):
        row = gpu_row(FakeGpu(), nowhere)
    assert row.is_needed and "measures on it, so a run is refused" in row.means
    assert doctor.next_step([row], can_time=True).startswith("wait for it, or stop it")


def test_a_gpu_that_tells_nothing_still_has_a_row(nowhere: Path) -> None:
    silent = FakeGpu(is_mute=True, sm_clock_mhz=[None], throttle_bits=[None], pids=[None], power_mw=[None])
    assert gpu_row(silent, nowhere).found == "a GPU without a name, driver 570.1"


def test_without_a_gpu_counts_are_promised_and_latencies_are_not(nowhere: Path) -> None:
    found = doctor_machine.look(FakeNvml([]), nowhere / "driver")
    assert not found.may_be_there and found.rows[0].state == "missing"
    measures = doctor.measures(TorchFacts(version="2.13.0+cpu"), can_time=False)
    assert "simulated device" in measures["host syncs"] and "says nothing about a GPU" in measures["latency"]
    assert doctor.next_step(found.rows, can_time=False).startswith("bagel-perf syncs")


def test_a_driver_without_its_library_is_told_from_no_driver(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nowhere / "driver").touch()
    (row,) = doctor_machine.look(FakeNvml([]), nowhere / "driver").rows
    assert row.state == "limited" and "NVML Shared Library Not Found" in row.found and "nvidia-smi" in row.remedy
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert doctor_machine.look(None, nowhere / "driver").rows[0].remedy == "pip install nvidia-ml-py"


@pytest.mark.parametrize(
    ("found", "has_gpu", "state", "remedy"),
    [
        (TorchFacts(), False, "missing", "pip install 'bagel-perf[torch]'"),
        (TorchFacts(version="2.13.0+cpu"), False, "ok", ""),
        (TorchFacts(version="2.13.0+cpu", sees_gpu=False), True, "limited", "install a CUDA build"),
        (
            TorchFacts(version="2.13.0", cuda="13.0", sees_gpu=False, problem="old driver"),
            True,
            "limited",
            "nvidia-smi",
        ),
        (TorchFacts(version="2.99.0"), False, "limited", "install a tested release"),
        (CUDA_BUILD, True, "ok", ""),
    ],
)
def test_a_torch_is_judged_by_its_build_and_release(found: TorchFacts, has_gpu: bool, state: str, remedy: str) -> None:
    row = torch_row(found, has_gpu=has_gpu)
    assert row.state == state and remedy in row.remedy
    step = doctor.next_step([row], can_time=has_gpu)
    assert row.remedy in step if row.is_needed else step.startswith("bagel-perf ")


def test_a_profiler_that_sees_no_kernel_costs_the_gpu_work_alone() -> None:
    blind = TorchFacts(version="2.13.0", cuda="13.0", sees_gpu=True, records_kernels=False, problem="CUPTI: busy")
    row = doctor_machine.profiler_row(blind, has_gpu=True)
    assert row.state == "limited" and "CUPTI: busy" in row.found
    measures = doctor.measures(blind, can_time=True)
    assert measures["latency"] == "timed on the GPU" and measures["GPU work"].startswith("no")
    assert doctor_machine.profiler_row(CUDA_BUILD, has_gpu=True).state == "ok"


def test_torch_is_looked_at_in_a_process_whose_failure_is_told() -> None:
    assert doctor.torch_facts(with_gpu=False) == TorchFacts(version=torch.__version__, cuda=torch.version.cuda)
    for script in ("1/0", "print('no json')", "pass"):
        assert doctor.torch_facts(with_gpu=True, command=(sys.executable, "-c", script)).problem
    assert doctor.torch_facts(with_gpu=True, command=("/nonexistent",)).problem


@pytest.mark.skipif(torch.cuda.is_available(), reason="for a machine without a GPU")
def test_a_torch_without_a_gpu_sees_none() -> None:
    found = facts(with_gpu=True)
    assert (found.sees_gpu, found.records_kernels, found.problem) == (False, None, None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_kernel_is_recorded_on_a_gpu() -> None:
    assert doctor.torch_facts(with_gpu=True).records_kernels


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({}, None),
        ({"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "50000 100000"}, 0.5),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, None),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"proc/self/cgroup": "\xff nonsense", "sys/fs/cgroup/cpu.max": "many cores"}, None),
    ],
)
def test_the_quota_of_a_container_is_found(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert doctor_machine.cpu_quota(written(tmp_path, files)) == quota
    assert (doctor_machine.cores_row(tmp_path).state == "limited") >= (quota is not None and quota < 1)


def test_the_smaller_of_machine_and_container_bounds_memory(tmp_path: Path) -> None:
    assert doctor_machine.memory_row(tmp_path).found == "not told here"
    files = {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 8388608 kB\n", "sys/fs/cgroup/memory.max": f"{6 << 30}"}
    root = written(tmp_path, {**files, "sys/fs/cgroup/memory.current": f"{3 << 30}"})
    row = doctor_machine.memory_row(root)
    assert (row.state, row.found) == ("limited", "3.0 GiB free")


def test_a_governor_that_follows_the_load_is_told(tmp_path: Path) -> None:
    assert doctor_machine.clock_row(tmp_path).state == "ok"
    root = written(tmp_path, {"sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n"})
    assert "cpupower" in doctor_machine.clock_row(root).remedy


def test_a_probe_that_fails_has_a_row_and_ends_nothing() -> None:
    fine = Row(what="fine", state="ok", found="it")
    broken, last = doctor.rows_of(
        ("disk", lambda: doctor_machine.disk_rows(Path("/nonexistent"))), ("x", lambda: [fine])
    )
    assert (broken.what, broken.state, last) == ("disk", "limited", fine)
    assert "FileNotFoundError" in broken.found
