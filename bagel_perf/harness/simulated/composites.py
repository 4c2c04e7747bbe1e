"""Torch functions written in Python, made to run their own Python on the device.

Such a function first offers itself to tensor types and modes, and would so for ever: it is ours that it meets again.
So a twin of it is made whose check for them says no. What the twin calls is offered as usual, one function at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

_CHECKS = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


def _says_no(*tensors: Any) -> bool:
    return False


class Composites:
    """Makes twins; all of one module share one copy of its globals."""

    def __init__(self) -> None:
        self._globals: dict[int, dict[str, Any]] = {}

    def of(self, func: Callable[..., Any]) -> Callable[..., Any] | None:
        """The twin of ``func``; None where it is no Python function that checks by a name of its module.

        One that calls ``super()`` has none either: what it calls is offered under its own name again.
        """
        if not isinstance(func, FunctionType) or "__class__" in func.__code__.co_freevars:
            return None
        if not any(name in func.__code__.co_names and name in func.__globals__ for name in _CHECKS):
            return None
        found = self._globals.get(id(func.__globals__))
        if found is None:
            found = self._globals[id(func.__globals__)] = {**func.__globals__, **dict.fromkeys(_CHECKS, _says_no)}
        twin = FunctionType(func.__code__, found, func.__name__, func.__defaults__, func.__closure__)
        twin.__kwdefaults__ = func.__kwdefaults__
        return twin
