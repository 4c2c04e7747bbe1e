"""Notices the processes that a program starts, and says what a process is called.

Left out is what cannot use the device for certain: tools that are known by name, and forks that never touch it. The
copy of the simulated device in a forked process tells of its first use; CUDA serves no process whose parent used it,
and it is in use wherever it is watched. Interpreters that start afresh (spawn, forkserver, ``subprocess``) may do
anything.
"""

from __future__ import annotations

import _posixsubprocess
import functools
import multiprocessing.forkserver
import multiprocessing.process
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from bagel_perf.records.ledger import Ledger
from bagel_perf.records.syncs import UNKNOWN_PID
from bagel_perf.rules.programs import cannot_use_device, readable
from bagel_perf.simulated import active_device
from bagel_perf.simulated.patches import Patches, watch_forks
from bagel_perf.syncs.frames import Folders, line_of
from bagel_perf.syncs.regions import Shared


class _Slot(NamedTuple):
    ledger: Ledger
    number: int


class _Watch:
    """Who wants to know of processes here; ``mine`` are the places of this one, where it is a fork itself."""

    def __init__(self) -> None:
        self.ledgers: tuple[Ledger, ...] = ()
        self.forking: tuple[_Slot, ...] = ()
        self.mine: tuple[_Slot, ...] = ()
        self.listening = ExitStack()  # never closed: as long as the fork lives
        # ``name``: of the multiprocessing.Process that this thread starts; ``is_in_popen``: it starts one by subprocess
        self.of_thread = threading.local()

    def slots(self, name: str, argv: list[str]) -> tuple[_Slot, ...]:
        """A place for a process in each ledger; in a forked process, those it was given itself."""
        record = {"process": getattr(self.of_thread, "name", None) or name, "argv": argv}
        return self.mine or tuple(_Slot(ledger, ledger.slot(record)) for ledger in self.ledgers)

    def before_fork(self) -> None:
        self.forking = self.slots(f"a fork at {_place()}", [])

    def after_in_child(self) -> None:
        self.mine, self.forking = self.forking, ()
        device = active_device()
        if self.mine and device is not None:
            self.listening.enter_context(device.uses_to(self.used))

    def used(self) -> bool:
        """This process, a fork, uses the device."""
        for slot in self.mine:
            slot.ledger.mark(slot.number, os.getpid())
        return True

    def started(self, name: str, argv: list[str], pid: int) -> None:
        """Another program runs, in a new process or, after an exec, in this one."""
        for slot in self.slots(name, argv):
            slot.ledger.mark(slot.number, pid)


_watch = _Watch()


def forget() -> None:
    """Has this process, a fork that is watched by itself, tell nothing to those who watch the other one."""
    _watch.ledgers = _watch.mine = _watch.forking = ()


def title() -> str:
    """The name that the program gave this process for ``ps``, as servers do; "" where it gave none."""
    try:
        with open("/proc/self/cmdline", "rb") as file:
            line = file.read().split(b"\0", 1)[0].decode(errors="replace").strip()
    except OSError:
        return ""
    return "" if line == (sys.orig_argv or [line])[0] else line


def name_of_this() -> str:
    """What this process is called: by pytest-xdist, by multiprocessing, by its rank, or by its script."""
    own = multiprocessing.process.current_process().name
    forked = getattr(_watch.of_thread, "name", None)
    name = own if own != "MainProcess" else forked
    rank = os.environ.get("RANK", "")
    place = f"rank {rank}" if rank.isdecimal() else ""
    if name:
        return f"{name} of {place}" if place else name
    script = os.path.basename(sys.argv[0]) if sys.argv else ""
    return os.environ.get("PYTEST_XDIST_WORKER") or place or script.removesuffix(".py") or "python"


def _place() -> str:
    """The line of the program that starts a process now."""
    folders = Folders()
    frame = folders.caller_of(folders.user_frame(sys._getframe(1)))
    return "no line of Python" if frame is None else line_of(frame)


@contextmanager
def watching_processes(ledger: Ledger) -> Iterator[None]:
    """Notes in ``ledger`` the processes that may use the device, until the end of the context."""
    _hear_forks()
    if ledger in _watch.ledgers:
        yield
        return
    with _patched:
        _watch.ledgers = (*_watch.ledgers, ledger)
        try:
            yield
        finally:
            _watch.ledgers = tuple(other for other in _watch.ledgers if other is not ledger)


