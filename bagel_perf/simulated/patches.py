"""Attributes replaced for a while and put back exactly as they were, with refusals of what the device does not have.

Patches reach modules of packages that a program imports while the device is open, or has imported before, and forked
processes: CUDA serves none whose parent used it already, and neither does the simulated device.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any, NoReturn, Self

from bagel_perf.rules.torch_versions import TorchName


class NotSimulated(RuntimeError):
    """The program asked for something of CUDA that the simulated device does not have."""

    def __init__(self, name: str, reason: str = "") -> None:
        super().__init__(f"{name} is not simulated{reason and ': '}{reason}")
        self._parts = name, reason

    def __reduce__(self) -> tuple[type[NotSimulated], tuple[str, str]]:
        """A worker process may send it."""
        return NotSimulated, self._parts


def refused_function(name: str, reason: str = "") -> Any:
    """Stands for a function; raises NotSimulated when called."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise NotSimulated(name, reason)

    return refuse


def refused_class(name: str, reason: str = "") -> Any:
    """Stands for a class; raises NotSimulated when an instance is made, and has no instances."""

    def refuse(cls: type, *args: Any, **kwargs: Any) -> Any:
        raise NotSimulated(name, reason)

    return type(name.rpartition(".")[2], (), {"__new__": refuse})


_ABSENT: Any = object()
_HUNG_ON = ("__wrapped__", "cache_clear", "cache_info", "cache_parameters")


class Patches(AbstractContextManager["Patches"]):
    """A context that replaces attributes of modules and classes; on exit each is the identical object again.

    An attribute that an object had only by inheritance, or not at all, is deleted on exit.
    """

    def __init__(self) -> None:
        self._wanted: list[tuple[Any, str, Any]] = []
        self._found: list[tuple[Any, str, Any]] = []
        self._extended: list[tuple[list[Any], Any]] = []
        self._names: dict[tuple[int, str], TorchName] = {}
        self.refused: tuple[TorchName, ...] = ()

    def add(self, owner: Any, name: str, value: Any, *, only_present: bool = False) -> None:
        """Replaces ``owner.name`` from the start of the context; with ``only_present`` not where torch lacks it."""
        if not only_present or hasattr(owner, name):
            self._wanted.append((owner, name, value))

    def replace(self, name: TorchName, make: Callable[[Any], Any]) -> None:
        """Replaces a name of torch by what ``make`` gives for what is there, as it is stored; not where torch lacks it.

        Where torch lets nobody replace it, it is among ``refused`` in the context.
        """
        place = name.place()
        if place is not None:
            owner, attribute = place
            self.add(owner, attribute, make(inspect.getattr_static(owner, attribute, None)))
            self._names[id(owner), attribute] = name

    def extend(self, name: TorchName, member: Any) -> None:
        """Has ``member`` in a list of torch's during the context."""
        members = name.find()
        if members is not None:
            self._extended.append((members, member))

    def __enter__(self) -> Self:
        self.refused = tuple(
            self._names[id(owner), name] for owner, name, value in self._wanted if not self._set(owner, name, value)
        )
        for members, member in self._extended:
            members.append(member)
        return self

    def _set(self, owner: Any, name: str, value: Any) -> bool:
        found = vars(owner).get(name, _ABSENT)
        try:
            setattr(owner, name, _dressed(value, getattr(owner, name, None)))
        except (AttributeError, TypeError):
            if (id(owner), name) not in self._names:
                raise
            return False
        self._found.append((owner, name, found))
        return True

    def __exit__(self, *raised: Any) -> None:
        for members, member in self._extended:
            members.remove(member)
        while self._found:
            owner, name, value = self._found.pop()
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


def _dressed(value: Any, found: Any) -> Any:
    """``value`` with what hangs on the function that it stands for, as torch's own modules ask for it."""
    if not isinstance(value, FunctionType):
        return value
    hung = {name: getattr(found, name) for name in _HUNG_ON if hasattr(found, name) and not hasattr(value, name)}
    if not hung:
        return value
    # A copy: the same function may stand for several.
    copy = FunctionType(value.__code__, value.__globals__, value.__name__, value.__defaults__, value.__closure__)
    copy.__kwdefaults__ = value.__kwdefaults__
    copy.__dict__.update(value.__dict__ | hung)
    return copy


Patch = Callable[[Patches, Any], None]
"""Adds what has to be replaced in a module."""


class LatePatches(AbstractContextManager["LatePatches"]):
    """A context in which modules are patched as soon as they are imported; on exit each is as it was."""

    def __init__(self) -> None:
        self._wanted: dict[str, Patch] = {}
        self._hidden: dict[str, Patches] = {}
        self._done = ExitStack()

    def add(self, module: str, patch: Patch) -> None:
        """Has ``patch`` called with the module, when there is one of this name."""
        self._wanted[module] = patch

    def hide(self, patches: Patches, module: str) -> None:
        """Takes ``patches``, which are in force, back while a module is imported that must not see them."""
        self._hidden[module] = patches

    def __enter__(self) -> Self:
        sys.meta_path.insert(0, self)
        for name in self._wanted:
            if name in sys.modules:
                self._apply(sys.modules[name])
        return self

    def __exit__(self, *raised: Any) -> None:
        sys.meta_path.remove(self)
        self._done.close()

    def _apply(self, module: ModuleType) -> None:
        patches = Patches()
        self._wanted[module.__name__](patches, module)
        self._done.enter_context(patches)

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """What the other finders find, for a module that is to be patched; the interface of ``sys.meta_path``."""
        if name not in self._wanted and name not in self._hidden:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = None if find is None else find(name, path, target)
            if spec is not None:
                self._patch_after(spec.loader)
                return spec
        return None

    def _patch_after(self, loader: Any) -> None:
        """The loader stays itself, as other code looks at its type."""
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def exec_module(module: ModuleType) -> None:
            with self._without(module.__name__):
                execute(module)
            if self in sys.meta_path and module.__name__ in self._wanted:
                self._apply(module)

        loader.exec_module = exec_module

    @contextmanager
    def _without(self, module: str) -> Iterator[None]:
        patches = self._hidden.get(module) if self in sys.meta_path else None
        if patches is None:
            yield
            return
        patches.__exit__(None, None, None)
        try:
            yield
        finally:
            patches.__enter__()


def refuse_in_child() -> NoReturn:
    """Raises what CUDA raises, with its words."""
    raise RuntimeError(
        "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the 'spawn' "
        "start method"
    )


@functools.cache
def watch_forks() -> None:
    """Has the device of each process that is forked from now on know that it is another's copy."""
    os.register_at_fork(after_in_child=_after_in_child)


def _after_in_child() -> None:
    from bagel_perf.simulated.device import active_device

    device = active_device()
    if device is not None:
        device.forked()
