"""Attributes replaced for a while, and put back exactly as they were."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import FunctionType
from typing import Any, Self

from bagel_perf.harness.torch_versions import TorchName

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
