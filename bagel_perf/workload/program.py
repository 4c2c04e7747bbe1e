"""Runs somebody's Python program as ``__main__``, from its first line to its last exit handler, in this process."""

from __future__ import annotations

import builtins
import os
import runpy
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType

from bagel_perf.schema.errors import INTERRUPTED
from bagel_perf.workload.exit_handlers import own_exit_handlers

_OWN = (str(Path(__file__).parents[1]) + os.sep, runpy.__file__, "<frozen runpy>")
_MAIN = ("__main__", "__mp_main__")
"""Its name here, and in processes of multiprocessing that start afresh: what they pickle names its class so."""
_EXECUTORS = {"concurrent.futures.thread": "_shutdown", "concurrent.futures.process": "_global_shutdown"}
"""Modules that refuse work once Python is about to end, and the flag by which they know."""


def run_program(target: str, *, is_module: bool) -> int:
    """Runs a script, or a module as after ``python -m``, with ``sys.argv`` as it is; gives the exit code of Python.

    Threads that Python would wait for are waited for, and exit handlers run before this returns.
    """
    with _own_main(), own_exit_handlers(print_traceback) as handlers:
        code = _code_of(partial(_run, target, is_module=is_module))
        with suppress(KeyboardInterrupt):
            _join_threads()
        handlers.run()
    return code


@contextmanager
def _own_main() -> Iterator[None]:
    """A ``__main__`` for the program alone, which stays until its exit handlers have run: they may pickle by it."""
    ours = {name: sys.modules[name] for name in _MAIN if name in sys.modules}
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    sys.modules.update(dict.fromkeys(_MAIN, main))
    try:
        yield
    finally:
        for name in _MAIN:
            sys.modules.pop(name, None)
        sys.modules.update(ours)


def _run(target: str, *, is_module: bool) -> None:
    path = Path(target).resolve()
    is_package = not is_module and (not path.is_file() or path.suffix in (".zip", ".pyz"))
    _set_first_folder(os.getcwd() if is_module else str(path if is_package else path.parent))
    if is_module or is_package:  # what the interpreter itself calls; for a folder or archive it says "__main__"
        runpy._run_module_as_main(target if is_module else "__main__", alter_argv=is_module)  # type: ignore[attr-defined]
    else:
        _run_script(os.path.abspath(target))


def _run_script(path: str) -> None:
    main = sys.modules["__main__"]
    main.__file__, main.__package__, main.__loader__ = path, None, SourceFileLoader("__main__", path)
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    exec(code, main.__dict__)


def _set_first_folder(folder: str) -> None:
    """Python looks for a program's imports beside it first, unless told not to; for ours it looked elsewhere."""
    if not sys.flags.safe_path:
        package = str(Path(__file__).parents[2])
        if sys.path[0] == package:  # we may have been found there alone
            sys.path.append(package)
        sys.path[0] = folder


def _code_of(function: Callable[[], object]) -> int:
    try:
        function()
    except SystemExit as end:
        return exit_code_of(end)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as problem:
        report(problem)
        return 1
    return 0


def _join_threads() -> None:
    """Waits for what Python waits for at its end: work handed to executors, and threads that are no daemons.

    What comes after the program may use executors again.
    """
    for each in reversed(getattr(threading, "_threading_atexits", [])):
        each()
    while left := [
        each for each in threading.enumerate() if not each.daemon and each is not threading.current_thread()
    ]:
        left[0].join()
    for name, flag in _EXECUTORS.items():
        if name in sys.modules:
            setattr(sys.modules[name], flag, False)


def exit_code_of(end: SystemExit) -> int:
    """The code that the interpreter gives for ``sys.exit(...)``; a message goes to stderr, as it does there."""
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return (end.code if abs(end.code) < 2**63 else -1) & 0xFF
    print(end.code, file=sys.stderr)
    return 1


def report(problem: BaseException) -> None:
    """Hands an error that nobody caught to ``sys.excepthook``, as Python does, without the frames of bagel-perf."""
    _forget_own_frames(problem)
    try:
        sys.excepthook(type(problem), problem, problem.__traceback__)
    except BaseException as other:
        print("Error in sys.excepthook:", file=sys.stderr)
        print_traceback(other)
        print("\nOriginal exception was:", file=sys.stderr)
        print_traceback(problem)


def print_traceback(problem: BaseException) -> None:
    """The traceback as Python prints it, without the frames of bagel-perf and of ``runpy``."""
    _forget_own_frames(problem)
    traceback.print_exception(problem)


def _forget_own_frames(problem: BaseException) -> None:
    each: BaseException | None = problem
    seen: set[int] = set()
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        kept, link = [], each.__traceback__
        while link is not None:
            if not link.tb_frame.f_code.co_filename.startswith(_OWN):
                kept.append(link)
            link = link.tb_next
        rebuilt: TracebackType | None = None
        for link in reversed(kept):
            rebuilt = TracebackType(rebuilt, link.tb_frame, link.tb_lasti, link.tb_lineno)
        each.__traceback__ = rebuilt
        each = each.__cause__ or each.__context__
