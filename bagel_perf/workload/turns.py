"""Turns of the processes that share one comparison: each runs its own variants, one process at a time.

All of them walk through the same schedule and count its steps alike. Before a step of its own a process says that it
waits for that step, and goes on when it is told to; a process that is alone waits for nobody.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TextIO

from bagel_perf.schema import codec
from bagel_perf.schema.errors import RunFailed
from bagel_perf.schema.events import Event, WaitingEvent
from bagel_perf.schema.outlines import Outline


@dataclass(slots=True, kw_only=True)
class Turns:
    """The place of one process in the schedule; ``own`` are its variants, None where all are."""

    emit: Callable[[Event], None]
    own: Collection[str] | None = None
    permits: TextIO | None = None
    step: int = 0

    def is_own(self, variant: str) -> bool:
        """Whether a variant runs in this process."""
        return self.own is None or variant in self.own

    def agree(self, outline: Outline) -> Outline:
        """Gives what all processes compare together, as they are told once each has said what it brings along."""
        return outline if self.own is None else codec.from_json(Outline, json.loads(self._permit()))

    def take(self, variant: str) -> bool:
        """Counts a step of a variant, and waits for it where it is one of this process; gives whether it is."""
        self.step += 1
        if self.own is None:
            return True
        if variant not in self.own:
            return False
        self.emit(WaitingEvent(step=self.step))
        self._permit()
        return True

    def _permit(self) -> str:
        assert self.permits is not None
        line = self.permits.readline()
        if not line:
            raise RunFailed("the other processes of the comparison are gone")
        return line
