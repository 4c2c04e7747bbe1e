"""Whose waits a watch counts: those of all threads, or of the one that opened it with the backward passes it starts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, get_args

from bagel_perf.records.errors import UsageError
from bagel_perf.syncs.hearing import responsible_thread

Threads = Literal["all", "this"]


def counting_on(threads: Threads, *, profile: bool) -> Callable[[], bool]:
    """Says of the thread that asks whether it counts; ``UsageError`` for other words, and for a profile of one."""
    if threads not in get_args(Threads):
        raise UsageError("threads", value=repr(threads), allowed=" or ".join(map(repr, get_args(Threads))))
    if threads == "all":
        return lambda: True
    if profile:
        raise UsageError(
            "threads", value=repr(threads), allowed="a profile has the waits of all", remedy="leave one of them out"
        )
    opener = threading.get_ident()
    return lambda: responsible_thread() == opener


def notes_elsewhere(num_waits: int) -> tuple[str, ...]:
    """What a report says of waits that did not count."""
    if not num_waits:
        return ()
    return (f"{num_waits} {'wait' if num_waits == 1 else 'waits'} on other threads, not counted",)
