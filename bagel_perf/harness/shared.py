"""A context that several share: open from the first who enters until the last who leaves, in whatever order they do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack


class Shared(AbstractContextManager[None]):
    """Enters what ``make`` gives for the first, leaves it after the last; may be entered any number of times."""

    def __init__(self, make: Callable[[], AbstractContextManager[object]]) -> None:
        self._make = make
        self._num_inside = 0
        self._open = ExitStack()
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        with self._lock:
            if not self._num_inside:
                self._open.enter_context(self._make())
            self._num_inside += 1

    def __exit__(self, *raised: object) -> None:
        with self._lock:
            self._num_inside -= 1
            if not self._num_inside:
                self._open.close()
