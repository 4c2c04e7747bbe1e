"""Runs somebody's Python program as ``__main__``, from its first line to its last exit handler, in this process.

A target is loaded and set up here, too: before the watch begins, one run of its stages is inside.
"""

from __future__ import annotations

import atexit
import builtins
import os
import runpy
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, NamedTuple
from unittest import mock

import torch
from msgspec.structs import replace

from bagel_perf.measure.stages import Subject, run_stages
from bagel_perf.records.errors import INTERRUPTED, BagelPerfError, one_line
from bagel_perf.records.syncs import SyncReport
from bagel_perf.records.targets import TargetRun
from bagel_perf.subjects.files import UserFile
from bagel_perf.syncs import count_host_syncs


class _Handler(NamedTuple):
    function: Callable[..., object]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class ExitHandlers:
    """Stands in for ``atexit``: what is registered here is none of Python's."""

    def __init__(self, print_traceback: Callable[[BaseException], None]) -> None:
        self._print_traceback = print_traceback
        self._handlers: list[_Handler | None] = []
        self._register, self._unregister = atexit.register, atexit.unregister

    def register(self, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """As ``atexit.register``."""
        if getattr(function, "__self__", None) is weakref.finalize:  # ends all finalizers of the process
            return self._register(function, *args, **kwargs)
        if not callable(function):
            raise TypeError("the first argument must be callable")
        self._handlers.append(_Handler(function, args, kwargs))
        return function

    def unregister(self, function: Any) -> None:
        """As ``atexit.unregister``."""
        self._unregister(function)
        for place, handler in enumerate(self._handlers):
            if handler is not None and handler.function == function:
                self._handlers[place] = None

    def run(self) -> None:
        """Runs them, the last one first; what they register themselves comes too late, as in Python."""
        for place in reversed(range(len(self._handlers))):
            handler, self._handlers[place] = self._handlers[place], None
            if handler is not None:
                self._run(handler)
        self.clear()

    def _run(self, handler: _Handler) -> None:
        try:
            handler.function(*handler.args, **handler.kwargs)
        except BaseException as problem:
            print(f"Exception ignored in atexit callback: {handler.function!r}", file=sys.stderr)
            self._print_traceback(problem)

    def clear(self) -> None:
        """As ``atexit._clear``, of which a forked process begins."""
        self._handlers.clear()

    def count(self) -> int:
        """As ``atexit._ncallbacks``."""
        return sum(handler is not None for handler in self._handlers)


@contextmanager
def own_exit_handlers(print_traceback: Callable[[BaseException], None]) -> Iterator[ExitHandlers]:
    """Takes the place of ``atexit`` until the end of the context; nobody runs the handlers unasked."""
    handlers = ExitHandlers(print_traceback)
    names = {
        "register": handlers.register,
        "unregister": handlers.unregister,
        "_run_exitfuncs": handlers.run,
        "_clear": handlers.clear,
        "_ncallbacks": handlers.count,
    }
    with ExitStack() as stack:
        for name, function in names.items():
            stack.enter_context(mock.patch.object(atexit, name, function))
        yield handlers


DEVICE = "cuda"
"""Of a GPU, and of the simulated one."""


@dataclass(slots=True, kw_only=True)
class Prepared:
    """Stages that are ready to run, and what is to be said of them; ``error`` is what they ended in."""

    subject: Subject
    notes: tuple[str, ...]
    error: BagelPerfError | None = field(default=None, init=False)

    def run(self) -> int:
        """Runs the stages in their regions; gives an exit code as a program's."""
        try:
            run_stages(self.subject)
        except KeyboardInterrupt:
            return INTERRUPTED
        except BagelPerfError as problem:
            self.error = problem
            return problem.exit_code
        return 0

    def told(self, report: SyncReport) -> SyncReport:
        """The report with what was not watched."""
        return replace(report, notes=(*report.notes, *self.notes))


def prepare(run: TargetRun) -> Prepared:
    """Loads the file, sets it up, and asks for its stages, on the device that is open.

    Raises ``UsageError`` and ``RunFailed`` with the file's line.
    """
    target = run.target
    sys.argv = [str(Path(target.file).absolute())]
    with count_host_syncs(DEVICE) as collector:
        file = UserFile.load(target.file)
        file.check(target.function)
        case = file.cases[0] if run.case is None else run.case
        state = file.set_up(torch.device(DEVICE))
        subject = file.subject(target.function, state, case, run.seed)
    notes = [f"case {case}; the others with --case: {one_line(', '.join(file.cases[1:]))}"]
    is_chosen = run.case is not None or len(file.cases) == 1
    number = collector.total()
    before = f"before the stages, as in setup, the host waited {number} time{'s' * (number != 1)}, not counted here"
    return Prepared(subject=subject, notes=(*([] if is_chosen else notes), *([before] if collector.total() else [])))


_OWN = (str(Path(__file__).parent) + os.sep, runpy.__file__, "<frozen runpy>")
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
        package = str(Path(__file__).parents[1])
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
