"""Exit handlers of a program that ends before its process does."""

from __future__ import annotations

import atexit
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock


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
