"""Notices other processes of Python that a program starts: nobody watches them."""

from __future__ import annotations

import multiprocessing.util
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock


class Children:
    """How many were started."""

    def __init__(self) -> None:
        self.count = 0

    def note(self) -> tuple[str, ...]:
        """A sentence for a report, where there were any."""
        if not self.count:
            return ()
        plural = "es" * (self.count > 1)
        return (f"{self.count} Python process{plural} of the program's own not watched; their waits are not counted",)


@contextmanager
def counting_children() -> Iterator[Children]:
    """Counts forks, processes of ``multiprocessing``, and interpreters that ``subprocess`` starts."""
    children = Children()
    fork, spawn, popen = os.fork, multiprocessing.util.spawnv_passfds, subprocess.Popen.__init__

    def counted_fork() -> int:
        number = fork()
        children.count += number > 0
        return number

    def counted_spawn(*args: Any, **kwargs: Any) -> Any:
        children.count += 1
        return spawn(*args, **kwargs)

    def counted_popen(process: Any, args: Any, *rest: Any, **options: Any) -> None:
        popen(process, args, *rest, **options)
        children.count += _is_python(args)

    with (
        mock.patch.object(os, "fork", counted_fork),
        mock.patch.object(multiprocessing.util, "spawnv_passfds", counted_spawn),
        mock.patch.object(subprocess.Popen, "__init__", counted_popen),
    ):
        yield children


def _is_python(command: Any) -> bool:
    first = command.split() if isinstance(command, str) else list(command) if isinstance(command, (list, tuple)) else []
    return bool(first) and os.path.basename(os.fspath(first[0])).startswith("python")
