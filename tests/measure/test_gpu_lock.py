"""One run at a time holds a GPU, and a run that died holds none."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from bagel_perf.measure import telemetry
from bagel_perf.measure.gpu_lock import gpu_lock, holder_of, lock_of_uuid
from bagel_perf.records.errors import EnvironmentUnfit
from fake_nvml import OTHER_UUID, UUID

HOLD = f"""
from bagel_perf.measure.gpu_lock import lock_of_uuid
with lock_of_uuid({UUID!r}):
    print("held", flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@contextmanager
def another_run() -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until its input closes."""
    command, pipe = [sys.executable, "-c", HOLD], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_gpu_that_another_process_holds_is_refused_with_its_number_until_it_dies() -> None:
    with another_run() as process:
        with pytest.raises(EnvironmentUnfit) as refused, lock_of_uuid(UUID):
            pytest.fail("two runs hold one GPU")
        assert str(refused.value) == (f"another run is using this GPU (process {process.pid}); wait for it, or stop it")
        assert refused.value.exit_code == 5
        process.kill()
        process.wait()
        with lock_of_uuid(UUID):
            pass


def test_another_gpu_is_free() -> None:
    with another_run() as process, lock_of_uuid(OTHER_UUID):
        assert process.poll() is None, "both are held at once"


def test_one_process_holds_a_gpu_once_and_may_take_it_again() -> None:
    with lock_of_uuid(UUID):
        with pytest.raises(EnvironmentUnfit, match=f"process {os.getpid()}"), lock_of_uuid(UUID):
            pytest.fail("a GPU is held twice")
        with pytest.raises(EnvironmentUnfit), lock_of_uuid(UUID):
            pytest.fail("being refused let go of the lock")
    with lock_of_uuid(UUID):
        pass


def test_a_run_that_fails_lets_go() -> None:
    with pytest.raises(RuntimeError), lock_of_uuid(UUID):
        raise RuntimeError
    with lock_of_uuid(UUID):
        pass


def test_the_file_can_be_locked_by_every_user_and_stays_in_the_folder(folder: Path) -> None:
    mask = os.umask(0o077)
    try:
        with lock_of_uuid("../GPU/../x y"):
            (file,) = folder.iterdir()
    finally:
        os.umask(mask)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave a file of another user")
def test_the_file_of_another_user_is_locked_too_in_a_folder_like_tmp(folder: Path) -> None:
    """Which filelock 4 refuses, so that whoever came first would keep a GPU from all others for good."""
    folder.chmod(0o1777)
    file = folder / f"bagel-perf-gpu-{UUID}.lock"
    file.touch(0o666)
    os.chown(file, 65534, 65534)
    with lock_of_uuid(UUID), pytest.raises(EnvironmentUnfit), lock_of_uuid(UUID):
        pytest.fail("two runs hold one GPU")


def test_a_file_that_is_no_lock_is_one_line_with_its_path(folder: Path) -> None:
    (folder / "elsewhere").write_text("precious")
    (folder / f"bagel-perf-gpu-{UUID}.lock").symlink_to(folder / "elsewhere")
    with pytest.raises(EnvironmentUnfit, match=r"cannot be opened .*\.lock.*; remove the file"), lock_of_uuid(UUID):
        pytest.fail("a link was followed")
    assert (folder / "elsewhere").read_text() == "precious"


def test_a_device_is_locked_by_its_uuid_and_a_cpu_by_nothing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    with gpu_lock(torch.device("cpu")), gpu_lock(torch.device("cpu")):
        assert list(folder.iterdir()) == []
    monkeypatch.setattr(telemetry, "gpu_uuid", lambda device: UUID)
    with gpu_lock(torch.device("cuda")):
        assert [file.name for file in folder.iterdir()] == [f"bagel-perf-gpu-{UUID}.lock"]


def test_who_holds_a_gpu_is_told_without_taking_it() -> None:
    assert holder_of(UUID) is None
    with lock_of_uuid(UUID):
        assert holder_of(UUID) == f"process {os.getpid()}"
        assert holder_of(OTHER_UUID) is None
    assert holder_of(UUID) is None
    with lock_of_uuid(UUID):  # looking left nothing held
        pass