@functools.cache
def _hear_forks() -> None:
    watch_forks()  # first: what it does in a child would undo the rest
    os.register_at_fork(before=_watch.before_fork, after_in_child=_watch.after_in_child)


_SHOWN = 100
"""Words of a command, and letters of a word, that are kept: a ledger has room for few of two megabytes."""


def _note(command: Sequence[Any] | str, pid: int, *, is_shell: bool = False) -> None:
    if is_shell and isinstance(command, str):
        line, argv = command, ["sh", "-c", command]
    else:
        words = [command] if isinstance(command, (str, bytes, os.PathLike)) else list(command)
        argv = [os.fsdecode(word) for word in words]
        line = shlex.join(argv)
    if not cannot_use_device(argv):
        _watch.started(readable(line), [word[:_SHOWN] for word in argv[:_SHOWN]], pid)


def _patches() -> Patches:
    patches = Patches()
    patches.add(subprocess.Popen, "__init__", _noting_popen(subprocess.Popen.__init__))
    patches.add(_posixsubprocess, "fork_exec", _noting(_posixsubprocess.fork_exec, 0, 1))
    for name in ("posix_spawn", "posix_spawnp"):
        patches.add(os, name, _noting(getattr(os, name), 1, 0))
    for name in ("execv", "execve"):
        patches.add(os, name, _noting_exec(getattr(os, name)))
    patches.add(os, "system", _noting_system(os.system))
    patches.add(multiprocessing.process.BaseProcess, "start", _naming(multiprocessing.process.BaseProcess.start))
    server = multiprocessing.forkserver
    patches.add(server, "connect_to_new_process", _noting_request(server.connect_to_new_process))
    return patches


_patched = Shared(_patches)


def _noting_popen(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def noted(process: Any, args: Any, *rest: Any, **options: Any) -> None:
        _watch.of_thread.is_in_popen = True
        try:
            init(process, args, *rest, **options)
        finally:
            _watch.of_thread.is_in_popen = False
        executable = options.get("executable", rest[1] if len(rest) > 1 else None)
        is_shell = bool(options.get("shell", rest[7] if len(rest) > 7 else False))
        command = process.args
        if executable is not None and not is_shell:
            command = [executable, *([] if isinstance(command, (str, bytes)) else list(command)[1:])]
        elif is_shell and not isinstance(command, (str, bytes)):
            command = ["sh", "-c", *command]
        _note(os.fsdecode(command) if isinstance(command, bytes) else command, process.pid, is_shell=is_shell)

    return noted


def _noting(start: Callable[..., int], of_argv: int, of_path: int) -> Callable[..., int]:
    """A function that starts a program and gives its process; two of its arguments say which."""

    @functools.wraps(start)
    def noted(*args: Any, **options: Any) -> int:
        pid = start(*args, **options)
        if getattr(_watch.of_thread, "is_in_popen", False):
            return pid
        path = args[of_path][0] if isinstance(args[of_path], (list, tuple)) else args[of_path]
        _note([path, *list(args[of_argv])[1:]], pid)
        return pid

    return noted


def _noting_exec(execute: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(execute)
    def noted(path: Any, argv: Any, *rest: Any) -> Any:
        if os.path.exists(path):  # what looks along PATH tries each folder
            _note([path, *list(argv)[1:]], os.getpid())
        return execute(path, argv, *rest)

    return noted


def _noting_system(system: Callable[[Any], int]) -> Callable[[Any], int]:
    @functools.wraps(system)
    def noted(command: Any) -> int:
        _note(os.fsdecode(command), UNKNOWN_PID, is_shell=True)
        return system(command)

    return noted


def _noting_request(request: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(request)
    def noted(fds: Any) -> Any:
        _watch.started(f"a process of the forkserver, asked for at {_place()}", [], UNKNOWN_PID)
        return request(fds)

    return noted


def _naming(start: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(start)
    def named(process: Any) -> None:
        _watch.of_thread.name = process.name
        try:
            start(process)
        finally:
            _watch.of_thread.name = None

    return named
