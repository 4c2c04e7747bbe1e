"""Arms a Python process that a watched command starts: when it imports torch, the watch begins.

Python imports this before anything of the program's, as its folder leads PYTHONPATH. Nothing but the standard library
is loaded here, and whatever goes wrong is written down, not raised: the program must run as it would without us. The
user's own ``sitecustomize`` is run as well. Older versions of Python than ours must be able to run this file.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

VARIABLE = "BAGEL_PERF_WATCH"
ORDER = "order.json"
HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.dirname(os.path.dirname(HERE))
"""The folder in which our package lies, which another Python may not have."""
MSGSPEC = "msgspec"
THIS = sys.modules[__name__]
"""This module, whose place in ``sys.modules`` the user's ``sitecustomize`` takes."""
PASSED_BY = "torch was imported by something that never asked for where it lies: waits until then were not counted"


def register(folder: str, *, is_fork: bool = False) -> str:
    """Writes down that this process is armed; gives the stem of its files, another one after each exec.

    It holds the process's number and the time at which it began, so that no other process ever has the same.
    """
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as stat:
        began = stat.read().rpartition(")")[2].split()[19]
    stem, number = os.path.join(folder, f"{os.getpid()}-{began}"), 0
    while True:
        path = f"{stem}-{number}"
        try:
            with open(f"{path}.process", "x", encoding="utf-8") as file:
                argv = getattr(sys, "orig_argv", sys.argv)
                process = {"pid": os.getpid(), "ppid": os.getppid(), "argv": argv, "is_fork": is_fork}
                json.dump({**process, "rank": os.environ.get("RANK")}, file)
            return path
        except FileExistsError:
            number += 1


class Hook:
    """Finds our package, and begins the watch when torch has been imported; the interface of ``sys.meta_path``."""

    def __init__(self, order: dict[str, Any], stem: str) -> None:
        self.order = order
        self.stem = stem
        self.paths = {"bagel_perf": PACKAGE}
        self.has_begun = False
        self.finish: Callable[[], None] = self._missed

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Finds what is ours, or what the others find for torch; None for anything else."""
        if name in self.paths:
            return PathFinder.find_spec(name, [self.paths[name]])
        if name != "torch":
            return None
        is_asked = False  # those in front of this one have been
        for finder in list(sys.meta_path):
            find = getattr(finder, "find_spec", None) if is_asked else None
            is_asked = is_asked or finder is self
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                self._begin_after(spec.loader)
                return spec
        return None

    def _begin_after(self, loader: Any) -> None:
        """Begins the watch once a loader has run the module; a folder that only looks like one has no loader."""
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def exec_module(module: ModuleType) -> None:
            execute(module)
            loader.exec_module = execute
            self.begin()

        with suppress(AttributeError, TypeError):  # it can be given no attribute: said at the end
            loader.exec_module = exec_module

    def _missed(self) -> None:
        """Says of a process that ends that torch is there, and was never watched."""
        if hasattr(sys.modules.get("torch"), "Tensor"):
            failed(self.stem, ImportError(PASSED_BY))

    def begin(self) -> None:
        """Begins the watch of this process, once; what hinders it is left in a file."""
        if self.has_begun:  # torch is reloaded
            return
        self.has_begun = True
        try:
            if not os.path.basename(self.stem).startswith(f"{os.getpid()}-"):  # a fork, which imports torch itself
                self.stem = register(self.order["folder"])
            from bagel_perf.followed import begin

            self.finish = begin(self.order, self.stem, THIS)
        except Exception as problem:
            failed(self.stem, problem)


def failed(stem: str, problem: BaseException) -> None:
    """Leaves why a process could not be watched."""
    with suppress(OSError), open(f"{stem}.failed", "w", encoding="utf-8") as file:
        file.write(f"{type(problem).__name__}: {problem}"[:2000])


class Fallback:
    """Finds ``msgspec`` where we have it, after everybody else was asked."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Finds the one package; None for anything else."""
        return PathFinder.find_spec(name, [self.folder]) if name == MSGSPEC else None


def is_armed() -> bool:
    """Says whether this process is armed, be it by this file under its other name."""
    return any(type(finder).__name__ == Hook.__name__ and hasattr(finder, "stem") for finder in sys.meta_path)


def arm() -> None:
    """Arms this process, where a watch asks for it."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return
    try:
        with open(os.path.join(folder, ORDER), encoding="utf-8") as file:
            order = json.load(file)
        stem = register(order["folder"])
    except (ValueError, KeyError, TypeError, OSError):  # the watch has ended long ago
        return
    hook = Hook(order, stem)
    sys.meta_path.insert(0, hook)
    sys.meta_path.append(Fallback(order["packages"]))
    atexit.register(lambda: hook.finish())  # the first to be registered is the last to run
    if "torch" in sys.modules:
        hook.begin()


def run_the_users() -> None:
    """Runs the ``sitecustomize`` that Python would have found without this one."""
    others = [each for each in sys.path if os.path.abspath(each or os.curdir) != HERE]
    sys.path[:] = others
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = ModuleType("sitecustomize")
    module.__spec__, module.__file__, module.__loader__ = spec, spec.origin, spec.loader
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if __name__ == "sitecustomize":
    arm()
    run_the_users()
