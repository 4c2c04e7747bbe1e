"""Waits that are meant: they are counted and listed with their reason, but no budget counts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bagel_perf.harness.stacks import Stack


@dataclass(slots=True)
class _Allowance:
    """One ``with allow_sync`` that is open; ``left`` is how many waits it still covers, None for any number."""

    reason: str
    left: int | None


_open: Stack[_Allowance] = Stack("allow_sync")


@contextmanager
def allow_sync(reason: str, *, at_most: int | None = None) -> Iterator[None]:
    """Declares the waits under ``with`` as intended, in this thread or task; ``reason`` is shown beside them.

    With ``at_most``, further waits of the same entry are not allowed. The innermost declaration counts. Raises
    ValueError for an empty reason or a negative number.
    """
    if not reason.strip():
        raise ValueError('allow_sync needs a reason, as allow_sync("end-token check")')
    if at_most is not None and at_most < 0:
        raise ValueError(f"allow_sync covers at_most 0 or more waits, not {at_most}")
    held = _open.push(_Allowance(reason, at_most))
    try:
        yield
    finally:
        _open.let_go(held)


def take_allowance() -> str | None:
    """The reason why a wait that happens now is allowed, None where it is not; uses up one of ``at_most``."""
    allowances = _open.values()
    if not allowances or allowances[-1].left == 0:
        return None
    innermost = allowances[-1]
    if innermost.left is not None:
        innermost.left -= 1
    return innermost.reason
