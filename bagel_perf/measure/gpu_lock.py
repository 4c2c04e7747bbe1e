"""One run at a time on each GPU: a lock file per UUID, for all programs that share this machine's temporary folder.

The kernel holds the lock for as long as the process lives, so nobody has to clean up after one that died; the file
stays, because removing it would let two processes lock two files of one name.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bagel_perf.records.errors import EnvironmentUnfit

if TYPE_CHECKING:
    import torch

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def gpu_lock(device: torch.device) -> Iterator[None]:
    """Holds the GPU for a context, off CUDA nothing; raises ``EnvironmentUnfit`` where another run holds it."""
    from bagel_perf.measure.telemetry import gpu_uuid  # which imports torch; a lock is looked at without

    uuid = gpu_uuid(device)
    if uuid is None:
        yield
    else:
        with lock_of_uuid(uuid):
            yield


@contextmanager
def lock_of_uuid(uuid: str) -> Iterator[None]:
    """Holds the lock of one GPU; raises ``EnvironmentUnfit`` with the PID that holds it."""
    descriptor = _open(_path(uuid))
    try:
        _take(descriptor)
        yield
    finally:
        os.close(descriptor)


def holder_of(uuid: str) -> str | None:
    """Names the process that holds the lock of a GPU; None where nobody does. Raises ``OSError``.

    The lock is shared for an instant, in which a run that starts would be refused.
    """
    try:
        descriptor = os.open(_path(uuid), _FLAGS)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(descriptor)
    finally:
        os.close(descriptor)
    return None


def _holder(descriptor: int) -> str:
    text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return f"process {text}" if text.isdecimal() else "a process that does not say its number"


def _path(uuid: str) -> Path:
    name = re.sub(r"[^A-Za-z0-9-]", "_", uuid)
    return Path(tempfile.gettempdir()) / f"bagel-perf-gpu-{name}.lock"


def _open(path: Path) -> int:
    """A descriptor of the file, which every user may lock.

    Without O_CREAT first: Linux refuses that flag on another user's file in a folder like /tmp.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, _FLAGS)
        try:
            descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:  # made by another process since
            return os.open(path, _FLAGS)
    except OSError as problem:
        raise EnvironmentUnfit(
            "the lock of this GPU cannot be opened", value=f"{path}: {problem.strerror}", remedy="remove the file"
        ) from problem
    os.fchmod(descriptor, 0o666)
    return descriptor


def _take(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        remedy = "wait for it, or stop it"
        raise EnvironmentUnfit("another run is using this GPU", value=_holder(descriptor), remedy=remedy) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
