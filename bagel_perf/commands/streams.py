"""Output that nobody takes is lost, and nothing else is: a closed pipe or a full disk ends no measurement."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

from bagel_perf.report.inert import print_line
from bagel_perf.schema.errors import RunFailed


class LenientStream:
    """A text stream that goes on after it failed, without a word; ``problem`` is the first failure."""

    def __init__(self, stream: TextIO | None) -> None:
        self.problem: Exception | None = None if stream is not None else OSError(errno.EBADF, "it is closed")
        self._stream: TextIO = open(os.devnull, "w", encoding="utf-8") if stream is None else stream  # noqa: SIM115

    def write(self, text: str) -> int:
        """As of a text stream."""
        self._try(self._stream.write, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """As of a text stream."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """As of a text stream."""
        self._try(self._stream.flush)

    def _try(self, function: Any, *args: Any) -> None:
        if self.problem is not None:
            return
        try:
            function(*args)
        except UnicodeError:
            raise
        except (OSError, ValueError) as problem:
            self.problem = problem
            self._silence()

    def _silence(self) -> None:
        """What is left in its buffer goes nowhere when Python ends, which would say so otherwise, and exit with 120."""
        with contextlib.suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def lenient_streams() -> Iterator[None]:
    """Lends ``sys.stdout`` and ``sys.stderr`` to lenient ones; takes 0, 1 and 2 where they are closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free, which no file of ours should get
    before = sys.stdout, sys.stderr
    lent = LenientStream(sys.stdout), LenientStream(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, lent[0]), cast(TextIO, lent[1])
    try:
        yield
    finally:
        for stream in lent:
            stream.flush()
        sys.stdout, sys.stderr = before


def print_error(error: Exception) -> None:
    """One line on stderr."""
    print_line(f"error: {error}", sys.stderr)


def check_stdout() -> None:
    """Raises ``RunFailed`` where stdout is known to take nothing."""
    problem = getattr(sys.stdout, "problem", None)
    if problem is not None:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise RunFailed("stdout cannot be written", allowed=reason, remedy="--json FILE keeps what was measured")
