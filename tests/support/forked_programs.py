"""A watched program as a fork of this process, which has imported torch already: a tenth of a second, not three.

It is a process of its own to whoever started it, by its number, its signals, its streams and its end, and it is armed
as an interpreter is. What it is not is an interpreter that has just begun, with flags; for that some tests start a real
one.
"""

from __future__ import annotations

import atexit
import builtins
import faulthandler
import os
import signal
import site
import subprocess
import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn, TextIO

import pytest
import torch

from bagel_perf.arming import sitecustomize
from bagel_perf.commands import syncs
from bagel_perf.followed import flush
from bagel_perf.records.errors import INTERRUPTED
from bagel_perf.rules.torch_names import dynamo_counters

ROOT = Path(__file__).resolve().parents[2]


class ForkedProgram:
    """What ``run_supervised`` needs of ``subprocess.Popen``."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        stdout: TextIO | None,
        env: Mapping[str, str],
        close_fds: bool,
        preexec_fn: Callable[[], None],
    ) -> None:
        assert not close_fds
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            become_program(arguments, None if stdout is None else stdout.fileno(), env, preexec_fn)

    def poll(self) -> int | None:
        return self._waited(os.WNOHANG)

    def wait(self) -> int | None:
        return self._waited(0)

    def _waited(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def started(arguments: Sequence[str], **options: Any) -> ForkedProgram | subprocess.Popen[bytes]:
    """A fork; an interpreter where another one, or flags of one, are asked for, or this process has opened a GPU."""
    is_plain = arguments[0] == sys.executable and arguments[1].endswith(".py")
    if is_plain and not torch.cuda.is_initialized():
        return ForkedProgram(arguments, **options)
    return subprocess.Popen(arguments, **options)


def fork_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has ``syncs -- python script.py`` fork its programs."""
    monkeypatch.setattr(syncs, "subprocess", SimpleNamespace(Popen=started))


def start_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has it start them as it does outside of tests."""
    monkeypatch.setattr(syncs, "subprocess", subprocess)


def become_program(
    arguments: Sequence[str], stdout: int | None, env: Mapping[str, str], prepare: Callable[[], None]
) -> NoReturn:
    """Does what ``python script.py ...`` does in this process, and ends it."""
    exit_now, code = os._exit, 1
    try:
        prepare()
        if stdout is not None:
            os.dup2(stdout, 1)
        close_all_but({0, 1, 2})
        os.environ.clear()
        os.environ.update(env)
        look_begun(arguments)
        sitecustomize.arm()
        code = run_script(os.path.abspath(arguments[1]))
        end_as_python_does()
    except BaseException:
        traceback.print_exc()
    finally:
        flush()
        exit_now(code)


def run_script(path: str) -> int:
    """Runs a script as ``__main__``; gives the exit code of Python."""
    main = ModuleType("__main__")
    main.__file__, main.__loader__ = path, SourceFileLoader("__main__", path)
    main.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    sys.path[0] = os.path.dirname(path)
    try:
        exec(compile(Path(path).read_bytes(), path, "exec", dont_inherit=True), main.__dict__)
    except SystemExit as end:
        return exit_code_of(end)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as problem:
        problem.__traceback__ = problem.__traceback__ and problem.__traceback__.tb_next
        sys.excepthook(type(problem), problem, problem.__traceback__)
        return 1
    return 0


def end_as_python_does() -> None:
    """Waits for threads, and runs exit handlers."""
    shut_down: Any = threading._shutdown  # type: ignore[attr-defined]
    with suppress(KeyboardInterrupt):
        shut_down()
    atexit._run_exitfuncs()


def exit_code_of(end: SystemExit) -> int:
    """The code that the interpreter gives for ``sys.exit(...)``; a message goes to stderr, as it does there."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def close_all_but(kept: set[int]) -> None:
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            with suppress(OSError):
                os.close(int(name))


def look_begun(arguments: Sequence[str]) -> None:
    """Puts back what pytest and earlier tests changed, and a Python that has just begun has not."""
    faulthandler.disable()
    atexit._clear()
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    sys.orig_argv, sys.argv = list(arguments), list(arguments[1:])
    packages = (*site.getsitepackages(), *sysconfig.get_paths().values(), sysconfig.get_config_var("DESTSHARED"))
    sys.path[:] = [os.getcwd(), str(ROOT), *(each for each in sys.path if each in packages or each.endswith(".zip"))]
    sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
    threading.excepthook = threading.__excepthook__
    for name, descriptor, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        stream = open(descriptor, mode, encoding="utf-8", buffering=1 if descriptor == 2 else -1)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    dynamo_counters().clear()
