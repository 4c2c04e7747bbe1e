"""Which device a wait is for, whether the program works on another one, and whether a collective waits."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import distributed

from bagel_perf.syncs import targets
from bagel_perf.syncs.hearing import Details, hearing
from bagel_perf.syncs.sites import SyncCollector
from bagel_perf.syncs.targets import Target, files_between, library_of, noting_targets, other_device, target_of_cuda
from fake_waits import Source, in_raw_thread

FOLDER = Path(torch.__file__).parent
COLLECTIVE = str(FOLDER / "distributed" / "distributed_c10d.py")
CHECKPOINT = str(FOLDER / "distributed" / "checkpoint" / "utils.py")
TENSOR = str(FOLDER / "_tensor.py")


def test_a_device_that_is_named_is_another_one_where_it_is_not_the_current_one() -> None:
    assert other_device(0, 1) == 0
    assert other_device(1, 1) is None
    assert other_device(None, 1) is None


@pytest.mark.parametrize(
    ("files", "is_collective", "library"),
    [
        ([TENSOR], False, None),
        ([], False, None),
        ([COLLECTIVE], False, "nccl"),
        ([TENSOR, COLLECTIVE], False, "nccl"),
        ([str(FOLDER / "distributed" / "nn" / "functional.py")], False, "nccl"),
        ([TENSOR, CHECKPOINT], False, "torch.distributed"),
        ([], True, "nccl"),
        ([CHECKPOINT], True, "nccl"),
    ],
)
def test_the_frames_of_torch_tell_who_waits(files: list[str], is_collective: bool, library: str | None) -> None:
    assert library_of(files, "nccl", is_collective=is_collective) == library


@pytest.mark.parametrize(("backend", "library"), [("cpu:gloo,cuda:nccl", "nccl"), ("NCCL", "nccl"), ("gloo", "gloo")])
def test_the_backend_of_the_process_group_names_the_library(backend: str, library: str) -> None:
    assert library_of([COLLECTIVE], backend, is_collective=False) == library


def test_only_frames_of_torch_within_the_programs_are_asked() -> None:
    names: dict[str, object] = {"sys": sys}
    exec(compile("def call(work): return work()", COLLECTIVE, "exec"), names)
    call = names["call"]
    assert callable(call)
    inner = call(lambda: files_between(sys._getframe(), None))
    assert inner[0] == COLLECTIVE
    assert call(lambda: files_between(sys._getframe(), sys._getframe())) == []


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_backend", lambda: "nccl")


def heard_in(name: str, run: object) -> Target:
    """The target of a wait below a made-up frame."""
    found: list[Target] = []
    names: dict[str, object] = {}
    exec(compile("def call(work): work()", name, "exec"), names)
    call = names["call"]
    assert callable(call) and callable(run)
    call(lambda: found.append(run()))
    return found[0]


def test_a_program_without_a_process_group_waits_for_itself() -> None:
    assert heard_in(COLLECTIVE, lambda: target_of_cuda(sys._getframe(), None, "c10d::barrier")) == Target()


def test_an_operator_of_collectives_is_one(one_process: None) -> None:
    frame = sys._getframe()
    assert target_of_cuda(frame, frame, "_c10d_functional::wait_tensor").library == "nccl"
    assert target_of_cuda(frame, frame, "item").library is None


def test_a_wait_in_a_work_is_the_collectives_although_no_frame_tells(one_process: None) -> None:
    class Slow(distributed.Work):
        pass

    frame, real = sys._getframe(), distributed.Work.wait
    found: list[str | None] = []

    def wait(work: object, *args: object) -> bool:
        found.append(target_of_cuda(frame, frame, "").library)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed.Work, "wait", wait)
        with noting_targets:
            Slow().wait()
            found.append(target_of_cuda(frame, frame, "").library)
    assert found == ["nccl", None]
    assert distributed.Work.wait is real


def test_a_thread_of_nccls_is_known_by_its_name(one_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[str | None] = []
    monkeypatch.setattr(targets, "_name_of_thread", lambda: "pt_nccl_watchdg\n")
    in_raw_thread(lambda: found.append(target_of_cuda(sys._getframe(), None, "").library))
    monkeypatch.setattr(targets, "_name_of_thread", lambda: "python\n")
    in_raw_thread(lambda: found.append(target_of_cuda(sys._getframe(), None, "").library))
    assert found == ["nccl", None]


def test_the_system_names_the_thread_that_asks() -> None:
    assert targets._name_of_thread().strip()


def test_synchronize_is_told_apart_while_another_device_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    current = [0]
    found: list[Target] = []

    def synchronize(device: int | None = None) -> None:
        before, current[0] = current[0], current[0] if device is None else device
        found.append(target_of_cuda(sys._getframe(), None, ""))
        current[0] = before

    monkeypatch.setattr(targets, "_current_device", lambda: current[0])
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    with noting_targets:
        torch.cuda.synchronize()
        torch.cuda.synchronize(1)
        found.append(target_of_cuda(sys._getframe(), None, ""))
    assert torch.cuda.synchronize is synchronize
    assert found == [Target(0), Target(1, at_work_on=0), Target(0)]


def test_waits_at_one_line_for_two_devices_are_two_sites() -> None:
    collector, source = SyncCollector("cuda"), Source()
    devices = iter((Target(0), Target(1, 0), Target(0)))
    with hearing(collector, source, source.listening, Details(target_of=lambda innermost, frame: next(devices))):
        for _ in range(3):
            source.wait("explicit_sync")
    assert [(site.count, site.device, site.at_work_on) for site in collector.sites()] == [(2, 0, None), (1, 1, 0)]
