"""Tells which CUDA device the host waits for, whether the program named another one, and whether collectives wait.

``torch.cuda.synchronize`` makes the device that it names the current one while it waits, so what was current before is
noted by a function in its place. Collectives wait in ``barrier`` and where they hand objects around: told by the frames
of ``torch.distributed``, by the name of the operator, by ``Work.wait``, which has no frame, and on threads without
Python by the name that NCCL's watchdog has. A program without a process group is not asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import torch
from torch import distributed

from bagel_perf.syncs.frames import INNER_FOLDERS
from bagel_perf.syncs.regions import Shared

_FOLDER = Path(torch.__file__).parent / "distributed"
_COLLECTIVES = tuple(str(_FOLDER / name) for name in ("distributed_c10d.py", "_functional_collectives.py", "nn"))
_WATCHDOG = "pt_nccl"
"""What the names of ProcessGroupNCCL's own threads begin with."""
_OPERATORS = ("c10d::", "_c10d_functional::", "_c10d_functional_autograd::")
OTHERS = "torch.distributed"


@dataclass(frozen=True, slots=True)
class Target:
    """What a wait is for: fields as in ``SyncSite``."""

    device: int | None = None
    at_work_on: int | None = None
    library: str | None = None


NOWHERE = Target()


class _OfThread(threading.local):
    at_work_on: int | None = None
    is_in_work = False


_of_thread = _OfThread()


@contextmanager
def _noting() -> Iterator[None]:
    real = torch.cuda.synchronize

    @wraps(real)
    def synchronize(*args: Any, **kwargs: Any) -> Any:
        before = _of_thread.at_work_on
        _of_thread.at_work_on = _current_device()
        try:
            return real(*args, **kwargs)
        finally:
            _of_thread.at_work_on = before

    with mock.patch.object(torch.cuda, "synchronize", synchronize), _noting_works():
        yield


@contextmanager
def _noting_works() -> Iterator[None]:
    """Notes that a thread is in ``Work.wait``, which a program calls without a frame of torch's."""
    if not distributed.is_available():
        yield
        return
    kind: Any = distributed.Work
    real: Callable[..., Any] = kind.wait

    @wraps(real)
    def wait(work: Any, *args: Any, **kwargs: Any) -> Any:
        before, _of_thread.is_in_work = _of_thread.is_in_work, True
        try:
            return real(work, *args, **kwargs)
        finally:
            _of_thread.is_in_work = before

    with mock.patch.object(kind, "wait", wait):
        yield


noting_targets = Shared(_noting)
"""A context in which it is noted which device a thread works on while it waits for another, and for which work."""


def target_of_cuda(innermost: FrameType, frame: FrameType | None, operator: str) -> Target:
    """Of a wait that happens now: ``innermost`` is a frame of it, ``frame`` the innermost outside torch."""
    device = _current_device()
    return Target(device, other_device(_of_thread.at_work_on, device), _library(innermost, frame, operator))


def _current_device() -> int | None:
    return torch.cuda.current_device() if torch.cuda.is_initialized() else None


def other_device(at_work_on: int | None, waited_for: int | None) -> int | None:
    """The device at work where another is waited for by name."""
    return None if at_work_on == waited_for else at_work_on


def _library(innermost: FrameType, frame: FrameType | None, operator: str) -> str | None:
    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    files = files_between(innermost, frame)
    thread = "" if frame is not None else _name_of_thread()
    is_collective = _of_thread.is_in_work or operator.startswith(_OPERATORS) or thread.startswith(_WATCHDOG)
    return library_of(files, distributed.get_backend(), is_collective=is_collective)


def files_between(innermost: FrameType, outer: FrameType | None) -> list[str]:
    """Files of torch's frames within a frame of the program, innermost first."""
    files = []
    frame: FrameType | None = innermost
    while frame is not None and frame is not outer:
        if frame.f_code.co_filename.startswith(INNER_FOLDERS):
            files.append(frame.f_code.co_filename)
        frame = frame.f_back
    return files


def library_of(files: list[str], backend: str, *, is_collective: bool) -> str | None:
    """The backend that waits for a collective, else ``torch.distributed`` where that waits for its own ends."""
    if is_collective or any(file.startswith(_COLLECTIVES) for file in files):
        return "nccl" if "nccl" in backend.lower() else backend.lower()
    return OTHERS if any(file.startswith(str(_FOLDER)) for file in files) else None


def _name_of_thread() -> str:
    """As the system has it; only Linux tells."""
    try:
        return Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text(encoding="utf-8")
    except OSError:
        return ""
